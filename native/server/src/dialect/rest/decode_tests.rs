use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use servekit_core::{Axis, Batching, Contract, Limits, Reason, Refusal};

use super::{JsonLength, decode};
use crate::dialect::fixtures::{Spec, contract, elements, ident, limits, repeatable, same, singles, text, tiny};
use crate::dialect::{Asked, AskedOutput, Decoded, Memory, Terms};

fn json(contract: &Contract, body: &str) -> Result<Decoded, Refusal> {
    json_within(contract, body.as_bytes(), &limits())
}

fn json_within(contract: &Contract, body: &[u8], limits: &Limits) -> Result<Decoded, Refusal> {
    let body = Bytes::copy_from_slice(body);
    decode(&body, JsonLength::Absent, contract, limits, &mut Memory::default())
        .map_err(|undecodable| undecodable.refusal)
}

/// A body of JSON and what follows it; the length is that of the JSON.
fn binary(contract: &Contract, json: &str, tail: &[u8]) -> Result<Decoded, Refusal> {
    with_length(contract, &json.len().to_string(), &[json.as_bytes(), tail].concat())
}

fn with_length(contract: &Contract, length: &str, body: &[u8]) -> Result<Decoded, Refusal> {
    let body = Bytes::copy_from_slice(body);
    decode(&body, JsonLength::Given(length.as_bytes()), contract, &limits(), &mut Memory::default())
        .map_err(|undecodable| undecodable.refusal)
}

fn reason(result: Result<Decoded, Refusal>) -> Result<(), Reason> {
    result.map(|_| ()).map_err(|refusal| refusal.reason)
}

fn data(result: Result<Decoded, Refusal>) -> Vec<u8> {
    result.expect("a request").inputs[0].as_ref().expect("an input").data.to_vec()
}

/// One input of `ident` with these members after its name.
fn input(members: &str) -> String {
    format!(r#"{{"inputs":[{{"name":"x",{members}}}]}}"#)
}

const GOOD: &str = r#"{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1.5,-2.0,3.25]}]}"#;

#[test]
fn a_request_becomes_its_tensor() {
    let decoded = json(&ident(), GOOD).expect("good");
    let tensor = decoded.inputs[0].as_ref().expect("given");
    assert_eq!(tensor.data, singles(&[1.5, -2.0, 3.25]));
    assert_eq!(&tensor.shape[..], [1, 3]);
    assert_eq!((decoded.rows, decoded.overrides, decoded.terms), (1, false, Terms::default()));
    assert_eq!(decoded.asked, Asked::default());
}

#[test]
fn members_come_in_any_order() {
    let members = [r#""name":"x""#, r#""shape":[1,3]"#, r#""datatype":"FP32""#, r#""data":[[1.5,-2.0,3.25]]"#];
    let mut order = [0, 1, 2, 3];
    // All orders, by Heap's algorithm.
    let mut counters = [0; 4];
    let mut index = 0;
    loop {
        let text: Vec<_> = order.iter().map(|&member| members[member]).collect();
        let body = format!(r#"{{"inputs":[{{{}}}], "id":"7"}}"#, text.join(" , "));
        assert_eq!(data(json(&ident(), &body)), singles(&[1.5, -2.0, 3.25]), "{body}");
        while index < 4 && counters[index] >= index {
            counters[index] = 0;
            index += 1;
        }
        if index == 4 {
            break;
        }
        order.swap(if index % 2 == 0 { 0 } else { counters[index] }, index);
        counters[index] += 1;
        index = 0;
    }
}

#[test]
fn keys_are_known_however_they_are_written() {
    let body = "\n{ \"inputs\" : [ { \"na\\u006de\" : \"\\u0078\" ,\t\"shape\":[ 1 , 3 ], \"datatype\" : \"FP32\", \"d\\u0061ta\" : [1.5,-2,3.25] } ] }\r\n";
    assert_eq!(data(json(&ident(), body)), singles(&[1.5, -2.0, 3.25]));
    let twice = r#"{"inputs":[{"name":"x","n\u0061me":"x","shape":[1,1],"datatype":"FP32","data":[1]}]}"#;
    assert_eq!(reason(json(&ident(), twice)), Err(Reason::Duplicate));
}

#[test]
fn what_is_asked_for_is_kept() {
    let body = r#"{"id":"a\"b","parameters":{"timeout":1500,"binary_data_output":true,"priority":1,"sequence_id":7,"mine":[{}]},
        "outputs":[{"name":"y","parameters":{"binary_data":false,"classification":0}}],"more":{"inputs":[1e999]},
        "inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","parameters":{"content_type":"np"},"data":[1],"note":null}]}"#;
    let decoded = json(&ident(), body).expect("good");
    assert_eq!(decoded.terms, Terms { timeout: Some(Duration::from_micros(1_500)), level: Some(1) });
    assert_eq!(decoded.asked.id.as_deref(), Some("a\"b"));
    assert!(decoded.asked.binary_all && !decoded.asked.raw);
    assert_eq!(decoded.asked.outputs[..], [AskedOutput { index: 0, binary: Some(false) }]);
    let nothing = r#"{"id":null,"parameters":null,"outputs":null,"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","parameters":null,"data":[1]}]}"#;
    assert_eq!(json(&ident(), nothing).expect("good").asked, Asked::default());
    let forever = input(
        r#""shape":[1,1],"datatype":"FP32","data":[1]}],"parameters":{"timeout":0,"priority":0},"outputs":[{"name":"y""#,
    );
    assert_eq!(json(&ident(), &forever).expect("good").terms, Terms::default());
}

