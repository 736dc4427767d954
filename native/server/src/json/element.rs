//! One element of a tensor, from its text to the bytes that the model takes.

use super::byte;
use super::narrow::{BF16, FP16};
use super::number::{decimal, integer, plain_f32, plain_f64, usual_decimal, usual_integer};

/// Numbers that are read in the usual way are not longer.
pub(super) const USUAL_BYTES_MAX: usize = 24;

/// An element of one size.
pub(super) trait Element {
    /// Its bytes, little-endian.
    type Raw: Clone;

    const ZERO: Self::Raw;

    /// The element at `at`, and where it ends.
    fn read(bytes: &[u8], at: usize) -> Option<(Self::Raw, usize)>;

    /// The same for the forms that most elements have, in the fewest steps: `rest` begins with it, and it has at most
    /// `USUAL_BYTES_MAX` bytes. It must be followed at once by `behind`; what follows that is returned too.
    #[inline(always)]
    fn read_usual(rest: &[u8], behind: u8) -> Option<(Self::Raw, &[u8])> {
        let start = usize::from(byte(rest, 0) == b' ');
        let (element, end) = Self::read(rest, start)?;
        if byte(rest, end) == behind && end <= USUAL_BYTES_MAX { Some((element, rest.get(end + 1..)?)) } else { None }
    }

    /// The bytes of all elements.
    fn flatten(elements: Vec<Self::Raw>) -> Vec<u8>;
}

macro_rules! flatten {
    ($bytes:expr) => {
        type Raw = [u8; $bytes];
        const ZERO: Self::Raw = [0; $bytes];

        fn flatten(elements: Vec<Self::Raw>) -> Vec<u8> {
            elements.into_flattened()
        }
    };
}

macro_rules! integers {
    ($($type:ty),*) => { $(
        impl Element for $type {
            flatten!(size_of::<$type>());

            fn read(bytes: &[u8], at: usize) -> Option<(Self::Raw, usize)> {
                let number = integer(bytes, at)?;
                let magnitude = number.magnitude?;
                let value = if !number.negative {
                    Self::try_from(magnitude).ok()?
                } else if magnitude <= 1 << 63 {
                    Self::try_from((magnitude as i64).wrapping_neg()).ok()?
                } else {
                    return None;
                };
                Some((value.to_le_bytes(), number.end))
            }

            #[inline(always)]
            fn read_usual(rest: &[u8], behind: u8) -> Option<(Self::Raw, &[u8])> {
                let (value, rest) = usual_integer(rest, behind)?;
                Some((Self::try_from(value).ok()?.to_le_bytes(), rest))
            }
        }
    )* };
}

integers!(u8, u16, u32, u64, i8, i16, i32, i64);

macro_rules! floats {
    ($($type:ty, $convert:ident, $plain:ident);*) => { $(
        impl Element for $type {
            flatten!(size_of::<$type>());

            fn read(bytes: &[u8], at: usize) -> Option<(Self::Raw, usize)> {
                let (value, end) = match decimal(bytes, at) {
                    Some(number) => (number.$convert(bytes)?, number.end),
                    None => nonfinite(bytes, at).map(|(value, end)| (value as Self, end))?,
                };
                Some((value.to_le_bytes(), end))
            }

            #[inline(always)]
            fn read_usual(rest: &[u8], behind: u8) -> Option<(Self::Raw, &[u8])> {
                usual_decimal(rest, behind, $plain).map(|(value, rest)| (value.to_le_bytes(), rest))
            }
        }
    )* };
}

floats!(f32, to_f32, plain_f32; f64, to_f64, plain_f64);

/// The strings that stand for what JSON has no numbers for.
#[cold]
fn nonfinite(bytes: &[u8], at: usize) -> Option<(f64, usize)> {
    const STRINGS: [(&[u8], f64); 3] =
        [(b"\"NaN\"", f64::NAN), (b"\"Infinity\"", f64::INFINITY), (b"\"-Infinity\"", f64::NEG_INFINITY)];
    let rest = bytes.get(at..)?;
    STRINGS.iter().find(|(text, _)| rest.starts_with(text)).map(|(text, value)| (*value, at + text.len()))
}

/// IEEE 754 binary16.
pub(super) struct Fp16;

/// The upper half of a single.
pub(super) struct Bf16;

macro_rules! halves {
    ($($type:ty, $format:expr);*) => { $(
        impl Element for $type {
            flatten!(2);

            fn read(bytes: &[u8], at: usize) -> Option<(Self::Raw, usize)> {
                let (bits, end) = match decimal(bytes, at) {
                    Some(number) => ($format.round(number.to_f64(bytes)?, number.token(bytes))?, number.end),
                    None => nonfinite(bytes, at).map(|(value, end)| ($format.nonfinite(value), end))?,
                };
                Some((bits.to_le_bytes(), end))
            }
        }
    )* };
}

halves!(Fp16, FP16; Bf16, BF16);

/// BOOL: the words, or 0 and 1.
pub(super) struct Flag;

impl Element for Flag {
    flatten!(1);

    #[inline(always)]
    fn read(bytes: &[u8], at: usize) -> Option<(Self::Raw, usize)> {
        match bytes.get(at..)? {
            [b't', b'r', b'u', b'e', ..] => Some(([1], at + 4)),
            [b'f', b'a', b'l', b's', b'e', ..] => Some(([0], at + 5)),
            [bit @ (b'0' | b'1'), ..] => Some(([bit - b'0'], at + 1)),
            _ => None,
        }
    }
}
