//! Decimal numbers: read digits eight at a time, converted with one rounding.
//!
//! Readers return `None` for whatever is not a number of their kind; whoever called finds out why, out of the hot path.

use std::num::NonZeroU64;

use super::byte;

/// Powers of ten, and more of them than a plain number has digits, with either sign: dividing by them gives a number its
/// sign for nothing. A double holds those up to 1e22 exactly.
const POWERS: [[f64; 32]; 2] = [PLUS_POWERS, negated(PLUS_POWERS)];

const PLUS_POWERS: [f64; 32] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22, 1e23, 1e24, 1e25, 1e26, 1e27, 1e28, 1e29, 1e30, 1e31,
];

const fn negated(mut numbers: [f64; 32]) -> [f64; 32] {
    let mut index = 0;
    while index < numbers.len() {
        numbers[index] = -numbers[index];
        index += 1;
    }
    numbers
}

const POWERS_OF_FEW: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// Longest plain number: with a point it has 19 digits at most.
const PLAIN_BYTES_MAX: usize = 20;

/// A decimal as written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decimal {
    /// 1 if there is one.
    minus: usize,
    /// All digits; meaningless where the number is not plain.
    mantissa: u64,
    /// Digits behind the point.
    fraction: usize,
    /// No exponent, and short enough for 63 bits to hold all digits.
    plain: bool,
    /// Where it begins.
    start: usize,
    /// Where it ends.
    pub end: usize,
}

/// An integer as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Integer {
    pub negative: bool,
    /// `None` where 64 bits do not hold it.
    pub magnitude: Option<u64>,
    /// Where it ends.
    pub end: usize,
}

/// The integer at `start`. That it is not the start of a fraction is for the caller to check.
#[inline]
pub(crate) fn integer(bytes: &[u8], start: usize) -> Option<Integer> {
    let negative = byte(bytes, start) == b'-';
    let first = start + usize::from(negative);
    let mut magnitude = 0;
    let end = more_digits(bytes, first, &mut magnitude);
    if end == first || (byte(bytes, first) == b'0' && end > first + 1) {
        return None;
    }
    // Nineteen digits never overflow.
    let magnitude = if end - first < 20 { Some(magnitude) } else { long_magnitude(&bytes[first..end]) };
    Some(Integer { negative, magnitude, end })
}

