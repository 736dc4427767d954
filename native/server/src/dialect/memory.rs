//! What the last requests to a model looked like. Clients say the same again and again, and only the numbers differ.
//!
//! A memory decides nothing. It holds bytes that were read and found right, and what they meant. The same bytes mean the
//! same again, and whatever surrounds them is read as ever.

use bytes::Bytes;
use servekit_core::{Contract, Datatype, Inputs, Limits, Shape, Tensor};
use smallvec::SmallVec;

use super::elements::check_bytes;
use super::rest::Form;
use super::{Asked, Decoded, Terms, Undecodable};

/// Nothing is remembered of requests that say more than this around their tensors.
pub(super) const TEXT_BYTES_MAX: usize = 4 << 10;

/// Of one model version on one shard.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// The listing under which the rest was read.
    generation: u64,
    /// JSON with its values in it.
    pub(super) form: Option<Box<Form>>,
    /// JSON with its tensors behind it.
    pub(super) binary: Option<Box<Outline>>,
    /// A message of gRPC.
    pub(super) message: Option<Box<Outline>>,
}

impl Memory {
    /// The memory under this listing: forgets everything where it is another one, as names may mean other versions now.
    pub(crate) fn under(&mut self, generation: u64) -> &mut Self {
        if self.generation != generation {
            *self = Self { generation, ..Self::default() };
        }
        self
    }

    /// What a message says of its urgency that is the last one again but for its tensors, and so meant for the same
    /// model; `None` where it is another one.
    pub(crate) fn message_terms(&self, message: &[u8]) -> Option<Terms> {
        self.message.as_ref().filter(|outline| outline.fits(message)).map(|outline| outline.meaning.terms)
    }

    /// The outline of a message whose terms it has just told, so that it need not be compared again.
    pub(crate) fn told(&self) -> Option<&Outline> {
        self.message.as_deref()
    }
}

/// Where an input's tensor lies in a body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Region {
    pub(super) input: usize,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// A request that was right, without its tensors, which lie in its body as they are.
#[derive(Debug)]
pub(crate) struct Outline {
    body_bytes: usize,
    /// Everything around the tensors.
    text: Vec<u8>,
    tensors: SmallVec<[(Region, Datatype, Shape); 2]>,
    meaning: Meaning,
}

/// What a request said besides its tensors.
#[derive(Debug)]
pub(super) struct Meaning {
    rows: u32,
    overrides: bool,
    terms: Terms,
    /// Without an id.
    asked: Asked,
}

impl Meaning {
    /// `None` where the request names its own id, which will not come again.
    pub(super) fn new(decoded: &Decoded) -> Option<Self> {
        let &Decoded { rows, overrides, terms, ref asked, .. } = decoded;
        asked.id.is_none().then(|| Self { rows, overrides, terms, asked: asked.clone() })
    }

    /// A request that says the same of other tensors.
    #[inline(always)]
    pub(super) fn with(&self, inputs: Inputs) -> Decoded {
        let &Self { rows, overrides, terms, ref asked } = self;
        let &Asked { ref outputs, binary_all, raw, .. } = asked;
        let asked = Asked { id: None, outputs: SmallVec::from_slice(outputs), binary_all, raw };
        Decoded { inputs, rows, overrides, terms, asked }
    }
}

impl Outline {
    /// Puts a request in place of what was remembered, unless it is too long, names its own id, which will not come again,
    /// or has tensors that do not lie in its body as they are. `regions` are in the order in which they were checked.
    #[inline(never)]
    pub(super) fn remember(memory: &mut Option<Box<Self>>, body: &[u8], regions: &[Region], decoded: &Decoded) {
        if let Some(outline) = Self::new(body, regions, decoded) {
            *memory = Some(outline);
        }
    }

    fn new(body: &[u8], regions: &[Region], decoded: &Decoded) -> Option<Box<Self>> {
        let given = decoded.inputs.iter().flatten().count();
        let tensor_bytes: usize = regions.iter().map(|region| region.end - region.start).sum();
        if regions.len() != given || body.len() - tensor_bytes > TEXT_BYTES_MAX {
            return None;
        }
        let meaning = Meaning::new(decoded)?;
        let mut text = Vec::with_capacity(body.len() - tensor_bytes);
        let (mut tensors, mut from) = (SmallVec::new(), 0);
        for region in regions {
            let tensor = decoded.inputs[region.input].as_ref()?;
            text.extend_from_slice(&body[from..region.start]);
            tensors.push((*region, tensor.datatype, tensor.shape.clone()));
            from = region.end;
        }
        text.extend_from_slice(&body[from..]);
        Some(Box::new(Self { body_bytes: body.len(), text, tensors, meaning }))
    }

    /// Whether this is the same request but for the bytes of its tensors.
    pub(super) fn fits(&self, body: &[u8]) -> bool {
        if body.len() != self.body_bytes {
            return false;
        }
        let (mut text, mut from) = (&self.text[..], 0);
        for (region, ..) in &self.tensors {
            let (before, behind) = text.split_at(region.start - from);
            if body[from..region.start] != *before {
                return false;
            }
            (text, from) = (behind, region.end);
        }
        body[from..] == *text
    }

    /// Where the first tensor begins.
    pub(super) fn first_at(&self) -> Option<usize> {
        self.tensors.first().map(|(region, ..)| region.start)
    }

    /// What a body means that fits. Only its tensors can be wrong.
    pub(crate) fn decode(&self, body: &Bytes, contract: &Contract, limits: &Limits) -> Result<Decoded, Undecodable> {
        debug_assert!(self.fits(body));
        let mut inputs: Inputs = contract.inputs.iter().map(|_| None).collect();
        for (region, datatype, shape) in &self.tensors {
            let data = body.slice(region.start..region.end);
            check_bytes(contract, region.input, shape, &data, limits)
                .map_err(|fault| Undecodable::new(*fault, None))?;
            inputs[region.input] = Some(Tensor { datatype: *datatype, shape: Shape::from_slice(shape), data });
        }
        Ok(self.meaning.with(inputs))
    }
}

#[cfg(test)]
mod tests;
