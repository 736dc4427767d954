//! Reading heads: from bytes to a shared [`Head`] and the plan for its request.

use std::ops::Range;
use std::rc::Rc;

use memchr::memchr;

use super::fields::{self, FieldScan};
use crate::decimal;
use crate::head::{HeadBuilder, is_absolute};
use crate::{Head, Limits, Method, Version, Violation};

/// Longer heads are parsed each time: remembering them would make idle connections heavy.
const REMEMBERED_BYTES_MAX: usize = 4 << 10;

/// What a head says about its request, beyond what the owner is told.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub body: BodyPlan,
    pub persistence: Persistence,
    /// The peer waits for `100 Continue` before it sends the body.
    pub continues: bool,
    /// HEAD: the answer has no body.
    pub head_only: bool,
}

/// How long the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyPlan {
    Length(u64),
    Chunked,
}

/// What the peer wants to become of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    Close,
    /// HTTP/1.1, where it need not be said.
    Keep,
    /// HTTP/1.0, where the answer has to say so too.
    KeepAsked,
}

impl Plan {
    /// For an answer to something that was no head.
    pub const NONE: Self =
        Self { body: BodyPlan::Length(0), persistence: Persistence::Close, continues: false, head_only: false };
}

/// What was found at the front of the input.
#[derive(Debug)]
pub struct Reading {
    /// Bytes that are done with.
    pub taken: usize,
    /// `None`: more bytes are needed.
    pub found: Option<(Rc<Head>, Plan)>,
}

/// Reads one head after the other. The last one is remembered with its bytes: a peer that sends the same head again,
/// as most do, costs one comparison; so does one whose heads differ only in how long the body is.
#[derive(Debug, Default)]
pub struct HeadReader {
    line: LineScan,
    fields: FieldScan,
    /// The one empty line that may precede a request line has come.
    blank: bool,
    remembered: Option<Remembered>,
    id_next: u32,
}

#[derive(Debug)]
struct Remembered {
    bytes: Vec<u8>,
    head: Rc<Head>,
    plan: Plan,
    /// Where the digits of the only content-length stand.
    length: Option<Range<usize>>,
}

#[derive(Debug, Default)]
struct LineScan {
    searched: usize,
    /// Length with its CR LF, once it is complete.
    bytes: Option<usize>,
}

impl HeadReader {
    /// Looks at `bytes`, all that has come of this head. Until it is complete, the next call must begin with the same
    /// bytes less those taken.
    pub fn read(&mut self, bytes: &[u8], limits: &Limits) -> Result<Reading, Violation> {
        if self.line.searched == 0
            && let Some(last) = &self.remembered
            && bytes.starts_with(&last.bytes)
        {
            let found = Some((last.head.clone(), last.plan));
            self.blank = false;
            return Ok(Reading { taken: last.bytes.len(), found });
        }
        if self.line.searched == 0
            && let Some(last) = &mut self.remembered
            && last.takes(bytes, self.id_next)
        {
            self.id_next = self.id_next.wrapping_add(1);
            self.blank = false;
            return Ok(Reading { taken: last.bytes.len(), found: Some((last.head.clone(), last.plan)) });
        }
        if !self.blank && self.line.searched == 0 {
            match bytes {
                [b'\r'] => return Ok(Reading { taken: 0, found: None }),
                [b'\r', b'\n', ..] => {
                    self.blank = true;
                    return Ok(Reading { taken: 2, found: None });
                }
                _ => {}
            }
        }
        let Some(head_bytes) = self.scan(bytes, limits)? else {
            return Ok(Reading { taken: 0, found: None });
        };
        let found = self.parse(&bytes[..head_bytes])?;
        self.restart();
        Ok(Reading { taken: head_bytes, found: Some(found) })
    }

    /// Memory held.
    pub fn held_bytes(&self) -> usize {
        self.remembered.as_ref().map_or(0, |last| 2 * last.bytes.len())
    }