#[cold]
fn long_magnitude(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |magnitude, digit| magnitude.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

/// The number at `start`, of any form.
pub(super) fn decimal(bytes: &[u8], start: usize) -> Option<Decimal> {
    let minus = usize::from(byte(bytes, start) == b'-');
    let first = start + minus;
    let mut mantissa = u64::from(byte(bytes, first).wrapping_sub(b'0'));
    if mantissa > 9 {
        return None;
    }
    let mut end = first + 1;
    if mantissa != 0 {
        end = more_digits(bytes, end, &mut mantissa);
    }
    let (mut fraction, mut bytes_max) = (0, PLAIN_BYTES_MAX - 1);
    if byte(bytes, end) == b'.' {
        let point = end;
        end = more_digits(bytes, point + 1, &mut mantissa);
        fraction = end - point - 1;
        if fraction == 0 {
            return None;
        }
        bytes_max = PLAIN_BYTES_MAX;
    }
    let mut plain = end - start <= bytes_max && mantissa < 1 << 63;
    if byte(bytes, end) | 0x20 == b'e' {
        end = exponent_end(bytes, end)?;
        plain = false;
    }
    Some(Decimal { minus, mantissa, fraction, plain, start, end })
}

/// Shows the number that `rest` begins with to `finish`, as (minus, mantissa, digits behind the point), if it is written as
/// most floats are: a space in front of it at most, one digit before the point and up to 18 behind it, then at once the
/// byte `behind`, and a few bytes more. Returns its result and what follows all that. `finish` is written out at each
/// end of the way, so that nothing has to be carried to one place.
#[inline(always)]
pub(super) fn usual_decimal<T>(
    rest: &[u8],
    behind: u8,
    finish: impl Fn(usize, u64, usize) -> Option<T>,
) -> Option<(T, &[u8])> {
    let (rest, minus) = usual_start(rest)?;
    let window = rest.first_chunk::<WINDOW_BYTES>()?;
    let first = window[0].wrapping_sub(b'0');
    if first > 9 || window[1] != b'.' {
        return None;
    }
    let first = u64::from(first);
    let word = word_at::<2>(window);
    if let Some(count) = digit_count(word) {
        if count == 0 || *window.get(2 + count)? != behind {
            return None;
        }
        let mantissa = first * POWERS_OF_FEW[count] + few_digits(word, count);
        return Some((finish(minus, mantissa, count)?, rest.get(count + 3..)?));
    }
    let mantissa = first * 100_000_000 + eight_digits(word);
    if window[10] == behind {
        return Some((finish(minus, mantissa, 8)?, rest.get(11..)?));
    }
    let rest = rest.get(10..)?;
    let window = rest.first_chunk::<WINDOW_BYTES>()?;
    let word = word_at::<0>(window);
    if let Some(count) = digit_count(word) {
        if *window.get(count)? != behind {
            return None;
        }
        let mantissa = mantissa * POWERS_OF_FEW[count] + few_digits(word, count);
        return Some((finish(minus, mantissa, 8 + count)?, rest.get(count + 1..)?));
    }
    let mantissa = mantissa * 100_000_000 + eight_digits(word);
    if window[8] == behind {
        return Some((finish(minus, mantissa, 16)?, rest.get(9..)?));
    }
    let mantissa = mantissa * 10 + digit(window[8])?;
    if window[9] == behind {
        return Some((finish(minus, mantissa, 17)?, rest.get(10..)?));
    }
    let mantissa = mantissa * 10 + digit(window[9])?;
    let is_plain = window[10] == behind && mantissa < 1 << 63;
    if is_plain { Some((finish(minus, mantissa, 18)?, rest.get(11..)?)) } else { None }
}

/// The same for an integer of less than 8 digits.
#[inline(always)]
pub(super) fn usual_integer(rest: &[u8], behind: u8) -> Option<(i64, &[u8])> {
    let (rest, minus) = usual_start(rest)?;
    let window = rest.first_chunk::<WINDOW_BYTES>()?;
    let word = word_at::<0>(window);
    let count = digit_count(word)?;
    let is_zero_first = window[0] == b'0' && count > 1;
    if count == 0 || is_zero_first || *window.get(count)? != behind {
        return None;
    }
    let value = few_digits(word, count) as i64;
    Some((if minus == 1 { -value } else { value }, rest.get(count + 1..)?))
}

/// Bytes that are looked at together: a digit, a point, eight digits and what is behind them.
const WINDOW_BYTES: usize = 11;

/// What follows a space and a minus, at least a window, and 1 if there was a minus.
#[inline(always)]
fn usual_start(rest: &[u8]) -> Option<(&[u8], usize)> {
    if rest.len() < WINDOW_BYTES + 2 {
        return None;
    }
    let rest = if rest[0] == b' ' { &rest[1..] } else { rest };
    let minus = usize::from(rest[0] == b'-');
    Some((&rest[minus..], minus))
}

#[inline(always)]
fn digit(character: u8) -> Option<u64> {
    let digit = character.wrapping_sub(b'0');
    (digit <= 9).then_some(u64::from(digit))
}

/// Eight characters; those that are digits become 0 to 9.
#[inline(always)]
fn word_at<const AT: usize>(window: &[u8; WINDOW_BYTES]) -> u64 {
    window[AT..].first_chunk().map_or(u64::MAX, |chunk| u64::from_le_bytes(*chunk) ^ 0x3030_3030_3030_3030)
}

/// How many digits a word begins with; `None` where it holds nothing else.
#[inline(always)]
fn digit_count(word: u64) -> Option<usize> {
    // The sum carries only out of bytes that are no digits, so the lowest mark is true.
    let others = (word.wrapping_add(0x7676_7676_7676_7676) | word) & 0x8080_8080_8080_8080;
    NonZeroU64::new(others).map(|others| (others.trailing_zeros() / 8) as usize)
}

/// So many digits at the beginning of a word, fewer than 8 and at least one.
#[inline(always)]
fn few_digits(word: u64, count: usize) -> u64 {
    eight_digits(word << ((64 - 8 * count) & 63))
}

#[inline(always)]
fn more_digits(bytes: &[u8], mut at: usize, mantissa: &mut u64) -> usize {
    loop {
        let digit = byte(bytes, at).wrapping_sub(b'0');
        if digit > 9 {
            return at;
        }
        *mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
        at += 1;
    }
}

/// Eight digits, the first in the lowest byte, as a number: pairs, then fours, then all.
#[inline(always)]
fn eight_digits(word: u64) -> u64 {
    let pairs = word.wrapping_mul(1 + (10 << 8)) >> 8 & 0x00FF_00FF_00FF_00FF;
    let fours = pairs.wrapping_mul(1 + (100 << 16)) >> 16 & 0x0000_FFFF_0000_FFFF;
    fours.wrapping_mul(1 + (10_000 << 32)) >> 32
}

/// Where the exponent ends that begins at `at`.
#[cold]
fn exponent_end(bytes: &[u8], at: usize) -> Option<usize> {
    let first = at + 1 + usize::from(matches!(byte(bytes, at + 1), b'+' | b'-'));
    let mut end = first;
    while byte(bytes, end).is_ascii_digit() {
        end += 1;
    }
    (end > first).then_some(end)
}

impl Decimal {
    /// Rounded once to single precision; `None` beyond its range.
    pub(super) fn to_f32(self, bytes: &[u8]) -> Option<f32> {
        let plain = if self.plain { plain_f32(self.minus, self.mantissa, self.fraction) } else { None };
        plain.or_else(|| slow(self.token(bytes)))
    }

    /// Rounded once to double precision; `None` beyond its range.
    pub(super) fn to_f64(self, bytes: &[u8]) -> Option<f64> {
        let plain = if self.plain { plain_f64(self.minus, self.mantissa, self.fraction) } else { None };
        plain.or_else(|| slow(self.token(bytes)))
    }

    /// The number as written.
    pub(super) fn token(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start..self.end).unwrap_or_default()
    }
}

