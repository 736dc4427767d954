//! The `data` of a tensor, parsed straight into the bytes that the model takes.
//!
//! The hot path only knows right and wrong. On wrong it stops, and [`Stop`] with a second, slow look at the same text
//! says what is wrong: first the grammar of all of it, then the one value, then the nesting.

use bytes::Bytes;
use servekit_core::{Datatype, Limits, Reason, TensorSpec, element_count, list, quoted};

use super::element::{Bf16, Element, Flag, Fp16, USUAL_BYTES_MAX};
use super::scanner::Scanner;
use super::{Fault, blank, byte, coded, fault, string};

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
    /// Where it ends, as far as it was read.
    end: usize,
    /// A bracket or comma was due there, and not a value.
    is_mark: bool,
}

fn fixed<E: Element>(scanner: &mut Scanner<'_>, target: &Target<'_>) -> Result<Bytes, Stop> {
    let count = plausible_count(scanner, target, 2)?;
    let bytes_max = usize::try_from(scanner.limits.json_number_bytes_max).unwrap_or(usize::MAX);
    let mut elements = vec![E::ZERO; count];
    let mut sink = Fixed::<E> { elements: &mut elements, index: 0, bytes_max };
    scanner.at = whole(&mut sink, scanner, target.shape, count)?;
    Ok(E::flatten(elements).into())
}

fn strings(scanner: &mut Scanner<'_>, target: &Target<'_>) -> Result<Bytes, Stop> {
    let count = plausible_count(scanner, target, 3)?;
    let (elements, base64) = (Vec::with_capacity(count * 8), target.spec.base64);
    let mut sink = Strings { elements, index: 0, limits: scanner.limits, base64 };
    scanner.at = whole(&mut sink, scanner, target.shape, count)?;
    Ok(sink.elements.into())
}

/// Number of elements of the shape, if the text is long enough to hold them: checked before memory is taken for them.
fn plausible_count(scanner: &Scanner<'_>, target: &Target<'_>, element_bytes_min: usize) -> Result<usize, Stop> {
    let count = element_count(target.shape).unwrap_or(u64::MAX);
    let left = scanner.bytes.len() - scanner.at;
    if count > (left / element_bytes_min) as u64 + 1 {
        return Err(Stop { index: 0, at: scanner.at, end: scanner.at, is_mark: true });
    }
    Ok(count as usize)
}

/// Takes the elements, in order.
trait Sink {
    /// Reads so many elements, the first after `at`, and the bracket behind them; returns where that ends.
    fn run(&mut self, bytes: &[u8], at: usize, count: usize) -> Result<usize, Stop>;

    /// Elements taken so far.
    fn index(&self) -> usize;
}

/// The whole value: nested if a second bracket follows the first, flat else; a scalar may stand alone.
#[inline(always)]
fn whole<S: Sink>(sink: &mut S, scanner: &Scanner<'_>, shape: &[i64], count: usize) -> Result<usize, Stop> {
    let (bytes, at) = (scanner.bytes, scanner.at);
    if byte(bytes, at) != b'[' {
        return if shape.is_empty() {
            alone(sink, bytes, at)
        } else {
            Err(Stop { index: 0, at, end: at, is_mark: true })
        };
    }
    let inner = blank(bytes, at + 1);
    if byte(bytes, inner) == b'[' && shape.len() > 1 {
        return nested(sink, bytes, at, shape);
    }
    sink.run(bytes, at + 1, count)
}

/// A scalar without brackets is read as one with them.
#[cold]
fn alone<S: Sink>(sink: &mut S, bytes: &[u8], at: usize) -> Result<usize, Stop> {
    let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t');
    let end = match string::span(bytes, at) {
        Ok(span) if byte(bytes, at) == b'"' => span.content.end + 1,
        _ => at + bytes[at..].iter().position(is_end).unwrap_or(bytes.len() - at),
    };
    let bracketed = [&bytes[at..end], b"]"].concat();
    sink.run(&bracketed, 0, 1).map(|_| end).map_err(|stop| Stop { at, end: at + stop.end, ..stop })
}

