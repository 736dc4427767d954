//! From `ModelInferRequest` to checked inputs: tensors sent raw stay where they are in the message.

use bytes::Bytes;
use servekit_core::{Contract, Datatype, Inputs, Limits, Reason, Refusal, Shape, Tensor, element_count, quoted};
use smallvec::SmallVec;

use super::contents::read_contents;
use super::reader::{FieldKey, Reader, Span, Wire, check_text};
use crate::dialect::elements::check_bytes;
use crate::dialect::memory::{Memory, Outline, Region};
use crate::dialect::parameters::{self, Meaning, Value, check_count, check_key};
use crate::dialect::{
    Asked, AskedOutput, Decoded, Place, Terms, Undecodable, given_twice, input_index, long_id, output_index,
    too_many_tensors,
};
use crate::json::{Fault, fault};

/// What a request says that must be known before its tensors are looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cover<'m> {
    /// The model that it is for; empty where absent.
    pub(crate) name: &'m str,
    /// The model's version; empty where absent.
    pub(crate) version: &'m str,
    /// As far as they are well formed: what is not is told when the request is decoded.
    pub(crate) terms: Terms,
}

/// Reads the cover of a request.
///
/// # Errors
/// `BadProtobuf`, where the outermost fields cannot be told apart.
pub(crate) fn peek<'m>(message: &'m [u8], limits: &Limits) -> Result<Cover<'m>, Refusal> {
    let mut cover = Cover::default();
    let mut reader = Reader::new(message);
    let mut parameter_count = 0;
    let mut read = || -> Result<(), Fault> {
        while let Some(key) = reader.key()? {
            match key.number {
                1 => cover.name = reader.text(key)?,
                2 => cover.version = reader.text(key)?,
                4 => {
                    let span = reader.span(key)?;
                    parameter_count += 1;
                    if parameter_count > limits.parameters_max {
                        continue;
                    }
                    match parameter(message, Place::Request, span, limits) {
                        Ok(Meaning::Timeout(timeout)) => cover.terms.timeout = timeout,
                        Ok(Meaning::Level(level)) => cover.terms.level = level,
                        _ => {}
                    }
                }
                _ if key.wire == Wire::Bytes => drop(reader.span(key)?),
                _ => reader.skip(key, limits.protobuf_depth_max)?,
            }
        }
        Ok(())
    };
    read().map_err(|fault| *fault)?;
    Ok(cover)
}

/// Decodes and checks a request. What is wrong in it is told in this order: protobuf, contract.
///
/// # Errors
/// The first fault that is found, with the request's id in front if it was seen by then.
pub(crate) fn decode(
    message: &Bytes,
    contract: &Contract,
    limits: &Limits,
    memory: &mut Memory,
) -> Result<Decoded, Undecodable> {
    if let Some(outline) = memory.message.as_ref().filter(|outline| outline.fits(message)) {
        return outline.decode(message, contract, limits);
    }
    let mut request = Request {
        message,
        contract,
        limits,
        inputs: SmallVec::new(),
        outputs: SmallVec::new(),
        raw: SmallVec::new(),
        regions: SmallVec::new(),
        terms: Terms::default(),
        asked: Asked::default(),
    };
    let decoded = request.split().and_then(|()| request.tensors());
    match decoded {
        Ok((inputs, rows)) => {
            let Request { terms, asked, regions, .. } = request;
            let decoded = Decoded { rows, overrides: contract.overrides(&inputs), inputs, terms, asked };
            if !regions.is_empty() {
                Outline::remember(&mut memory.message, message, &regions, &decoded);
            }
            Ok(decoded)
        }
        Err(fault) => Err(Undecodable::new(*fault, request.asked.id.as_deref())),
    }
}

/// A request while it is read; its parts are still text.
struct Request<'a> {
    message: &'a Bytes,
    contract: &'a Contract,
    limits: &'a Limits,
    inputs: SmallVec<[Span; 2]>,
    outputs: SmallVec<[Span; 2]>,
    raw: SmallVec<[Span; 2]>,
    /// The raw contents again, as inputs of the contract.
    regions: SmallVec<[Region; 2]>,
    terms: Terms,
    asked: Asked,
}

/// An input while it is read.
#[derive(Default)]
struct Draft {
    name: Span,
    datatype: Span,
    shape: Shape,
    contents: Option<Span>,
}

