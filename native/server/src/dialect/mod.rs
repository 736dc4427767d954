//! What clients say and hear: from the bytes of a body to checked inputs, and from a reply back to bytes.

mod elements;
pub(crate) mod grpc;
mod letterhead;
mod memory;
pub(crate) mod metadata;
mod parameters;
pub(crate) mod rest;

#[cfg(test)]
pub(crate) mod fixtures;

use std::fmt;
use std::time::Duration;

use servekit_core::{Contract, Inputs, Limits, Reason, Refusal, quoted};
use smallvec::SmallVec;

use crate::json::{Fault, fault};

pub(crate) use letterhead::Letterhead;
pub(crate) use memory::Memory;

/// What a client wants back, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// To be echoed.
    pub(crate) id: Option<Box<str>>,
    /// The outputs to send, in this order; empty for all, in the contract's.
    pub(crate) outputs: SmallVec<[AskedOutput; 2]>,
    /// REST: outputs that do not say otherwise travel in binary.
    pub(crate) binary_all: bool,
    /// REST: the body was one bare tensor, and so all outputs travel in binary.
    pub(crate) raw: bool,
}

/// One output that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AskedOutput {
    /// Its position in the contract.
    pub(crate) index: u16,
    /// REST: whether it travels in binary, where that was said.
    pub(crate) binary: Option<bool>,
}

impl Asked {
    /// The outputs to send, in order.
    fn selection(&self, contract: &Contract) -> impl Iterator<Item = AskedOutput> + Clone {
        let all = if self.outputs.is_empty() { contract.outputs.len() } else { 0 };
        let every = (0..all as u16).map(|index| AskedOutput { index, binary: None });
        every.chain(self.outputs.iter().copied())
    }
}

/// How urgent its caller says a request is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Terms {
    /// It is of no use after this long.
    pub(crate) timeout: Option<Duration>,
    /// Level of priority, 1 being the highest; never 0, which stands for the model's own and so says nothing.
    pub(crate) level: Option<u8>,
}

impl Terms {
    /// These, which stand in the request itself, together with those of its head: the shorter time counts, and the level
    /// that is said nearer to the request.
    pub(crate) fn within(self, head: Self) -> Self {
        let timeout = match (self.timeout, head.timeout) {
            (Some(own), Some(head)) => Some(own.min(head)),
            (own, head) => own.or(head),
        };
        Self { timeout, level: self.level.or(head.level) }
    }
}

/// Reads a level of priority: 0 says nothing, more than there are levels is `None`.
pub(crate) fn level(value: u64, limits: &Limits) -> Option<Option<u8>> {
    let level = u8::try_from(value).ok().filter(|_| value <= limits.priority_levels_max)?;
    Some((level > 0).then_some(level))
}

/// A request that fits its contract.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// In the contract's order.
    pub(crate) inputs: Inputs,
    /// As the contract counts them.
    pub(crate) rows: u32,
    /// An optional input was given, so that a default of the model does not hold.
    pub(crate) overrides: bool,
    /// Triton's parameters `timeout` and `priority`.
    pub(crate) terms: Terms,
    /// What to send back.
    pub(crate) asked: Asked,
}

/// A request that does not.
#[derive(Debug)]
pub(crate) struct Undecodable {
    /// Its text has the request's id in front, where one was seen.
    pub(crate) refusal: Refusal,
}

impl Undecodable {
    #[cold]
    fn new(refusal: Refusal, id: Option<&str>) -> Self {
        Self { refusal: with_id(refusal, id) }
    }
}

/// A refusal that names the request by its client's id.
#[must_use]
pub(crate) fn with_id(mut refusal: Refusal, id: Option<&str>) -> Refusal {
    if let Some(id) = id {
        refusal.text = format!("[request id: {}] {}", quoted(id.as_bytes()), refusal.text).into();
    }
    refusal
}

