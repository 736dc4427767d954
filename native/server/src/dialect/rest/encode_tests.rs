use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};
use servekit_core::{Contract, Datatype, Reason, Refusal, Reply};
use servekit_wire::{Payload, Piece};

use super::{JsonLength, RestKind, decode, encode};
use crate::dialect::fixtures::{contract, elements, labelled, limits, repeatable, reply, same, singles, tensor, tiny};
use crate::dialect::{Asked, AskedOutput, Letterhead, Memory, Named};

fn bytes(payload: &Payload) -> Vec<u8> {
    let copy = |piece| match piece {
        Piece::Copied(bytes) => bytes.to_vec(),
        Piece::Shared(bytes) => bytes.to_vec(),
    };
    payload.pieces().flat_map(copy).collect()
}

fn encoded(reply: &Reply, asked: &Asked, contract: &Contract) -> (RestKind, Vec<u8>) {
    let mut payload = Payload::default();
    let kind =
        encode(reply, asked, &Named { contract, letterhead: &Letterhead::new(contract, "1") }, &limits(), &mut payload)
            .expect("within limits");
    (kind, bytes(&payload))
}

fn text(reply: &Reply, asked: &Asked, contract: &Contract) -> String {
    let (kind, body) = encoded(reply, asked, contract);
    assert_eq!(kind, RestKind::Json);
    String::from_utf8(body).expect("JSON is UTF-8")
}

fn parsed(reply: &Reply, asked: &Asked, contract: &Contract) -> Value {
    serde_json::from_str(&text(reply, asked, contract)).expect("valid JSON")
}

fn two() -> (Contract, Reply) {
    let contract = contract("two", &[("x", "FP32", &[-1, 1])], &[("a", "FP32", &[-1, 1]), ("b", "INT64", &[-1, 2])]);
    let b = [1_i64, -2].iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
    (contract, reply([tensor("FP32", &[1, 1], singles(&[0.5])), tensor("INT64", &[1, 2], b)]))
}

#[test]
fn keys_stand_in_tritons_order() {
    let asked = Asked { id: Some("7\"".into()), ..Asked::default() };
    let reply = reply([tensor("FP32", &[1, 3], singles(&[1.5, -2.0, 0.1]))]);
    assert_eq!(
        text(&reply, &asked, &tiny()),
        r#"{"id":"7\"","model_name":"tiny","model_version":"1","outputs":[{"name":"y","datatype":"FP32","shape":[1,3],"data":[1.5,-2.0,0.1]}]}"#
    );
}

