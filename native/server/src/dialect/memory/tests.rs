use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use servekit_core::Contract;

use super::Memory;
use crate::dialect::fixtures::{contract, elements, ident, limits, repeatable, singles};
use crate::dialect::rest::{self, JsonLength};
use crate::dialect::{Decoded, Undecodable, grpc};

/// As text, so that all of it is compared.
fn told(result: Result<Decoded, Undecodable>) -> String {
    format!("{:?}", result.map_err(|undecodable| undecodable.refusal))
}

fn json(body: &Bytes, contract: &Contract, memory: &mut Memory) -> String {
    told(rest::decode(body, JsonLength::Absent, contract, &limits(), memory))
}

fn binary(body: &Bytes, json_bytes: usize, contract: &Contract, memory: &mut Memory) -> String {
    let digits = json_bytes.to_string();
    told(rest::decode(body, JsonLength::Given(digits.as_bytes()), contract, &limits(), memory))
}

fn message(body: &Bytes, contract: &Contract, memory: &mut Memory) -> String {
    told(grpc::decode(body, contract, &limits(), memory))
}

/// A number, a flag and a word, of which each can be missing or wrong.
fn mixed() -> Contract {
    let mut mixed = contract(
        "mixed",
        &[("x", "FP32", &[-1, 2]), ("b", "BOOL", &[-1]), ("w", "BYTES", &[-1])],
        &[("y", "FP32", &[-1])],
    );
    mixed.inputs[1].optional = true;
    mixed.inputs[2].optional = true;
    mixed
}

/// `ident` with an input that may be left out.
fn pair() -> Contract {
    let mut pair = contract("pair", &[("x", "FP32", &[-1, -1]), ("z", "INT32", &[-1])], &[("y", "FP32", &[-1, -1])]);
    pair.inputs[1].optional = true;
    pair
}

/// Puts these bytes somewhere into a body, or cuts it there.
fn spoilt(mut body: Vec<u8>, spoil: &Option<(Index, Vec<u8>, bool)>) -> Vec<u8> {
    if let Some((at, bytes, over)) = spoil {
        let at = at.index(body.len() + 1);
        let end = if *over { (at + bytes.len()).min(body.len()) } else { at };
        drop(body.splice(at..end, bytes.iter().copied()));
    }
    body
}

fn spoil() -> impl Strategy<Value = Option<(Index, Vec<u8>, bool)>> {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..4),
        prop::collection::vec(select(b"[]{},:\"012x ".to_vec()), 1..3)
    ];
    prop::option::weighted(0.3, (any::<Index>(), bytes, any::<bool>()))
}