/// A plain number in single precision; `None` where the short way does not show how it rounds.
#[inline(always)]
pub(super) fn plain_f32(minus: usize, mantissa: u64, fraction: usize) -> Option<f32> {
    let double = mantissa as i64 as f64 / POWERS[minus & 1][fraction & 31];
    // The double was rounded twice and is within 2 units of its last place of the true value. Unless it lies that close
    // to the middle between two singles, or on it, both round to the same single. None is beyond the normal ones.
    let beside_middle = (double.to_bits() as u32).wrapping_sub(0x1000_0000 - 4) & 0x1FFF_FFFF;
    (beside_middle > 8).then_some(double as f32)
}

/// A plain number in double precision; `None` where the short way does not show how it rounds.
#[inline(always)]
pub(super) fn plain_f64(minus: usize, mantissa: u64, fraction: usize) -> Option<f64> {
    (mantissa <= 1 << 53).then(|| mantissa as i64 as f64 / POWERS[minus & 1][fraction & 31])
}

#[cold]
fn slow<F: fast_float2::FastFloat + Finite>(token: &[u8]) -> Option<F> {
    fast_float2::parse::<F, _>(token).ok().filter(|value| value.finite())
}

/// What both float types have, seen generically.
trait Finite {
    fn finite(&self) -> bool;
}

impl Finite for f32 {
    fn finite(&self) -> bool {
        self.is_finite()
    }
}

impl Finite for f64 {
    fn finite(&self) -> bool {
        self.is_finite()
    }
}
