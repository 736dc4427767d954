//! The chunked transfer coding, strictly: sizes of hexadecimal digits alone, lines ended by CR LF, trailers checked and
//! dropped.

use super::fields::{self, FieldScan};
use crate::{Limits, Violation};

/// Digits of a 64-bit number.
const SIZE_DIGITS_MAX: u8 = 16;

/// The state between two pieces of input.
#[derive(Debug, Default)]
pub struct Chunks {
    at: At,
    /// Size of the chunk whose size line is read; then what is left of its data.
    rest: u64,
    digits: u8,
    count: usize,
    extension_bytes: usize,
    scan: FieldScan,
    trailers: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Size,
    Extension,
    SizeEnd,
    Data,
    DataCr,
    DataLf,
    Trailers,
    End,
}

impl Chunks {
    /// Reads framing from the front of `input` up to the next data, and returns how much data there is to take before
    /// the next framing. `None`: ended, or more input is needed.
    pub fn next(&mut self, input: &mut &[u8], body_bytes: usize, limits: &Limits) -> Result<Option<usize>, Violation> {
        loop {
            match self.at {
                At::Data => return Ok(Some(usize::try_from(self.rest).unwrap_or(usize::MAX))),
                At::Trailers => {
                    self.take_trailers(input, limits)?;
                    return Ok(None);
                }
                At::End => return Ok(None),
                At::Size | At::Extension | At::SizeEnd | At::DataCr | At::DataLf => {}
            }
            let Some((&byte, rest)) = input.split_first() else { return Ok(None) };
            *input = rest;
            match (self.at, byte) {
                (At::Size, b'\r') if self.digits > 0 => self.at = At::SizeEnd,
                (At::Size, b';') if self.digits > 0 => {
                    self.at = At::Extension;
                    self.add_extension(limits)?;
                }
                (At::Size, _) => self.add_digit(byte)?,
                (At::Extension, b'\r') => self.at = At::SizeEnd,
                (At::Extension, b'\t' | b' '..=b'~' | 0x80..) => self.add_extension(limits)?,
                (At::SizeEnd, b'\n') => self.begin(body_bytes, limits)?,
                (At::DataCr, b'\r') => self.at = At::DataLf,
                (At::DataLf, b'\n') => self.at = At::Size,
                _ => {
                    return Err(Violation::Framing(
                        "malformed end of a chunk or its size line, CR LF is allowed; send CR LF",
                    ));
                }
            }
        }
    }

    /// Tells that so much data was taken.
    pub fn took(&mut self, bytes: usize) {
        self.rest -= bytes as u64;
        if self.rest == 0 {
            self.at = At::DataCr;
        }
    }

    /// Whether the last byte of the body, trailers included, has come.
    pub fn ended(&self) -> bool {
        self.at == At::End
    }

    fn add_digit(&mut self, byte: u8) -> Result<(), Violation> {
        let digit = char::from(byte).to_digit(16).filter(|_| self.digits < SIZE_DIGITS_MAX);
        let Some(digit) = digit else {
            return Err(Violation::Framing(
                "malformed chunk size, 1 to 16 hexadecimal digits are allowed; send the size so",
            ));
        };
        self.rest = self.rest << 4 | u64::from(digit);
        self.digits += 1;
        Ok(())
    }

    fn add_extension(&mut self, limits: &Limits) -> Result<(), Violation> {
        self.extension_bytes += 1;
        if self.extension_bytes > limits.chunk_extension_bytes_max {
            return Err(Violation::Framing("chunk extensions longer than allowed, none is needed; leave them out"));
        }
        Ok(())
    }

    /// The size line is complete.
    fn begin(&mut self, body_bytes: usize, limits: &Limits) -> Result<(), Violation> {
        self.digits = 0;
        if self.rest == 0 {
            self.at = At::Trailers;
            return Ok(());
        }
        self.count += 1;
        if self.count > limits.body_chunks_max {
            return Err(Violation::Chunks { allowed: limits.body_chunks_max });
        }
        let (found, allowed) = (self.rest.saturating_add(body_bytes as u64), limits.request_body_bytes_max as u64);
        if found > allowed {
            return Err(Violation::BodyTooLarge { found, allowed });
        }
        self.at = At::Data;
        Ok(())
    }

    fn take_trailers(&mut self, input: &mut &[u8], limits: &Limits) -> Result<(), Violation> {
        // The usual case, and no byte is stored for it.
        if self.trailers.is_empty()
            && let Some(rest) = input.strip_prefix(b"\r\n")
        {
            *input = rest;
            self.at = At::End;
            return Ok(());
        }
        let before = self.trailers.len();
        let taken = input.len().min(limits.header_bytes_max + 1 - before);
        self.trailers.extend_from_slice(&input[..taken]);
        let Some(end) = self.scan.advance(&self.trailers, limits)? else {
            *input = &input[taken..];
            return Ok(());
        };
        *input = &input[end - before..];
        check_trailers(&self.trailers[..end], self.scan.count())?;
        self.at = At::End;
        self.trailers = Vec::new();
        Ok(())
    }
}

fn check_trailers(trailers: &[u8], count: usize) -> Result<(), Violation> {
    match httparse::parse_headers(trailers, &mut fields::room(count)) {
        Ok(httparse::Status::Complete(_)) => Ok(()),
        Ok(httparse::Status::Partial) => Err(fields::violation(httparse::Error::NewLine)),
        Err(error) => Err(fields::violation(error)),
    }
}
