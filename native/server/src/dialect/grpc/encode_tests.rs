use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use servekit_core::{Contract, Reason, Reply};
use servekit_wire::{Payload, Piece};

use super::encode;
use crate::dialect::fixtures::{contract, elements, labelled, limits, reply, singles, tensor, tiny};
use crate::dialect::{Asked, AskedOutput, Letterhead, Named};
use crate::messages::infer::{InferParameter, InferTensor, ModelInferResponse, ParameterChoice};

fn encoded(reply: &Reply, asked: &Asked, contract: &Contract) -> Vec<u8> {
    let mut payload = Payload::default();
    encode(reply, asked, &Named { contract, letterhead: &Letterhead::new(contract, "12") }, &limits(), &mut payload)
        .expect("within limits");
    let copy = |piece| match piece {
        Piece::Copied(bytes) => bytes.to_vec(),
        Piece::Shared(bytes) => bytes.to_vec(),
    };
    payload.pieces().flat_map(copy).collect()
}

fn output(name: &str, datatype: &str, shape: &[i64]) -> InferTensor {
    InferTensor { name: name.into(), datatype: datatype.into(), shape: shape.to_vec(), ..InferTensor::default() }
}

#[test]
fn the_answer_is_what_prost_would_write() {
    let contract = contract("two", &[], &[("a", "FP32", &[-1, 300]), ("b", "BYTES", &[-1]), ("c", "INT64", &[])]);
    let outputs = [
        tensor("FP32", &[2, 300], singles(&[0.5; 600])),
        tensor("BYTES", &[0], elements::<&str>(&[])),
        tensor("INT64", &[], vec![7; 8]),
    ];
    let reply = reply(outputs);
    let mut expected = ModelInferResponse {
        model_name: "two".into(),
        model_version: "12".into(),
        id: "7".into(),
        outputs: vec![output("a", "FP32", &[2, 300]), output("b", "BYTES", &[0]), output("c", "INT64", &[])],
        raw_output_contents: reply.outputs.iter().map(|tensor| tensor.data.clone()).collect(),
        ..ModelInferResponse::default()
    };
    let mut asked = Asked { id: Some("7".into()), ..Asked::default() };
    assert_eq!(encoded(&reply, &asked, &contract), expected.encode_to_vec());
    asked.id = None;
    asked.outputs = [2, 0].map(|index| AskedOutput { index, binary: Some(false) }).into_iter().collect();
    expected.id.clear();
    expected.outputs = vec![expected.outputs[2].clone(), expected.outputs[0].clone()];
    expected.raw_output_contents =
        vec![expected.raw_output_contents[2].clone(), expected.raw_output_contents[0].clone()];
    assert_eq!(encoded(&reply, &asked, &contract), expected.encode_to_vec());
}

#[test]
fn labels_travel_with_their_output() {
    let names: Vec<String> = (0..60).map(|index| format!("class {index}")).collect();
    for count in [1, 60] {
        let labels: Vec<&str> = names[..count].iter().map(String::as_str).collect();
        let contract = labelled(tiny(), &labels);
        let reply = reply([tensor("FP32", &[1, 3], singles(&[1.0; 3]))]);
        let text = serde_json::to_string(&labels).expect("texts");
        let parameter = InferParameter { parameter_choice: Some(ParameterChoice::Text(text)) };
        let mut output = output("y", "FP32", &[1, 3]);
        output.parameters = BTreeMap::from([("labels".to_owned(), parameter)]);
        let expected = ModelInferResponse {
            model_name: "tiny".into(),
            model_version: "12".into(),
            outputs: vec![output],
            raw_output_contents: vec![Bytes::from(singles(&[1.0; 3]))],
            ..ModelInferResponse::default()
        };
        assert_eq!(encoded(&reply, &Asked::default(), &contract), expected.encode_to_vec());
    }
}

#[test]
fn an_answer_has_a_length_limit() {
    let reply = reply([tensor("FP32", &[1, 3], singles(&[1.5; 3]))]);
    let asked = Asked { id: Some("7".into()), ..Asked::default() };
    let whole = encoded(&reply, &asked, &tiny()).len();
    let mut limits = limits();
    for (bytes, expected) in
        [(whole, Ok(())), (whole - 1, Err(Reason::ResponseTooLarge)), (8, Err(Reason::ResponseTooLarge))]
    {
        limits.response_body_bytes_max = bytes as u64;
        let named = Named { contract: &tiny(), letterhead: &Letterhead::new(&tiny(), "12") };
        let found = encode(&reply, &asked, &named, &limits, &mut Payload::default());
        assert_eq!(found.map_err(|refusal| refusal.reason), expected);
    }
}
