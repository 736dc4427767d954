//! A reply as JSON, its binary outputs behind it.

use servekit_core::{Contract, Datatype, Limits, Refusal, Reply, Tensor, TensorSpec};
use servekit_wire::Payload;

use crate::dialect::letterhead::Title;
use crate::dialect::{Asked, AskedOutput, Named, too_long_answer};
use crate::json::{print_string, print_values};

/// What an answer's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestKind {
    /// JSON, `application/json`.
    Json,
    /// JSON and tensors, `application/octet-stream` with the field `inference-header-content-length`.
    Binary {
        /// Length of the JSON.
        json_bytes: usize,
    },
}

/// Appends the answer to `payload`, which is empty.
///
/// # Errors
/// `ResponseTooLarge`; what was appended by then is to be dropped.
pub(crate) fn encode(
    reply: &Reply,
    asked: &Asked,
    served: &Named<'_>,
    limits: &Limits,
    payload: &mut Payload,
) -> Result<RestKind, Refusal> {
    let bytes_max = usize::try_from(limits.response_body_bytes_max).unwrap_or(usize::MAX);
    let is_binary = |output: &AskedOutput| asked.raw || output.binary.unwrap_or(asked.binary_all);
    let into = payload.buffer();
    let letterhead = served.letterhead;
    match &asked.id {
        None => into.extend_from_slice(&letterhead.json),
        Some(id) => {
            into.extend_from_slice(b"{\"id\":");
            print_string(id.as_bytes(), into);
            into.push(b',');
            into.extend_from_slice(&letterhead.json[1..]);
        }
    }
    let (mut binary_bytes, mut any_binary) = (0, false);
    for (position, output) in asked.selection(served.contract).enumerate() {
        let index = usize::from(output.index);
        let (Some(tensor), Some(title)) = (reply.outputs.get(index), letterhead.outputs.get(index)) else {
            continue;
        };
        if position > 0 {
            into.push(b',');
        }
        print_head(tensor, title, into);
        if is_binary(&output) {
            any_binary = true;
            binary_bytes += tensor.data.len();
            print_binary(tensor, title, into);
        } else if !print_output(tensor, title, into, bytes_max) {
            return Err(too_long_answer(None, asked, limits));
        }
    }
    into.extend_from_slice(b"]}");
    let json_bytes = into.len();
    if json_bytes + binary_bytes > bytes_max {
        return Err(too_long_answer(Some(json_bytes + binary_bytes), asked, limits));
    }
    if !any_binary {
        return Ok(RestKind::Json);
    }
    for output in asked.selection(served.contract).filter(is_binary) {
        if let Some(tensor) = reply.outputs.get(usize::from(output.index)) {
            payload.share(tensor.data.clone());
        }
    }
    Ok(RestKind::Binary { json_bytes })
}

/// The constant part in front of the outputs, a bracket first.
pub(in crate::dialect) fn letterhead(contract: &Contract, version: &str) -> Vec<u8> {
    let mut text = b"{\"model_name\":".to_vec();
    print_string(contract.model.as_bytes(), &mut text);
    text.extend_from_slice(b",\"model_version\":");
    print_string(version.as_bytes(), &mut text);
    text.extend_from_slice(b",\"outputs\":[");
    text
}

/// The constant part of an output.
pub(in crate::dialect) fn title(spec: &TensorSpec) -> Vec<u8> {
    let mut text = b"{\"name\":".to_vec();
    print_string(spec.name.as_bytes(), &mut text);
    text.extend_from_slice(b",\"datatype\":\"");
    text.extend_from_slice(spec.datatype.name().as_bytes());
    text.extend_from_slice(b"\",\"shape\":[");
    text
}

/// All up to the shape, whose bracket is left open.
fn print_head(tensor: &Tensor, title: &Title, into: &mut Vec<u8>) {
    into.extend_from_slice(&title.json);
    for (index, &size) in tensor.shape.iter().enumerate() {
        if index > 0 {
            into.push(b',');
        }
        match size {
            0..10 => into.push(b'0' + size as u8),
            _ => into.extend_from_slice(itoa::Buffer::new().format(size).as_bytes()),
        }
    }
}

/// `labels` is one string that holds a JSON array: values of parameters are not arrays.
pub(in crate::dialect) fn labels(labels: &[Box<str>]) -> Vec<u8> {
    let mut text = b"\"labels\":".to_vec();
    print_string(labels_text(labels).as_bytes(), &mut text);
    text
}

/// Class labels as the text of a JSON array.
pub(in crate::dialect) fn labels_text(labels: &[Box<str>]) -> String {
    let mut text = vec![b'['];
    for (index, label) in labels.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        print_string(label.as_bytes(), &mut text);
    }
    text.push(b']');
    String::from_utf8(text).unwrap_or_default()
}

fn print_binary(tensor: &Tensor, title: &Title, into: &mut Vec<u8>) {
    into.extend_from_slice(b"],\"parameters\":{\"binary_data_size\":");
    into.extend_from_slice(itoa::Buffer::new().format(tensor.data.len()).as_bytes());
    if !title.json_labels.is_empty() {
        into.push(b',');
        into.extend_from_slice(&title.json_labels);
    }
    into.extend_from_slice(b"}}");
}

fn print_output(tensor: &Tensor, title: &Title, into: &mut Vec<u8>, bytes_max: usize) -> bool {
    let base64 =
        tensor.datatype == Datatype::Bytes && tensor.elements().any(|element| std::str::from_utf8(element).is_err());
    if base64 || !title.json_labels.is_empty() {
        into.extend_from_slice(b"],\"parameters\":{");
        if base64 {
            into.extend_from_slice(b"\"content_type\":\"base64\"");
        }
        if base64 && !title.json_labels.is_empty() {
            into.push(b',');
        }
        into.extend_from_slice(&title.json_labels);
        into.extend_from_slice(b"},\"data\":[");
    } else {
        into.extend_from_slice(b"],\"data\":[");
    }
    let within = print_values(tensor, base64, into, bytes_max);
    into.extend_from_slice(b"]}");
    within
}
