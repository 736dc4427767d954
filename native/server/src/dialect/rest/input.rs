//! One element of `inputs`. Its members come in any order: values that come before what they need wait as text.

use bytes::Bytes;
use servekit_core::{Datatype, Reason, Shape, Tensor, element_count, quoted};

use super::decode::{Envelope, for_each_parameter, missing, name};
use crate::dialect::elements::{check_bytes, check_element_count, from_base64};
use crate::dialect::memory::Region;
use crate::dialect::parameters::Meaning;
use crate::dialect::{Place, given_twice, input_index};
use crate::json::{Fault, Key, Members, Target, fault, integer, known_keys, read_values};

const NAME: u32 = 0;
const SHAPE: u32 = 1;
const DATATYPE: u32 = 2;
const DATA: u32 = 3;
const PARAMETERS: u32 = 4;

known_keys!(
    input_key: "name" => NAME, "shape" => SHAPE, "datatype" => DATATYPE, "data" => DATA, "parameters" => PARAMETERS
);

/// An input while it is read.
struct Draft<'c> {
    place: Place<'c>,
    /// Its place in the contract.
    index: Option<usize>,
    shape: Option<Shape>,
    datatype: Option<Datatype>,
    /// Name, datatype and shape are there and fit the contract.
    checked: bool,
    values: Values,
    binary_bytes: Option<u64>,
    base64: bool,
}

enum Values {
    Absent,
    /// To be read later: where they begin.
    Waiting(usize),
    Read(Bytes),
}