    fn restart(&mut self) {
        self.line = LineScan::default();
        self.fields = FieldScan::default();
        self.blank = false;
    }

    /// The length of the whole head once its end has come; every limit of size is checked here.
    fn scan(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, Violation> {
        let line_bytes = match self.line.bytes {
            Some(line_bytes) => line_bytes,
            None => match self.line.advance(bytes, limits.request_line_bytes_max)? {
                Some(line_bytes) => line_bytes,
                None => return Ok(None),
            },
        };
        let section_bytes = self.fields.advance(&bytes[line_bytes..], limits)?;
        Ok(section_bytes.map(|section_bytes| line_bytes + section_bytes))
    }

    fn parse(&mut self, bytes: &[u8]) -> Result<(Rc<Head>, Plan), Violation> {
        // The head may have come in pieces, so that the quick comparison could not see it whole.
        if let Some(last) = &self.remembered
            && last.bytes == bytes
        {
            return Ok((last.head.clone(), last.plan));
        }
        let Parsed { head, plan, length } = parse(bytes, self.fields.count(), self.id_next)?;
        self.id_next = self.id_next.wrapping_add(1);
        let head = Rc::new(head);
        if bytes.len() > REMEMBERED_BYTES_MAX {
            self.remembered = None;
        } else {
            let mut kept = self.remembered.take().map_or_else(Vec::new, |last| last.bytes);
            kept.clear();
            kept.extend_from_slice(bytes);
            self.remembered = Some(Remembered { bytes: kept, head: head.clone(), plan, length });
        }
        Ok((head, plan))
    }
}

impl Remembered {
    /// Whether `bytes` begin with this head but for the digits of its content-length; then it becomes that head.
    fn takes(&mut self, bytes: &[u8], id: u32) -> bool {
        let Some(range) = self.length.clone() else { return false };
        let Some(bytes) = bytes.get(..self.bytes.len()) else { return false };
        if bytes[..range.start] != self.bytes[..range.start] || bytes[range.end..] != self.bytes[range.end..] {
            return false;
        }
        let digits = &bytes[range.clone()];
        // Without a body other rules hold; such a head is parsed.
        let Some(length @ 1..) = decimal::parse(digits) else { return false };
        self.bytes[range].copy_from_slice(digits);
        self.plan.body = BodyPlan::Length(length);
        let head = Rc::make_mut(&mut self.head);
        head.id = id;
        head.replace_content_length(digits, length);
        true
    }
}

impl LineScan {
    fn advance(&mut self, bytes: &[u8], allowed: usize) -> Result<Option<usize>, Violation> {
        let end = memchr(b'\n', &bytes[self.searched..]).map(|found| self.searched + found + 1);
        self.searched = end.unwrap_or(bytes.len());
        if self.searched > allowed {
            return Err(Violation::UriTooLong { found: self.searched, allowed });
        }
        let Some(end) = end else { return Ok(None) };
        match bytes[..end].strip_suffix(b"\r\n") {
            None => Err(Violation::Framing("request line ended by LF alone, CR LF is allowed; send CR LF")),
            Some([]) => Err(Violation::Framing("two empty lines before a request, one is allowed; send the request")),
            Some(_) => {
                self.bytes = Some(end);
                Ok(self.bytes)
            }
        }
    }
}

/// A head as it is remembered.
struct Parsed {
    head: Head,
    plan: Plan,
    length: Option<Range<usize>>,
}

fn parse(bytes: &[u8], count: usize, id: u32) -> Result<Parsed, Violation> {
    let mut fields = fields::room(count);
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(parsed)) if parsed == bytes.len() => {}
        Ok(_) => return Err(fields::violation(httparse::Error::Token)),
        Err(httparse::Error::Version) if is_version(bytes) => return Err(Violation::Version),
        Err(error) => return Err(fields::violation(error)),
    }
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(fields::violation(httparse::Error::Token));
    };
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let mut builder = HeadBuilder::with_capacity(bytes.len());
    let mut framing = Framing::default();
    for field in request.headers.iter() {
        framing.add(field.name, field.value)?;
        builder.field(field.name.as_bytes(), field.value);
    }
    let head = builder.finish(id, version, method.as_bytes(), target.as_bytes());
    let plan = framing.plan(&head, is_absolute(target.as_bytes()))?;
    let length = framing.length_digits.filter(|_| plan.body != BodyPlan::Length(0)).map(|digits| {
        let start = digits.as_ptr().addr() - bytes.as_ptr().addr();
        start..start + digits.len()
    });
    Ok(Parsed { head, plan, length })
}

