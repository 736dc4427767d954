//! The mode of JSON length 0: the whole body is the one input of the model.

use bytes::{BufMut, Bytes, BytesMut};
use servekit_core::{Axis, Contract, Datatype, Inputs, Limits, Reason, Shape, Tensor, element_count};

use crate::dialect::elements::check_bytes;
use crate::dialect::{Asked, Decoded, Terms};
use crate::json::{Fault, fault};

/// Makes the body the model's input: one row, and the one axis that may be open is as long as the bytes make it.
pub(super) fn decode(body: &Bytes, contract: &Contract, limits: &Limits) -> Result<Decoded, Fault> {
    let [spec] = &contract.inputs[..] else {
        let text = format!(
            "inference-header-content-length 0 found, it is allowed for models of one input and '{}' has {}; send JSON in front",
            contract.model,
            contract.inputs.len()
        );
        return Err(fault(Reason::BadBinaryHeader, text));
    };
    let is_text = spec.datatype == Datatype::Bytes;
    let mut shape: Shape = spec.axes.iter().map(Axis::size).collect();
    let row_axis = shape.first_mut().filter(|size| **size < 0 && (contract.is_batched() || is_text));
    if let Some(size) = row_axis {
        *size = 1;
    }
    let open: Vec<usize> = (0..shape.len()).filter(|&axis| shape[axis] < 0).collect();
    match (&open[..], spec.datatype.element_bytes()) {
        ([], _) => {}
        (_, None) => open.iter().for_each(|&axis| shape[axis] = 1),
        ([axis], Some(element_bytes)) => {
            shape[*axis] = 1;
            let unit = element_count(&shape).unwrap_or(u64::MAX).saturating_mul(element_bytes as u64).max(1);
            shape[*axis] = (body.len() as u64 / unit) as i64;
        }
        (_, Some(_)) => {
            let text = format!(
                "inference-header-content-length 0 found, it is allowed for one axis of any size and input '{}' has {}; send JSON in front",
                spec.name,
                open.len()
            );
            return Err(fault(Reason::BadBinaryHeader, text));
        }
    }
    contract.check_head(0, spec.datatype, &shape, limits)?;
    let data = if is_text { with_length(body)? } else { body.clone() };
    check_bytes(contract, 0, &shape, &data, limits)?;
    let inputs: Inputs = std::iter::once(Some(Tensor { datatype: spec.datatype, shape, data })).collect();
    let rows = contract.check_set(&inputs, limits)?;
    let asked = Asked { raw: true, ..Asked::default() };
    Ok(Decoded { rows, overrides: contract.overrides(&inputs), inputs, terms: Terms::default(), asked })
}

/// The body as one BYTES element.
fn with_length(body: &Bytes) -> Result<Bytes, Fault> {
    let Ok(length) = u32::try_from(body.len()) else {
        let text = format!("element of {} bytes, at most {} are allowed; shorten it", body.len(), u32::MAX);
        return Err(fault(Reason::TensorTooLarge, text));
    };
    let mut element = BytesMut::with_capacity(body.len() + 4);
    element.put_u32_le(length);
    element.put_slice(body);
    Ok(element.freeze())
}
