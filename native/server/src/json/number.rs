//! Decimal numbers: read digits eight at a time, converted with one rounding.
//!
//! Readers return `None` for whatever is not a number of their kind; whoever called finds out why, out of the hot path.

use super::byte;

/// Powers of ten that a double holds exactly, and more of them than a plain number has digits.
const POWERS: [f64; 32] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22, 1e23, 1e24, 1e25, 1e26, 1e27, 1e28, 1e29, 1e30, 1e31,
];

const POWERS_OF_FEW: [u64; 8] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];

/// Longest number that is read the quick way: whatever its form, it has 19 digits at most.
const PLAIN_BYTES_MAX: usize = 20;

/// A decimal as written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decimal {
    /// 1 for a minus.
    sign: u32,
    /// All digits; meaningless where the number is not plain.
    mantissa: u64,
    /// Digits behind the point.
    fraction: usize,
    /// No exponent, and short enough for the mantissa to hold all digits.
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

/// The number at `start`.
#[inline(always)]
pub(super) fn decimal(bytes: &[u8], start: usize) -> Option<Decimal> {
    let sign = u32::from(byte(bytes, start) == b'-');
    let first = start + sign as usize;
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
        end = fraction_digits(bytes, point + 1, &mut mantissa);
        fraction = end - point - 1;
        if fraction == 0 {
            return None;
        }
        bytes_max = PLAIN_BYTES_MAX;
    }
    let mut plain = end - start <= bytes_max;
    if byte(bytes, end) | 0x20 == b'e' {
        end = exponent_end(bytes, end)?;
        plain = false;
    }
    Some(Decimal { sign, mantissa, fraction, plain, start, end })
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

/// Words of eight digits while there are so many, and a word of the few that are left.
#[inline(always)]
fn fraction_digits(bytes: &[u8], mut at: usize, mantissa: &mut u64) -> usize {
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk) ^ 0x3030_3030_3030_3030;
        let others = (((word & 0x7F7F_7F7F_7F7F_7F7F) + 0x7676_7676_7676_7676) | word) & 0x8080_8080_8080_8080;
        if others != 0 {
            let bits = others.trailing_zeros() & 0x38;
            // Shifted by all 64 bits in two steps where there is no digit at all.
            let few = eight_digits(word << (56 - bits) << 8);
            *mantissa = mantissa.wrapping_mul(POWERS_OF_FEW[(bits / 8) as usize & 7]).wrapping_add(few);
            return at + (bits / 8) as usize;
        }
        *mantissa = mantissa.wrapping_mul(100_000_000).wrapping_add(eight_digits(word));
        at += 8;
        if byte(bytes, at).wrapping_sub(b'0') > 9 {
            return at;
        }
    }
    more_digits(bytes, at, mantissa)
}

/// Eight digits, the first in the lowest byte, as a number: pairs, then fours, then all.
#[inline(always)]
fn eight_digits(word: u64) -> u64 {
    let pairs = word.wrapping_mul(10).wrapping_add(word >> 8);
    let low = (pairs & 0x0000_00FF_0000_00FF).wrapping_mul(100 + (1_000_000 << 32));
    let high = (pairs >> 16 & 0x0000_00FF_0000_00FF).wrapping_mul(1 + (10_000 << 32));
    low.wrapping_add(high) >> 32
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
    #[inline(always)]
    pub(super) fn to_f32(self, bytes: &[u8]) -> Option<f32> {
        if self.plain && self.mantissa < 1 << 63 {
            let double = self.approximate();
            // The double is within 2 units of its last place of the true value. Unless it lies that close to the middle
            // between two singles (or on it), both round to the same one; a plain number is in the range of normal ones.
            let beside_middle = double.to_bits().wrapping_sub(0x1000_0000 - 4) & 0x1FFF_FFFF;
            if beside_middle > 8 {
                return Some(f32::from_bits((double as f32).to_bits() | self.sign << 31));
            }
        }
        slow(self.token(bytes))
    }

    /// Rounded once to double precision; `None` beyond its range.
    #[inline(always)]
    pub(super) fn to_f64(self, bytes: &[u8]) -> Option<f64> {
        if self.plain && self.mantissa <= 1 << 53 {
            return Some(f64::from_bits(self.approximate().to_bits() | u64::from(self.sign) << 63));
        }
        slow(self.token(bytes))
    }

    /// The number as written.
    pub(super) fn token(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// The magnitude of a plain number with two roundings at most, one where the mantissa fits 53 bits.
    #[inline(always)]
    fn approximate(self) -> f64 {
        self.mantissa as i64 as f64 / POWERS[self.fraction & 31]
    }
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
