//! Typed contents, as bytes that the model takes. Values are counted before memory is taken for them.

use bytes::Bytes;
use servekit_core::{Datatype, Limits, Reason, TensorSpec};

use super::decode::checked_count;
use super::reader::{FieldKey, Reader, Span, Wire};
use crate::dialect::elements::{check_element_bytes, check_element_count};
use crate::json::{Fault, fault};

/// The contents of one input whose head was checked.
pub(super) fn read_contents(
    message: &Bytes,
    contents: Span,
    spec: &TensorSpec,
    shape: &[i64],
    limits: &Limits,
) -> Result<Bytes, Fault> {
    let reading = Reading { message, contents, spec, limits, count: checked_count(shape) };
    match spec.datatype {
        Datatype::Fp16 | Datatype::Bf16 => reading.untyped(),
        Datatype::Bool => reading.varints(|value| Some([u8::from(value != 0)])),
        Datatype::Int8 => reading.varints(|value| i8::try_from(value as i32).ok().map(i8::to_le_bytes)),
        Datatype::Int16 => reading.varints(|value| i16::try_from(value as i32).ok().map(i16::to_le_bytes)),
        Datatype::Int32 => reading.varints(|value| Some((value as i32).to_le_bytes())),
        Datatype::Int64 | Datatype::Uint64 => reading.varints(|value| Some(value.to_le_bytes())),
        Datatype::Uint8 => reading.varints(|value| u8::try_from(value as u32).ok().map(u8::to_le_bytes)),
        Datatype::Uint16 => reading.varints(|value| u16::try_from(value as u32).ok().map(u16::to_le_bytes)),
        Datatype::Uint32 => reading.varints(|value| Some((value as u32).to_le_bytes())),
        Datatype::Fp32 => reading.fixed::<4>(Wire::Fixed32, |reader, key| reader.fixed32(key)),
        Datatype::Fp64 => reading.fixed::<8>(Wire::Fixed64, |reader, key| reader.fixed64(key)),
        Datatype::Bytes => {
            check_element_count(&spec.name, shape, limits)?;
            reading.elements()
        }
    }
}

/// The field of `InferTensorContents` that a datatype travels in.
fn field(datatype: Datatype) -> Option<(u32, &'static str)> {
    match datatype {
        Datatype::Bool => Some((1, "bool_contents")),
        Datatype::Int8 | Datatype::Int16 | Datatype::Int32 => Some((2, "int_contents")),
        Datatype::Int64 => Some((3, "int64_contents")),
        Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32 => Some((4, "uint_contents")),
        Datatype::Uint64 => Some((5, "uint64_contents")),
        Datatype::Fp32 => Some((6, "fp32_contents")),
        Datatype::Fp64 => Some((7, "fp64_contents")),
        Datatype::Bytes => Some((8, "bytes_contents")),
        Datatype::Fp16 | Datatype::Bf16 => None,
    }
}

struct Reading<'r> {
    message: &'r Bytes,
    contents: Span,
    spec: &'r TensorSpec,
    limits: &'r Limits,
    /// Elements that the shape needs.
    count: usize,
}

