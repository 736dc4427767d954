//! Answers of HTTP/1.1.

use memchr::memmem;

use super::{Answer, Malformed, Status, keep_excerpt};
use crate::decimal;

/// A head larger than this is no answer that anybody sends.
const HEAD_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 64;
/// Hexadecimal digits of a chunk's length.
const CHUNK_DIGITS_MAX: usize = 16;
const HEAD_END: &[u8] = b"\r\n\r\n";

/// Reads the answers of one connection, one after the other.
#[derive(Debug)]
pub struct Http1Client {
    state: State,
    /// A head, or a line between chunks, that came in pieces.
    pieces: Vec<u8>,
    current: Answer,
    excerpt: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Body { left: u64 },
    ChunkLength,
    Chunk { left: u64 },
    ChunkEnd,
    Trailers,
    UntilClose,
}

const NOTHING: Answer = Answer { token: 0, status: Status::Http(0), body_bytes: 0, closes: false };

impl Default for Http1Client {
    fn default() -> Self {
        Self { state: State::Head, pieces: Vec::new(), current: NOTHING, excerpt: Vec::new() }
    }
}

impl Http1Client {
    /// Takes bytes from the front of `input` up to the end of one answer; `None` when all are taken and it has not
    /// ended.
    ///
    /// # Errors
    /// The server does not speak HTTP/1.1.
    pub fn receive(&mut self, input: &mut &[u8]) -> Result<Option<Answer>, Malformed> {
        while !input.is_empty() {
            let ended = match self.state {
                State::Head => self.take_head(input)?,
                State::Body { left } => {
                    let left = self.take_bytes(left, input);
                    self.state = State::Body { left };
                    left == 0
                }
                State::UntilClose => {
                    self.take_bytes(u64::MAX, input);
                    false
                }
                State::Chunk { left } => {
                    let left = self.take_bytes(left, input);
                    self.state = if left == 0 { State::ChunkEnd } else { State::Chunk { left } };
                    false
                }
                State::ChunkLength | State::ChunkEnd | State::Trailers => self.take_line(input)?,
            };
            if ended {
                self.state = State::Head;
                return Ok(Some(self.current));
            }
        }
        Ok(None)
    }

    /// The server sends no more: the answer that this ends, where its head said so.
    pub fn end(&mut self) -> Option<Answer> {
        (self.state == State::UntilClose).then(|| {
            self.state = State::Head;
            self.current
        })
    }

    /// The beginning of the body of the last answer that was not 200.
    #[must_use]
    pub fn excerpt(&self) -> &[u8] {
        &self.excerpt
    }

    /// True if the head is whole and no body follows.
    fn take_head(&mut self, input: &mut &[u8]) -> Result<bool, Malformed> {
        if self.pieces.is_empty()
            && let Some(at) = memmem::find(input, HEAD_END)
        {
            let (head, rest) = input.split_at(at + HEAD_END.len());
            *input = rest;
            return self.read_head(head);
        }
        // The end may lie across two pieces.
        let from = self.pieces.len().saturating_sub(HEAD_END.len() - 1);
        let before = self.pieces.len();
        self.pieces.extend_from_slice(input);
        let Some(at) = memmem::find(&self.pieces[from..], HEAD_END) else {
            *input = &[];
            let fits = self.pieces.len() <= HEAD_BYTES_MAX;
            return if fits { Ok(false) } else { Err(Malformed("head of an answer is above 64 KiB")) };
        };
        let end = from + at + HEAD_END.len();
        *input = &input[end - before..];
        let head = std::mem::take(&mut self.pieces);
        self.read_head(&head[..end])
    }

    fn read_head(&mut self, head: &[u8]) -> Result<bool, Malformed> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let whole = response.parse(head).is_ok_and(|parsed| parsed.is_complete());
        let (true, Some(status), Some(version)) = (whole, response.code, response.version) else {
            return Err(Malformed("head of an answer is not HTTP/1"));
        };
        if (100..200).contains(&status) {
            return Ok(false);
        }
        let (mut length, mut chunked, mut closes) = (None, false, version == 0);
        for header in response.headers.iter() {
            if header.name.eq_ignore_ascii_case("content-length") {
                let told = decimal::parse(header.value).ok_or(Malformed("content-length is no number"))?;
                length = Some(told);
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                chunked = header.value.eq_ignore_ascii_case(b"chunked");
            } else if header.name.eq_ignore_ascii_case("connection") {
                closes = header.value.eq_ignore_ascii_case(b"close")
                    || version == 0 && !header.value.eq_ignore_ascii_case(b"keep-alive");
            }
        }
        if status != 200 {
            self.excerpt.clear();
        }
        self.state = match (chunked, length) {
            _ if matches!(status, 204 | 304) => State::Body { left: 0 },
            (true, _) => State::ChunkLength,
            (false, Some(left)) => State::Body { left },
            (false, None) => State::UntilClose,
        };
        let closes = closes || self.state == State::UntilClose;
        self.current = Answer { token: 0, status: Status::Http(status), body_bytes: 0, closes };
        Ok(self.state == State::Body { left: 0 })
    }

    /// Takes up to `left` bytes of the body; returns how many are still to come.
    fn take_bytes(&mut self, left: u64, input: &mut &[u8]) -> u64 {
        let taken = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
        let (bytes, rest) = input.split_at(taken);
        *input = rest;
        self.current.body_bytes += taken as u64;
        if !self.current.status.is_ok() {
            keep_excerpt(&mut self.excerpt, bytes);
        }
        left - taken as u64
    }

    /// A line between chunks, whole or in pieces; true if it ends the answer.
    fn take_line(&mut self, input: &mut &[u8]) -> Result<bool, Malformed> {
        let Some(at) = memchr::memchr(b'\n', input) else {
            self.pieces.extend_from_slice(input);
            *input = &[];
            let fits = self.pieces.len() <= HEAD_BYTES_MAX;
            return if fits { Ok(false) } else { Err(Malformed("line between chunks is above 64 KiB")) };
        };
        self.pieces.extend_from_slice(&input[..at]);
        *input = &input[at + 1..];
        let line = std::mem::take(&mut self.pieces);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        self.state = match self.state {
            State::ChunkLength => match chunk_length(line)? {
                0 => State::Trailers,
                left => State::Chunk { left },
            },
            State::Trailers => return Ok(line.is_empty()),
            _ if line.is_empty() => State::ChunkLength,
            _ => return Err(Malformed("chunk is longer than it said")),
        };
        Ok(false)
    }
}

fn chunk_length(line: &[u8]) -> Result<u64, Malformed> {
    let digits = line.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii_end();
    if digits.is_empty() || digits.len() > CHUNK_DIGITS_MAX {
        return Err(Malformed("chunk has no length"));
    }
    digits.iter().try_fold(0_u64, |length, &digit| {
        let digit = char::from(digit).to_digit(16).ok_or(Malformed("length of a chunk is not hexadecimal"))?;
        Ok(length << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests;
