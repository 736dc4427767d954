//! The `data` of a tensor, parsed straight into the bytes that the model takes.
//!
//! The hot path only knows right and wrong. On wrong it stops, and [`Stop`] with a second, slow look at the same text
//! says what is wrong: first the grammar of all of it, then the one value, then the nesting.

use bytes::Bytes;
use servekit_core::{Datatype, Limits, Reason, TensorSpec, element_count, list, quoted};

use super::narrow::{BF16, FP16};
use super::number::{decimal, integer};
use super::scanner::Scanner;
use super::{Fault, blank, byte, fault, string};

/// What the values are for.
pub(crate) struct Target<'t> {
    pub(crate) spec: &'t TensorSpec,
    pub(crate) model: &'t str,
    pub(crate) shape: &'t [i64],
}

/// Reads the value under the cursor as the elements of a tensor, flat or nested as its shape. The shape was checked.
#[inline]
pub(crate) fn read_values(scanner: &mut Scanner<'_>, target: &Target<'_>) -> Result<Bytes, Fault> {
    scanner.peek();
    let levels = target.shape.len().max(1) as u64;
    if scanner.depth + levels > scanner.limits.json_depth_max {
        scanner.clone().skip_within(u64::MAX)?;
    }
    let read = match target.spec.datatype {
        Datatype::Bool => fixed::<Flag>(scanner, target),
        Datatype::Uint8 => fixed::<u8>(scanner, target),
        Datatype::Uint16 => fixed::<u16>(scanner, target),
        Datatype::Uint32 => fixed::<u32>(scanner, target),
        Datatype::Uint64 => fixed::<u64>(scanner, target),
        Datatype::Int8 => fixed::<i8>(scanner, target),
        Datatype::Int16 => fixed::<i16>(scanner, target),
        Datatype::Int32 => fixed::<i32>(scanner, target),
        Datatype::Int64 => fixed::<i64>(scanner, target),
        Datatype::Fp16 => fixed::<Fp16>(scanner, target),
        Datatype::Bf16 => fixed::<Bf16>(scanner, target),
        Datatype::Fp32 => fixed::<f32>(scanner, target),
        Datatype::Fp64 => fixed::<f64>(scanner, target),
        Datatype::Bytes => strings(scanner, target),
    };
    read.map_err(|stop| refusal(scanner, target, stop))
}

/// Where reading could not go on.
#[derive(Clone, Copy, Debug)]
struct Stop {
    /// Elements read before.
    index: usize,
    /// Where the next one begins, or should.
    at: usize,
    /// Where it ends; `at`, if it could not be read.
    end: usize,
}

fn fixed<E: Element>(scanner: &mut Scanner<'_>, target: &Target<'_>) -> Result<Bytes, Stop> {
    let count = plausible_count(scanner, target, 2)?;
    let bytes_max = usize::try_from(scanner.limits.json_number_bytes_max).unwrap_or(usize::MAX);
    let mut sink = Fixed::<E> { elements: Vec::with_capacity(count), bytes_max };
    let mut reader = Reader { bytes: scanner.bytes, sink: &mut sink, index: 0 };
    scanner.at = reader.whole(scanner.at, target.shape, count)?;
    Ok(E::flatten(sink.elements).into())
}

fn strings(scanner: &mut Scanner<'_>, target: &Target<'_>) -> Result<Bytes, Stop> {
    let count = plausible_count(scanner, target, 3)?;
    let mut sink = Strings { elements: Vec::with_capacity(count * 8), limits: scanner.limits };
    let mut reader = Reader { bytes: scanner.bytes, sink: &mut sink, index: 0 };
    scanner.at = reader.whole(scanner.at, target.shape, count)?;
    Ok(sink.elements.into())
}

/// Number of elements of the shape, if the text is long enough to hold them: checked before memory is taken for them.
fn plausible_count(scanner: &Scanner<'_>, target: &Target<'_>, element_bytes_min: usize) -> Result<usize, Stop> {
    let count = element_count(target.shape).unwrap_or(u64::MAX);
    let left = scanner.bytes.len() - scanner.at;
    if count > (left / element_bytes_min) as u64 + 1 {
        return Err(Stop { index: 0, at: scanner.at, end: scanner.at });
    }
    Ok(count as usize)
}

/// Takes elements one by one.
trait Sink {
    /// Reads the element at `at` and returns where it ends.
    fn element(&mut self, bytes: &[u8], at: usize) -> Option<usize>;
}

/// Elements of one size.
struct Fixed<E: Element> {
    elements: Vec<E::Raw>,
    /// Of a number as written.
    bytes_max: usize,
}

impl<E: Element> Sink for Fixed<E> {
    #[inline(always)]
    fn element(&mut self, bytes: &[u8], at: usize) -> Option<usize> {
        let (element, end) = E::read(bytes, at)?;
        if end - at > self.bytes_max {
            return None;
        }
        self.elements.push(element);
        Some(end)
    }
}