/// Whether the request line ends in a well-formed version, so that it is one we do not speak and no garbage.
fn is_version(bytes: &[u8]) -> bool {
    let line = &bytes[..memchr(b'\r', bytes).unwrap_or(bytes.len())];
    let mut words = line.split(|&byte| byte == b' ');
    let version = words.nth(2);
    words.next().is_none()
        && matches!(version, Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor])
            if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// The fields that say where the request ends and what becomes of the connection.
#[derive(Debug, Default)]
struct Framing<'a> {
    content_length: Option<u64>,
    /// The value of the only content-length.
    length_digits: Option<&'a [u8]>,
    chunked: bool,
    hosts: usize,
    close: bool,
    keep_alive: bool,
    continues: bool,
}

impl<'a> Framing<'a> {
    fn add(&mut self, name: &str, value: &'a [u8]) -> Result<(), Violation> {
        // The length tells most fields apart before any letter is compared.
        match name.len() {
            4 if name.eq_ignore_ascii_case("host") => self.hosts += 1,
            6 if name.eq_ignore_ascii_case("expect") => {
                self.continues |= value.eq_ignore_ascii_case(b"100-continue");
            }
            10 if name.eq_ignore_ascii_case("connection") => {
                for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            14 if name.eq_ignore_ascii_case("content-length") => self.add_content_length(value)?,
            17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Violation::Framing(
                        "transfer-encoding other than chunked found, chunked alone is allowed; send only that",
                    ));
                }
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn add_content_length(&mut self, value: &'a [u8]) -> Result<(), Violation> {
        let Some(length) = decimal::parse(value) else {
            return Err(Violation::Framing(
                "malformed content-length, digits for a number below 2^64 are allowed; send the body's length",
            ));
        };
        let before = self.content_length.replace(length);
        self.length_digits = before.is_none().then_some(value);
        if before.is_some_and(|before| before != length) {
            return Err(Violation::Framing("several differing content-lengths found, one is allowed; send only one"));
        }
        Ok(())
    }

    fn plan(&self, head: &Head, absolute: bool) -> Result<Plan, Violation> {
        let http11 = head.version == Version::Http11;
        if self.chunked && self.content_length.is_some() {
            return Err(Violation::Framing(
                "content-length and transfer-encoding found, one of them is allowed; send only one",
            ));
        }
        if self.chunked && !http11 {
            return Err(Violation::Framing(
                "transfer-encoding in HTTP/1.0 found, content-length is allowed; send that or use HTTP/1.1",
            ));
        }
        if self.hosts > 1 || (http11 && self.hosts == 0 && !absolute) {
            return Err(Violation::Framing("no host or several hosts found, one is allowed; send one host"));
        }
        let persistence = match (self.close, http11, self.keep_alive) {
            (false, true, _) => Persistence::Keep,
            (false, false, true) => Persistence::KeepAsked,
            _ => Persistence::Close,
        };
        let length = BodyPlan::Length(self.content_length.unwrap_or(0));
        let body = if self.chunked { BodyPlan::Chunked } else { length };
        let continues = self.continues && http11 && body != BodyPlan::Length(0);
        Ok(Plan { body, persistence, continues, head_only: head.method == Method::Head })
    }
}