/// Who answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named<'a> {
    /// Has the model's name and its outputs.
    pub(crate) contract: &'a Contract,
    /// The version's.
    pub(crate) letterhead: &'a Letterhead,
}

/// Part of a request, for texts and for what its parameters mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place<'p> {
    Request,
    /// Position among those given, and its name once it is known.
    Input(usize, Option<&'p str>),
    Output(usize, Option<&'p str>),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request => formatter.write_str("request"),
            Self::Input(_, Some(name)) => write!(formatter, "input '{name}'"),
            Self::Output(_, Some(name)) => write!(formatter, "output '{name}'"),
            Self::Input(index, None) => write!(formatter, "input {index}"),
            Self::Output(index, None) => write!(formatter, "output {index}"),
        }
    }
}

/// Finds an input by its name.
fn input_index(contract: &Contract, name: &[u8], limits: &Limits) -> Result<usize, Fault> {
    contract.input(name).ok_or_else(|| {
        let allowed = contract.inputs.iter().map(|spec| spec.name.as_ref());
        unknown_name(Side { noun: "input", model: &contract.model }, name, allowed, limits)
    })
}

/// Finds an output by its name.
fn output_index(contract: &Contract, name: &[u8], limits: &Limits) -> Result<usize, Fault> {
    contract.output(name).ok_or_else(|| {
        let allowed = contract.outputs.iter().map(|spec| spec.name.as_ref());
        unknown_name(Side { noun: "output", model: &contract.model }, name, allowed, limits)
    })
}

#[derive(Clone, Copy)]
struct Side<'s> {
    noun: &'static str,
    model: &'s str,
}

#[cold]
fn unknown_name<'n>(side: Side<'_>, name: &[u8], allowed: impl Iterator<Item = &'n str>, limits: &Limits) -> Fault {
    const NAMES_SHOWN_MAX: usize = 8;
    let Side { noun, model } = side;
    if name.len() as u64 > limits.name_bytes_max {
        let text =
            format!("{noun} name of {} bytes, at most {} are allowed; shorten it", name.len(), limits.name_bytes_max);
        return fault(Reason::EnvelopeTooLarge, text);
    }
    let names: Vec<&str> = allowed.take(NAMES_SHOWN_MAX + 1).collect();
    let shown = names[..names.len().min(NAMES_SHOWN_MAX)].join("', '");
    let more = if names.len() > NAMES_SHOWN_MAX {
        " and others are"
    } else if names.len() == 1 {
        " is"
    } else {
        " are"
    };
    fault(
        Reason::UnknownTensor,
        format!(
            "unexpected inference {noun} '{}' for model '{model}', '{shown}'{more} allowed; rename it",
            quoted(name)
        ),
    )
}

#[cold]
fn given_twice(noun: &str, name: &str) -> Fault {
    fault(Reason::Duplicate, format!("{noun} '{name}' found twice, once is allowed; remove one"))
}

#[cold]
fn too_many_tensors(found: usize, noun: &str, limits: &Limits) -> Fault {
    let allowed = limits.request_tensors_max;
    fault(Reason::EnvelopeTooLarge, format!("{found} {noun}s, at most {allowed} are allowed; split the request"))
}

#[cold]
fn long_id(found: usize, limits: &Limits) -> Fault {
    let allowed = limits.request_id_bytes_max;
    fault(Reason::EnvelopeTooLarge, format!("id of {found} bytes, at most {allowed} are allowed; shorten it"))
}

/// The refusal of an answer that is too long.
#[cold]
fn too_long_answer(found: Option<usize>, asked: &Asked, limits: &Limits) -> Refusal {
    let allowed = limits.response_body_bytes_max;
    let found = found.map_or_else(|| format!("more than {allowed}"), |bytes| bytes.to_string());
    let text = format!("answer of {found} bytes, at most {allowed} are allowed; ask for fewer rows or outputs");
    with_id(Refusal::new(Reason::ResponseTooLarge, text), asked.id.as_deref())
}
