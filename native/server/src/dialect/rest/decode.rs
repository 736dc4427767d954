//! A request's JSON, from the outside to its inputs.

use bytes::Bytes;
use servekit_core::{Contract, Inputs, Limits, Reason};
use smallvec::SmallVec;
use std::borrow::Cow;

use super::form::Form;
use super::length::{JsonLength, Parts};
use super::raw;
use crate::dialect::memory::{Memory, Outline, Region};
use crate::dialect::parameters::{self, Meaning, Value, check_count};
use crate::dialect::{
    Asked, AskedOutput, Decoded, Place, Terms, Undecodable, given_twice, long_id, output_index, too_many_tensors,
};
use crate::json::{Fault, Key, Members, Scanner, fault, integer, known_keys};

/// Decodes and checks a request. What is wrong in it is told in this order: JSON, fields, contract.
///
/// # Errors
/// The first fault that is found, with the request's id in front if it was seen by then.
pub(crate) fn decode(
    body: &Bytes,
    json_length: JsonLength<'_>,
    contract: &Contract,
    limits: &Limits,
    memory: &mut Memory,
) -> Result<Decoded, Undecodable> {
    let parts = json_length.parts(body.len()).map_err(|fault| Undecodable::new(*fault, None))?;
    let (json, binary_at) = match parts {
        Parts::Json => {
            if let Some(decoded) = memory.form.as_ref().and_then(|form| form.decode(body, contract, limits)) {
                return Ok(decoded);
            }
            (&body[..], None)
        }
        Parts::Split(length) => {
            let known = memory.binary.as_ref().filter(|outline| outline.first_at() == Some(length));
            if let Some(outline) = known.filter(|outline| outline.fits(body)) {
                return outline.decode(body, contract, limits);
            }
            (&body[..length], Some(length))
        }
        Parts::Raw => return raw::decode(body, contract, limits).map_err(|fault| Undecodable::new(*fault, None)),
    };
    let mut envelope = Envelope {
        body,
        scanner: Scanner::new(json, limits),
        contract,
        limits,
        binary_at,
        inputs: contract.inputs.iter().map(|_| None).collect(),
        terms: Terms::default(),
        asked: Asked::default(),
        regions: SmallVec::new(),
    };
    match envelope.read().and_then(|()| envelope.rows()) {
        Ok(rows) => {
            let Envelope { inputs, terms, asked, regions, .. } = envelope;
            let decoded = Decoded { rows, overrides: contract.overrides(&inputs), inputs, terms, asked };
            match binary_at {
                _ if regions.is_empty() => {}
                None => Form::remember(&mut memory.form, json, &regions, &decoded),
                Some(_) => Outline::remember(&mut memory.binary, body, &regions, &decoded),
            }
            Ok(decoded)
        }
        Err(fault) => Err(Undecodable::new(*fault, envelope.asked.id.as_deref())),
    }
}

/// A request while it is read.
pub(super) struct Envelope<'a> {
    pub(super) body: &'a Bytes,
    pub(super) scanner: Scanner<'a>,
    pub(super) contract: &'a Contract,
    pub(super) limits: &'a Limits,
    /// Where the next binary tensor begins in the body; `None` where nothing follows the JSON.
    pub(super) binary_at: Option<usize>,
    pub(super) inputs: Inputs,
    terms: Terms,
    asked: Asked,
    /// Where values stand in the JSON, or where tensors follow it, where those lie.
    pub(super) regions: SmallVec<[Region; 2]>,
}

const ID: u32 = 0;
const INPUTS: u32 = 1;
const OUTPUTS: u32 = 2;
const PARAMETERS: u32 = 3;

known_keys!(request_key: "inputs" => INPUTS, "id" => ID, "outputs" => OUTPUTS, "parameters" => PARAMETERS);

const NAME: u32 = 0;

known_keys!(output_key: "name" => NAME, "parameters" => PARAMETERS);

