//! Decimal numbers: read digits eight at a time, converted with one rounding.
//!
//! Readers return `None` for whatever is not a number of their kind; whoever called finds out why, out of the hot path.

use super::byte;

/// Powers of ten that a double holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

const POWERS_OF_FEW: [u64; 8] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];

/// A decimal as written: `mantissa · 10^exponent`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decimal {
    pub negative: bool,
    /// All digits; meaningless where they were too many.
    pub mantissa: u64,
    pub exponent: i32,
    /// The mantissa holds all digits and is below 2^63, and a double holds the power of ten.
    pub handy: bool,
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
    let negative = byte(bytes, start) == b'-';
    let first = start + usize::from(negative);
    let mut at = first;
    let mut mantissa = u64::from(byte(bytes, at).wrapping_sub(b'0'));
    if mantissa > 9 {
        return None;
    }
    at += 1;
    // A leading 0 is no digit that counts, and none may follow it.
    let mut digits = usize::from(mantissa != 0);
    if mantissa != 0 {
        at = more_digits(bytes, at, &mut mantissa);
        digits = at - first;
    }
    let mut exponent = 0;
    if byte(bytes, at) == b'.' {
        let fraction = at + 1;
        at = fraction_digits(bytes, fraction, &mut mantissa);
        if at == fraction {
            return None;
        }
        digits += at - fraction;
        exponent = -((at - fraction) as i32);
    }
    if byte(bytes, at) | 0x20 == b'e' {
        (exponent, at) = with_exponent(bytes, at, exponent)?;
    }
    let handy = digits <= 19 && mantissa < 1 << 63 && exponent.unsigned_abs() <= 22;
    Some(Decimal { negative, mantissa, exponent, handy, end: at })
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

/// Two words of eight digits at most, then one by one: shortest floats have up to 9, doubles up to 17.
#[inline(always)]
fn fraction_digits(bytes: &[u8], mut at: usize, mantissa: &mut u64) -> usize {
    for _ in 0..2 {
        let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) else { break };
        let word = u64::from_le_bytes(*chunk) ^ 0x3030_3030_3030_3030;
        let others = (((word & 0x7F7F_7F7F_7F7F_7F7F) + 0x7676_7676_7676_7676) | word) & 0x8080_8080_8080_8080;
        if others != 0 {
            let bits = others.trailing_zeros() & !7;
            if bits != 0 {
                let power = POWERS_OF_FEW[(bits / 8) as usize & 7];
                *mantissa = mantissa.wrapping_mul(power).wrapping_add(eight_digits(word << (64 - bits)));
            }
            return at + (bits / 8) as usize;
        }
        *mantissa = mantissa.wrapping_mul(100_000_000).wrapping_add(eight_digits(word));
        at += 8;
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

/// Adds the exponent written at `at` to the one that the fraction gave; returns also where it ends.
#[cold]
fn with_exponent(bytes: &[u8], mut at: usize, fraction: i32) -> Option<(i32, usize)> {
    at += 1;
    let negative = byte(bytes, at) == b'-';
    at += usize::from(matches!(byte(bytes, at), b'+' | b'-'));
    let (first, mut exponent) = (at, 0_i32);
    while byte(bytes, at).is_ascii_digit() {
        exponent = exponent.saturating_mul(10).saturating_add(i32::from(bytes[at] - b'0'));
        at += 1;
    }
    let exponent = if negative { -exponent } else { exponent };
    (at > first).then_some((fraction.saturating_add(exponent), at))
}

impl Decimal {
    /// Rounded once to single precision; `None` beyond its range. `token` is the number as written.
    #[inline(always)]
    pub(super) fn to_f32(self, token: &[u8]) -> Option<f32> {
        if self.handy {
            let double = self.approximate();
            // The double is within 2 units of its last place of the true value. Unless it lies that close to the middle
            // between two singles (or on it), both round to the same one.
            let dropped = double.to_bits() & 0x1FFF_FFFF;
            if dropped.abs_diff(0x1000_0000) > 4 {
                let single = double as f32;
                return single.is_finite().then_some(if self.negative { -single } else { single });
            }
        }
        slow(token)
    }

    /// Rounded once to double precision; `None` beyond its range.
    #[inline(always)]
    pub(super) fn to_f64(self, token: &[u8]) -> Option<f64> {
        if self.handy && self.mantissa <= 1 << 53 {
            let double = self.approximate();
            return Some(if self.negative { -double } else { double });
        }
        slow(token)
    }

    /// The magnitude with two roundings at most, one where the mantissa fits 53 bits. Only for handy ones.
    #[inline(always)]
    fn approximate(self) -> f64 {
        let mantissa = self.mantissa as i64 as f64;
        let power = POWERS[self.exponent.unsigned_abs().min(22) as usize];
        if self.exponent < 0 { mantissa / power } else { mantissa * power }
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
