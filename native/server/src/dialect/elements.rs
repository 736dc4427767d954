//! Checks of tensor bytes that came as they are: what the sizes alone do not tell.

use base64::prelude::{BASE64_STANDARD, Engine};
use servekit_core::{Contract, Datatype, Limits, Reason, element_count, quoted};

use crate::json::{Fault, fault};

/// Checks the bytes of one input against its shape, which was checked before. The length of datatypes whose elements
/// all have one size is left to [`Contract::check_set`].
pub(super) fn check_bytes(
    contract: &Contract,
    input: usize,
    shape: &[i64],
    data: &[u8],
    limits: &Limits,
) -> Result<(), Fault> {
    match contract.inputs[input].datatype {
        Datatype::Bool => check_flags(&contract.inputs[input].name, data),
        Datatype::Bytes => check_elements(contract, input, shape, data, limits),
        _ => Ok(()),
    }
}

fn check_flags(name: &str, data: &[u8]) -> Result<(), Fault> {
    let Some(index) = data.iter().position(|&byte| byte > 1) else { return Ok(()) };
    Err(fault(
        Reason::ValueOutOfRange,
        format!("input '{name}' value {index} is byte {}, BOOL allows 0 and 1; correct it", data[index]),
    ))
}

/// Refuses more BYTES elements than a tensor may have.
pub(super) fn check_element_count(name: &str, shape: &[i64], limits: &Limits) -> Result<u64, Fault> {
    let count = element_count(shape).unwrap_or(u64::MAX);
    if count > limits.bytes_elements_max {
        let allowed = limits.bytes_elements_max;
        let text =
            format!("input '{name}' has {count} BYTES elements, at most {allowed} are allowed; split the request");
        return Err(fault(Reason::TensorTooLarge, text));
    }
    Ok(count)
}

/// Refuses a BYTES element that is too long.
pub(super) fn check_element_bytes(name: &str, index: u64, found: usize, limits: &Limits) -> Result<(), Fault> {
    if found as u64 > limits.bytes_element_bytes_max {
        let allowed = limits.bytes_element_bytes_max;
        let text =
            format!("input '{name}' value {index} of {found} bytes found, at most {allowed} are allowed; shorten it");
        return Err(fault(Reason::TensorTooLarge, text));
    }
    Ok(())
}

/// Walks from length to length: the elements must end where the bytes end.
fn check_elements(contract: &Contract, input: usize, shape: &[i64], data: &[u8], limits: &Limits) -> Result<(), Fault> {
    let spec = &contract.inputs[input];
    let expected = check_element_count(&spec.name, shape, limits)?;
    let mut rest = data;
    for index in 0..expected {
        let Some((length, behind)) = rest.split_first_chunk::<4>() else {
            return Err(uneven(contract, input, (data.len() + 4 - rest.len(), data.len())));
        };
        let length = u32::from_le_bytes(*length) as usize;
        let Some(next) = behind.get(length..) else {
            return Err(uneven(contract, input, (data.len() - behind.len() + length, data.len())));
        };
        check_element_bytes(&spec.name, index, length, limits)?;
        rest = next;
    }
    if rest.is_empty() { Ok(()) } else { Err(uneven(contract, input, (data.len() - rest.len(), data.len()))) }
}

#[cold]
fn uneven(contract: &Contract, input: usize, (expected, found): (usize, usize)) -> Fault {
    Box::new(contract.byte_size(&contract.inputs[input], expected as u64, found as u64))
}

/// The elements that base64 texts stand for; both with their lengths in front. `name` is the input's.
pub(super) fn from_base64(name: &str, texts: &[u8], limits: &Limits) -> Result<Vec<u8>, Fault> {
    let mut elements = Vec::with_capacity(texts.len());
    let (mut rest, mut index) = (texts, 0);
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let (text, next) = behind.split_at_checked(u32::from_le_bytes(*length) as usize).unwrap_or((behind, &[]));
        let start = elements.len();
        elements.extend_from_slice(&[0; 4]);
        if BASE64_STANDARD.decode_vec(text, &mut elements).is_err() {
            let text = format!("input '{name}' value {index} is {}, base64 is allowed; encode it", quoted(text));
            return Err(fault(Reason::ValueOutOfRange, text));
        }
        let length = elements.len() - start - 4;
        check_element_bytes(name, index, length, limits)?;
        elements[start..start + 4].copy_from_slice(&(length as u32).to_le_bytes());
        (rest, index) = (next, index + 1);
    }
    Ok(elements)
}
