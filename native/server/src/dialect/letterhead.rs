//! What every answer of a model version says in the same words, printed once.

use servekit_core::{Contract, TensorSpec};

use super::{grpc, rest};

/// The constant parts of a version's answers.
#[derive(Debug)]
pub(crate) struct Letterhead {
    /// JSON, from the bracket of the answer to that of its outputs.
    pub(super) json: Box<[u8]>,
    /// Protobuf: the fields of the model's name and version.
    pub(super) message: Box<[u8]>,
    /// In the contract's order.
    pub(super) outputs: Box<[Title]>,
}

/// The constant parts of one output.
#[derive(Debug)]
pub(super) struct Title {
    /// JSON, from the bracket of the output to that of its shape.
    pub(super) json: Box<[u8]>,
    /// JSON: the parameter of its class labels; empty where it has none.
    pub(super) json_labels: Box<[u8]>,
    /// Protobuf: the fields of name and datatype.
    pub(super) message: Box<[u8]>,
    /// Protobuf: the field of its class labels; empty where it has none.
    pub(super) message_labels: Box<[u8]>,
}

impl Letterhead {
    /// That of a version of the model.
    pub(crate) fn new(contract: &Contract, version: &str) -> Self {
        Self {
            json: rest::letterhead(contract, version).into(),
            message: grpc::letterhead(contract, version).into(),
            outputs: contract.outputs.iter().map(Title::new).collect(),
        }
    }
}

impl Title {
    fn new(spec: &TensorSpec) -> Self {
        let labels = spec.labels.as_deref();
        Self {
            json: rest::title(spec).into(),
            json_labels: labels.map(rest::labels).unwrap_or_default().into(),
            message: grpc::title(spec).into(),
            message_labels: labels.map(grpc::labels).unwrap_or_default().into(),
        }
    }
}
