//! A request as a form: the words around its values, which are the same in most requests of a client.

use servekit_core::{Contract, Datatype, Inputs, Limits, Shape, Tensor};
use smallvec::SmallVec;

use crate::dialect::Decoded;
use crate::dialect::memory::{Meaning, Region, TEXT_BYTES_MAX};
use crate::json::{Scanner, Target, read_values};

/// A JSON request that was right, without its values, and what it was found to mean.
#[derive(Debug)]
pub(in crate::dialect) struct Form {
    /// Everything around the values.
    text: Vec<u8>,
    /// At least one, in the order in which they stand.
    blanks: SmallVec<[Blank; 2]>,
    meaning: Meaning,
}

/// Where values belong.
#[derive(Debug)]
struct Blank {
    /// Length of the text in front of it.
    at: usize,
    input: usize,
    shape: Shape,
}

impl Form {
    /// Brackets that are open around values: those of the request, its inputs, and one of them.
    const DEPTH: u64 = 3;

    /// Puts a request in place of what was remembered, unless it is too long, names its own id, which will not come again,
    /// or has inputs whose size its shape does not tell. `regions` are those of the values.
    #[inline(never)]
    pub(super) fn remember(memory: &mut Option<Box<Self>>, json: &[u8], regions: &[Region], decoded: &Decoded) {
        if let Some(form) = Self::new(json, regions, decoded) {
            *memory = Some(Box::new(form));
        }
    }

    fn new(json: &[u8], regions: &[Region], decoded: &Decoded) -> Option<Self> {
        let value_bytes: usize = regions.iter().map(|region| region.end - region.start).sum();
        let has_all = regions.len() == decoded.inputs.iter().flatten().count();
        let has_texts = decoded.inputs.iter().flatten().any(|tensor| tensor.datatype == Datatype::Bytes);
        if !has_all || has_texts || json.len() - value_bytes > TEXT_BYTES_MAX {
            return None;
        }
        let meaning = Meaning::new(decoded)?;
        let mut text = Vec::with_capacity(json.len() - value_bytes);
        let (mut blanks, mut from) = (SmallVec::new(), 0);
        for region in regions {
            text.extend_from_slice(&json[from..region.start]);
            let shape = decoded.inputs[region.input].as_ref()?.shape.clone();
            blanks.push(Blank { at: text.len(), input: region.input, shape });
            from = region.end;
        }
        text.extend_from_slice(&json[from..]);
        Some(Self { text, blanks, meaning })
    }

    /// What a request means that is this form with any values in it; `None` where it is another one, or wrong.
    pub(in crate::dialect) fn decode(&self, json: &[u8], contract: &Contract, limits: &Limits) -> Option<Decoded> {
        let (words, ending) = self.text.split_at(self.blanks.last()?.at);
        // Before values are read for nothing.
        if !json.ends_with(ending) {
            return None;
        }
        let mut inputs: Inputs = contract.inputs.iter().map(|_| None).collect();
        let mut scanner = Scanner::new(json, limits);
        let mut from = 0;
        for blank in &self.blanks {
            let words = &words[from..blank.at];
            let at = scanner.position();
            if !json.get(at..)?.starts_with(words) {
                return None;
            }
            scanner.enter(at + words.len(), Self::DEPTH);
            let target = Target { spec: &contract.inputs[blank.input], model: &contract.model, shape: &blank.shape };
            let data = read_values(&mut scanner, &target).ok()?;
            let (datatype, shape) = (target.spec.datatype, Shape::from_slice(&blank.shape));
            inputs[blank.input] = Some(Tensor { datatype, shape, data });
            from = blank.at;
        }
        if json.get(scanner.position()..) != Some(ending) {
            return None;
        }
        Some(self.meaning.with(inputs))
    }
}
