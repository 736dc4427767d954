//! Text into tokens, and base64 into bytes.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use servekit_core::{Datatype, Reason, Tensor};
use servekit_stages::{Stage, build};

use crate::rows::{LIMITS, blamed, element, file, stage};

/// Numbers of the tokens, the mask and the types.
fn tokens(stage: &dyn Stage, texts: &[&str]) -> [Vec<i64>; 3] {
    let row: Vec<Tensor> = texts.iter().map(|text| element(text.as_bytes())).collect();
    let outputs: [Tensor; 3] = stage.run(&row).unwrap().try_into().unwrap();
    outputs.map(|output| {
        let (numbers, rest) = output.data.as_chunks();
        let numbers: Vec<i64> = numbers.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect();
        assert_eq!((output.datatype, output.shape.as_slice()), (Datatype::Int64, &[numbers.len() as i64][..]));
        assert!(rest.is_empty());
        numbers
    })
}

fn ids(options: &Value, texts: &[&str]) -> Vec<i64> {
    let [ids, ..] = tokens(&*stage("tokenize", options), texts);
    ids
}

/// A folder with a tokenizer that differs from the usual one.
fn folder(name: &str, change: impl FnOnce(&mut Value)) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let mut tokenizer: Value = serde_json::from_slice(&file("tokenizer.json")).unwrap();
    change(&mut tokenizer);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    folder
}

#[test]
fn words_become_the_numbers_of_their_tokens_and_are_not_padded() {
    let stage = stage("tokenize", &json!({}));
    let [ids, mask, types] = tokens(&*stage, &["The cat is playing, unhappy  Café!"]);
    assert_eq!(ids, [2, 4, 5, 24, 12, 13, 20, 16, 17, 29, 21, 3]);
    assert_eq!(mask, [1; 12]);
    assert_eq!(types, [0; 12]);
    let [ids, ..] = tokens(&*stage, &["zebra"]);
    assert_eq!(ids, [2, 1, 3]);
    let [ids, ..] = tokens(&*stage, &[""]);
    assert_eq!(ids, [2, 3]);
}

#[test]
fn special_tokens_can_be_left_out() {
    assert_eq!(ids(&json!({"special_tokens": false}), &["the cat"]), [4, 5]);
    assert_eq!(ids(&json!({"special_tokens": false}), &[""]), [0_i64; 0]);
}

#[test]
fn a_pair_is_one_row_with_two_types() {
    let [ids, mask, types] = tokens(&*stage("tokenize", &json!({"pair": true})), &["the cat", "a dog ran"]);
    assert_eq!(ids, [2, 4, 5, 3, 9, 10, 11, 3]);
    assert_eq!(mask, [1; 8]);
    assert_eq!(types, [0, 0, 0, 0, 1, 1, 1, 1]);
}

#[test]
fn long_rows_are_cut_as_told() {
    let text = "the cat sat on the mat";
    assert_eq!(ids(&json!({"length_max": 5}), &[text]), [2, 4, 5, 6, 3]);
    assert_eq!(ids(&json!({"length_max": 5, "side": "left"}), &[text]), [2, 7, 4, 8, 3]);
    assert_eq!(ids(&json!({"length_max": 5, "special_tokens": false}), &[text]), [4, 5, 6, 7, 4]);
    let pair = |truncation| ids(&json!({"pair": true, "length_max": 8, "truncation": truncation}), &[text, "a dog"]);
    assert_eq!(pair("longest_first"), [2, 4, 5, 6, 3, 9, 10, 3]);
    assert_eq!(pair("only_first"), [2, 4, 5, 6, 3, 9, 10, 3]);
    let options = json!({"pair": true, "length_max": 10, "truncation": "only_second"});
    assert_eq!(ids(&options, &[text, "a dog"]), [2, 4, 5, 6, 7, 4, 8, 3, 9, 3]);
}

#[test]
fn a_row_that_cannot_be_cut_as_told_is_refused() {
    let stage = stage("tokenize", &json!({"pair": true, "length_max": 6, "truncation": "only_second"}));
    let row = ["the cat sat on the mat", "a"].map(|text| element(text.as_bytes()));
    blamed(&stage.run(&row).unwrap_err());
}

#[test]
fn the_files_own_truncation_counts_where_the_options_are_silent() {
    let folder = folder("truncated", |tokenizer| {
        tokenizer["truncation"] =
            json!({"direction": "Left", "max_length": 4, "strategy": "LongestFirst", "stride": 1});
    });
    let own = build("tokenize", &json!({}), &folder, LIMITS).unwrap();
    let [ids, ..] = tokens(&*own, &["the cat sat on"]);
    assert_eq!(ids, [2, 6, 7, 3]);
    let longer = build("tokenize", &json!({"length_max": 5}), &folder, LIMITS).unwrap();
    let [ids, ..] = tokens(&*longer, &["the cat sat on"]);
    assert_eq!(ids, [2, 5, 6, 7, 3]);
}