impl Envelope<'_> {
    /// Reads the input under the cursor and puts it into its place.
    pub(super) fn input(&mut self, position: usize) -> Result<(), Fault> {
        let place = Place::Input(position, None);
        if self.scanner.peek() != b'{' {
            return Err(self.scanner.misfit(&format!("{place}: Unable to parse 'inputs'"), "an object is"));
        }
        let mut draft = Draft {
            place,
            index: None,
            shape: None,
            datatype: None,
            checked: false,
            values: Values::Absent,
            binary_bytes: None,
            base64: false,
        };
        let contract = self.contract;
        let mut members = Members::open(&mut self.scanner)?;
        while let Some(key) = members.next(&mut self.scanner, input_key)? {
            match key {
                Key::Known(NAME) => {
                    let name = name(&mut self.scanner, draft.place)?;
                    let index = input_index(contract, &name, self.limits)?;
                    let name = contract.inputs[index].name.as_ref();
                    if self.inputs[index].is_some() {
                        return Err(given_twice("input", name));
                    }
                    draft.place = Place::Input(position, Some(name));
                    draft.index = Some(index);
                }
                Key::Known(SHAPE) => draft.shape = Some(self.shape(draft.place)?),
                Key::Known(DATATYPE) => draft.datatype = Some(self.datatype(&draft)?),
                Key::Known(DATA) => self.data(&mut draft)?,
                Key::Known(_) => for_each_parameter(&mut self.scanner, draft.place, |meaning| match meaning {
                    Meaning::BinarySize(bytes) => draft.binary_bytes = Some(bytes),
                    Meaning::Base64 => draft.base64 = true,
                    _ => {}
                })?,
                Key::Unknown(_) => {
                    self.scanner.skip()?;
                }
            }
        }
        self.settle(draft)
    }

    fn shape(&mut self, place: Place<'_>) -> Result<Shape, Fault> {
        let scanner = &mut self.scanner;
        if scanner.peek() != b'[' {
            return Err(scanner.misfit(&format!("{place}: Unable to parse 'shape'"), "an array is"));
        }
        scanner.open()?;
        let mut shape = Shape::new();
        let mut index = 0;
        while scanner.element(index == 0)? {
            let start = scanner.position();
            let number = integer(scanner.text(), start);
            let Some(number) = number.filter(|number| !scanner.continues(number.end)) else {
                let lead = format!("{place}: Unable to parse 'shape'");
                return Err(scanner.misfit_at(&lead, &format!(" at index {index}"), "integers from 0 are"));
            };
            scanner.rewind(number.end);
            let magnitude = number.magnitude.and_then(|size| i64::try_from(size).ok()).unwrap_or(i64::MAX);
            // One axis too many is enough to refuse the shape.
            if index as u64 <= self.limits.tensor_rank_max {
                shape.push(if number.negative { -magnitude } else { magnitude });
            }
            index += 1;
        }
        Ok(shape)
    }

    fn datatype(&mut self, draft: &Draft<'_>) -> Result<Datatype, Fault> {
        let place = draft.place;
        if self.scanner.peek() != b'"' {
            return Err(self.scanner.misfit(&format!("{place}: Unable to parse 'datatype'"), "a string is"));
        }
        let name = self.scanner.string()?;
        if let Some(index) = draft.index {
            let expected = self.contract.inputs[index].datatype;
            if expected.name().as_bytes() == &name[..] {
                return Ok(expected);
            }
        }
        Datatype::parse(&name).ok_or_else(|| {
            let text = format!(
                "{place}: Unable to parse 'datatype': found '{}', names like 'FP32' are allowed; correct it",
                quoted(&name)
            );
            fault(Reason::BadField, text)
        })
    }

    fn data(&mut self, draft: &mut Draft<'_>) -> Result<(), Fault> {
        if draft.index.is_some() && draft.shape.is_some() && draft.datatype.is_some() {
            let (input, _) = self.check(draft)?;
            let start = self.scanner.position();
            draft.values = Values::Read(self.values(draft)?);
            if self.binary_at.is_none() {
                self.regions.push(Region { input, start, end: self.scanner.position() });
            }
        } else {
            // Numbers are checked when they are read.
            let range = self.scanner.skip_within(u64::MAX)?;
            draft.values = Values::Waiting(range.start);
        }
        Ok(())
    }

    /// Checks the head of the input, once.
    fn check(&self, draft: &mut Draft<'_>) -> Result<(usize, Datatype), Fault> {
        let Some(index) = draft.index else { return Err(missing(draft.place, "name", "a string is")) };
        let Some(shape) = &draft.shape else { return Err(missing(draft.place, "shape", "an array is")) };
        let Some(datatype) = draft.datatype else { return Err(missing(draft.place, "datatype", "a string is")) };
        if !draft.checked {
            self.contract.check_head(index, datatype, shape, self.limits)?;
            draft.checked = true;
        }
        Ok((index, datatype))
    }

    /// Reads the values under the cursor; the head was checked.
    fn values(&mut self, draft: &Draft<'_>) -> Result<Bytes, Fault> {
        let spec = &self.contract.inputs[draft.index.unwrap_or_default()];
        let shape = draft.shape.as_deref().unwrap_or_default();
        if spec.datatype == Datatype::Bytes {
            check_element_count(&spec.name, shape, self.limits)?;
        }
        read_values(&mut self.scanner, &Target { spec, model: &self.contract.model, shape })
    }

    /// The object has ended: what waited is read, and the tensor is complete.
    fn settle(&mut self, mut draft: Draft<'_>) -> Result<(), Fault> {
        let (index, datatype) = self.check(&mut draft)?;
        let place = draft.place;
        let spec = &self.contract.inputs[index];
        // Values of such an input are in base64 whether that is said or not.
        let is_decoded = spec.base64 && !matches!(draft.values, Values::Absent);
        let data = match std::mem::replace(&mut draft.values, Values::Absent) {
            Values::Absent => self.binary(&draft, index)?,
            _ if draft.binary_bytes.is_some() => {
                let text = format!("{place}: data and binary_data_size found, one of them is allowed; send only one");
                return Err(fault(Reason::BadField, text));
            }
            Values::Read(data) => data,
            Values::Waiting(start) => {
                let end = self.scanner.position();
                // They were skipped once, so they end where they ended then. The bracket around them is closed already.
                self.scanner.reenter(start);
                let data = self.values(&draft)?;
                self.scanner.leave(end);
                data
            }
        };
        let data = if draft.base64 && !is_decoded && datatype == Datatype::Bytes {
            from_base64(&spec.name, &data, self.limits)?.into()
        } else {
            data
        };
        self.inputs[index] = Some(Tensor { datatype, shape: draft.shape.unwrap_or_default(), data });
        Ok(())
    }

    /// The input's bytes behind the JSON.
    fn binary(&mut self, draft: &Draft<'_>, index: usize) -> Result<Bytes, Fault> {
        let (place, spec) = (draft.place, &self.contract.inputs[index]);
        let shape = draft.shape.as_deref().unwrap_or_default();
        let Some(start) = self.binary_at else {
            if draft.binary_bytes.is_none() {
                return Err(missing(place, "data", "an array is"));
            }
            let text = format!(
                "{place}: must specify valid 'Infer-Header-Content-Length' in request header and 'binary_data_size' when passing inputs in binary data format; send the length of the JSON part"
            );
            return Err(fault(Reason::BadBinaryHeader, text));
        };
        let left = (self.body.len() - start) as u64;
        let computed = spec.datatype.element_bytes().and_then(|bytes| element_count(shape)?.checked_mul(bytes as u64));
        let size = draft.binary_bytes.or(computed).unwrap_or(left);
        if size > left {
            let text = format!(
                "unexpected size for input '{}', expecting {} additional bytes for model '{}', {left} found; send {size}",
                spec.name,
                size - left,
                self.contract.model
            );
            return Err(fault(Reason::BinaryLength, text));
        }
        let end = start + size as usize;
        // Elements in base64 become others.
        if !(draft.base64 && spec.datatype == Datatype::Bytes) {
            self.regions.push(Region { input: index, start, end });
        }
        let data = self.body.slice(start..end);
        self.binary_at = Some(end);
        check_bytes(self.contract, index, shape, &data, self.limits)?;
        Ok(data)
    }
}
