//! Lines of a head or of trailers, checked against their limits while they come.

use httparse::EMPTY_HEADER;
use memchr::memchr;
use smallvec::{SmallVec, smallvec};

use crate::{Limits, Violation};

/// Fields as `httparse` finds them; more than these go to the heap.
pub type Fields<'a> = SmallVec<[httparse::Header<'a>; 32]>;

/// What each field counts beyond its name and value.
const FIELD_BYTES: usize = 32;

/// Room for exactly so many fields.
pub fn room<'a>(count: usize) -> Fields<'a> {
    smallvec![EMPTY_HEADER; count]
}

/// Walks field lines up to the empty line that ends them. Remembers where it was, so that no byte is searched twice
/// however small the pieces are in which they come.
#[derive(Debug, Default)]
pub struct FieldScan {
    searched: usize,
    line_start: usize,
    count: usize,
    bytes: usize,
}

impl FieldScan {
    /// Looks at `section`, all that has come since the first field, and returns its length with the empty line, or
    /// `None` while that is still to come.
    pub fn advance(&mut self, section: &[u8], limits: &Limits) -> Result<Option<usize>, Violation> {
        let allowed = limits.header_bytes_max;
        loop {
            let Some(found) = memchr(b'\n', &section[self.searched..]) else {
                self.searched = section.len();
                return if section.len() > allowed {
                    Err(Violation::HeaderBytes { found: section.len(), allowed })
                } else {
                    Ok(None)
                };
            };
            let end = self.searched + found + 1;
            // Blanks around values count only here: they have to be stored too until the line is complete.
            if end > allowed {
                return Err(Violation::HeaderBytes { found: end, allowed });
            }
            let Some(line) = section[self.line_start..end].strip_suffix(b"\r\n") else {
                return Err(Violation::Framing("header line ended by LF alone, CR LF is allowed; send CR LF"));
            };
            (self.searched, self.line_start) = (end, end);
            match line.first() {
                None => return Ok(Some(end)),
                Some(b' ' | b'\t') => {
                    return Err(Violation::Framing(
                        "header field folded onto a second line, one line is allowed; join the lines",
                    ));
                }
                Some(_) => self.add(line, limits)?,
            }
        }
    }

    /// Fields so far.
    pub fn count(&self) -> usize {
        self.count
    }

    fn add(&mut self, line: &[u8], limits: &Limits) -> Result<(), Violation> {
        self.count += 1;
        if self.count > limits.headers_max {
            return Err(Violation::Headers { found: self.count, allowed: limits.headers_max });
        }
        let name_bytes = memchr(b':', line).unwrap_or(line.len());
        let value_bytes = line.get(name_bytes + 1..).unwrap_or_default().trim_ascii().len();
        self.bytes += name_bytes + value_bytes + FIELD_BYTES;
        if self.bytes > limits.header_bytes_max {
            return Err(Violation::HeaderBytes { found: self.bytes, allowed: limits.header_bytes_max });
        }
        Ok(())
    }
}

/// The text for what `httparse` does not take.
pub fn violation(error: httparse::Error) -> Violation {
    Violation::Framing(match error {
        httparse::Error::HeaderName => {
            "malformed header field name, a token followed at once by a colon is allowed; correct it"
        }
        httparse::Error::HeaderValue => {
            "control character in a header field value, visible characters, blanks and tabs are allowed; remove it"
        }
        httparse::Error::NewLine => "line ended by CR alone, CR LF is allowed; send CR LF",
        httparse::Error::Token
        | httparse::Error::Status
        | httparse::Error::TooManyHeaders
        | httparse::Error::Version => {
            "malformed request line, method, target and version parted by single blanks are allowed; correct it"
        }
    })
}
