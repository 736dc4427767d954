//! Protobuf's wire format as a cursor over one message. Positions are those in the whole message, for texts.

use std::ops::Range;

use servekit_core::{Reason, quoted};
use smallvec::SmallVec;

use crate::json::{Fault, fault};

/// How a field travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Varint,
    Fixed64,
    Bytes,
    GroupStart,
    GroupEnd,
    Fixed32,
}

/// A field's number and how its value travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FieldKey {
    pub(super) number: u32,
    pub(super) wire: Wire,
}

/// A stretch of the message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Span {
    pub(super) fn range(self) -> Range<usize> {
        self.start..self.end
    }

    pub(super) fn len(self) -> usize {
        self.end - self.start
    }
}

/// A cursor over the fields of a message, or of one inside it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    /// The message up to where the cursor may go.
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self { bytes: message, at: 0 }
    }

    /// A cursor over a stretch of `message`.
    pub(super) fn within(message: &'a [u8], span: Span) -> Self {
        Self { bytes: &message[..span.end], at: span.start }
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The next field's key; `None` at the end.
    #[inline(always)]
    pub(super) fn key(&mut self) -> Result<Option<FieldKey>, Fault> {
        match self.bytes.get(self.at) {
            None => Ok(None),
            // The fields of the protocol have keys of one byte, and a length or a number.
            Some(&key @ 8..0x80) if matches!(key & 7, 0 | 2) => {
                self.at += 1;
                let wire = if key & 7 == 2 { Wire::Bytes } else { Wire::Varint };
                Ok(Some(FieldKey { number: u32::from(key >> 3), wire }))
            }
            Some(_) => self.unusual_key().map(Some),
        }
    }

    #[inline(never)]
    fn unusual_key(&mut self) -> Result<FieldKey, Fault> {
        let start = self.at;
        let key = self.varint()?;
        let wire = match key & 7 {
            0 => Wire::Varint,
            1 => Wire::Fixed64,
            2 => Wire::Bytes,
            3 => Wire::GroupStart,
            4 => Wire::GroupEnd,
            5 => Wire::Fixed32,
            other => return Err(bad(format_args!("wire type {other} at byte {start}, types from 0 to 5 are allowed"))),
        };
        match u32::try_from(key) {
            Ok(key) if key >= 8 => Ok(FieldKey { number: key >> 3, wire }),
            _ => Err(bad(format_args!("field number {} at byte {start}, numbers from 1 are allowed", key >> 3))),
        }
    }

    #[inline(always)]
    pub(super) fn varint(&mut self) -> Result<u64, Fault> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    #[inline(never)]
    fn long_varint(&mut self) -> Result<u64, Fault> {
        let start = self.at;
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let Some(&byte) = self.bytes.get(self.at) else {
                return Err(bad(format_args!("end inside a number at byte {start}, a whole one is allowed")));
            };
            self.at += 1;
            value |= u64::from(byte & 0x7F) << (shift & 63);
            if byte < 0x80 {
                // The tenth byte has room for one bit.
                if shift == 63 && byte > 1 {
                    break;
                }
                return Ok(value);
            }
        }
        Err(bad(format_args!("number beyond 64 bits at byte {start}, at most 10 bytes are allowed")))
    }

    /// The content of a field that has a length.
    #[inline]
    pub(super) fn span(&mut self, key: FieldKey) -> Result<Span, Fault> {
        self.expect(key, Wire::Bytes)?;
        let length = self.varint()?;
        let start = self.at;
        if length > (self.bytes.len() - start) as u64 {
            return Err(self.too_long(length));
        }
        self.at += length as usize;
        Ok(Span { start, end: self.at })
    }

    #[cold]
    fn too_long(&self, length: u64) -> Fault {
        let (at, left) = (self.at, self.bytes.len() - self.at);
        bad(format_args!("length {length} before byte {at}, {left} bytes are left and allowed"))
    }

    /// The content of a field that holds text.
    #[inline]
    pub(super) fn text(&mut self, key: FieldKey) -> Result<&'a str, Fault> {
        let span = self.span(key)?;
        std::str::from_utf8(&self.bytes[span.range()]).map_err(|error| {
            bad(format_args!("text that is not UTF-8 at byte {}, UTF-8 is allowed", span.start + error.valid_up_to()))
        })
    }

    /// The value of a field that is a number.
    #[inline]
    pub(super) fn number(&mut self, key: FieldKey) -> Result<u64, Fault> {
        self.expect(key, Wire::Varint)?;
        self.varint()
    }

    /// The value of a field of eight bytes.
    pub(super) fn fixed64(&mut self, key: FieldKey) -> Result<[u8; 8], Fault> {
        self.expect(key, Wire::Fixed64)?;
        self.take()
    }

    /// The value of a field of four bytes.
    pub(super) fn fixed32(&mut self, key: FieldKey) -> Result<[u8; 4], Fault> {
        self.expect(key, Wire::Fixed32)?;
        self.take()
    }

    fn take<const BYTES: usize>(&mut self) -> Result<[u8; BYTES], Fault> {
        let Some(chunk) = self.bytes[self.at..].first_chunk::<BYTES>() else {
            return Err(bad(format_args!("end inside a value at byte {}, {BYTES} bytes are allowed", self.at)));
        };
        self.at += BYTES;
        Ok(*chunk)
    }

    #[inline]
    fn expect(&self, key: FieldKey, wanted: Wire) -> Result<(), Fault> {
        if key.wire == wanted { Ok(()) } else { Err(self.misfit(key)) }
    }

    /// The refusal of a known field that travels in another way than it should.
    #[cold]
    pub(super) fn misfit(&self, key: FieldKey) -> Fault {
        let FieldKey { number, wire } = key;
        let at = self.at;
        bad(format_args!("field {number} as {wire:?} before byte {at}, another wire type is allowed"))
    }

    /// Passes a field that nobody knows; groups within it up to this depth.
    pub(super) fn skip(&mut self, key: FieldKey, depth_max: u64) -> Result<(), Fault> {
        let mut groups: SmallVec<[u32; 8]> = SmallVec::new();
        let mut key = key;
        loop {
            match key.wire {
                Wire::Varint => drop(self.varint()?),
                Wire::Fixed64 => drop(self.take::<8>()?),
                Wire::Fixed32 => drop(self.take::<4>()?),
                Wire::Bytes => drop(self.span(key)?),
                Wire::GroupStart => {
                    groups.push(key.number);
                    if groups.len() as u64 > depth_max {
                        let (depth, at) = (groups.len(), self.at);
                        return Err(bad(format_args!(
                            "{depth} open groups at byte {at}, at most {depth_max} are allowed"
                        )));
                    }
                }
                Wire::GroupEnd => {
                    if groups.pop() != Some(key.number) {
                        let (number, at) = (key.number, self.at);
                        return Err(bad(format_args!(
                            "end of group {number} before byte {at}, that of an open group is allowed"
                        )));
                    }
                }
            }
            if groups.is_empty() {
                return Ok(());
            }
            let Some(next) = self.key()? else {
                let (open, at) = (groups.len(), self.at);
                return Err(bad(format_args!("end inside {open} groups at byte {at}, only closed groups are allowed")));
            };
            key = next;
        }
    }
}

/// The refusal of a message that is none.
#[cold]
#[inline(never)]
fn bad(what: std::fmt::Arguments<'_>) -> Fault {
    fault(Reason::BadProtobuf, format!("{what}; build the message from the published proto"))
}

/// The refusal of a name that is not text: whoever looks a name up finds out only when it is unknown.
#[cold]
pub(super) fn check_text(bytes: &[u8], at: usize) -> Result<(), Fault> {
    match std::str::from_utf8(bytes) {
        Ok(_) => Ok(()),
        Err(error) => {
            let found = quoted(bytes);
            Err(bad(format_args!(
                "text '{found}' that is not UTF-8 at byte {}, UTF-8 is allowed",
                at + error.valid_up_to()
            )))
        }
    }
}
