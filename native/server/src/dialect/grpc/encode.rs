//! `ModelInferResponse`: sizes first, then each byte once, tensors as they are.

use servekit_core::{Contract, Limits, Refusal, Reply, Tensor, TensorSpec};
use servekit_wire::Payload;

use crate::dialect::letterhead::Title;
use crate::dialect::rest::labels_text;
use crate::dialect::{Asked, Named, too_long_answer};

/// Key of a field that has a length.
const fn key(number: u8) -> u8 {
    number << 3 | 2
}

/// Appends the message to `payload`, which is empty; the prefix of gRPC is the connection's.
///
/// # Errors
/// `ResponseTooLarge`, before anything is appended.
pub(crate) fn encode(
    reply: &Reply,
    asked: &Asked,
    served: &Named<'_>,
    limits: &Limits,
    payload: &mut Payload,
) -> Result<(), Refusal> {
    let outputs = asked.selection(served.contract).filter_map(|output| {
        let index = usize::from(output.index);
        Some((reply.outputs.get(index)?, served.letterhead.outputs.get(index)?))
    });
    let tensor_bytes: usize = outputs.clone().map(|(tensor, _)| tensor.data.len()).sum();
    if tensor_bytes as u64 > limits.response_body_bytes_max {
        return Err(too_long_answer(Some(tensor_bytes), asked, limits));
    }
    let into = payload.buffer();
    into.extend_from_slice(&served.letterhead.message);
    if let Some(id) = &asked.id {
        push_text(3, id.as_bytes(), into);
    }
    for (tensor, title) in outputs.clone() {
        push_output(tensor, title, into);
    }
    for (tensor, _) in outputs {
        let into = payload.buffer();
        into.push(key(6));
        push_varint(tensor.data.len() as u64, into);
        payload.share(tensor.data.clone());
    }
    if payload.len() as u64 > limits.response_body_bytes_max {
        return Err(too_long_answer(Some(payload.len()), asked, limits));
    }
    Ok(())
}

/// The fields in front of all others that can be told before there is a reply.
pub(in crate::dialect) fn letterhead(contract: &Contract, version: &str) -> Vec<u8> {
    let mut fields = Vec::new();
    push_text(1, contract.model.as_bytes(), &mut fields);
    push_text(2, version.as_bytes(), &mut fields);
    fields
}

/// The same for an output.
pub(in crate::dialect) fn title(spec: &TensorSpec) -> Vec<u8> {
    let mut fields = Vec::new();
    push_text(1, spec.name.as_bytes(), &mut fields);
    push_text(2, spec.datatype.name().as_bytes(), &mut fields);
    fields
}

/// The field of an output's class labels, behind all others.
pub(in crate::dialect) fn labels(labels: &[Box<str>]) -> Vec<u8> {
    let text = labels_text(labels);
    let mut field = vec![key(4)];
    push_varint(entry_bytes(&text) as u64, &mut field);
    push_text(1, LABELS, &mut field);
    field.push(key(2));
    push_varint(field_bytes(text.len()) as u64, &mut field);
    push_text(3, text.as_bytes(), &mut field);
    field
}

fn push_output(tensor: &Tensor, title: &Title, into: &mut Vec<u8>) {
    let shape_bytes: usize = tensor.shape.iter().map(|&size| varint_bytes(size as u64)).sum();
    let shape_field_bytes = if tensor.shape.is_empty() { 0 } else { field_bytes(shape_bytes) };
    into.push(key(5));
    push_varint((title.message.len() + shape_field_bytes + title.message_labels.len()) as u64, into);
    into.extend_from_slice(&title.message);
    if !tensor.shape.is_empty() {
        into.push(key(3));
        push_varint(shape_bytes as u64, into);
        tensor.shape.iter().for_each(|&size| push_varint(size as u64, into));
    }
    into.extend_from_slice(&title.message_labels);
}

/// Key of the parameter that holds an output's class labels.
const LABELS: &[u8] = b"labels";

/// Size of the map's entry for class labels: a key, and a message with one text.
fn entry_bytes(text: &str) -> usize {
    field_bytes(LABELS.len()) + field_bytes(field_bytes(text.len()))
}

/// Size of a field with a content of this length; its number is below 16.
fn field_bytes(length: usize) -> usize {
    1 + varint_bytes(length as u64) + length
}

fn varint_bytes(value: u64) -> usize {
    (((value | 1).ilog2() + 7) / 7) as usize
}

#[inline]
fn push_text(number: u8, text: &[u8], into: &mut Vec<u8>) {
    into.push(key(number));
    push_varint(text.len() as u64, into);
    into.extend_from_slice(text);
}

#[inline]
fn push_varint(mut value: u64, into: &mut Vec<u8>) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}
