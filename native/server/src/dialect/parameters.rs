//! What the parameters of a request mean, for both protocols alike.

use std::time::Duration;

use servekit_core::{Limits, Reason, quoted};

use super::{Place, level};
use crate::json::{Fault, fault};

/// A parameter's value, as either protocol brings it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'v> {
    Boolean(bool),
    Integer(i128),
    Text(&'v [u8]),
    /// Anything else; its text.
    Other(&'v [u8]),
}

/// What a parameter asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Nothing that concerns this server.
    Nothing,
    /// Of the request: it is of no use after this long.
    Timeout(Option<Duration>),
    /// Of the request: its level of priority.
    Level(Option<u8>),
    /// Of the request: whether outputs travel in binary.
    BinaryOutputs(bool),
    /// Of an input: its bytes behind the JSON.
    BinarySize(u64),
    /// Of an input: the elements are in base64.
    Base64,
    /// Of an output: whether it travels in binary.
    Binary(bool),
}

/// Says what one parameter means; those that nobody knows mean nothing.
pub(super) fn meaning(place: Place<'_>, key: &[u8], value: Value<'_>, limits: &Limits) -> Result<Meaning, Fault> {
    if let Value::Text(text) | Value::Other(text) = value
        && text.len() as u64 > limits.parameter_bytes_max
    {
        return Err(long_parameter(place, key, text.len(), limits));
    }
    match (place, key) {
        (Place::Input(..), b"binary_data_size") => match value {
            Value::Integer(bytes) if bytes >= 0 => Ok(Meaning::BinarySize(u64::try_from(bytes).unwrap_or(u64::MAX))),
            other => Err(misfit(place, "binary_data_size", other, "integers from 0 are")),
        },
        (Place::Output(..), b"binary_data") => match value {
            Value::Boolean(binary) => Ok(Meaning::Binary(binary)),
            other => Err(misfit(place, "binary_data", other, "true and false are")),
        },
        (Place::Request, b"binary_data_output") => match value {
            Value::Boolean(binary) => Ok(Meaning::BinaryOutputs(binary)),
            other => Err(misfit(place, "binary_data_output", other, "true and false are")),
        },
        (Place::Request, b"timeout") => match value {
            Value::Integer(micros) if micros >= 0 => Ok(Meaning::Timeout(
                (micros > 0).then(|| Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))),
            )),
            other => Err(misfit(place, "timeout", other, "microseconds from 0 are")),
        },
        (Place::Request, b"priority") => {
            let known = match value {
                Value::Integer(value) => u64::try_from(value).ok().and_then(|value| level(value, limits)),
                _ => None,
            };
            known.map(Meaning::Level).ok_or_else(|| unknown_level(place, value, limits))
        }
        (Place::Input(..), b"content_type") if value == Value::Text(b"base64") => Ok(Meaning::Base64),
        (Place::Output(..), b"classification") if value != Value::Integer(0) => {
            Err(misfit(place, "classification", value, "only whole outputs are"))
        }
        (Place::Input(..) | Place::Output(..), b"shared_memory_region") => {
            Err(misfit(place, "shared_memory_region", value, "only tensors sent in the request are"))
        }
        _ if key.starts_with(b"triton_") => Err(reserved(key)),
        _ => Ok(Meaning::Nothing),
    }
}

/// Refuses a key that is too long; JSON checks its keys itself.
pub(super) fn check_key(place: Place<'_>, key: &[u8], limits: &Limits) -> Result<(), Fault> {
    if key.len() as u64 > limits.name_bytes_max {
        let (found, allowed) = (key.len(), limits.name_bytes_max);
        let text = format!("{place}: key of {found} bytes, at most {allowed} are allowed; shorten it");
        return Err(fault(Reason::EnvelopeTooLarge, text));
    }
    Ok(())
}

/// Refuses more parameters than one place may have.
pub(super) fn check_count(place: Place<'_>, found: u64, limits: &Limits) -> Result<(), Fault> {
    if found > limits.parameters_max {
        let allowed = limits.parameters_max;
        let text = format!("{place}: {found} parameters, at most {allowed} are allowed; send fewer");
        return Err(fault(Reason::EnvelopeTooLarge, text));
    }
    Ok(())
}

#[cold]
fn unknown_level(place: Place<'_>, value: Value<'_>, limits: &Limits) -> Fault {
    let allowed = format!(
        "levels from 0 to {}, of which 1 is the highest and 0 the model's own, are",
        limits.priority_levels_max
    );
    misfit(place, "priority", value, &allowed)
}

#[cold]
fn misfit(place: Place<'_>, key: &str, value: Value<'_>, allowed: &str) -> Fault {
    let found = match value {
        Value::Boolean(boolean) => boolean.to_string(),
        Value::Integer(integer) => integer.to_string(),
        Value::Text(text) => format!("'{}'", quoted(text)),
        Value::Other(text) => quoted(text),
    };
    fault(Reason::BadField, format!("{place}: Unable to parse '{key}': found {found}, {allowed} allowed; correct it"))
}

#[cold]
fn long_parameter(place: Place<'_>, key: &[u8], found: usize, limits: &Limits) -> Fault {
    let allowed = limits.parameter_bytes_max;
    fault(
        Reason::EnvelopeTooLarge,
        format!("{place}: parameter '{}' of {found} bytes, at most {allowed} are allowed; shorten it", quoted(key)),
    )
}

#[cold]
fn reserved(key: &[u8]) -> Fault {
    fault(
        Reason::ReservedName,
        format!(
            "parameter keys starting with 'triton_' are reserved for Triton usage, found '{}'; rename it",
            quoted(key)
        ),
    )
}