impl<'a> Request<'a> {
    /// Finds the parts, and refuses more of them than allowed before anything is made of them.
    fn split(&mut self) -> Result<(), Fault> {
        let mut reader = Reader::new(self.message);
        let mut parameter_count = 0;
        while let Some(key) = reader.key()? {
            match key.number {
                // The model was looked up by them.
                1 | 2 => drop(reader.span(key)?),
                3 => {
                    let id = reader.text(key)?;
                    if id.len() as u64 > self.limits.request_id_bytes_max {
                        return Err(long_id(id.len(), self.limits));
                    }
                    self.asked.id = if id.is_empty() { None } else { Some(id.into()) };
                }
                4 => {
                    let span = reader.span(key)?;
                    parameter_count += 1;
                    check_count(Place::Request, parameter_count, self.limits)?;
                    match parameter(self.message, Place::Request, span, self.limits)? {
                        Meaning::Timeout(timeout) => self.terms.timeout = timeout,
                        Meaning::Level(level) => self.terms.level = level,
                        _ => {}
                    }
                }
                5 => push(&mut self.inputs, reader.span(key)?, "input", self.limits)?,
                6 => push(&mut self.outputs, reader.span(key)?, "output", self.limits)?,
                7 => push(&mut self.raw, reader.span(key)?, "raw_input_content", self.limits)?,
                _ => reader.skip(key, self.limits.protobuf_depth_max)?,
            }
        }
        Ok(())
    }

    fn tensors(&mut self) -> Result<(Inputs, u32), Fault> {
        let mut inputs: Inputs = self.contract.inputs.iter().map(|_| None).collect();
        if !self.raw.is_empty() && self.raw.len() != self.inputs.len() {
            let text = format!(
                "{} raw_input_contents found for {} inputs, one each is allowed; send one buffer per input",
                self.raw.len(),
                self.inputs.len()
            );
            return Err(fault(Reason::BadContents, text));
        }
        for position in 0..self.inputs.len() {
            let (index, tensor) = self.input(position)?;
            if inputs[index].is_some() {
                return Err(given_twice("input", &self.contract.inputs[index].name));
            }
            inputs[index] = Some(tensor);
            if let Some(&Span { start, end }) = self.raw.get(position) {
                self.regions.push(Region { input: index, start, end });
            }
        }
        for position in 0..self.outputs.len() {
            let index = self.output(position)? as u16;
            if self.asked.outputs.iter().any(|asked| asked.index == index) {
                return Err(given_twice("output", &self.contract.outputs[usize::from(index)].name));
            }
            self.asked.outputs.push(AskedOutput { index, binary: None });
        }
        let rows = self.contract.check_set(&inputs, self.limits)?;
        Ok((inputs, rows))
    }

    fn input(&self, position: usize) -> Result<(usize, Tensor), Fault> {
        let draft = self.draft(position)?;
        let name = &self.message[draft.name.range()];
        let index = match input_index(self.contract, name, self.limits) {
            Ok(index) => index,
            Err(fault) => return Err(check_text(name, draft.name.start).err().unwrap_or(fault)),
        };
        let spec = &self.contract.inputs[index];
        let datatype = self.datatype(&draft, index)?;
        self.contract.check_head(index, datatype, &draft.shape, self.limits)?;
        let data = match (self.raw.get(position), draft.contents) {
            (Some(_), Some(contents)) if contents.len() > 0 => {
                let text = format!(
                    "contents field must not be specified when using raw_input_contents for '{}' for model '{}'; send one of the two",
                    spec.name, self.contract.model
                );
                return Err(fault(Reason::BadContents, text));
            }
            (Some(raw), _) => {
                let data = self.message.slice(raw.range());
                check_bytes(self.contract, index, &draft.shape, &data, self.limits)?;
                data
            }
            (None, contents) => {
                read_contents(self.message, contents.unwrap_or_default(), spec, &draft.shape, self.limits)?
            }
        };
        Ok((index, Tensor { datatype, shape: draft.shape, data }))
    }

    fn draft(&self, position: usize) -> Result<Draft, Fault> {
        let place = Place::Input(position, None);
        let mut draft = Draft::default();
        let mut parameter_count = 0;
        let mut reader = Reader::within(self.message, self.inputs[position]);
        while let Some(key) = reader.key()? {
            match key.number {
                1 => draft.name = reader.span(key)?,
                2 => draft.datatype = reader.span(key)?,
                3 => self.shape(&mut reader, key, &mut draft.shape)?,
                4 => {
                    let span = reader.span(key)?;
                    parameter_count += 1;
                    check_count(place, parameter_count, self.limits)?;
                    parameter(self.message, place, span, self.limits)?;
                }
                5 => {
                    let contents = reader.span(key)?;
                    if draft.contents.replace(contents).is_some() {
                        let text = format!("{place}: contents found twice, once is allowed; send only one");
                        return Err(fault(Reason::BadContents, text));
                    }
                }
                _ => reader.skip(key, self.limits.protobuf_depth_max)?,
            }
        }
        Ok(draft)
    }