impl<'a> Envelope<'a> {
    fn read(&mut self) -> Result<(), Fault> {
        if self.scanner.peek() != b'{' {
            let misfit = self.scanner.misfit("request", "one JSON object is");
            if misfit.reason == Reason::BadField {
                self.scanner.finish()?;
            }
            return Err(misfit);
        }
        let mut members = Members::open(&mut self.scanner)?;
        let mut has_inputs = false;
        while let Some(key) = members.next(&mut self.scanner, request_key)? {
            match key {
                Key::Known(INPUTS) => {
                    self.inputs()?;
                    has_inputs = true;
                }
                Key::Known(ID) => self.id()?,
                Key::Known(OUTPUTS) => self.outputs()?,
                Key::Known(PARAMETERS) => {
                    for_each_parameter(&mut self.scanner, Place::Request, |meaning| match meaning {
                        Meaning::Timeout(timeout) => self.terms.timeout = timeout,
                        Meaning::Level(level) => self.terms.level = level,
                        Meaning::BinaryOutputs(binary) => self.asked.binary_all = binary,
                        _ => {}
                    })?;
                }
                _ => {
                    self.scanner.skip()?;
                }
            }
        }
        self.scanner.finish()?;
        if !has_inputs {
            return Err(missing(Place::Request, "inputs", "an array is"));
        }
        Ok(())
    }

    /// Checks what the whole request must hold, and counts its rows.
    fn rows(&self) -> Result<u32, Fault> {
        if let Some(at) = self.binary_at
            && at < self.body.len()
        {
            return Err(fault(
                Reason::BinaryLength,
                format!(
                    "unexpected additional input data for model '{}', {} bytes found behind the last input; send only what binary_data_size names",
                    self.contract.model,
                    self.body.len() - at
                ),
            ));
        }
        Ok(self.contract.check_set(&self.inputs, self.limits)?)
    }

    fn id(&mut self) -> Result<(), Fault> {
        if self.scanner.null() {
            return Ok(());
        }
        if self.scanner.peek() != b'"' {
            return Err(self.scanner.misfit("Unable to parse 'id'", "a string is"));
        }
        let id = self.scanner.string()?;
        if id.len() as u64 > self.limits.request_id_bytes_max {
            return Err(long_id(id.len(), self.limits));
        }
        // Strings are UTF-8 when they leave the scanner.
        self.asked.id = Some(String::from_utf8_lossy(&id).into());
        Ok(())
    }

    fn inputs(&mut self) -> Result<(), Fault> {
        if self.scanner.peek() != b'[' {
            return Err(self.scanner.misfit("Unable to parse 'inputs'", "an array is"));
        }
        self.scanner.open()?;
        let mut count = 0;
        while self.scanner.element(count == 0)? {
            count += 1;
            if count as u64 > self.limits.request_tensors_max {
                return Err(too_many_tensors(count, "input", self.limits));
            }
            self.input(count - 1)?;
        }
        Ok(())
    }

    fn outputs(&mut self) -> Result<(), Fault> {
        if self.scanner.null() {
            return Ok(());
        }
        if self.scanner.peek() != b'[' {
            return Err(self.scanner.misfit("Unable to parse 'outputs'", "an array is"));
        }
        self.scanner.open()?;
        let mut count = 0;
        while self.scanner.element(count == 0)? {
            count += 1;
            if count as u64 > self.limits.request_tensors_max {
                return Err(too_many_tensors(count, "output", self.limits));
            }
            self.output(count - 1)?;
        }
        Ok(())
    }

