//! The axis in which rows might differ, by what the model declares.

use servekit_core::{Axis, Datatype};

use crate::signature::{Port, Signature};

/// A free axis behind the first that inputs share.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Its name in the model; empty where it has none.
    pub(crate) symbol: Box<str>,
    /// Of each input its axis of that name.
    pub(crate) axes: Box<[Option<usize>]>,
}

impl Candidate {
    /// The axis that could be ragged; `None` where all sizes behind the first axis are fixed, else why there is none.
    pub(crate) fn of(signature: &Signature) -> Result<Option<Self>, String> {
        let mut symbol: Option<&str> = None;
        let mut axes = Vec::with_capacity(signature.inputs.len());
        for port in &signature.inputs {
            let axis = free_axis(port)?;
            if let Some((_, found)) = axis {
                match symbol {
                    None => symbol = Some(found),
                    Some(known) if known == found && !found.is_empty() => {}
                    Some(known) => return Err(several(known, found)),
                }
            }
            axes.push(axis.map(|(axis, _)| axis));
        }
        let Some(symbol) = symbol else { return Ok(None) };
        let takes = signature.inputs.iter().filter(|port| !port.spec.optional);
        if let Some(port) = takes.clone().find(|port| port.spec.datatype == Datatype::Bytes) {
            return Err(format!("input '{}' is BYTES, and no text is known that says nothing", port.spec.name));
        }
        let counts_rows = |port: &Port| matches!(port.spec.axes.first(), Some(Axis::Symbol(name)) if **name == *symbol);
        if !symbol.is_empty() && takes.clone().any(counts_rows) {
            return Err(format!("axis '{symbol}' counts rows as well"));
        }
        Ok(Some(Self { symbol: symbol.into(), axes: axes.into() }))
    }
}

/// The one free axis behind the first, and its name. Inputs that may be left out are not padded: a request that gives
/// one runs alone.
fn free_axis(port: &Port) -> Result<Option<(usize, &str)>, String> {
    if port.spec.optional {
        return Ok(None);
    }
    let mut free = port.spec.axes.iter().enumerate().skip(1).filter_map(|(index, axis)| match axis {
        Axis::Symbol(name) => Some((index, name.as_ref())),
        Axis::Fixed(_) => None,
    });
    let first = free.next();
    match (first, free.next()) {
        (Some((_, one)), Some((_, other))) if one == other && !one.is_empty() => {
            Err(format!("input '{}' has axis '{one}' twice", port.spec.name))
        }
        (Some((_, one)), Some((_, other))) => Err(several(one, other)),
        _ => Ok(first),
    }
}

fn several(one: &str, other: &str) -> String {
    if one.is_empty() || other.is_empty() {
        return "several axes behind the first are free, and the model does not name them alike".to_owned();
    }
    format!("axes '{one}' and '{other}' are both free, one can be padded")
}

#[cfg(test)]
mod tests;