const FRONTS: [&str; 5] =
    ["", r#""id":"7","#, r#""id":null,"#, r#""parameters":{"binary_data_output":true},"#, r#""mine":1,"#];
const HEADS: [&str; 6] = [
    r#""name":"x","shape":[1,2],"datatype":"FP32""#,
    r#""name":"x","shape":[2,1],"datatype":"FP32""#,
    r#""datatype":"FP32","shape":[1,2],"name":"x""#,
    r#""name":"x","mine":0,"shape":[1,2],"datatype":"FP32""#,
    r#""name":"x","shape":[1,2],"datatype":"FP32","parameters":{"content_type":"base64"}"#,
    r#""name":"x","shape":[1,2],"datatype":"FP64""#,
];
const VALUES: [&str; 7] = ["[1.5,-2]", "[3,4e2]", " [[1.5],[ -2 ]]", "[[0,1]] ", "[1]", "[1,2", r#"["NaN",1]"#];
const ENDS: [&str; 10] = [
    "}]}",
    r#","parameters":{"binary_data_size":8}}]}"#,
    r#","shape":[1,2]}]}"#,
    r#"}],"id":"8"}"#,
    r#"}],"inputs":[]}"#,
    r#"},{"name":"z","shape":[2],"datatype":"INT32","data":[3, 4]}]}"#,
    r#"},{"name":"z","shape":[2],"datatype":"INT32","data":[5,6],"parameters":{}}],"parameters":{"timeout":9}}"#,
    r#"},{"name":"z","shape":[1],"datatype":"INT32","data":[ 7 ]}]}"#,
    r#"},{"data":[8],"name":"z","shape":[1],"datatype":"INT32"}]}"#,
    r#"},{"name":"x","shape":[1,2],"datatype":"FP32","data":[3,4]}],"outputs":[{"name":"y"}]} "#,
];

/// Few forms that come again and again with other values, and sometimes spoilt.
fn texts() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let form = (select(&FRONTS[..]), select(&HEADS[..]), select(&ENDS[..]));
    let use_of = (any::<Index>(), select(&VALUES[..]), spoil());
    (prop::collection::vec(form, 1..3), prop::collection::vec(use_of, 1..12)).prop_map(|(forms, uses)| {
        let text = |(form, values, spoil): (Index, &str, _)| {
            let (front, head, end) = forms[form.index(forms.len())];
            spoilt(format!(r#"{{{front}"inputs":[{{{head},"data":{values}{end}"#).into_bytes(), &spoil)
        };
        uses.into_iter().map(text).collect()
    })
}

/// JSON's length, and the body.
fn parts() -> impl Strategy<Value = (usize, Vec<u8>)> {
    let sizes = select(vec![(8, 1, 7), (8, 1, 8), (8, 2, 7), (4, 1, 7)]);
    let tail = prop::collection::vec(select(vec![0_u8, 1, 2, 3]), 15..18);
    (any::<bool>(), sizes, tail, any::<bool>(), spoil()).prop_map(|(id, (x, b, w), mut tail, good, spoil)| {
        let id = if id { r#""id":"9","# } else { "" };
        let json = format!(
            r#"{{{id}"inputs":[{{"name":"b","shape":[1],"datatype":"BOOL","parameters":{{"binary_data_size":{b}}}}},{{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{{"binary_data_size":{x}}}}},{{"name":"w","shape":[1],"datatype":"BYTES","parameters":{{"binary_data_size":{w}}}}}]}}"#
        );
        if good {
            tail = [&[1][..], &singles(&[1.0, 2.0]), &elements(&["abc"])].concat();
        }
        (json.len(), spoilt([json.as_bytes(), &tail].concat(), &spoil))
    })
}

/// A field of protobuf.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, content.len() as u8], content].concat()
}

fn any_message() -> impl Strategy<Value = Vec<u8>> {
    let id = select(vec![vec![], field(3, b"7")]);
    let flag = select(vec![vec![1_u8], vec![0], vec![2], vec![1, 1]]);
    let word = select(vec![elements(&["abc"]), elements(&["de", ""]), vec![9, 0, 0, 0, 1, 2, 3]]);
    let order = prop::bool::weighted(0.8);
    (id, prop::collection::vec(any::<u8>(), 8), flag, word, order, spoil()).prop_map(
        |(id, numbers, flag, word, order, spoil)| {
            let input = |name: &[u8], datatype: &[u8], shape: &[u8]| {
                field(5, &[field(1, name), field(2, datatype), field(3, shape)].concat())
            };
            let inputs =
                [input(b"w", b"BYTES", &[1]), input(b"x", b"FP32", &[1, 2]), input(b"b", b"BOOL", &[1])].concat();
            let raw = [field(7, &word), field(7, &numbers), field(7, &flag)].concat();
            let ways = if order { [inputs, raw] } else { [raw, inputs] };
            spoilt([field(1, b"mixed"), id, ways.concat()].concat(), &spoil)
        },
    )
}

proptest! {
    #![proptest_config(repeatable())]

    /// Whatever was read before, a request means what it says.
    #[test]
    fn a_memory_changes_no_meaning_of_json(bodies in texts()) {
        let (contract, mut memory) = (pair(), Memory::default());
        for body in bodies.into_iter().map(Bytes::from) {
            prop_assert_eq!(json(&body, &contract, &mut memory), json(&body, &contract, &mut Memory::default()));
        }
    }

    #[test]
    fn a_memory_changes_no_meaning_of_binary_tensors(bodies in prop::collection::vec(parts(), 1..12)) {
        let (contract, mut memory) = (mixed(), Memory::default());
        for (json_bytes, body) in bodies {
            let body = Bytes::from(body);
            let expected = binary(&body, json_bytes, &contract, &mut Memory::default());
            prop_assert_eq!(binary(&body, json_bytes, &contract, &mut memory), expected);
        }
    }

    #[test]
    fn a_memory_changes_no_meaning_of_messages(bodies in prop::collection::vec(any_message(), 1..12)) {
        let (contract, mut memory) = (mixed(), Memory::default());
        for body in bodies.into_iter().map(Bytes::from) {
            let expected = message(&body, &contract, &mut Memory::default());
            if let Some(terms) = memory.message_terms(&body) {
                let cover = grpc::peek(&body, &limits()).expect("what was decoded has a cover");
                prop_assert_eq!((cover.name, cover.version, cover.terms), ("mixed", "", terms));
            }
            prop_assert_eq!(message(&body, &contract, &mut memory), expected);
        }
    }
}

#[test]
fn what_comes_again_is_known() {
    let good = Bytes::from(r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}"#);
    let other = good.iter().map(|&byte| if byte == b'2' { b'3' } else { byte }).collect::<Vec<_>>();
    let mut memory = Memory::default();
    json(&good, &ident(), &mut memory);
    let known = |body: &[u8]| memory.form.as_ref().and_then(|form| form.decode(body, &ident(), &limits())).is_some();
    assert!(known(&good) && known(&String::from_utf8_lossy(&good).replace("[1,2]}]", " [[-0.5e1, 7]]}]").into_bytes()));
    assert!(!known(&other), "another datatype and shape");
    let raw = |data: &[u8]| {
        let input = [field(1, b"x"), field(2, b"FP32"), field(3, &[1, 2])].concat();
        Bytes::from([field(1, b"ident"), field(5, &input), field(7, data)].concat())
    };
    message(&raw(&[0; 8]), &ident(), &mut memory);
    assert!(memory.message_terms(&raw(&[1; 8])).is_some());
    assert!(memory.message_terms(&raw(&[1; 9])).is_none());
    assert!(memory.under(0).message_terms(&raw(&[1; 8])).is_some());
    assert!(memory.under(1).message_terms(&raw(&[1; 8])).is_none(), "names may mean other versions in another listing");
}
