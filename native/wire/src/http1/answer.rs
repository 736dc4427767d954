//! Writing answers.

use memchr::memchr3;

use crate::{Output, Reply, decimal};

/// What an answer says about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing: it stays open as HTTP/1.1 has it.
    Nothing,
    /// `connection: keep-alive`
    KeepAlive,
    /// `connection: close`
    Close,
}

/// The interim answer to a peer that waits with its body.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Appends an answer. Without `with_body`, as HEAD asks for, its length is told and the body left out.
pub fn write(reply: &Reply<'_>, told: Told, with_body: bool, output: &mut Output) {
    let buffer = output.buffer();
    write_status_line(reply.status, buffer);
    if !reply.content_type.is_empty() {
        write_field("content-type", reply.content_type.as_bytes(), buffer);
    }
    let bodiless = matches!(reply.status, 100..=199 | 204 | 304);
    if !bodiless {
        buffer.extend_from_slice(b"content-length: ");
        decimal::push(reply.body.len() as u64, buffer);
        buffer.extend_from_slice(b"\r\n");
    }
    match told {
        Told::Nothing => {}
        Told::KeepAlive => buffer.extend_from_slice(b"connection: keep-alive\r\n"),
        Told::Close => buffer.extend_from_slice(b"connection: close\r\n"),
    }
    for (name, value) in reply.fields {
        write_field(name, value, buffer);
    }
    buffer.extend_from_slice(b"\r\n");
    if with_body && !bodiless {
        output.payload(reply.body);
    }
}

fn write_status_line(status: u16, buffer: &mut Vec<u8>) {
    if status == 200 {
        buffer.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    buffer.extend_from_slice(b"HTTP/1.1 ");
    decimal::push(u64::from(status), buffer);
    buffer.push(b' ');
    buffer.extend_from_slice(reason(status).as_bytes());
    buffer.extend_from_slice(b"\r\n");
}

fn write_field(name: &str, value: &[u8], buffer: &mut Vec<u8>) {
    buffer.extend_from_slice(name.as_bytes());
    buffer.extend_from_slice(b": ");
    let start = buffer.len();
    buffer.extend_from_slice(value);
    // A value may quote what a peer sent: no byte of it may end the line.
    if memchr3(b'\r', b'\n', 0, value).is_some() {
        for byte in buffer[start..].iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            *byte = b' ';
        }
    }
    buffer.extend_from_slice(b"\r\n");
}

/// The phrase for people; clients look at the number alone.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        499 => "Client Closed Request",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}
