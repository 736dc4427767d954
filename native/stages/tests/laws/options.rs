//! What a pipeline's author is told at load.

use serde_json::json;
use servekit_core::Datatype;
use servekit_stages::{Dim, KINDS};

use crate::rows::{complaint, stage};

#[test]
fn a_slip_is_answered_with_the_word_that_was_meant() {
    for (kind, options, meant) in [
        ("resise", json!({}), "'resize'"),
        ("decode-image", json!({}), "'decode_image'"),
        ("resize", json!({"width": 4, "heigth": 4}), "'height'"),
        ("decode_image", json!({"modes": "rgb"}), "'mode'"),
        ("tokenize", json!({"max_length": 4}), "'length_max'"),
        ("base64", json!({"x": 1}), "'alphabet'"),
    ] {
        let complaint = complaint(kind, &options);
        assert!(complaint.contains(&format!("did you mean {meant}?")), "{complaint}");
        assert!(complaint.contains("allowed are '"), "{complaint}");
    }
}

#[test]
fn a_value_of_the_wrong_type_or_size_is_told_with_what_is_allowed() {
    for (kind, options, said) in [
        ("decode_image", json!([]), "options are [], an object is allowed"),
        ("decode_image", json!({"mode": "grey"}), "one of 'rgb', 'bgr', 'gray'"),
        ("decode_image", json!({"mode": 3}), "option 'mode' is 3"),
        ("decode_image", json!({"orientation": "yes"}), "true or false"),
        ("decode_image", json!({"background": [1, 2]}), "a list of three"),
        ("decode_image", json!({"background": 256}), "from 0 to 255"),
        ("resize", json!({}), "option 'width' is missing"),
        ("resize", json!({"width": 4}), "option 'height' is missing"),
        ("resize", json!({"width": 0, "height": 4}), "a whole number from 1 to 16384"),
        ("resize", json!({"width": 4.5, "height": 4}), "option 'width' is 4.5"),
        ("resize", json!({"width": -4, "height": 4}), "option 'width' is -4"),
        ("resize", json!({"width": 16384, "height": 16384}), "at most 1000000 pixels are allowed"),
        ("resize", json!({"width": 4, "height": 4, "fill": 0}), "fit 'letterbox' alone"),
        ("resize", json!({"width": 4, "height": 4, "shortest": 8}), "fit 'crop' alone"),
        ("resize", json!({"width": 4, "height": 9, "fit": "crop", "shortest": 8}), "at least 9"),
        ("resize", json!({"width": 4, "height": 4, "filter": "box"}), "'nearest', 'bilinear', 'bicubic', 'lanczos'"),
        ("tokenize", json!({"length_max": 0}), "a whole number from 1"),
        ("tokenize", json!({"side": "left"}), "'length_max' is missing"),
        ("tokenize", json!({"length_max": 9, "truncation": "only_second"}), "without pairs"),
        ("base64", json!({"alphabet": null}), "option 'alphabet' is null"),
    ] {
        let complaint = complaint(kind, &options);
        assert!(complaint.contains(said), "{complaint}");
        assert!(complaint.starts_with(&format!("stage {kind}: ")), "{complaint}");
    }
}

#[test]
fn every_kind_says_what_it_takes_and_gives() {
    let described = |kind| {
        let options = match kind {
            "lookup" => json!({"categories": ["a"]}),
            "resize" => json!({"width": 5, "height": 4}),
            _ => json!({}),
        };
        let stage = stage(kind, &options);
        let ports = [stage.inputs(), stage.outputs()].concat();
        let ports = ports.into_iter().map(|port| {
            let sizes = port.shape.iter().map(|size| match size {
                Dim::Fixed(size) => size.to_string(),
                Dim::Symbol(name) => name.to_string(),
            });
            format!("{}: {}[{}]", port.name, port.dtype, sizes.collect::<Vec<String>>().join(","))
        });
        ports.collect::<Vec<String>>().join(" ")
    };
    assert_eq!(
        KINDS.map(described),
        [
            "text: BYTES[] bytes: BYTES[]",
            "bytes: BYTES[] image: UINT8[height,width,3]",
            "text: BYTES[] category: INT64[1]",
            "image: UINT8[height,width,channels] image: UINT8[4,5,channels] placement: FP32[4]",
            "text: BYTES[] input_ids: INT64[length] attention_mask: INT64[length] token_type_ids: INT64[length]",
        ]
    );
    let pairs = stage("tokenize", &json!({"pair": true}));
    let [_, pair] = pairs.inputs() else { panic!("two texts") };
    assert_eq!((pair.name.as_ref(), pair.dtype), ("pair", Datatype::Bytes));
}