#[test]
fn several_inputs_stand_in_the_contracts_order() {
    let body = r#"{"inputs":[{"name":"mask","shape":[2,2],"datatype":"INT64","data":[[1,2],[3,4]]},
        {"name":"ids","shape":[2,1],"datatype":"INT64","data":[5,6]}]}"#;
    let decoded = json(&text(), body).expect("good");
    assert_eq!(decoded.rows, 2);
    assert_eq!(decoded.inputs[0].as_ref().map(|tensor| tensor.data.len()), Some(16));
    assert_eq!(decoded.inputs[1].as_ref().map(|tensor| tensor.data.len()), Some(32));
    let mut contract = text();
    contract.inputs[1].optional = true;
    let body = r#"{"inputs":[{"name":"ids","shape":[2,1],"datatype":"INT64","data":[5,6]}]}"#;
    assert!(!json(&contract, body).expect("one is optional").overrides);
    contract.inputs[0].optional = true;
    assert!(json(&contract, body).expect("both are optional").overrides);
    contract.inputs[1].optional = false;
    let refusal = json(&contract, body).unwrap_err();
    assert_eq!(refusal.reason, Reason::UnknownTensor);
    assert!(refusal.text.contains(" for model 'text', 'mask' is missing"), "{}", refusal.text);
}