impl<'r> Reading<'r> {
    fn reader(&self) -> Reader<'r> {
        Reader::within(self.message, self.contents)
    }

    /// Whether this is the field of the input's datatype; passes unknown fields and refuses those of other datatypes.
    fn is_own(&self, reader: &mut Reader<'_>, key: FieldKey) -> Result<bool, Fault> {
        let own = field(self.spec.datatype);
        if own.is_some_and(|(number, _)| number == key.number) {
            return Ok(true);
        }
        let before = *reader;
        if (1..=8).contains(&key.number)
            && !(key.wire == Wire::Bytes && key.number != 8 && reader.span(key)?.len() == 0)
        {
            let TensorSpec { name, datatype, .. } = self.spec;
            let allowed = own.map_or("raw_input_contents", |(_, name)| name);
            let text = format!(
                "contents of input '{name}' in field {} found, {allowed} is allowed for {datatype}; send it there",
                key.number
            );
            return Err(fault(Reason::BadContents, text));
        }
        *reader = before;
        reader.skip(key, self.limits.protobuf_depth_max)?;
        Ok(false)
    }

    /// 16-bit floats have no typed field.
    fn untyped(&self) -> Result<Bytes, Fault> {
        let mut reader = self.reader();
        while let Some(key) = reader.key()? {
            self.is_own(&mut reader, key)?;
        }
        self.check_count(0)?;
        Ok(Bytes::new())
    }

    fn check_count(&self, found: usize) -> Result<(), Fault> {
        if found == self.count {
            return Ok(());
        }
        let TensorSpec { name, datatype, .. } = self.spec;
        let way = field(*datatype).map_or("raw_input_contents", |(_, name)| name);
        let text = format!(
            "contents of input '{name}' have {found} values, its shape needs {}; send them in {way}",
            self.count
        );
        Err(fault(Reason::BadContents, text))
    }

    fn varints<const BYTES: usize>(&self, convert: impl Fn(u64) -> Option<[u8; BYTES]>) -> Result<Bytes, Fault> {
        self.check_count(self.count_varints()?)?;
        let mut values = Vec::with_capacity(self.count * BYTES);
        let mut push = |value: u64| match convert(value) {
            Some(bytes) => {
                values.extend_from_slice(&bytes);
                Ok(())
            }
            None => Err(self.beyond(values.len() / BYTES, value)),
        };
        let mut reader = self.reader();
        while let Some(key) = reader.key()? {
            if !self.is_own(&mut reader, key)? {
                continue;
            }
            if key.wire == Wire::Varint {
                push(reader.varint()?)?;
                continue;
            }
            let span = reader.span(key)?;
            let mut packed = Reader::within(self.message, span);
            while packed.position() < span.end {
                push(packed.varint()?)?;
            }
        }
        // Numbers that are too long for one were counted by their last bytes, and refused when they were read.
        Ok(values.into())
    }

    /// Every number ends in the one byte of it that is below 0x80.
    fn count_varints(&self) -> Result<usize, Fault> {
        let mut count = 0;
        let mut reader = self.reader();
        while let Some(key) = reader.key()? {
            if !self.is_own(&mut reader, key)? {
                continue;
            }
            if key.wire == Wire::Varint {
                reader.varint()?;
                count += 1;
            } else {
                let span = reader.span(key)?;
                count += self.message[span.range()].iter().filter(|&&byte| byte < 0x80).count();
            }
        }
        Ok(count)
    }

    #[cold]
    fn beyond(&self, index: usize, value: u64) -> Fault {
        let TensorSpec { name, datatype, .. } = self.spec;
        let (found, allowed) = match datatype {
            Datatype::Int8 => (i64::from(value as i32), "integers from -128 to 127"),
            Datatype::Int16 => (i64::from(value as i32), "integers from -32768 to 32767"),
            Datatype::Uint8 => (i64::from(value as u32), "integers from 0 to 255"),
            _ => (i64::from(value as u32), "integers from 0 to 65535"),
        };
        let text = format!("input '{name}' value {index} is {found}, {datatype} allows {allowed}; correct it");
        fault(Reason::ValueOutOfRange, text)
    }

    /// Floats: packed they are already what the model takes, and stay where they are.
    fn fixed<const BYTES: usize>(
        &self,
        wire: Wire,
        take: impl Fn(&mut Reader<'_>, FieldKey) -> Result<[u8; BYTES], Fault>,
    ) -> Result<Bytes, Fault> {
        let (mut bytes, mut pieces, mut last) = (0, 0, Span::default());
        self.each_fixed(
            wire,
            &take,
            |_| {},
            |span| {
                (bytes, pieces, last) = (bytes + span.len(), pieces + 1, span);
            },
        )
        .and_then(|alone| self.check_count(alone + bytes / BYTES).map(|()| pieces += alone))?;
        if pieces == 1 && last.len() == bytes && bytes > 0 {
            return Ok(self.message.slice(last.range()));
        }
        let mut values = Vec::with_capacity(self.count * BYTES);
        let gathered = std::cell::RefCell::new(&mut values);
        self.each_fixed(
            wire,
            &take,
            |value| gathered.borrow_mut().extend_from_slice(&value),
            |span| gathered.borrow_mut().extend_from_slice(&self.message[span.range()]),
        )?;
        Ok(values.into())
    }

    fn each_fixed<const BYTES: usize>(
        &self,
        wire: Wire,
        take: &impl Fn(&mut Reader<'_>, FieldKey) -> Result<[u8; BYTES], Fault>,
        mut alone: impl FnMut([u8; BYTES]),
        mut packed: impl FnMut(Span),
    ) -> Result<usize, Fault> {
        let mut count = 0;
        let mut reader = self.reader();
        while let Some(key) = reader.key()? {
            if !self.is_own(&mut reader, key)? {
                continue;
            }
            if key.wire == wire {
                alone(take(&mut reader, key)?);
                count += 1;
                continue;
            }
            let span = reader.span(key)?;
            if span.len() % BYTES != 0 {
                return Err(reader.misfit(key));
            }
            packed(span);
        }
        Ok(count)
    }

    fn elements(&self) -> Result<Bytes, Fault> {
        let (mut count, mut bytes) = (0, 0);
        self.each_element(|span| {
            check_element_bytes(&self.spec.name, count as u64, span.len(), self.limits)?;
            (count, bytes) = (count + 1, bytes + span.len() + 4);
            Ok(())
        })?;
        self.check_count(count)?;
        let mut elements = Vec::with_capacity(bytes);
        self.each_element(|span| {
            elements.extend_from_slice(&(span.len() as u32).to_le_bytes());
            elements.extend_from_slice(&self.message[span.range()]);
            Ok(())
        })?;
        Ok(elements.into())
    }

    fn each_element(&self, mut tell: impl FnMut(Span) -> Result<(), Fault>) -> Result<(), Fault> {
        let mut reader = self.reader();
        while let Some(key) = reader.key()? {
            if self.is_own(&mut reader, key)? {
                tell(reader.span(key)?)?;
            }
        }
        Ok(())
    }
}
