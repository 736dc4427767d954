use std::path::Path;

use prost::Message;
use protox::prost_reflect::prost_types::field_descriptor_proto::{Label, Type};
use protox::prost_reflect::prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

use super::infer::{
    InferParameter, InferRequestedOutputTensor, InferTensor, InferTensorContents, ModelInferRequest, ModelInferResponse,
};
use super::*;

fn published() -> FileDescriptorSet {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../protos");
    protox::compile(["open_inference.proto", "health.proto"], [folder]).expect("the published files compile")
}

/// Every field of a message set to something, as its published description says; map entries are messages too.
fn filled(message: &DescriptorProto, all: &[(String, DescriptorProto)]) -> Vec<u8> {
    let mut fields: Vec<&FieldDescriptorProto> = message.field.iter().collect();
    fields.sort_by_key(|field| field.number());
    let mut bytes = Vec::new();
    let mut oneof_seen = false;
    for field in fields {
        if std::mem::replace(&mut oneof_seen, field.oneof_index.is_some()) && field.oneof_index.is_some() {
            continue;
        }
        fill(field, all, &mut bytes);
    }
    bytes
}

fn fill(field: &FieldDescriptorProto, all: &[(String, DescriptorProto)], into: &mut Vec<u8>) {
    let repeated = field.label() == Label::Repeated;
    let number = field.number() as u8;
    assert!(number < 16, "keys of one byte");
    let (wire, value): (u8, Vec<u8>) = match field.r#type() {
        Type::Bool | Type::Int32 | Type::Int64 | Type::Uint32 | Type::Uint64 | Type::Enum => (0, vec![1]),
        Type::Float => (5, 1.5_f32.to_le_bytes().to_vec()),
        Type::Double => (1, 1.5_f64.to_le_bytes().to_vec()),
        Type::String | Type::Bytes => (2, vec![2, b'a', b'b']),
        Type::Message => {
            let (_, inner) = all.iter().find(|(name, _)| name == field.type_name()).expect("a known message");
            let inner = filled(inner, all);
            let mut value = vec![u8::try_from(inner.len()).ok().filter(|length| *length < 128).expect("short")];
            value.extend(inner);
            (2, value)
        }
        other => panic!("no message has {other:?} so far"),
    };
    if repeated && wire != 2 {
        into.extend([number << 3 | 2, value.len() as u8]);
    } else {
        into.push(number << 3 | wire);
    }
    into.extend(value);
}

fn collect(prefix: &str, message: &DescriptorProto, into: &mut Vec<(String, DescriptorProto)>) {
    let name = format!("{prefix}.{}", message.name());
    message.nested_type.iter().for_each(|inner| collect(&name, inner, into));
    into.push((name, message.clone()));
}

fn agrees<M: Message + Default>(bytes: &[u8]) -> bool {
    M::decode(bytes).is_ok_and(|message| message.encode_to_vec() == bytes)
}

/// What prost does not know it drops, so bytes that come back whole were known field by field.
#[test]
fn the_messages_are_those_of_the_published_files() {
    let mut all = Vec::new();
    for file in &published().file {
        file.message_type.iter().for_each(|message| collect(&format!(".{}", file.package()), message, &mut all));
    }
    for (name, message) in &all {
        if message.options.as_ref().is_some_and(|options| options.map_entry()) {
            continue;
        }
        let bytes = filled(message, &all);
        let agrees = match name.rsplit_once('.').map_or(name.as_str(), |(_, name)| name) {
            "ServerLiveRequest" | "ServerReadyRequest" | "ServerMetadataRequest" => agrees::<Empty>(&bytes),
            "ServerLiveResponse" => agrees::<ServerLiveResponse>(&bytes),
            "ServerReadyResponse" | "ModelReadyResponse" => agrees::<ReadyResponse>(&bytes),
            "ModelReadyRequest" | "ModelMetadataRequest" => agrees::<ModelRequest>(&bytes),
            "ServerMetadataResponse" => agrees::<ServerMetadataResponse>(&bytes),
            "ModelMetadataResponse" => agrees::<ModelMetadataResponse>(&bytes),
            "TensorMetadata" => agrees::<TensorMetadata>(&bytes),
            "HealthCheckRequest" => agrees::<HealthCheckRequest>(&bytes),
            "HealthCheckResponse" => agrees::<HealthCheckResponse>(&bytes),
            "ModelInferRequest" => agrees::<ModelInferRequest>(&bytes),
            "InferInputTensor" | "InferOutputTensor" => agrees::<InferTensor>(&bytes),
            "InferRequestedOutputTensor" => agrees::<InferRequestedOutputTensor>(&bytes),
            "ModelInferResponse" => agrees::<ModelInferResponse>(&bytes),
            "InferParameter" => agrees::<InferParameter>(&bytes),
            "InferTensorContents" => agrees::<InferTensorContents>(&bytes),
            other => panic!("{other} is published and not known here"),
        };
        assert!(agrees, "{name} differs from its published description");
    }
    assert!(all.len() > 15, "both files were read");
}