#[test]
fn the_id_stands_in_front_of_a_refusal() {
    let body = r#"{"id":"7","inputs":[{"name":"z"}]}"#;
    assert_eq!(
        json(&tiny(), body).unwrap_err().text,
        "[request id: 7] unexpected inference input 'z' for model 'tiny', 'x' is allowed; rename it"
    );
    let body = format!(r#"{{"id":"{}\n","inputs":[]}}"#, "i".repeat(100));
    let text = json(&tiny(), &body).unwrap_err().text;
    assert!(text.starts_with(&format!("[request id: {}…] expected 1 inputs", "i".repeat(64))), "{text}");
}

#[test]
fn texts_say_what_was_found_and_what_is_allowed() {
    let cases = [
        (
            r#"{"inputs":]}"#,
            "failed to parse the request JSON buffer: found ']' at byte 10, a value is allowed; send one JSON object",
        ),
        (
            r#"{"inputs":[{"name":"x","shape":[1.5],"datatype":"FP32","data":[1.0]}]}"#,
            "input 'x': Unable to parse 'shape': found 1.5 at index 0, integers from 0 are allowed; correct it",
        ),
        (r#"{"inputs":[],"inputs":[]}"#, "key 'inputs' found twice, once is allowed; remove one"),
        (
            r#"{"parameters":{"triton_a":1}}"#,
            "parameter keys starting with 'triton_' are reserved for Triton usage, found 'triton_a'; rename it",
        ),
        (
            r#"{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP64","data":[1.0]}]}"#,
            "inference input 'x' data-type is 'FP64', but model 'ident' expects 'FP32'; convert it first",
        ),
        ("null", "request: found null, one JSON object is allowed; correct it"),
        (r#"{}"#, "request: Unable to parse 'inputs': not found, an array is needed; add it"),
        (
            r#"{"outputs":[{"name":"q"}],"inputs":[]}"#,
            "unexpected inference output 'q' for model 'ident', 'y' is allowed; rename it",
        ),
        (
            r#"{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","parameters":{"binary_data_size":12}}]}"#,
            "input 'x': must specify valid 'Infer-Header-Content-Length' in request header and 'binary_data_size' when passing inputs in binary data format; send the length of the JSON part",
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(json(&ident(), body).unwrap_err().text, expected, "{body}");
    }
}

/// T1: brackets.
#[test]
fn depth_is_counted_everywhere() {
    let many = "[".repeat(250_000);
    let bodies = [
        input(&format!(r#""shape":[1,3],"datatype":"FP32","data":{many}"#)),
        input(&format!(r#""data":{many}"#)),
        format!(r#"{{"unknown":{many}"#),
        format!(r#"{{"parameters":{{"p":{many}"#),
    ];
    for body in bodies {
        let refusal = json(&ident(), &body).unwrap_err();
        assert_eq!(refusal.reason, Reason::JsonTooDeep);
        assert!(refusal.text.starts_with("33 open brackets at byte "), "{}", refusal.text);
    }
    for (depth, expected) in [(31, Ok(())), (32, Err(Reason::JsonTooDeep))] {
        let unknown = format!(r#"{},"u":{}{}}}"#, &GOOD[..GOOD.len() - 1], "[".repeat(depth), "]".repeat(depth));
        assert_eq!(reason(json(&ident(), &unknown)), expected, "{depth}");
        let objects =
            format!(r#"{},"u":{}1{}}}"#, &GOOD[..GOOD.len() - 1], r#"{"a":"#.repeat(depth), "}".repeat(depth));
        assert_eq!(reason(json(&ident(), &objects)), expected, "{depth}");
    }
    let mut limits = limits();
    for (depth, expected) in [(4, Ok(())), (3, Err(Reason::JsonTooDeep))] {
        limits.json_depth_max = depth;
        assert_eq!(reason(json_within(&ident(), GOOD.as_bytes(), &limits)), expected);
    }
}

/// T2: shapes.
#[test]
fn shapes_are_checked_before_memory_is_taken() {
    let cases = [
        ("[16,1152921504606846978]", Reason::TensorTooLarge),
        ("[4,1152921504606846978]", Reason::TensorTooLarge),
        ("[4294967296,4294967296]", Reason::TensorTooLarge),
        ("[9223372036854775808]", Reason::TensorTooLarge),
        ("[99999999999999999999999999]", Reason::TensorTooLarge),
        ("[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", Reason::TensorTooLarge),
        ("[-5]", Reason::ShapeMismatch),
        ("[]", Reason::ShapeMismatch),
        ("[1.5]", Reason::BadField),
        ("[1e2]", Reason::BadField),
        (r#"["1"]"#, Reason::BadField),
        ("[true]", Reason::BadField),
        ("[[1]]", Reason::BadField),
        ("5", Reason::BadField),
        ("null", Reason::BadField),
        ("[01]", Reason::BadJson),
        ("[1,]", Reason::BadJson),
        ("[-]", Reason::BadJson),
    ];
    for (shape, expected) in cases {
        let body = input(&format!(r#""shape":{shape},"datatype":"FP32","data":[1.0]"#));
        assert_eq!(reason(json(&ident(), &body)), Err(expected), "{shape}");
    }
    let ones = format!("[{}1]", "1,".repeat(999_999));
    let body = input(&format!(r#""shape":{ones},"datatype":"FP32","data":[1.0]"#));
    assert_eq!(reason(json(&ident(), &body)), Err(Reason::TensorTooLarge));
}

/// T3 and H10: tensors behind the JSON.
#[test]
fn binary_tensors_are_as_long_as_said() {
    let named = |bytes: usize| {
        input(&format!(r#""shape":[1,3],"datatype":"FP32","parameters":{{"binary_data_size":{bytes}}}"#))
    };
    let values = singles(&[1.0, 2.0, 3.0]);
    assert_eq!(data(binary(&ident(), &named(12), &values)), values);
    let refusal = binary(&ident(), &named(12), &values[..11]).unwrap_err();
    assert_eq!(refusal.reason, Reason::BinaryLength);
    assert_eq!(
        refusal.text,
        "unexpected size for input 'x', expecting 1 additional bytes for model 'ident', 11 found; send 12"
    );
    let refusal = binary(&ident(), &named(12), &[0; 13]).unwrap_err();
    assert_eq!(refusal.reason, Reason::BinaryLength);
    assert!(refusal.text.starts_with("unexpected additional input data for model 'ident'"), "{}", refusal.text);
    let refusal = binary(&ident(), &named(11), &values[..11]).unwrap_err();
    assert_eq!(refusal.reason, Reason::ByteSizeMismatch);
    assert!(
        refusal.text.starts_with("input byte size mismatch for input 'x' for model 'ident'. Expected 12, got 11"),
        "{}",
        refusal.text
    );
}

#[test]
fn the_json_length_is_a_number_within_the_body() {
    let body = GOOD.as_bytes();
    assert_eq!(body.len(), 80);
    for length in ["99999999999", "-1", "81", "abc", "", "+80", "8 0", "0x10", "99999999999999999999999999"] {
        let refusal = with_length(&ident(), length, body).unwrap_err();
        assert_eq!(refusal.reason, Reason::BadBinaryHeader, "{length}");
        let verbatim = match length {
            "99999999999" | "-1" | "81" | "99999999999999999999999999" => {
                "inference header size should be in range (0, 80), got: "
            }
            _ => "Unable to parse Inference-Header-Content-Length, got: ",
        };
        assert!(refusal.text.contains(verbatim), "{}", refusal.text);
    }
    assert_eq!(reason(with_length(&ident(), "80", body)), Ok(()));
    let values = [&b"1"[..], b"1"];
    assert_eq!(JsonLength::from_values(values.into_iter()), JsonLength::Repeated);
    assert_eq!(JsonLength::from_values(std::iter::empty()), JsonLength::Absent);
    let refusal =
        decode(&Bytes::from_static(GOOD.as_bytes()), JsonLength::Repeated, &ident(), &limits(), &mut Memory::default())
            .unwrap_err()
            .refusal;
    assert_eq!(refusal.reason, Reason::BadBinaryHeader);
}

#[test]
fn binary_sizes_may_be_left_out_where_they_follow() {
    let head = r#""shape":[1,3],"datatype":"FP32""#;
    assert_eq!(data(binary(&ident(), &input(head), &singles(&[1.0, 2.0, 3.0]))), singles(&[1.0, 2.0, 3.0]));
    let texts = elements(&["a", "", "bc"]);
    let head = r#""shape":[1,3],"datatype":"BYTES""#;
    assert_eq!(data(binary(&same("BYTES"), &input(head), &texts)), texts);
    let two = r#"{"inputs":[{"name":"mask","shape":[1,1],"datatype":"INT64","data":[9]},{"name":"ids","shape":[1,2],"datatype":"INT64"}]}"#;
    let decoded = binary(&text(), two, &[1; 16]).expect("mixed");
    assert_eq!(decoded.inputs[0].as_ref().expect("ids").data[..], [1; 16]);
    let both = input(r#""shape":[1,1],"datatype":"FP32","data":[1],"parameters":{"binary_data_size":4}"#);
    assert_eq!(reason(binary(&ident(), &both, &[0; 4])), Err(Reason::BadField));
    let neither = json(&ident(), &input(r#""shape":[1,1],"datatype":"FP32""#)).unwrap_err();
    assert_eq!(neither.text, "input 'x': Unable to parse 'data': not found, an array is needed; add it");
}

/// T3: BYTES, and T9.
#[test]
fn raw_bytes_are_walked_and_weighed() {
    let head = input(r#""shape":[1,3],"datatype":"BYTES""#);
    let broken: [&[u8]; 4] = [
        &[0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4],
        &[elements(&["ab"]), vec![9, 0, 0, 0, 1]].concat(),
        &elements(&["a", "b"]),
        &[elements(&["a", "b", "c"]), vec![0]].concat(),
    ];
    for bytes in broken {
        assert_eq!(reason(binary(&same("BYTES"), &head, bytes)), Err(Reason::ByteSizeMismatch), "{bytes:?}");
    }
    for datatype in ["FP16", "BF16"] {
        let head = input(&format!(r#""shape":[1,3],"datatype":"{datatype}","parameters":{{"binary_data_size":5}}"#));
        assert_eq!(reason(binary(&same(datatype), &head, &[0; 5])), Err(Reason::ByteSizeMismatch));
    }
    let flags = input(r#""shape":[1,3],"datatype":"BOOL""#);
    assert_eq!(reason(binary(&same("BOOL"), &flags, &[0, 1, 1])), Ok(()));
    let refusal = binary(&same("BOOL"), &flags, &[0, 1, 2]).unwrap_err();
    assert_eq!(refusal.text, "input 'x' value 2 is byte 2, BOOL allows 0 and 1; correct it");
    let denormal = 1_u32.to_le_bytes().repeat(3);
    let floats = input(r#""shape":[1,3],"datatype":"FP32""#);
    assert_eq!(data(binary(&same("FP32"), &floats, &denormal)), denormal);
}

#[test]
fn bytes_elements_have_limits() {
    let mut limits = limits();
    (limits.bytes_element_bytes_max, limits.bytes_elements_max) = (2, 3);
    let contract = contract("m", &[("x", "BYTES", &[-1])], &[("y", "BYTES", &[-1])]);
    for (texts, expected) in [
        (vec!["ab", "", "c"], Ok(())),
        (vec!["abc"], Err(Reason::TensorTooLarge)),
        (vec!["", "", "", ""], Err(Reason::TensorTooLarge)),
    ] {
        let head = format!(r#"{{"inputs":[{{"name":"x","shape":[{}],"datatype":"BYTES""#, texts.len());
        let as_json = format!(r#"{head},"data":{}}}]}}"#, serde_json::to_string(&texts).expect("texts"));
        assert_eq!(reason(json_within(&contract, as_json.as_bytes(), &limits)), expected, "{texts:?}");
        let as_bytes = Bytes::from([format!("{head}}}]}}").into_bytes(), elements(&texts)].concat());
        let length = (head.len() + 3).to_string();
        let found = decode(&as_bytes, JsonLength::Given(length.as_bytes()), &contract, &limits, &mut Memory::default());
        assert_eq!(reason(found.map_err(|undecodable| undecodable.refusal)), expected, "{texts:?}");
    }
}

#[test]
fn base64_elements_are_decoded_wherever_it_is_said() {
    let expected = elements(&[&b"\xFF\0"[..], b"", b"abc"]);
    for members in [
        r#""shape":[1,3],"datatype":"BYTES","parameters":{"content_type":"base64"},"data":["/wA=","","YWJj"]"#,
        r#""data":["/wA=","","YWJj"],"shape":[1,3],"datatype":"BYTES","parameters":{"content_type":"base64"}"#,
        r#""shape":[1,3],"datatype":"BYTES","data":["/wA=","","YWJj"],"parameters":{"content_type":"base64"}"#,
    ] {
        assert_eq!(data(json(&same("BYTES"), &input(members))), expected, "{members}");
    }
    let wrong =
        input(r#""shape":[1,3],"datatype":"BYTES","parameters":{"content_type":"base64"},"data":["/wA=","?","YWJj"]"#);
    let refusal = json(&same("BYTES"), &wrong).unwrap_err();
    assert_eq!(
        (refusal.reason, &*refusal.text),
        (Reason::ValueOutOfRange, "input 'x' value 1 is ?, base64 is allowed; encode it")
    );
}

/// T4 and T5: values.
#[test]
fn a_value_at_fault_is_named() {
    let cases: [(&str, &str); 7] = [
        ("FP32", "1e999"),
        ("UINT64", "18446744073709551616"),
        ("INT32", "3.7"),
        ("UINT8", "256"),
        ("FP32", "true"),
        ("FP32", "null"),
        ("FP32", &"1".repeat(400)),
    ];
    for (datatype, value) in cases {
        for members in [
            format!(r#""shape":[1,3],"datatype":"{datatype}","data":[1,{value},2]"#),
            format!(r#""data":[1,{value},2],"shape":[1,3],"datatype":"{datatype}""#),
        ] {
            let refusal = json(&same(datatype), &input(&members)).unwrap_err();
            assert_eq!(refusal.reason, Reason::ValueOutOfRange, "{value}");
            assert!(refusal.text.starts_with("input 'x' value 1 is "), "{}", refusal.text);
        }
    }
    let zeros = data(json(&same("FP32"), &input(r#""shape":[1,3],"datatype":"FP32","data":[-0,1e-400,0]"#)));
    assert_eq!(zeros, singles(&[-0.0, 0.0, 0.0]));
    for literal in ["NaN", "Infinity", "-Infinity"] {
        let body = input(&format!(r#""shape":[1,3],"datatype":"FP32","data":[1,{literal},2]"#));
        assert_eq!(reason(json(&same("FP32"), &body)), Err(Reason::BadJson));
    }
}

/// T6: strings and keys.
#[test]
fn strings_are_strict() {
    let with = |text: &[u8]| {
        let body = [br#"{"inputs":[{"name":"x","shape":[1,1],"datatype":"BYTES","data":["#, text, b"]}]}"].concat();
        json_within(&contract("m", &[("x", "BYTES", &[-1, 1])], &[]), &body, &limits())
    };
    assert_eq!(reason(with(br#""\ud800""#)), Err(Reason::BadJson));
    assert_eq!(reason(with(b"\"\xFF\"")), Err(Reason::BadJson));
    assert_eq!(reason(with(b"\"\x01\"")), Err(Reason::BadJson));
    assert_eq!(data(with(br#""a\u0000b""#)), [3, 0, 0, 0, 0x61, 0, 0x62]);
    assert_eq!(reason(json(&ident(), &format!("\u{feff}{GOOD}"))), Err(Reason::BadJson));
    for (bytes, expected) in
        [(256, Ok(())), (257, Err(Reason::EnvelopeTooLarge)), (1_000_000, Err(Reason::EnvelopeTooLarge))]
    {
        let key = "k".repeat(bytes);
        for place in
            [format!(r#""{key}":1"#), format!(r#""u":{{"{key}":1}}"#), format!(r#""parameters":{{"{key}":1}}"#)]
        {
            let body = format!("{},{place}}}", &GOOD[..GOOD.len() - 1]);
            assert_eq!(reason(json(&ident(), &body)), expected, "{bytes}");
        }
    }
    for twice in [
        r#"{"inputs":[],"inputs":[]}"#,
        r#"{"u":1,"v":2,"u":1,"inputs":[]}"#,
        r#"{"parameters":{"a":1,"a":2},"inputs":[]}"#,
        r#"{"inputs":[{"name":"x","name":"x"}]}"#,
        r#"{"outputs":[{"name":"y","name":"y"}],"inputs":[]}"#,
        r#"{"outputs":[{"name":"y"},{"name":"y"}],"inputs":[]}"#,
    ] {
        assert_eq!(reason(json(&ident(), twice)), Err(Reason::Duplicate), "{twice}");
    }
    let same_input = r#"{"name":"x","shape":[1,1],"datatype":"FP32","data":[1]}"#;
    assert_eq!(reason(json(&ident(), &format!(r#"{{"inputs":[{same_input},{same_input}]}}"#))), Err(Reason::Duplicate));
}

/// T7: rows.
#[test]
fn rows_are_counted() {
    let body = |rows: usize| {
        let data = vec!["[1,2,3,4]"; rows].join(",");
        input(&format!(r#""shape":[{rows},4],"datatype":"FP32","data":[{data}]"#))
    };
    assert_eq!(json(&tiny(), &body(65)).expect("good").rows, 65);
    assert_eq!(json(&tiny(), &body(65_536)).expect("good").rows, 65_536);
    assert_eq!(reason(json(&tiny(), &body(65_537))), Err(Reason::TooManyRows));
    assert_eq!(json(&tiny(), &input(r#""shape":[0,4],"datatype":"FP32","data":[]"#)).expect("empty").rows, 0);
}

/// T8: bodies that are no requests.
#[test]
fn only_an_object_is_a_request() {
    for (body, expected) in [
        ("", Reason::BadJson),
        ("  ", Reason::BadJson),
        ("{", Reason::BadJson),
        ("nul", Reason::BadJson),
        ("null x", Reason::BadJson),
        (r#"{"inputs":[]} {}"#, Reason::BadJson),
        ("null", Reason::BadField),
        ("[]", Reason::BadField),
        (r#""x""#, Reason::BadField),
        (r#"{"inputs":{}}"#, Reason::BadField),
        (r#"{"inputs":[5]}"#, Reason::BadField),
        (r#"{"inputs":[],"outputs":5}"#, Reason::BadField),
        (r#"{"inputs":[],"outputs":[5]}"#, Reason::BadField),
        (r#"{"inputs":[],"outputs":[{}]}"#, Reason::BadField),
        (r#"{"inputs":[],"id":5}"#, Reason::BadField),
        (r#"{"inputs":[],"parameters":[]}"#, Reason::BadField),
        (r#"{"inputs":[{"name":5}]}"#, Reason::BadField),
        (r#"{"inputs":[{"datatype":"STRING"}]}"#, Reason::BadField),
        (r#"{"inputs":[{"datatype":5}]}"#, Reason::BadField),
        (r#"{"inputs":[{"name":"x","shape":[1,1],"data":[1]}]}"#, Reason::BadField),
        (r#"{"inputs":[{"name":"x","datatype":"FP32","data":[1]}]}"#, Reason::BadField),
        (r#"{"inputs":[{"shape":[1,1],"datatype":"FP32","data":[1]}]}"#, Reason::BadField),
    ] {
        assert_eq!(reason(json(&ident(), body)), Err(expected), "{body}");
    }
}

#[test]
fn parameters_of_other_services_are_refused() {
    let with = |place: &str, parameter: &str| match place {
        "request" => format!(r#"{},"parameters":{{{parameter}}}}}"#, &GOOD[..GOOD.len() - 1]),
        "input" => input(&format!(r#""shape":[1,1],"datatype":"FP32","data":[1],"parameters":{{{parameter}}}"#)),
        _ => format!(r#"{},"outputs":[{{"name":"y","parameters":{{{parameter}}}}}]}}"#, &GOOD[..GOOD.len() - 1]),
    };
    let cases = [
        ("request", r#""triton_x":true"#, Reason::ReservedName),
        ("input", r#""triton_x":true"#, Reason::ReservedName),
        ("request", r#""timeout":"soon""#, Reason::BadField),
        ("request", r#""timeout":-1"#, Reason::BadField),
        ("request", r#""timeout":1.5"#, Reason::BadField),
        ("request", r#""priority":9"#, Reason::BadField),
        ("request", r#""priority":-1"#, Reason::BadField),
        ("request", r#""priority":"1""#, Reason::BadField),
        ("request", r#""binary_data_output":1"#, Reason::BadField),
        ("input", r#""binary_data_size":"12""#, Reason::BadField),
        ("input", r#""binary_data_size":-12"#, Reason::BadField),
        ("input", r#""shared_memory_region":"r""#, Reason::BadField),
        ("output", r#""shared_memory_region":"r""#, Reason::BadField),
        ("output", r#""classification":3"#, Reason::BadField),
        ("output", r#""binary_data":"yes""#, Reason::BadField),
    ];
    for (place, parameter, expected) in cases {
        assert_eq!(reason(json(&ident(), &with(place, parameter))), Err(expected), "{place} {parameter}");
    }
}

#[test]
fn the_envelope_has_limits() {
    let with = |members: String| json(&ident(), &format!("{},{members}}}", &GOOD[..GOOD.len() - 1]));
    let parameters = |count: usize| (0..count).map(|index| format!(r#""p{index}":1"#)).collect::<Vec<_>>().join(",");
    for (count, expected) in [(64, Ok(())), (65, Err(Reason::EnvelopeTooLarge))] {
        assert_eq!(reason(with(format!(r#""parameters":{{{}}}"#, parameters(count)))), expected, "{count}");
        assert_eq!(reason(with(parameters(count))), expected, "{count}");
    }
    for (bytes, expected) in [(1_024, Ok(())), (1_025, Err(Reason::EnvelopeTooLarge))] {
        assert_eq!(reason(with(format!(r#""id":"{}""#, "i".repeat(bytes)))), expected, "{bytes}");
    }
    for (bytes, expected) in [(65_536, Ok(())), (65_537, Err(Reason::EnvelopeTooLarge))] {
        assert_eq!(reason(with(format!(r#""parameters":{{"p":"{}"}}"#, "i".repeat(bytes)))), expected, "{bytes}");
    }
    let long = "n".repeat(257);
    assert_eq!(
        reason(json(&ident(), &format!(r#"{{"inputs":[{{"name":"{long}"}}]}}"#))),
        Err(Reason::EnvelopeTooLarge)
    );
    let body = r#"{"inputs":[{"name":"ids","shape":[1,1],"datatype":"INT64","data":[1]},{"name":"mask","shape":[1,1],"datatype":"INT64","data":[1]}]}"#;
    let mut limits = limits();
    for (count, expected) in [(2, Ok(())), (1, Err(Reason::EnvelopeTooLarge))] {
        limits.request_tensors_max = count;
        assert_eq!(reason(json_within(&text(), body.as_bytes(), &limits)), expected);
    }
    let number = |bytes: usize| with(format!(r#""u":[{}]"#, "1".repeat(bytes)));
    assert_eq!(reason(number(64)), Ok(()));
    assert_eq!(reason(number(65)), Err(Reason::ValueOutOfRange));
}

#[test]
fn a_body_of_length_zero_json_is_the_tensor() {
    let raw = |contract: &Contract, body: &[u8]| with_length(contract, "0", body);
    let shape =
        |result: Result<Decoded, Refusal>| result.expect("good").inputs[0].as_ref().expect("given").shape.to_vec();
    let decoded = raw(&tiny(), &singles(&[1.0; 4])).expect("one row");
    assert!(decoded.asked.raw);
    assert_eq!((decoded.rows, shape(Ok(decoded))), (1, vec![1, 4]));
    assert_eq!(shape(raw(&ident(), &singles(&[1.0; 5]))), [1, 5]);
    assert_eq!(shape(raw(&ident(), &[])), [1, 0]);
    assert_eq!(reason(raw(&ident(), &[0; 5])), Err(Reason::ByteSizeMismatch));
    assert_eq!(reason(raw(&tiny(), &singles(&[1.0; 8]))), Err(Reason::ByteSizeMismatch));
    assert_eq!(reason(raw(&text(), &[])), Err(Reason::BadBinaryHeader));
    let open: Spec<'_> = ("x", "FP32", &[-1, -1, -1]);
    assert_eq!(reason(raw(&contract("m", &[open], &[]), &[0; 4])), Err(Reason::BadBinaryHeader));
    let words = contract("m", &[("x", "BYTES", &[-1])], &[]);
    let decoded = raw(&words, b"no prefix").expect("one element");
    assert_eq!(decoded.inputs[0].as_ref().expect("given").data[..], elements(&["no prefix"])[..]);
    assert_eq!(shape(Ok(decoded)), [1]);
    let mut alone = ident();
    alone.batching = Batching::Alone("fixed".into());
    alone.inputs[0].axes = Box::new([Axis::Symbol("n".into()), Axis::Fixed(2)]);
    assert_eq!(shape(raw(&alone, &singles(&[1.0; 6]))), [3, 2]);
}

proptest! {
    #![proptest_config(repeatable())]

    #[test]
    fn no_bytes_make_decoding_panic(at in any::<prop::sample::Index>(), bytes in prop::collection::vec(any::<u8>(), 0..4), cut in any::<bool>(), length in 0..90_usize) {
        let mut body = GOOD.as_bytes().to_vec();
        let at = at.index(body.len());
        if cut {
            body.truncate(at);
        } else {
            drop(body.splice(at..at, bytes));
        }
        let body = Bytes::from(body);
        let digits = length.to_string();
        for json_length in [JsonLength::Absent, JsonLength::Given(digits.as_bytes())] {
            let _ = decode(&body, json_length, &ident(), &limits(), &mut Memory::default());
        }
    }
}
