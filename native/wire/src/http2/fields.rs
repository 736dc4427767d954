//! The fields of one header block, checked one by one.

use std::rc::Rc;

use super::heads::{Outcome, Request, TrailersOutcome};
use crate::decimal;
use crate::event::Violation;
use crate::hpack::FIELD_BYTES;
use crate::limits::Limits;
use crate::{HeadBuilder, Version, is_token};

/// A breach that makes the whole request malformed; nothing more needs to be known.
struct Malformed;

/// How much a list of fields takes, against its limits.
#[derive(Debug)]
struct Size<'l> {
    limits: &'l Limits,
    fields: usize,
    bytes: usize,
}

impl<'l> Size<'l> {
    fn new(limits: &'l Limits) -> Self {
        Self { limits, fields: 0, bytes: 0 }
    }

    /// Pseudo fields take room but are no fields, as in HTTP/1 the request line is none.
    fn add(&mut self, name: &[u8], value: &[u8]) {
        self.fields += usize::from(name.first() != Some(&b':'));
        self.bytes = self.bytes.saturating_add(name.len() + value.len() + FIELD_BYTES);
    }

    fn violation(&self) -> Option<Violation> {
        if self.fields > self.limits.headers_max {
            Some(Violation::Headers { found: self.fields, allowed: self.limits.headers_max })
        } else if self.bytes > self.limits.header_bytes_max {
            Some(Violation::HeaderBytes { found: self.bytes, allowed: self.limits.header_bytes_max })
        } else {
            None
        }
    }
}

/// Collects a request's fields.
pub(super) struct Fields<'l> {
    size: Size<'l>,
    malformed: bool,
    builder: HeadBuilder,
    method: Option<Box<[u8]>>,
    path: Option<Box<[u8]>>,
    scheme: bool,
    authority: Option<Box<[u8]>>,
    /// A field that is none of the pseudo fields came: no more of those may.
    regular: bool,
    content_length: Option<u64>,
    expects_continue: bool,
    grpc: bool,
}

impl<'l> Fields<'l> {
    pub(super) fn new(limits: &'l Limits) -> Self {
        Self {
            size: Size::new(limits),
            malformed: false,
            builder: HeadBuilder::default(),
            method: None,
            path: None,
            scheme: false,
            authority: None,
            regular: false,
            content_length: None,
            expects_continue: false,
            grpc: false,
        }
    }

    /// Takes the next field. Once the list is malformed or too large, nothing is looked at: a small block can stand
    /// for very many bytes.
    pub(super) fn take(&mut self, name: &[u8], value: &[u8]) {
        self.size.add(name, value);
        if name == b"content-type" {
            self.grpc = value.starts_with(b"application/grpc");
        }
        if !self.malformed && self.size.violation().is_none() {
            self.malformed = self.check(name, value).is_err();
        }
    }

    pub(super) fn finish(self, id: u32) -> Outcome {
        if self.malformed {
            return Outcome::Malformed;
        }
        let path_bytes = self.path.as_ref().map_or(0, |path| path.len());
        let path_bytes_max = self.size.limits.request_line_bytes_max;
        let uri = (path_bytes > path_bytes_max)
            .then_some(Violation::UriTooLong { found: path_bytes, allowed: path_bytes_max });
        if let Some(violation) = uri.or_else(|| self.size.violation()) {
            let bodyless = self.method.as_deref() == Some(b"HEAD");
            return Outcome::Violation { violation, grpc: self.grpc, bodyless };
        }
        let connect = self.method.as_deref() == Some(b"CONNECT");
        let complete = match (&self.path, connect) {
            (Some(_), false) => self.scheme,
            (None, true) => !self.scheme && self.authority.is_some(),
            _ => false,
        };
        let (Some(method), true) = (&self.method, complete) else { return Outcome::Malformed };
        let head = self.builder.finish(id, Version::Http2, method, self.path.as_deref().unwrap_or_default());
        Outcome::Request(Request { head: Rc::new(head), expects_continue: self.expects_continue })
    }

    fn check(&mut self, name: &[u8], value: &[u8]) -> Result<(), Malformed> {
        check_value(value)?;
        if name.first() == Some(&b':') {
            return self.check_pseudo(name, value);
        }
        check_name(name)?;
        self.regular = true;
        match name {
            b"te" if !value.eq_ignore_ascii_case(b"trailers") => return Err(Malformed),
            b"content-length" => {
                let length = content_length(value)?;
                if self.content_length.replace(length).is_some_and(|before| before != length) {
                    return Err(Malformed);
                }
            }
            b"expect" => self.expects_continue = value.eq_ignore_ascii_case(b"100-continue"),
            b"host" => match &self.authority {
                // `:authority` stands for it already.
                Some(authority) if **authority == *value => return Ok(()),
                Some(_) => return Err(Malformed),
                None => self.authority = Some(value.into()),
            },
            _ => {}
        }
        self.builder.field(name, value);
        Ok(())
    }

    fn check_pseudo(&mut self, name: &[u8], value: &[u8]) -> Result<(), Malformed> {
        let repeated = match name {
            b":method" => !value.iter().all(|&byte| is_token(byte)) || self.method.replace(value.into()).is_some(),
            b":path" => !is_path(value) || self.path.replace(value.into()).is_some(),
            b":scheme" => std::mem::replace(&mut self.scheme, true),
            b":authority" => {
                self.builder.field(b"host", value);
                self.authority.replace(value.into()).is_some()
            }
            _ => true,
        };
        // An authority may be empty; the others say something.
        let empty = value.is_empty() && name != b":authority";
        if repeated || empty || self.regular { Err(Malformed) } else { Ok(()) }
    }
}

/// Counts and checks the fields after a body.
pub(super) struct Trailers<'l> {
    size: Size<'l>,
    malformed: bool,
}

impl<'l> Trailers<'l> {
    pub(super) fn new(limits: &'l Limits) -> Self {
        Self { size: Size::new(limits), malformed: false }
    }

    pub(super) fn take(&mut self, name: &[u8], value: &[u8]) {
        self.size.add(name, value);
        if !self.malformed && self.size.violation().is_none() {
            self.malformed = check_name(name).and_then(|()| check_value(value)).is_err();
        }
    }

    pub(super) fn finish(self) -> TrailersOutcome {
        if self.malformed {
            return TrailersOutcome::Malformed;
        }
        self.size.violation().map_or(TrailersOutcome::Valid, TrailersOutcome::Violation)
    }
}

fn check_name(name: &[u8]) -> Result<(), Malformed> {
    let of_connection =
        matches!(name, b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding" | b"upgrade");
    let valid = !name.is_empty() && name.iter().all(|&byte| is_token(byte) && !byte.is_ascii_uppercase());
    if valid && !of_connection { Ok(()) } else { Err(Malformed) }
}

fn check_value(value: &[u8]) -> Result<(), Malformed> {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let broken =
        blank(value.first()) || blank(value.last()) || value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n'));
    if broken { Err(Malformed) } else { Ok(()) }
}

fn content_length(value: &[u8]) -> Result<u64, Malformed> {
    decimal::parse(value).ok_or(Malformed)
}

fn is_path(path: &[u8]) -> bool {
    (path.first() == Some(&b'/') || path == b"*") && path.iter().all(|&byte| byte > b' ' && byte != 0x7f)
}