/// BYTES elements, each with its length in front.
struct Strings<'s> {
    elements: Vec<u8>,
    limits: &'s Limits,
}

impl Sink for Strings<'_> {
    fn element(&mut self, bytes: &[u8], at: usize) -> Option<usize> {
        if byte(bytes, at) != b'"' {
            return None;
        }
        let span = string::span(bytes, at).ok()?;
        let end = span.content.end + 1;
        let length_at = self.elements.len();
        self.elements.extend_from_slice(&[0; 4]);
        if span.escaped {
            string::unescape(bytes, span.content, &mut self.elements).ok()?;
        } else {
            self.elements.extend_from_slice(&bytes[span.content]);
        }
        let length = self.elements.len() - length_at - 4;
        if length as u64 > self.limits.bytes_element_bytes_max {
            return None;
        }
        self.elements[length_at..length_at + 4].copy_from_slice(&u32::try_from(length).ok()?.to_le_bytes());
        Some(end)
    }
}

/// Walks the brackets.
struct Reader<'r, S> {
    bytes: &'r [u8],
    sink: &'r mut S,
    /// Elements read.
    index: usize,
}

impl<S: Sink> Reader<'_, S> {
    /// The whole value: nested if a second bracket follows the first, flat else; a scalar may stand alone.
    #[inline(always)]
    fn whole(&mut self, at: usize, shape: &[i64], count: usize) -> Result<usize, Stop> {
        if byte(self.bytes, at) != b'[' {
            let alone = if shape.is_empty() { self.sink.element(self.bytes, at) } else { None };
            return alone.ok_or(self.stop(at, at));
        }
        let inner = blank(self.bytes, at + 1);
        if byte(self.bytes, inner) == b'[' && shape.len() > 1 { self.nested(at, shape) } else { self.flat(at + 1, count) }
    }

    fn nested(&mut self, at: usize, shape: &[i64]) -> Result<usize, Stop> {
        let at = blank(self.bytes, at);
        if byte(self.bytes, at) != b'[' {
            return Err(self.stop(at, at));
        }
        let (size, inner) = match shape {
            [] => return Err(self.stop(at, at)),
            [size] => return self.flat(at + 1, *size as usize),
            [size, inner @ ..] => (*size as usize, inner),
        };
        let mut at = at + 1;
        for position in 0..size {
            if position > 0 {
                at = self.mark(at, b',')?;
            }
            at = self.nested(at, inner)?;
        }
        self.mark(at, b']')
    }

    /// As many elements, and the bracket behind them.
    #[inline(always)]
    fn flat(&mut self, at: usize, count: usize) -> Result<usize, Stop> {
        if count == 0 {
            return self.mark(at, b']');
        }
        let mut at = at;
        for left in (0..count).rev() {
            let start = blank(self.bytes, at);
            let Some(end) = self.sink.element(self.bytes, start) else { return Err(self.stop(start, start)) };
            at = blank(self.bytes, end);
            if byte(self.bytes, at) != if left == 0 { b']' } else { b',' } {
                return Err(self.stop(start, end));
            }
            at += 1;
            self.index += 1;
        }
        Ok(at)
    }

    fn mark(&self, at: usize, wanted: u8) -> Result<usize, Stop> {
        let at = blank(self.bytes, at);
        if byte(self.bytes, at) == wanted { Ok(at + 1) } else { Err(self.stop(at, at)) }
    }

    #[cold]
    fn stop(&self, at: usize, end: usize) -> Stop {
        Stop { index: self.index, at, end }
    }
}

/// An element of one size.
trait Element {
    /// Its bytes, little-endian.
    type Raw;

    /// The element at `at`, and where it ends.
    fn read(bytes: &[u8], at: usize) -> Option<(Self::Raw, usize)>;

    /// The bytes of all elements.
    fn flatten(elements: Vec<Self::Raw>) -> Vec<u8>;
}

macro_rules! flatten {
    ($bytes:expr) => {
        type Raw = [u8; $bytes];

        fn flatten(elements: Vec<Self::Raw>) -> Vec<u8> {
            elements.into_flattened()
        }
    };
}

macro_rules! integers {
    ($($type:ty),*) => { $(
        impl Element for $type {
            flatten!(size_of::<$type>());

            #[inline(always)]
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
        }
    )* };
}

integers!(u8, u16, u32, u64, i8, i16, i32, i64);