#[test]
fn a_length_that_special_tokens_alone_would_fill_is_refused_at_load() {
    for (options, added) in [(json!({"length_max": 2}), 2), (json!({"length_max": 3, "pair": true}), 3)] {
        let complaint = crate::rows::complaint("tokenize", &options);
        assert!(complaint.contains(&format!("more than the {added} special tokens")), "{complaint}");
    }
}

#[test]
fn a_file_that_is_no_tokenizer_is_told_at_load() {
    let folder = folder("nonsense", |tokenizer| tokenizer["model"] = json!({"type": "WordPiece", "vocab": 5}));
    for (options, said) in [
        (json!({}), "is no tokenizer"),
        (json!({"file": "missing.json"}), "cannot be read"),
        (json!({"file": "../tokenizer.json"}), "in the model's folder"),
        (json!({"file": "/etc/hostname"}), "in the model's folder"),
        (json!({"file": ""}), "in the model's folder"),
    ] {
        let complaint = build("tokenize", &options, &folder, LIMITS).err().unwrap();
        assert!(complaint.contains(said), "{complaint}");
        assert!(!complaint.contains(folder.to_str().unwrap()), "{complaint}");
    }
}

#[test]
fn text_that_is_not_utf_8_or_too_long_is_refused_for_its_row() {
    let stage = stage("tokenize", &json!({}));
    let refusal = stage.run(&[element(b"the \xff\xfecat")]).unwrap_err();
    assert!(blamed(&refusal).starts_with("byte 4 of 'text' starts ff fe 63 61"), "{refusal}");
    let refusal = stage.run(&[element(b"cat\xc3")]).unwrap_err();
    assert!(blamed(&refusal).starts_with("byte 3 of 'text' starts c3,"), "{refusal}");
    let most = "a ".repeat(512);
    assert_eq!(tokens(&*stage, &[&most])[0].len(), 514);
    let refusal = stage.run(&[element(format!("{most}a").as_bytes())]).unwrap_err();
    assert!(blamed(&refusal).starts_with("'text' has 1025 bytes, at most 1024 are allowed"), "{refusal}");
}

#[test]
fn a_row_of_other_than_one_element_is_refused() {
    let stage = stage("tokenize", &json!({}));
    let two = Tensor { data: [&element(b"a").data[..], &element(b"b").data[..]].concat().into(), ..element(b"") };
    let cut = Tensor { data: vec![9, 0, 0, 0, b'a'].into(), ..element(b"") };
    let none = Tensor { data: vec![].into(), ..element(b"") };
    for row in [vec![two], vec![cut], vec![none], vec![], vec![element(b"a"), element(b"b")]] {
        assert_eq!(stage.run(&row).unwrap_err().reason, Reason::ShapeMismatch);
    }
}

#[test]
fn base64_gives_the_bytes_back_padded_or_not() {
    let bytes = |options: &Value, text: &str| {
        let output = stage("base64", options).run(&[element(text.as_bytes())]).unwrap().remove(0);
        assert_eq!(output, element(output.elements().next().unwrap()));
        output.elements().next().unwrap().to_vec()
    };
    for text in ["", "+/8=", "+/8", "aGVsbG8gd29ybGQ="] {
        let expected: &[u8] = match text {
            "" => b"",
            "aGVsbG8gd29ybGQ=" => b"hello world",
            _ => b"\xfb\xff",
        };
        assert_eq!(bytes(&json!(null), text), expected, "{text}");
    }
    assert_eq!(bytes(&json!({"alphabet": "url"}), "-_8"), b"\xfb\xff");
}

#[test]
fn base64_that_is_damaged_is_refused() {
    let stage = stage("base64", &json!({}));
    for (text, said) in [
        (&b"aGVs\nbG8="[..], "byte 4 of the base64 text is '\\n'"),
        (b"-_8=", "byte 0 of the base64 text is '-'"),
        (b"aGVsb", "5 bytes is cut off"),
        (b"aGVsbG9=", "byte 6 of the base64 text is '9'"),
        (b"\xff\xff\xff\xff", "byte 0"),
        (b"====", "base64 text"),
    ] {
        let refusal = stage.run(&[element(text)]).unwrap_err();
        assert!(blamed(&refusal).contains(said), "{refusal}");
    }
}
