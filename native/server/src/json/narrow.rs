//! Decimals to the 16-bit floats, rounded once to the nearest, ties to even.

use std::cmp::Ordering;

/// A 16-bit float format.
pub(super) struct Format {
    /// Stored bits of the significand.
    mantissa_bits: u32,
    /// Smallest exponent of a normal number.
    exponent_min: i32,
    /// Bits of infinity.
    infinity: u16,
}

pub(super) const FP16: Format = Format { mantissa_bits: 10, exponent_min: -14, infinity: 0x7C00 };
pub(super) const BF16: Format = Format { mantissa_bits: 7, exponent_min: -126, infinity: 0x7F80 };

impl Format {
    /// The bits nearest to the decimal that `token` writes and `double` is nearest to; `None` beyond the range.
    pub(super) fn round(&self, double: f64, token: &[u8]) -> Option<u16> {
        let bits = double.to_bits();
        let sign = (bits >> 48) as u16 & 0x8000;
        let exponent = (bits >> 52 & 0x7FF) as i32 - 1023;
        let significand = (bits & ((1 << 52) - 1)) | 1 << 52;
        // Below the normal range each step down drops a bit more.
        let below = (self.exponent_min - exponent).max(0) as u32;
        let dropped = 52 - self.mantissa_bits + below;
        if double == 0.0 || dropped > 53 {
            return Some(sign);
        }
        let kept = significand >> dropped;
        let rest = significand & ((1 << dropped) - 1);
        let up = match rest.cmp(&(1 << (dropped - 1))) {
            // The double is a middle. The decimal itself may lie beside it.
            Ordering::Equal => match compare(token, double) {
                Ordering::Equal => kept & 1 == 1,
                beside => beside == Ordering::Greater,
            },
            beside => beside == Ordering::Greater,
        };
        let biased = if below > 0 { 0 } else { (exponent - self.exponent_min) as u64 };
        // A significand that rounds up to the next power of two carries into the exponent, as it should.
        let magnitude = (biased << self.mantissa_bits) + kept + u64::from(up);
        (magnitude < u64::from(self.infinity)).then_some(sign | magnitude as u16)
    }

    /// The bits of a NaN or an infinity.
    pub(super) fn nonfinite(&self, value: f64) -> u16 {
        let sign = if value.is_sign_negative() { 0x8000 } else { 0 };
        // A quiet NaN has the significand's highest bit.
        sign | self.infinity | if value.is_nan() { 1 << (self.mantissa_bits - 1) } else { 0 }
    }
}

/// Compares the magnitude of a decimal with that of a double, exactly: both as digits.
#[cold]
fn compare(token: &[u8], double: f64) -> Ordering {
    // No double in the middle of two 16-bit floats has more digits than this.
    const DIGITS_MAX: usize = 160;
    canonical(token).cmp(&canonical(format!("{double:.DIGITS_MAX$e}").as_bytes()))
}

/// Exponent of the first digit that is not 0, and the digits from there without zeros at the end.
fn canonical(token: &[u8]) -> (i64, Vec<u8>) {
    let split = token.iter().position(|byte| byte | 0x20 == b'e').unwrap_or(token.len());
    let (number, exponent) = token.split_at(split);
    let written = std::str::from_utf8(exponent.get(1..).unwrap_or_default()).ok().and_then(|text| text.parse().ok());
    let whole = number.iter().take_while(|&&byte| byte != b'.').filter(|byte| byte.is_ascii_digit()).count() as i64;
    let mut digits: Vec<u8> = number.iter().copied().filter(u8::is_ascii_digit).collect();
    let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
    digits.drain(..zeros);
    digits.truncate(digits.iter().rposition(|&digit| digit != b'0').map_or(0, |last| last + 1));
    (written.unwrap_or(0_i64) + whole - zeros as i64, digits)
}