fn nested<S: Sink>(sink: &mut S, bytes: &[u8], at: usize, shape: &[i64]) -> Result<usize, Stop> {
    let at = mark(sink, bytes, at, b'[')?;
    let (size, inner) = match shape {
        [] => return Err(Stop { index: sink.index(), at, end: at, is_mark: true }),
        [size] => return sink.run(bytes, at, *size as usize),
        [size, inner @ ..] => (*size as usize, inner),
    };
    let mut at = at;
    for position in 0..size {
        if position > 0 {
            at = mark(sink, bytes, at, b',')?;
        }
        at = nested(sink, bytes, at, inner)?;
    }
    mark(sink, bytes, at, b']')
}

/// Passes a bracket or a comma.
fn mark<S: Sink>(sink: &S, bytes: &[u8], at: usize, wanted: u8) -> Result<usize, Stop> {
    let at = blank(bytes, at);
    if byte(bytes, at) == wanted { Ok(at + 1) } else { Err(Stop { index: sink.index(), at, end: at, is_mark: true }) }
}

/// Elements of one size.
struct Fixed<'e, E: Element> {
    elements: &'e mut [E::Raw],
    index: usize,
    /// Of a number as written.
    bytes_max: usize,
}

impl<E: Element> Sink for Fixed<'_, E> {
    #[inline(always)]
    fn run(&mut self, bytes: &[u8], at: usize, count: usize) -> Result<usize, Stop> {
        let (first, bytes_max) = (self.index, self.bytes_max);
        let Some(slots) = self.elements.get_mut(first..first + count) else {
            return Err(Stop { index: first, at, end: at, is_mark: true });
        };
        let Some((last, others)) = slots.split_last_mut() else { return mark(self, bytes, at, b']') };
        let (mut left, mut rest) = read_usual::<E>(others, bytes.get(at..).unwrap_or_default(), bytes_max);
        while let Some((slot, others)) = left.split_first_mut() {
            match read_unusual::<E>(bytes, bytes.len() - rest.len(), b',', bytes_max) {
                Ok((element, end)) => (*slot, rest) = (element, bytes.get(end..).unwrap_or_default()),
                Err(stop) => return Err(Stop { index: first + count - 2 - others.len(), ..stop }),
            }
            (left, rest) = read_usual::<E>(others, rest, bytes_max);
        }
        self.index += count;
        if bytes_max >= USUAL_BYTES_MAX
            && let Some((element, behind)) = E::read_usual(rest, b']')
        {
            *last = element;
            return Ok(bytes.len() - behind.len());
        }
        let (element, end) = read_unusual::<E>(bytes, bytes.len() - rest.len(), b']', bytes_max)
            .map_err(|stop| Stop { index: first + count - 1, ..stop })?;
        *last = element;
        Ok(end)
    }

    fn index(&self) -> usize {
        self.index
    }
}

/// Reads elements with commas behind them for as long as they are written as most are; returns what is left of both.
#[inline(never)]
fn read_usual<'e, 'b, E: Element>(
    elements: &'e mut [E::Raw],
    mut rest: &'b [u8],
    bytes_max: usize,
) -> (&'e mut [E::Raw], &'b [u8]) {
    if bytes_max < USUAL_BYTES_MAX {
        return (elements, rest);
    }
    let mut count = 0;
    for slot in elements.iter_mut() {
        let Some((element, behind)) = E::read_usual(rest, b',') else { break };
        (*slot, rest) = (element, behind);
        count += 1;
    }
    (elements.get_mut(count..).unwrap_or_default(), rest)
}

