use bytes::Bytes;
use servekit_core::{Contract, Reason};

use super::{JsonLength, decode};
use crate::dialect::fixtures::{elements, limits, same};
use crate::dialect::{Decoded, Memory};
use crate::json::Fault;

/// Three elements a row, which are no texts.
fn images() -> Contract {
    let mut contract = same("BYTES");
    contract.inputs[0].base64 = true;
    contract
}

fn read(length: Option<usize>, body: &[u8]) -> Result<Decoded, Box<servekit_core::Refusal>> {
    let digits = length.map(|length| length.to_string());
    let length = digits.as_ref().map_or(JsonLength::Absent, |digits| JsonLength::Given(digits.as_bytes()));
    decode(&Bytes::copy_from_slice(body), length, &images(), &limits(), &mut Memory::default())
        .map_err(|undecodable| Fault::new(undecodable.refusal))
}

fn data(decoded: &Decoded) -> Bytes {
    decoded.inputs[0].as_ref().expect("an input").data.clone()
}

const PARAMETER: &str = r#","parameters":{"content_type":"base64"}"#;

#[test]
fn in_json_elements_are_decoded_once_whether_that_is_said_or_not() {
    let expected = elements(&[&b"\xFF\0"[..], b"", b"abc"]);
    for said in ["", PARAMETER] {
        for members in [
            r#""shape":[1,3],"datatype":"BYTES","data":["/wA=","","YWJj"]"#,
            r#""data":[["/wA","","YWJj"]],"shape":[1,3],"datatype":"BYTES""#,
        ] {
            let body = format!(r#"{{"inputs":[{{"name":"x",{members}{said}}}]}}"#);
            assert_eq!(data(&read(None, body.as_bytes()).expect(&body)), expected, "{body}");
        }
    }
}

#[test]
fn behind_json_elements_are_as_they_are_unless_that_is_said() {
    let raw = elements(&[&b"\xFF\0"[..], b"?", b"abc"]);
    let json = r#"{"inputs":[{"name":"x","shape":[1,3],"datatype":"BYTES","parameters":{"binary_data_size":18}}]}"#;
    let body = [json.as_bytes(), &raw].concat();
    assert_eq!(data(&read(Some(json.len()), &body).expect("good")), raw);
    let coded = elements(&[&b"/wA="[..], b"", b"YWJj"]);
    let json = json.replace("18", "20,\"content_type\":\"base64\"");
    let body = [json.as_bytes(), &coded].concat();
    assert_eq!(data(&read(Some(json.len()), &body).expect("good")), elements(&[&b"\xFF\0"[..], b"", b"abc"]));
}

#[test]
fn what_is_no_base64_is_refused_with_its_place() {
    let body = r#"{"inputs":[{"name":"x","shape":[1,3],"datatype":"BYTES","data":["YWJj","YW?j",""]}]}"#;
    let refusal = read(None, body.as_bytes()).expect_err("no base64");
    assert_eq!(refusal.reason, Reason::ValueOutOfRange);
    assert!(refusal.text.starts_with("input 'x' value 1 has '?' at position 2, base64 allows "), "{}", refusal.text);
}
