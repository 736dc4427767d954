//! A request's head: method, target and fields, in one buffer, alike for both protocols.

use std::ops::Range;

use memchr::memchr;
use smallvec::SmallVec;

use crate::decimal;

/// Whether a token of HTTP may hold this byte (RFC 9110, 5.6.2).
#[must_use]
pub fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

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
    text: Vec<u8>,
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
        self.fields().find(|(found, _)| *found == name.as_bytes()).map(|(_, value)| value)
    }

    /// Values of all fields of this (lower-case) name, in order.
    pub fn fields_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.fields().filter(move |(found, _)| *found == name.as_bytes()).map(|(_, value)| value)
    }

    /// All fields, in order.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|field| (self.slice(&field.name), self.slice(&field.value)))
    }

    /// Puts another content-length of as many digits in place of the one that is there.
    pub(crate) fn replace_content_length(&mut self, digits: &[u8], length: u64) {
        let Self { text, fields, .. } = self;
        let range_of = |range: &Range<u32>| range.start as usize..range.end as usize;
        for field in fields.iter().filter(|field| field.name.len() == "content-length".len()) {
            if &text[range_of(&field.name)] == b"content-length" && field.value.len() == digits.len() {
                text[range_of(&field.value)].copy_from_slice(digits);
                self.content_length = Some(length);
            }
        }
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
    content_length: Option<u64>,
    grpc: bool,
}

impl HeadBuilder {
    /// With room for a head of about so many bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { text: Vec::with_capacity(bytes), ..Self::default() }
    }

    /// Adds a field; an upper-case name becomes lower case.
    pub fn field(&mut self, name: &[u8], value: &[u8]) -> &mut Self {
        let name = self.store(name);
        let name_text = &mut self.text[name.start as usize..name.end as usize];
        name_text.make_ascii_lowercase();
        match &*name_text {
            b"content-length" if self.content_length.is_none() => self.content_length = decimal::parse(value),
            b"content-type" => self.grpc |= is_grpc(value),
            _ => {}
        }
        let value = self.store(value);
        self.fields.push(Field { name, value });
        self
    }

    /// Ends the head. `target` is the request target, or `:path`.
    #[must_use]
    pub fn finish(mut self, id: u32, version: Version, method: &[u8], target: &[u8]) -> Head {
        let method_text = self.store(method);
        let target = path_and_query(target);
        let path_bytes = memchr(b'?', target).unwrap_or(target.len());
        let Range { start, end } = self.store(target);
        let path = start..start + path_bytes as u32;
        let query = end.min(path.end + 1)..end;
        let method = match method {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            _ => Method::Other,
        };
        let grpc = self.grpc && version == Version::Http2;
        let Self { text, fields, content_length, .. } = self;
        Head { id, method, version, content_length, grpc, text, method_text, path, query, fields }
    }

    fn store(&mut self, bytes: &[u8]) -> Range<u32> {
        let start = self.text.len() as u32;
        self.text.extend_from_slice(bytes);
        start..self.text.len() as u32
    }
}

/// Whether a target is in absolute form, with scheme and host.
pub(crate) fn is_absolute(target: &[u8]) -> bool {
    after_scheme(target).is_some()
}

fn after_scheme(target: &[u8]) -> Option<&[u8]> {
    [&b"http://"[..], b"https://"].into_iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

/// `http://host/path?query` is the absolute form of `/path?query`.
fn path_and_query(target: &[u8]) -> &[u8] {
    // Nearly every target: no scheme to look for.
    if target.first() == Some(&b'/') {
        return target;
    }
    match after_scheme(target) {
        Some(rest) => rest.iter().position(|&byte| byte == b'/').map_or(b"/", |at| &rest[at..]),
        None => target,
    }
}

fn is_grpc(content_type: &[u8]) -> bool {
    match content_type.strip_prefix(b"application/grpc") {
        Some([]) => true,
        Some([next, ..]) => matches!(next, b'+' | b';'),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(version: Version, target: &str, fields: &[(&str, &str)]) -> Head {
        let mut builder = HeadBuilder::default();
        for (name, value) in fields {
            builder.field(name.as_bytes(), value.as_bytes());
        }
        builder.finish(7, version, b"POST", target.as_bytes())
    }

    #[test]
    fn a_target_is_parted_into_path_and_query() {
        let cases = [
            ("/v2/models", "/v2/models", ""),
            ("/v2?a=1&b=?", "/v2", "a=1&b=?"),
            ("/?", "/", ""),
            ("http://host:8000/v2/health?x", "/v2/health", "x"),
            ("HTTPS://host/a//b", "/a//b", ""),
            ("http://host", "/", ""),
            ("*", "*", ""),
            ("host:443", "host:443", ""),
        ];
        for (target, path, query) in cases {
            let head = head(Version::Http11, target, &[]);
            assert_eq!((head.path(), head.query()), (path.as_bytes(), query.as_bytes()), "{target}");
        }
    }

    #[test]
    fn fields_are_found_by_lower_case_names_in_their_order() {
        let head = head(Version::Http11, "/", &[("Accept", "a"), ("X-Id", "7"), ("ACCEPT", "b")]);
        assert_eq!(head.field("accept"), Some(&b"a"[..]));
        assert_eq!(head.fields_named("accept").collect::<Vec<_>>(), [b"a", b"b"]);
        assert_eq!(head.field("x-id"), Some(&b"7"[..]));
        assert_eq!(head.field("x"), None);
        assert_eq!(head.fields().count(), 3);
        assert_eq!((head.id, head.method, head.method_text()), (7, Method::Post, &b"POST"[..]));
    }

    #[test]
    fn a_content_length_is_digits_or_none() {
        for (value, expected) in [("12", Some(12)), ("+12", None), ("-1", None), ("", None), ("1e3", None)] {
            assert_eq!(head(Version::Http2, "/", &[("content-length", value)]).content_length, expected);
        }
    }

    #[test]
    fn grpc_is_told_by_its_content_type_on_http2_alone() {
        let cases = [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ];
        for (content_type, grpc) in cases {
            let fields = [("content-type", content_type)];
            assert_eq!(head(Version::Http2, "/", &fields).grpc, grpc, "{content_type}");
            assert!(!head(Version::Http11, "/", &fields).grpc);
        }
    }
}
