//! Strings: finding their end eight bytes at a time, and taking their escapes away.

use std::ops::Range;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// A string's content between its quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub content: Range<usize>,
    /// Holds backslashes, which are not checked yet.
    pub escaped: bool,
}

/// Why a string is none, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub at: usize,
    pub allowed: &'static str,
}

/// The content of the string whose opening quote is at `at`, if it has less than 8 bytes, all ASCII and without escapes.
#[inline(always)]
pub(super) fn short(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let content = bytes.get(at + 1..)?;
    let word = u64::from_le_bytes(*content.first_chunk::<8>()?);
    let (quote, others) = marks(word);
    // Only the lowest mark is sure to be true.
    let first = quote & quote.wrapping_neg();
    if quote == 0 || (others | word & HIGHS) & (first - 1) != 0 {
        return None;
    }
    content.get(..(first.trailing_zeros() / 8) as usize)
}

/// The high bit of each byte that is a quote, and of each that is a backslash or a control character. A byte stands out
/// where the subtraction borrows; false marks lie only above a true one of their kind.
#[inline(always)]
fn marks(word: u64) -> (u64, u64) {
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let others = backslash.wrapping_sub(ONES) & !backslash | word.wrapping_sub(ONES * 0x20) & !word;
    (quote.wrapping_sub(ONES) & !quote & HIGHS, others & HIGHS)
}

/// The string whose opening quote is at `at`. Its bytes are valid UTF-8 and hold no control character.
#[inline]
pub(super) fn span(bytes: &[u8], at: usize) -> Result<Span, Broken> {
    let start = at + 1;
    let (mut at, mut escaped, mut foreign) = (start, false, 0);
    loop {
        let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) else {
            return tail(bytes, Span { content: start..at, escaped }, foreign != 0);
        };
        let word = u64::from_le_bytes(*chunk);
        let (quote, others) = marks(word);
        let marks = quote | others;
        if marks == 0 {
            foreign |= word & HIGHS;
            at += 8;
            continue;
        }
        let found = marks.trailing_zeros() / 8;
        foreign |= word & HIGHS & ((1 << (found * 8)) - 1);
        at += found as usize;
        match bytes[at] {
            b'"' => return finish(bytes, Span { content: start..at, escaped }, foreign != 0),
            b'\\' => {
                escaped = true;
                at += 2;
            }
            _ => return Err(Broken { at, allowed: "no control character" }),
        }
    }
}

/// As `span`, for the last bytes of the body.
fn tail(bytes: &[u8], so_far: Span, mut foreign: bool) -> Result<Span, Broken> {
    let Span { content, mut escaped } = so_far;
    let mut at = content.end;
    loop {
        match bytes.get(at) {
            None => return Err(Broken { at: bytes.len(), allowed: "'\"'" }),
            Some(b'"') => return finish(bytes, Span { content: content.start..at, escaped }, foreign),
            Some(b'\\') => {
                escaped = true;
                at += 1;
            }
            Some(0..0x20) => return Err(Broken { at, allowed: "no control character" }),
            Some(&other) => foreign |= other >= 0x80,
        }
        at += 1;
    }
}

#[inline]
fn finish(bytes: &[u8], span: Span, foreign: bool) -> Result<Span, Broken> {
    if foreign && let Err(error) = std::str::from_utf8(&bytes[span.content.clone()]) {
        return Err(Broken { at: span.content.start + error.valid_up_to(), allowed: "UTF-8" });
    }
    Ok(span)
}

/// Appends the content of an escaped string as the characters it stands for.
#[cold]
pub(super) fn unescape(bytes: &[u8], content: Range<usize>, into: &mut Vec<u8>) -> Result<(), Broken> {
    let mut at = content.start;
    while at < content.end {
        let rest = &bytes[at..content.end];
        let plain = memchr::memchr(b'\\', rest).unwrap_or(rest.len());
        into.extend_from_slice(&rest[..plain]);
        at += plain;
        if at == content.end {
            break;
        }
        let character = match bytes.get(at + 1) {
            Some(&same @ (b'"' | b'\\' | b'/')) => same,
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                at = unicode(bytes, at, into)?;
                continue;
            }
            _ => return Err(Broken { at: at + 1, allowed: "an escape of JSON" }),
        };
        into.push(character);
        at += 2;
    }
    Ok(())
}

/// Appends the character of the `\u` escape at `at`, of two of them for a surrogate pair; returns where it ends.
fn unicode(bytes: &[u8], at: usize, into: &mut Vec<u8>) -> Result<usize, Broken> {
    let broken = Broken { at, allowed: "a whole Unicode character" };
    let unit = |at: usize| -> Option<u32> {
        let [b'\\', b'u', digits @ ..] = bytes.get(at..at + 6)? else { return None };
        digits.iter().try_fold(0, |unit, &digit| Some(unit << 4 | char::from(digit).to_digit(16)?))
    };
    let first = unit(at).ok_or(broken)?;
    let (code, end) = match first {
        0xD800..0xDC00 => {
            let second = unit(at + 6).filter(|second| (0xDC00..0xE000).contains(second)).ok_or(broken)?;
            (0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00), at + 12)
        }
        other => (other, at + 6),
    };
    let character = char::from_u32(code).ok_or(broken)?;
    into.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    Ok(end)
}