/// An element with white space around it, or of another form than most have, and the mark behind it.
#[inline(never)]
fn read_unusual<E: Element>(bytes: &[u8], at: usize, behind: u8, bytes_max: usize) -> Result<(E::Raw, usize), Stop> {
    let start = blank(bytes, at);
    let stop = |end| Err(Stop { index: 0, at: start, end, is_mark: false });
    let Some((element, end)) = E::read(bytes, start).filter(|(_, end)| end - start <= bytes_max) else {
        return stop(start);
    };
    let mark = blank(bytes, end);
    if byte(bytes, mark) == behind { Ok((element, mark + 1)) } else { stop(end) }
}

/// BYTES elements, each with its length in front.
struct Strings<'s> {
    elements: Vec<u8>,
    index: usize,
    limits: &'s Limits,
    /// They stand for other bytes.
    base64: bool,
}

impl Strings<'_> {
    fn read(&mut self, bytes: &[u8], at: usize) -> Option<usize> {
        if byte(bytes, at) != b'"' {
            return None;
        }
        let span = string::span(bytes, at).ok()?;
        let end = span.content.end + 1;
        let length_at = self.elements.len();
        self.elements.extend_from_slice(&[0; 4]);
        if self.base64 {
            self.decode(bytes, span)?;
        } else if span.escaped {
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

    /// Appends what a string in base64 stands for. Some encoders escape its slashes.
    fn decode(&mut self, bytes: &[u8], span: string::Span) -> Option<()> {
        let bytes_max = self.limits.bytes_element_bytes_max;
        if !span.escaped {
            return coded::decode(&bytes[span.content], bytes_max, &mut self.elements);
        }
        let mut text = Vec::new();
        string::unescape(bytes, span.content, &mut text).ok()?;
        coded::decode(&text, bytes_max, &mut self.elements)
    }
}

impl Sink for Strings<'_> {
    fn run(&mut self, bytes: &[u8], at: usize, count: usize) -> Result<usize, Stop> {
        if count == 0 {
            return mark(self, bytes, at, b']');
        }
        let mut at = at;
        for left in (0..count).rev() {
            let start = blank(bytes, at);
            let Some(end) = self.read(bytes, start) else {
                return Err(Stop { index: self.index, at: start, end: start, is_mark: false });
            };
            at = blank(bytes, end);
            if byte(bytes, at) != if left == 0 { b']' } else { b',' } {
                return Err(Stop { index: self.index, at: start, end, is_mark: false });
            }
            at += 1;
            self.index += 1;
        }
        Ok(at)
    }

    fn index(&self) -> usize {
        self.index
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
        _ if stop.is_mark => return uneven(target, stop),
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
        if target.spec.base64 {
            return uncoded(found, target, index, scanner.limits);
        }
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
        let text =
            format!("input '{name}' value {index} is {}, {allowed} bytes are allowed; shorten it", quoted(found));
        return fault(Reason::ValueOutOfRange, text);
    }
    let allowed = if target.spec.base64 { "strings in base64".to_owned() } else { range(datatype, is_number) };
    fault(
        Reason::ValueOutOfRange,
        format!("input '{name}' value {index} is {}, {datatype} allows {allowed}; correct it", quoted(found)),
    )
}

/// The refusal of a string, with its quotes, that should be base64 and is none, or is too long.
#[cold]
fn uncoded(found: &[u8], target: &Target<'_>, index: usize, limits: &Limits) -> Fault {
    let name = &target.spec.name;
    let mut text = Vec::new();
    // Its grammar was checked before.
    let _read = string::unescape(found, 1..found.len() - 1, &mut text);
    let (bytes, allowed) = (coded::bytes_of(&text), limits.bytes_element_bytes_max);
    if bytes > allowed {
        let text =
            format!("input '{name}' value {index} of {bytes} bytes found, at most {allowed} are allowed; shorten it");
        return fault(Reason::TensorTooLarge, text);
    }
    let complaint = coded::complaint(&text);
    fault(Reason::ValueOutOfRange, format!("input '{name}' value {index} {complaint}"))
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