    /// Sizes of axes, packed or one by one.
    fn shape(&self, reader: &mut Reader<'_>, key: FieldKey, shape: &mut Shape) -> Result<(), Fault> {
        // One axis too many is enough to refuse the shape.
        let axes_max = usize::try_from(self.limits.tensor_rank_max).unwrap_or(usize::MAX).saturating_add(1);
        let mut push = |size: u64| {
            if shape.len() < axes_max {
                shape.push(size as i64);
            }
        };
        if key.wire == Wire::Varint {
            push(reader.varint()?);
            return Ok(());
        }
        let span = reader.span(key)?;
        let mut packed = Reader::within(self.message, span);
        while packed.position() < span.end {
            push(packed.varint()?);
        }
        Ok(())
    }

    fn datatype(&self, draft: &Draft, index: usize) -> Result<Datatype, Fault> {
        let name = &self.message[draft.datatype.range()];
        let spec = &self.contract.inputs[index];
        if name == spec.datatype.name().as_bytes() {
            return Ok(spec.datatype);
        }
        check_text(name, draft.datatype.start)?;
        Datatype::parse(name).ok_or_else(|| {
            let found = quoted(name);
            let text =
                format!("input '{}': datatype '{found}' found, names like 'FP32' are allowed; correct it", spec.name);
            fault(Reason::BadField, text)
        })
    }

    fn output(&self, position: usize) -> Result<usize, Fault> {
        let place = Place::Output(position, None);
        let mut name = Span::default();
        let mut parameter_count = 0;
        let mut reader = Reader::within(self.message, self.outputs[position]);
        while let Some(key) = reader.key()? {
            match key.number {
                1 => name = reader.span(key)?,
                2 => {
                    let span = reader.span(key)?;
                    parameter_count += 1;
                    check_count(place, parameter_count, self.limits)?;
                    parameter(self.message, place, span, self.limits)?;
                }
                _ => reader.skip(key, self.limits.protobuf_depth_max)?,
            }
        }
        let text = &self.message[name.range()];
        output_index(self.contract, text, self.limits)
            .map_err(|fault| check_text(text, name.start).err().unwrap_or(fault))
    }
}

/// One entry of a map of parameters.
fn parameter(message: &[u8], place: Place<'_>, entry: Span, limits: &Limits) -> Result<Meaning, Fault> {
    let (mut name, mut value) = ("", Value::Other(b"nothing"));
    let mut reader = Reader::within(message, entry);
    while let Some(key) = reader.key()? {
        match key.number {
            1 => name = reader.text(key)?,
            2 => value = read_value(message, reader.span(key)?, limits)?,
            _ => reader.skip(key, limits.protobuf_depth_max)?,
        }
    }
    check_key(place, name.as_bytes(), limits)?;
    parameters::meaning(place, name.as_bytes(), value, limits)
}

fn read_value<'m>(message: &'m [u8], span: Span, limits: &Limits) -> Result<Value<'m>, Fault> {
    let mut value = Value::Other(b"nothing");
    let mut reader = Reader::within(message, span);
    while let Some(key) = reader.key()? {
        value = match key.number {
            1 => Value::Boolean(reader.number(key)? != 0),
            2 => Value::Integer((reader.number(key)? as i64).into()),
            3 => Value::Text(reader.text(key)?.as_bytes()),
            4 => {
                reader.fixed64(key)?;
                Value::Other(b"a double")
            }
            5 => Value::Integer(reader.number(key)?.into()),
            _ => {
                reader.skip(key, limits.protobuf_depth_max)?;
                value
            }
        };
    }
    Ok(value)
}

#[inline]
fn push(parts: &mut SmallVec<[Span; 2]>, part: Span, noun: &str, limits: &Limits) -> Result<(), Fault> {
    if parts.len() as u64 >= limits.request_tensors_max {
        return Err(too_many_tensors(parts.len() + 1, noun, limits));
    }
    parts.push(part);
    Ok(())
}

/// Number of elements of a shape that was checked.
pub(super) fn checked_count(shape: &[i64]) -> usize {
    element_count(shape).and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX)
}