macro_rules! floats {
    ($($type:ty, $convert:ident);*) => { $(
        impl Element for $type {
            flatten!(size_of::<$type>());

            #[inline(always)]
            fn read(bytes: &[u8], at: usize) -> Option<(Self::Raw, usize)> {
                let (value, end) = match decimal(bytes, at) {
                    Some(number) => (number.$convert(bytes)?, number.end),
                    None => nonfinite(bytes, at).map(|(value, end)| (value as Self, end))?,
                };
                Some((value.to_le_bytes(), end))
            }
        }
    )* };
}

floats!(f32, to_f32; f64, to_f64);

/// The strings that stand for what JSON has no numbers for.
#[cold]
fn nonfinite(bytes: &[u8], at: usize) -> Option<(f64, usize)> {
    const STRINGS: [(&[u8], f64); 3] =
        [(b"\"NaN\"", f64::NAN), (b"\"Infinity\"", f64::INFINITY), (b"\"-Infinity\"", f64::NEG_INFINITY)];
    let rest = bytes.get(at..)?;
    STRINGS.iter().find(|(text, _)| rest.starts_with(text)).map(|(text, value)| (*value, at + text.len()))
}

/// IEEE 754 binary16.
struct Fp16;

/// The upper half of a single.
struct Bf16;

macro_rules! halves {
    ($($type:ty, $format:expr);*) => { $(
        impl Element for $type {
            flatten!(2);

            #[inline(always)]
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
struct Flag;

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

/// Takes the second, slow look. The cursor is still at the start of the value.
#[cold]
#[inline(never)]
fn refusal(scanner: &Scanner<'_>, target: &Target<'_>, stop: Stop) -> Fault {
    let mut whole = scanner.clone();
    if let Err(broken) = whole.skip_within(u64::MAX) {
        return broken;
    }
    let name = &target.spec.name;
    let mut token = scanner.clone();
    token.rewind(stop.at);
    let found = match token.peek() {
        b'[' | b']' | b',' => return uneven(target, stop),
        _ => match token.skip_within(u64::MAX) {
            // It reads well and something else is wrong: there are more values than the shape takes, or brackets.
            Ok(range) if range.end == stop.end => return uneven(target, stop),
            Ok(range) => token.slice(range),
            Err(_) => return uneven(target, stop),
        },
    };
    let (index, datatype) = (stop.index, target.spec.datatype);
    if found[0] == b'"' && datatype == Datatype::Bytes {
        let text = format!(
            "input '{name}' value {index} of {} bytes found, at most {} are allowed; shorten it",
            found.len() - 2,
            scanner.limits.bytes_element_bytes_max
        );
        return fault(Reason::TensorTooLarge, text);
    }
    let is_number = matches!(found[0], b'-' | b'0'..=b'9');
    if is_number && found.len() as u64 > scanner.limits.json_number_bytes_max {
        let allowed = scanner.limits.json_number_bytes_max;
        let text = format!("input '{name}' value {index} is {}, {allowed} bytes are allowed; shorten it", quoted(found));
        return fault(Reason::ValueOutOfRange, text);
    }
    let allowed = range(datatype, is_number);
    fault(
        Reason::ValueOutOfRange,
        format!("input '{name}' value {index} is {}, {datatype} allows {allowed}; correct it", quoted(found)),
    )
}

/// What a datatype takes, for texts.
fn range(datatype: Datatype, is_number: bool) -> String {
    let integers = |least: i64, most: u64| format!("integers from {least} to {most}");
    let floats = |most: &str| if is_number { format!("up to {most}") } else { format!("numbers up to {most}") };
    match datatype {
        Datatype::Bool => "true and false".to_owned(),
        Datatype::Uint8 => integers(0, u8::MAX.into()),
        Datatype::Uint16 => integers(0, u16::MAX.into()),
        Datatype::Uint32 => integers(0, u32::MAX.into()),
        Datatype::Uint64 => integers(0, u64::MAX),
        Datatype::Int8 => integers(i8::MIN.into(), i8::MAX as u64),
        Datatype::Int16 => integers(i16::MIN.into(), i16::MAX as u64),
        Datatype::Int32 => integers(i32::MIN.into(), i32::MAX as u64),
        Datatype::Int64 => integers(i64::MIN, i64::MAX as u64),
        Datatype::Fp16 => floats("65504"),
        Datatype::Bf16 => floats("3.3895314e38"),
        Datatype::Fp32 => floats("3.4028235e38"),
        Datatype::Fp64 => floats("1.7976931348623157e308"),
        Datatype::Bytes => "strings".to_owned(),
    }
}

/// The refusal of values whose number or nesting is not the shape's.
#[cold]
fn uneven(target: &Target<'_>, stop: Stop) -> Fault {
    let text = format!(
        "unexpected shape for input '{}' for model '{}'. Expected {}, got other brackets or another number of values behind value {}; send data flat, or nested as its shape",
        target.spec.name,
        target.model,
        list(target.shape),
        stop.index
    );
    fault(Reason::ShapeMismatch, text)
}
