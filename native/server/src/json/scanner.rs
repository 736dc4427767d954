//! The grammar of JSON as a cursor: whoever reads decides what each value is, or has it skipped.

use std::borrow::Cow;
use std::ops::Range;

use servekit_core::{Limits, Reason, quoted};
use smallvec::SmallVec;

use super::string::{self, Broken};
use super::{Fault, blank, byte, fault};

/// A cursor over one JSON text. Everything it passes is checked: RFC 8259 and the limits of depth and key length.
#[derive(Clone)]
pub(crate) struct Scanner<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
    /// Open brackets around the cursor.
    pub(super) depth: u64,
    pub(super) limits: &'a Limits,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(bytes: &'a [u8], limits: &'a Limits) -> Self {
        Self { bytes, at: 0, depth: 0, limits }
    }

    /// First byte of what follows the white space; 0 at the end.
    #[inline(always)]
    pub(crate) fn peek(&mut self) -> u8 {
        let next = byte(self.bytes, self.at);
        if next > b' ' { next } else { self.peek_behind_blank() }
    }

    #[inline(never)]
    fn peek_behind_blank(&mut self) -> u8 {
        self.at = blank(self.bytes, self.at);
        byte(self.bytes, self.at)
    }

    /// Where the cursor is.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// Puts the cursor elsewhere at the same depth.
    pub(crate) fn rewind(&mut self, position: usize) {
        self.at = position;
    }

    /// Puts the cursor where another one has been, inside this many brackets.
    pub(crate) fn enter(&mut self, position: usize, depth: u64) {
        self.depth = depth;
        self.at = position;
    }

    /// Puts the cursor back into an object that was left.
    pub(crate) fn reenter(&mut self, position: usize) {
        self.depth += 1;
        self.at = position;
    }

    /// Puts the cursor behind that object again.
    pub(crate) fn leave(&mut self, position: usize) {
        self.depth -= 1;
        self.at = position;
    }

    /// The whole text.
    pub(crate) fn text(&self) -> &'a [u8] {
        self.bytes
    }

    /// The numbers that bound what is read.
    pub(crate) fn limits(&self) -> &'a Limits {
        self.limits
    }

    /// Whether the integer that ends here is the beginning of a longer number.
    pub(crate) fn continues(&self, end: usize) -> bool {
        matches!(byte(self.bytes, end), b'.' | b'e' | b'E')
    }

    /// What lies between two positions.
    pub(crate) fn slice(&self, range: Range<usize>) -> &'a [u8] {
        &self.bytes[range]
    }

    /// Passes this byte; `allowed` says what else would have been right.
    #[inline(always)]
    pub(crate) fn expect(&mut self, wanted: u8, allowed: &'static str) -> Result<(), Fault> {
        if self.peek() != wanted {
            return Err(self.unexpected(allowed));
        }
        self.at += 1;
        Ok(())
    }

    /// Passes the bracket under the cursor.
    #[inline(always)]
    pub(crate) fn open(&mut self) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > self.limits.json_depth_max {
            return Err(self.too_deep());
        }
        self.at += 1;
        Ok(())
    }

    /// Passes the bracket under the cursor.
    #[inline(always)]
    pub(crate) fn close(&mut self) {
        self.depth -= 1;
        self.at += 1;
    }

    /// In an array, before an element: whether there is one. `first` is true once, at the start.
    #[inline]
    pub(crate) fn element(&mut self, first: bool) -> Result<bool, Fault> {
        match self.peek() {
            b']' => {
                self.close();
                Ok(false)
            }
            _ if first => Ok(true),
            b',' => {
                self.at += 1;
                if self.peek() == b']' { Err(self.unexpected("a value")) } else { Ok(true) }
            }
            _ => Err(self.unexpected("',' or ']'")),
        }
    }

    /// The string under the cursor, whose quote was seen.
    #[inline(always)]
    pub(crate) fn string(&mut self) -> Result<Cow<'a, [u8]>, Fault> {
        match string::short(self.bytes, self.at) {
            Some(content) => {
                self.at += content.len() + 2;
                Ok(Cow::Borrowed(content))
            }
            None => self.long_string(),
        }
    }

    #[inline(never)]
    fn long_string(&mut self) -> Result<Cow<'a, [u8]>, Fault> {
        let span = match string::span(self.bytes, self.at) {
            Ok(span) => span,
            Err(broken) => return Err(self.broken(broken)),
        };
        self.at = span.content.end + 1;
        if span.escaped {
            self.unescaped(span.content).map(Cow::Owned)
        } else {
            Ok(Cow::Borrowed(&self.bytes[span.content]))
        }
    }

    #[cold]
    fn unescaped(&self, content: Range<usize>) -> Result<Vec<u8>, Fault> {
        let mut characters = Vec::with_capacity(content.len());
        string::unescape(self.bytes, content, &mut characters).map_err(|broken| self.broken(broken))?;
        Ok(characters)
    }

    /// A key and its colon.
    fn key(&mut self) -> Result<Cow<'a, [u8]>, Fault> {
        if self.peek() != b'"' {
            return Err(self.unexpected("a key"));
        }
        let key = self.string()?;
        if key.len() as u64 > self.limits.name_bytes_max {
            return Err(self.long_key(key.len()));
        }
        self.expect(b':', "':'")?;
        Ok(key)
    }

    /// Passes `null`, if that is what follows.
    pub(crate) fn null(&mut self) -> bool {
        let is_null = self.peek() == b'n' && self.bytes[self.at..].starts_with(b"null");
        self.at += if is_null { 4 } else { 0 };
        is_null
    }

    /// Passes one value of any kind and returns where it lies.
    pub(crate) fn skip(&mut self) -> Result<Range<usize>, Fault> {
        self.skip_within(self.limits.json_number_bytes_max)
    }

    /// As [`skip`](Self::skip), for values whose numbers are looked at later.
    pub(crate) fn skip_within(&mut self, number_bytes_max: u64) -> Result<Range<usize>, Fault> {
        self.peek();
        let start = self.at;
        let mut open: SmallVec<[u8; 32]> = SmallVec::new();
        loop {
            match self.peek() {
                bracket @ (b'{' | b'[') => {
                    self.open()?;
                    if self.peek() == bracket + 2 {
                        self.close();
                    } else {
                        open.push(bracket);
                        if bracket == b'{' {
                            self.key()?;
                        }
                        continue;
                    }
                }
                b'"' => drop(self.string()?),
                b'-' | b'0'..=b'9' => self.skip_number(number_bytes_max)?,
                b't' => self.word(b"true")?,
                b'f' => self.word(b"false")?,
                b'n' => self.word(b"null")?,
                _ => return Err(self.unexpected("a value")),
            }
            loop {
                let Some(&bracket) = open.last() else { return Ok(start..self.at) };
                match self.peek() {
                    b',' => {
                        self.at += 1;
                        if bracket == b'{' {
                            self.key()?;
                        }
                        break;
                    }
                    found if found == bracket + 2 => {
                        self.close();
                        open.pop();
                    }
                    _ => return Err(self.unexpected(if bracket == b'{' { "',' or '}'" } else { "',' or ']'" })),
                }
            }
        }
    }

    fn word(&mut self, word: &'static [u8]) -> Result<(), Fault> {
        if !self.bytes[self.at..].starts_with(word) {
            return Err(self.unexpected("a value"));
        }
        self.at += word.len();
        Ok(())
    }

    fn skip_number(&mut self, number_bytes_max: u64) -> Result<(), Fault> {
        let start = self.at;
        self.at += usize::from(byte(self.bytes, self.at) == b'-');
        if byte(self.bytes, self.at) == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if byte(self.bytes, self.at) == b'.' {
            self.at += 1;
            self.digits()?;
        }
        if matches!(byte(self.bytes, self.at), b'e' | b'E') {
            self.at += 1;
            self.at += usize::from(matches!(byte(self.bytes, self.at), b'+' | b'-'));
            self.digits()?;
        }
        if (self.at - start) as u64 > number_bytes_max {
            return Err(fault(
                Reason::ValueOutOfRange,
                format!(
                    "number of {} bytes at byte {start}, at most {number_bytes_max} are allowed; shorten it",
                    self.at - start
                ),
            ));
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Fault> {
        let count = self.bytes[self.at.min(self.bytes.len())..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count == 0 { Err(self.unexpected("a digit")) } else { Ok(()) }
    }

    /// Checks that nothing but white space is left.
    pub(crate) fn finish(&mut self) -> Result<(), Fault> {
        self.peek();
        if self.at < self.bytes.len() { Err(self.unexpected("the end")) } else { Ok(()) }
    }

    /// The refusal of the value under the cursor, which is JSON but not what belongs here: `lead` names the place,
    /// `allowed` what may stand there. Where it is not even JSON, that is said instead.
    #[cold]
    pub(crate) fn misfit(&mut self, lead: &str, allowed: &str) -> Fault {
        self.misfit_at(lead, "", allowed)
    }

    /// As [`misfit`](Self::misfit), saying also where among others the value stands.
    #[cold]
    pub(crate) fn misfit_at(&mut self, lead: &str, position: &str, allowed: &str) -> Fault {
        let range = match self.skip() {
            Ok(range) => range,
            Err(fault) => return fault,
        };
        if !matches!(self.peek(), b',' | b']' | b'}') && self.at < self.bytes.len() {
            return self.unexpected("',' or a bracket");
        }
        let found = quoted(&self.bytes[range]);
        fault(Reason::BadField, format!("{lead}: found {found}{position}, {allowed} allowed; correct it"))
    }

    /// The refusal of the byte under the cursor.
    #[cold]
    #[inline(never)]
    pub(crate) fn unexpected(&self, allowed: &'static str) -> Fault {
        self.broken(Broken { at: self.at, allowed })
    }

    #[cold]
    #[inline(never)]
    fn broken(&self, broken: Broken) -> Fault {
        let found = match self.bytes.get(broken.at) {
            None => "the end".to_owned(),
            Some(&printable @ 0x21..=0x7e) => format!("'{}'", char::from(printable)),
            Some(other) => format!("byte 0x{other:02X}"),
        };
        let (at, allowed) = (broken.at, broken.allowed);
        fault(
            Reason::BadJson,
            format!(
                "failed to parse the request JSON buffer: found {found} at byte {at}, {allowed} is allowed; send one JSON object"
            ),
        )
    }

    #[cold]
    #[inline(never)]
    fn too_deep(&self) -> Fault {
        let (depth, at, allowed) = (self.depth, self.at, self.limits.json_depth_max);
        fault(
            Reason::JsonTooDeep,
            format!("{depth} open brackets at byte {at}, at most {allowed} are allowed; flatten the data"),
        )
    }

    #[cold]
    #[inline(never)]
    fn long_key(&self, found: usize) -> Fault {
        let allowed = self.limits.name_bytes_max;
        fault(
            Reason::EnvelopeTooLarge,
            format!("key of {found} bytes before byte {}, at most {allowed} are allowed; shorten it", self.at),
        )
    }
}

/// The members of an object that is being read: finds keys given twice, and too many that nobody knows.
pub(crate) struct Members<'a> {
    /// Bit per known key.
    seen: u32,
    unknown: SmallVec<[Cow<'a, [u8]>; 2]>,
    started: bool,
}

/// Recognises a key by its text with quotes and colon: its number, from 0 to 31, and the length of that text.
pub(crate) type KnownKeys = fn(&[u8]) -> Option<(u32, usize)>;

/// Writes a function that recognises keys.
macro_rules! known_keys {
    ($name:ident: $($key:literal => $number:expr),*) => {
        #[inline(always)]
        fn $name(text: &[u8]) -> Option<(u32, usize)> {
            $(
                const { assert!($number < 32) };
                if text.starts_with(concat!("\"", $key, "\":").as_bytes()) {
                    return Some(($number, $key.len() + 3));
                }
            )*
            None
        }
    };
}
pub(crate) use known_keys;

/// A member's key.
pub(crate) enum Key<'k> {
    /// As numbered by whoever reads the object.
    Known(u32),
    /// Any other.
    Unknown(&'k [u8]),
}

impl<'a> Members<'a> {
    /// Enters the object under the cursor, whose bracket was seen.
    #[inline]
    pub(crate) fn open(scanner: &mut Scanner<'a>) -> Result<Self, Fault> {
        scanner.open()?;
        Ok(Self { seen: 0, unknown: SmallVec::new(), started: false })
    }

    /// The next key, with the cursor behind its colon; `None` behind the object's end.
    #[inline(always)]
    pub(crate) fn next(&mut self, scanner: &mut Scanner<'a>, known: KnownKeys) -> Result<Option<Key<'_>>, Fault> {
        match scanner.peek() {
            b'}' => {
                scanner.close();
                return Ok(None);
            }
            b',' if self.started => {
                scanner.at += 1;
                scanner.peek();
            }
            _ if self.started => return Err(scanner.unexpected("',' or '}'")),
            _ => self.started = true,
        }
        if let Some((number, bytes)) = scanner.bytes.get(scanner.at..).and_then(known)
            && self.seen & 1 << number == 0
        {
            self.seen |= 1 << number;
            scanner.at += bytes;
            return Ok(Some(Key::Known(number)));
        }
        self.unusual(scanner, known).map(Some)
    }

    /// A key that nobody knows, or one that is not written as it mostly is.
    #[inline(never)]
    fn unusual(&mut self, scanner: &mut Scanner<'a>, known: KnownKeys) -> Result<Key<'_>, Fault> {
        let key = scanner.key()?;
        let usual = [b"\"", &key[..], b"\":"].concat();
        let Some((number, _)) = known(&usual).filter(|(_, bytes)| *bytes == usual.len()) else {
            return self.unknown(key, scanner.limits);
        };
        if self.seen & 1 << number != 0 {
            return Err(twice(&key));
        }
        self.seen |= 1 << number;
        Ok(Key::Known(number))
    }

    fn unknown(&mut self, key: Cow<'a, [u8]>, limits: &Limits) -> Result<Key<'_>, Fault> {
        if self.unknown.contains(&key) {
            return Err(twice(&key));
        }
        self.unknown.push(key);
        if self.unknown.len() as u64 > limits.parameters_max {
            return Err(fault(
                Reason::EnvelopeTooLarge,
                format!(
                    "{} parameters or unknown keys in one object, at most {} are allowed; send fewer",
                    self.unknown.len(),
                    limits.parameters_max
                ),
            ));
        }
        Ok(Key::Unknown(self.unknown.last().map_or(&[], |key| key)))
    }
}

#[cold]
fn twice(key: &[u8]) -> Fault {
    fault(Reason::Duplicate, format!("key '{}' found twice, once is allowed; remove one", quoted(key)))
}