#[test]
fn outputs_are_those_asked_for_in_that_order() {
    let (contract, reply) = two();
    let names = |asked: &Asked| -> Vec<String> {
        let answer = parsed(&reply, asked, &contract);
        let outputs = answer["outputs"].as_array().expect("outputs");
        outputs.iter().map(|output| output["name"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(names(&Asked::default()), ["a", "b"]);
    let output = |index| AskedOutput { index, binary: None };
    assert_eq!(names(&Asked { outputs: [output(1), output(0)].into_iter().collect(), ..Asked::default() }), ["b", "a"]);
    assert_eq!(names(&Asked { outputs: [output(1)].into_iter().collect(), ..Asked::default() }), ["b"]);
}

#[test]
fn binary_outputs_follow_the_json_in_order() {
    let (contract, reply) = two();
    let binary = |wanted: [Option<bool>; 2], binary_all, raw| {
        let outputs = (0..).zip(wanted).map(|(index, binary)| AskedOutput { index, binary }).collect();
        let (kind, body) = encoded(&reply, &Asked { outputs, binary_all, raw, id: None }, &contract);
        let RestKind::Binary { json_bytes } = kind else {
            return (serde_json::from_slice(&body).expect("JSON"), vec![]);
        };
        (serde_json::from_slice::<Value>(&body[..json_bytes]).expect("JSON"), body[json_bytes..].to_vec())
    };
    let (a, b) = (&reply.outputs[0].data, &reply.outputs[1].data);
    let (head, tail) = binary([None, None], true, false);
    assert_eq!(head["outputs"][0]["parameters"], json!({"binary_data_size": 4}));
    assert_eq!(head["outputs"][1]["parameters"], json!({"binary_data_size": 16}));
    assert_eq!(head["outputs"][0].get("data"), None);
    assert_eq!(tail, [&a[..], b].concat());
    let (head, tail) = binary([Some(false), None], true, false);
    assert_eq!((&head["outputs"][0]["data"], tail), (&json!([0.5]), b.to_vec()));
    let (head, tail) = binary([None, Some(true)], false, false);
    assert_eq!((&head["outputs"][0]["data"], tail), (&json!([0.5]), b.to_vec()));
    assert_eq!(binary([None, Some(false)], false, true).1, [&a[..], b].concat());
    assert!(binary([None, None], false, false).1.is_empty());
}

#[test]
fn large_tensors_are_shared() {
    let contract = contract("m", &[], &[("y", "FP32", &[-1])]);
    let reply = reply([tensor("FP32", &[1_000], vec![7; 4_000])]);
    let mut payload = Payload::default();
    let asked = Asked { binary_all: true, ..Asked::default() };
    encode(
        &reply,
        &asked,
        &Named { contract: &contract, letterhead: &Letterhead::new(&contract, "1") },
        &limits(),
        &mut payload,
    )
    .expect("within limits");
    let shared = payload
        .pieces()
        .any(|piece| matches!(piece, Piece::Shared(bytes) if bytes.as_ptr() == reply.outputs[0].data.as_ptr()));
    assert!(shared);
}

#[test]
fn what_json_has_no_numbers_for_is_told_in_strings() {
    let reply = reply([tensor("FP32", &[1, 3], singles(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]))]);
    assert!(text(&reply, &Asked::default(), &tiny()).contains(r#""data":["NaN","Infinity","-Infinity"]"#));
}

#[test]
fn bytes_are_text_or_all_base64() {
    let answer = |texts: &[&[u8]]| {
        let reply = reply([tensor("BYTES", &[1, 3], elements(texts))]);
        parsed(&reply, &Asked::default(), &same("BYTES"))["outputs"][0].clone()
    };
    let plain = answer(&[b"a\0\"\\\n", "ü😀".as_bytes(), b""]);
    assert_eq!((plain.get("parameters"), &plain["data"]), (None, &json!(["a\0\"\\\n", "ü😀", ""])));
    let coded = answer(&[b"abc", b"\xFF\0", b""]);
    assert_eq!(coded["parameters"], json!({"content_type": "base64"}));
    assert_eq!(coded["data"], json!(["YWJj", "/wA=", ""]));
}

#[test]
fn labels_travel_with_their_output() {
    let contract = labelled(tiny(), &["a\"b", "ü"]);
    let reply = reply([tensor("FP32", &[1, 3], singles(&[1.0; 3]))]);
    let answer = parsed(&reply, &Asked::default(), &contract);
    assert_eq!(answer["outputs"][0]["parameters"], json!({"labels": "[\"a\\\"b\",\"ü\"]"}));
    let (kind, body) = encoded(&reply, &Asked { binary_all: true, ..Asked::default() }, &contract);
    let RestKind::Binary { json_bytes } = kind else { panic!("asked for binary") };
    let head: Value = serde_json::from_slice(&body[..json_bytes]).expect("JSON");
    assert_eq!(head["outputs"][0]["parameters"]["binary_data_size"], 12);
    assert!(head["outputs"][0]["parameters"]["labels"].is_string());
}

#[test]
fn an_answer_has_a_length_limit() {
    let reply = reply([tensor("FP32", &[1, 3], singles(&[1.5; 3]))]);
    for binary_all in [false, true] {
        let asked = Asked { id: Some("7".into()), binary_all, ..Asked::default() };
        let whole = encoded(&reply, &asked, &tiny()).1.len();
        let mut limits = limits();
        for (bytes, expected) in
            [(whole, Ok(())), (whole - 1, Err(Reason::ResponseTooLarge)), (8, Err(Reason::ResponseTooLarge))]
        {
            limits.response_body_bytes_max = bytes as u64;
            let named = Named { contract: &tiny(), letterhead: &Letterhead::new(&tiny(), "1") };
            let found: Result<RestKind, Refusal> = encode(&reply, &asked, &named, &limits, &mut Payload::default());
            if let Err(refusal) = &found {
                assert!(refusal.text.starts_with("[request id: 7] answer of "), "{}", refusal.text);
            }
            assert_eq!(found.map(|_| ()).map_err(|refusal| refusal.reason), expected);
        }
    }
}

#[test]
fn a_long_answer_is_not_printed_to_its_end() {
    let contract = contract("m", &[], &[("y", "FP32", &[-1])]);
    let reply = reply([tensor("FP32", &[1 << 20], vec![1; 4 << 20])]);
    let mut limits = limits();
    limits.response_body_bytes_max = 1_000;
    let mut payload = Payload::default();
    let named = Named { contract: &contract, letterhead: &Letterhead::new(&contract, "1") };
    assert!(encode(&reply, &Asked::default(), &named, &limits, &mut payload).is_err());
    assert!(payload.len() < 1 << 17);
}

fn any_tensor() -> impl Strategy<Value = (Datatype, usize, Vec<u8>)> {
    let fixed = prop::sample::select(Datatype::ALL.to_vec())
        .prop_filter("of one size", |datatype| datatype.element_bytes().is_some());
    let numbers = (fixed, 0..8_usize).prop_flat_map(|(datatype, rows)| {
        let bytes = rows * 3 * datatype.element_bytes().unwrap_or(1);
        let element = if datatype == Datatype::Bool { 0..=1_u8 } else { 0..=u8::MAX };
        (Just(datatype), Just(rows), prop::collection::vec(element, bytes))
    });
    let words = (0..8_usize).prop_flat_map(|rows| {
        let element = prop_oneof![".{0,12}".prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..12)];
        let data = prop::collection::vec(element, rows * 3).prop_map(|words| elements(&words));
        (Just(Datatype::Bytes), Just(rows), data)
    });
    prop_oneof![3 => numbers, 1 => words]
}

proptest! {
    #![proptest_config(repeatable())]

    /// An answer turned into a request says the same, in JSON and in binary.
    #[test]
    fn what_is_encoded_is_decoded_again((datatype, rows, data) in any_tensor(), binary_all in any::<bool>()) {
        let contract = same(datatype.name());
        let reply = reply([tensor(datatype.name(), &[rows as i64, 3], data.clone())]);
        let (kind, body) = encoded(&reply, &Asked { binary_all, ..Asked::default() }, &contract);
        let length = match kind {
            RestKind::Json => body.len(),
            RestKind::Binary { json_bytes } => json_bytes,
        };
        let head = String::from_utf8(body[..length].to_vec()).expect("JSON");
        let head = head.replacen("\"outputs\"", "\"inputs\"", 1).replacen("\"name\":\"y\"", "\"name\":\"x\"", 1);
        let request = Bytes::from([head.as_bytes(), &body[length..]].concat());
        let digits = head.len().to_string();
        let decoded = decode(&request, JsonLength::Given(digits.as_bytes()), &contract, &limits(), &mut Memory::default())
            .map_err(|undecodable| TestCaseError::fail(undecodable.refusal.to_string()))?;
        let found = decoded.inputs[0].as_ref().expect("given");
        prop_assert_eq!(decoded.rows as usize, rows);
        let again = text_of_values(datatype, &found.data);
        prop_assert_eq!(again, text_of_values(datatype, &data));
        if binary_all {
            prop_assert_eq!(&found.data[..], &data[..]);
        }
    }
}

/// Texts compare NaNs as equal.
fn text_of_values(datatype: Datatype, data: &[u8]) -> String {
    let rows = 1;
    let reply = reply([tensor(datatype.name(), &[rows, 3], data)]);
    text(&reply, &Asked::default(), &same(datatype.name()))
}
