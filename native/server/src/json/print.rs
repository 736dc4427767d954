//! Values as JSON text.

use servekit_core::{Datatype, Tensor};

/// Elements between two looks at the length of the answer.
const STRIDE: usize = 4_096;

/// Appends a string with its quotes. `text` is valid UTF-8.
pub(crate) fn print_string(text: &[u8], into: &mut Vec<u8>) {
    into.push(b'"');
    let mut from = 0;
    for (at, &byte) in text.iter().enumerate() {
        if byte >= b' ' && byte != b'"' && byte != b'\\' {
            continue;
        }
        into.extend_from_slice(&text[from..at]);
        from = at + 1;
        escape(byte, into);
    }
    into.extend_from_slice(&text[from..]);
    into.push(b'"');
}

#[cold]
fn escape(byte: u8, into: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' | b'\\' => into.extend_from_slice(&[b'\\', byte]),
        b'\n' => into.extend_from_slice(b"\\n"),
        b'\r' => into.extend_from_slice(b"\\r"),
        b'\t' => into.extend_from_slice(b"\\t"),
        _ => {
            into.extend_from_slice(b"\\u00");
            into.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
}

/// Appends the elements of a tensor, separated by commas; false, once the buffer grows beyond `bytes_max`. The elements
/// of BYTES must be UTF-8, or are printed in base64.
#[must_use]
pub(crate) fn print_values(tensor: &Tensor, base64: bool, into: &mut Vec<u8>, bytes_max: usize) -> bool {
    let data: &[u8] = &tensor.data;
    match tensor.datatype {
        Datatype::Bool => list(data, into, bytes_max, |[bit], into| {
            into.extend_from_slice(if bit == 0 { b"false" } else { b"true" });
        }),
        Datatype::Uint8 => list(data, into, bytes_max, |bytes, into| print_integer(u8::from_le_bytes(bytes), into)),
        Datatype::Uint16 => list(data, into, bytes_max, |bytes, into| print_integer(u16::from_le_bytes(bytes), into)),
        Datatype::Uint32 => list(data, into, bytes_max, |bytes, into| print_integer(u32::from_le_bytes(bytes), into)),
        Datatype::Uint64 => list(data, into, bytes_max, |bytes, into| print_integer(u64::from_le_bytes(bytes), into)),
        Datatype::Int8 => list(data, into, bytes_max, |bytes, into| print_integer(i8::from_le_bytes(bytes), into)),
        Datatype::Int16 => list(data, into, bytes_max, |bytes, into| print_integer(i16::from_le_bytes(bytes), into)),
        Datatype::Int32 => list(data, into, bytes_max, |bytes, into| print_integer(i32::from_le_bytes(bytes), into)),
        Datatype::Int64 => list(data, into, bytes_max, |bytes, into| print_integer(i64::from_le_bytes(bytes), into)),
        Datatype::Fp16 => {
            list(data, into, bytes_max, |bytes, into| print_float(widened_fp16(u16::from_le_bytes(bytes)), into))
        }
        Datatype::Bf16 => list(data, into, bytes_max, |bytes, into| {
            print_float(f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16), into);
        }),
        Datatype::Fp32 => list(data, into, bytes_max, |bytes, into| print_float(f32::from_le_bytes(bytes), into)),
        Datatype::Fp64 => list(data, into, bytes_max, |bytes, into| print_float(f64::from_le_bytes(bytes), into)),
        Datatype::Bytes => print_elements(tensor, base64, into, bytes_max),
    }
}

#[inline(always)]
fn list<const BYTES: usize>(
    data: &[u8],
    into: &mut Vec<u8>,
    bytes_max: usize,
    print: impl Fn([u8; BYTES], &mut Vec<u8>),
) -> bool {
    let (elements, _) = data.as_chunks::<BYTES>();
    for stretch in elements.chunks(STRIDE) {
        for element in stretch {
            print(*element, into);
            into.push(b',');
        }
        if into.len() > bytes_max {
            return false;
        }
    }
    if !elements.is_empty() {
        into.pop();
    }
    true
}

#[inline(always)]
fn print_integer(value: impl itoa::Integer, into: &mut Vec<u8>) {
    into.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// The shortest decimal that reads back as the same value.
#[inline(always)]
fn print_float<F: zmij::Float + Into<f64> + Copy>(value: F, into: &mut Vec<u8>) {
    let wide: f64 = value.into();
    if wide.is_finite() {
        into.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    } else {
        into.extend_from_slice(nonfinite(wide));
    }
}

#[cold]
fn nonfinite(value: f64) -> &'static [u8] {
    match value {
        f64::INFINITY => b"\"Infinity\"",
        f64::NEG_INFINITY => b"\"-Infinity\"",
        _ => b"\"NaN\"",
    }
}

/// A binary16 as the single of the same value.
fn widened_fp16(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let magnitude = u32::from(bits & 0x7FFF);
    let single = match magnitude {
        // Subnormal: units of 2^-24.
        0..0x0400 => (magnitude as f32 * (1.0 / 16_777_216.0)).to_bits(),
        0x0400..0x7C00 => (magnitude << 13) + ((127 - 15) << 23),
        _ => 0x7F80_0000 | magnitude << 13,
    };
    f32::from_bits(sign | single)
}

fn print_elements(tensor: &Tensor, base64: bool, into: &mut Vec<u8>, bytes_max: usize) -> bool {
    use base64::prelude::{BASE64_STANDARD, Engine};
    let mut text = String::new();
    for (index, element) in tensor.elements().enumerate() {
        if index > 0 {
            into.push(b',');
        }
        if base64 {
            text.clear();
            BASE64_STANDARD.encode_string(element, &mut text);
            print_string(text.as_bytes(), into);
        } else {
            print_string(element, into);
        }
        if into.len() > bytes_max {
            return false;
        }
    }
    true
}
