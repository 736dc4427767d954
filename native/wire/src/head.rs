//! A request's head: method, target and fields, in one buffer, alike for both protocols.

use std::ops::Range;

use smallvec::SmallVec;

/// The verbs that routes know; others are `Other` and meet 405.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET
    Get,
    /// HEAD: answered as GET without its body
    Head,
    /// POST
    Post,
    /// Any other token; [`Head::method_text`] has it.
    Other,
}

/// Protocol of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: closes after the answer unless it asked to keep alive.
    Http10,
    /// HTTP/1.1
    Http11,
    /// HTTP/2
    Http2,
}

#[derive(Clone, Debug)]
struct Field {
    name: Range<u32>,
    value: Range<u32>,
}

/// A request's head. Names are lower case; HTTP/2 pseudo fields are not among the fields (`:authority` is `host`).
#[derive(Clone, Debug)]
pub struct Head {
    /// Equal on one connection means: byte for byte the same head, so whatever was derived from it still holds.
    pub id: u32,
    /// The verb.
    pub method: Method,
    /// The protocol.
    pub version: Version,
    /// `content-length`, checked.
    pub content_length: Option<u64>,
    /// HTTP/2 with a content type of `application/grpc`, alone or followed by `+` or `;`.
    pub grpc: bool,
    text: Box<[u8]>,
    method_text: Range<u32>,
    path: Range<u32>,
    query: Range<u32>,
    fields: SmallVec<[Field; 8]>,
}

impl Head {
    /// The verb as sent.
    #[must_use]
    pub fn method_text(&self) -> &[u8] {
        self.slice(&self.method_text)
    }

    /// The target up to `?`, still percent-encoded; the path of an absolute-form target.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        self.slice(&self.path)
    }

    /// What follows `?` in the target.
    #[must_use]
    pub fn query(&self) -> &[u8] {
        self.slice(&self.query)
    }

    /// Value of the first field of this (lower-case) name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields_named(name).next()
    }

    /// Values of all fields of this (lower-case) name, in order.
    pub fn fields_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let wanted = name.as_bytes();
        self.fields.iter().filter(move |field| self.slice(&field.name) == wanted).map(|field| self.slice(&field.value))
    }

    /// All fields, in order.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|field| (self.slice(&field.name), self.slice(&field.value)))
    }

    fn slice(&self, range: &Range<u32>) -> &[u8] {
        &self.text[range.start as usize..range.end as usize]
    }
}

/// Collects a head while it is decoded; also what tests build heads with.
#[derive(Debug, Default)]
pub struct HeadBuilder {
    text: Vec<u8>,
    fields: SmallVec<[Field; 8]>,
}

impl HeadBuilder {
    /// Adds a field; an upper-case name becomes lower case.
    pub fn field(&mut self, name: &[u8], value: &[u8]) -> &mut Self {
        let name = self.store(name);
        self.text[name.start as usize..name.end as usize].make_ascii_lowercase();
        let value = self.store(value);
        self.fields.push(Field { name, value });
        self
    }

    /// Ends the head. `target` is the request target, or `:path`.
    #[must_use]
    pub fn finish(mut self, id: u32, version: Version, method: &[u8], target: &[u8]) -> Head {
        let method_text = self.store(method);
        let target = path_and_query(target);
        let path_bytes = target.iter().position(|&byte| byte == b'?').unwrap_or(target.len());
        let path = self.store(&target[..path_bytes]);
        let query = self.store(target.get(path_bytes + 1..).unwrap_or_default());
        let method = match method {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            _ => Method::Other,
        };
        let (text, fields) = (self.text.into_boxed_slice(), self.fields);
        let mut head = Head { id, method, version, content_length: None, grpc: false, text, method_text, path, query, fields };
        head.content_length =
            head.field("content-length").and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
        head.grpc = version == Version::Http2 && head.field("content-type").is_some_and(is_grpc);
        head
    }

    fn store(&mut self, bytes: &[u8]) -> Range<u32> {
        let start = self.text.len() as u32;
        self.text.extend_from_slice(bytes);
        start..self.text.len() as u32
    }
}

/// `http://host/path?query` is the absolute form of `/path?query`.
fn path_and_query(target: &[u8]) -> &[u8] {
    let rest = match target {
        [b'h', b't', b't', b'p', b':', b'/', b'/', rest @ ..] => rest,
        [b'h', b't', b't', b'p', b's', b':', b'/', b'/', rest @ ..] => rest,
        _ => return target,
    };
    rest.iter().position(|&byte| byte == b'/').map_or(b"/", |at| &rest[at..])
}

fn is_grpc(content_type: &[u8]) -> bool {
    match content_type.strip_prefix(b"application/grpc") {
        Some([]) => true,
        Some([next, ..]) => matches!(next, b'+' | b';'),
        None => false,
    }
}