    fn output(&mut self, position: usize) -> Result<(), Fault> {
        let mut place = Place::Output(position, None);
        if self.scanner.peek() != b'{' {
            return Err(self.scanner.misfit(&format!("{place}: Unable to parse 'outputs'"), "an object is"));
        }
        let (mut found, mut binary) = (None, None);
        let mut members = Members::open(&mut self.scanner)?;
        while let Some(key) = members.next(&mut self.scanner, output_key)? {
            match key {
                Key::Known(NAME) => {
                    let name = name(&mut self.scanner, place)?;
                    let index = output_index(self.contract, &name, self.limits)?;
                    place = Place::Output(position, Some(&self.contract.outputs[index].name));
                    found = Some(index as u16);
                }
                Key::Known(_) => for_each_parameter(&mut self.scanner, place, |meaning| {
                    if let Meaning::Binary(wanted) = meaning {
                        binary = Some(wanted);
                    }
                })?,
                Key::Unknown(_) => {
                    self.scanner.skip()?;
                }
            }
        }
        let Some(index) = found else { return Err(missing(place, "name", "a string is")) };
        if self.asked.outputs.iter().any(|asked| asked.index == index) {
            return Err(given_twice("output", &self.contract.outputs[usize::from(index)].name));
        }
        self.asked.outputs.push(AskedOutput { index, binary });
        Ok(())
    }
}

/// The name of a tensor.
#[inline]
pub(super) fn name<'a>(scanner: &mut Scanner<'a>, place: Place<'_>) -> Result<Cow<'a, [u8]>, Fault> {
    if scanner.peek() != b'"' {
        return Err(scanner.misfit(&format!("{place}: Unable to parse 'name'"), "a string is"));
    }
    scanner.string()
}

/// The refusal of an object that lacks what it needs.
#[cold]
pub(super) fn missing(place: Place<'_>, member: &str, allowed: &str) -> Fault {
    fault(Reason::BadField, format!("{place}: Unable to parse '{member}': not found, {allowed} needed; add it"))
}

/// Reads the object of parameters under the cursor and tells what each means.
pub(super) fn for_each_parameter(
    scanner: &mut Scanner<'_>,
    place: Place<'_>,
    mut tell: impl FnMut(Meaning),
) -> Result<(), Fault> {
    if scanner.null() {
        return Ok(());
    }
    if scanner.peek() != b'{' {
        return Err(scanner.misfit(&format!("{place}: Unable to parse 'parameters'"), "an object is"));
    }
    let mut members = Members::open(scanner)?;
    let mut count = 0;
    while let Some(key) = members.next(scanner, parameter_key)? {
        count += 1;
        check_count(place, count, scanner.limits())?;
        tell(match key {
            Key::Known(number) => parameter(scanner, place, PARAMETERS_OFTEN_SENT[number as usize])?,
            Key::Unknown(key) => parameter(scanner, place, key)?,
        });
    }
    Ok(())
}

/// Found in the short way, as [`PARAMETERS_OFTEN_SENT`] numbers them; they mean no more than others.
const PARAMETERS_OFTEN_SENT: [&[u8]; 3] = [b"binary_data_size", b"binary_data", b"binary_data_output"];

known_keys!(parameter_key: "binary_data_size" => 0, "binary_data" => 1, "binary_data_output" => 2);

fn parameter(scanner: &mut Scanner<'_>, place: Place<'_>, key: &[u8]) -> Result<Meaning, Fault> {
    let limits = scanner.limits();
    let start = match scanner.peek() {
        b'"' => {
            let text = scanner.string()?;
            return parameters::meaning(place, key, Value::Text(&text), limits);
        }
        _ => scanner.position(),
    };
    let value = match integer(scanner.text(), start).filter(|number| !scanner.continues(number.end)) {
        Some(number) if number.magnitude.is_some() => {
            scanner.rewind(number.end);
            let magnitude = i128::from(number.magnitude.unwrap_or_default());
            Value::Integer(if number.negative { -magnitude } else { magnitude })
        }
        _ => {
            let range = scanner.skip()?;
            match scanner.slice(range) {
                b"true" => Value::Boolean(true),
                b"false" => Value::Boolean(false),
                other => Value::Other(other),
            }
        }
    };
    parameters::meaning(place, key, value, limits)
}
