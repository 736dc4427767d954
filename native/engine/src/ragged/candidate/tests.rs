//! Which axes could be ragged.

use std::ffi::CString;

use servekit_core::TensorSpec;

use super::*;
use crate::capi::ElementType;

/// An axis that is free, by its name, or fixed.
fn port(name: &str, datatype: Datatype, axes: &[&str]) -> Port {
    let axis = |text: &&str| text.parse().map_or_else(|_| Axis::Symbol((*text).into()), Axis::Fixed);
    let axes = axes.iter().map(axis).collect();
    let spec = TensorSpec { name: name.into(), datatype, axes, optional: false, labels: None, base64: false };
    let text = CString::new(name).expect("a name");
    Port { name: text, spec, element: ElementType::from(datatype), zip_map: None, has_shape: true }
}

fn found(inputs: Vec<Port>) -> Result<Option<Candidate>, String> {
    Candidate::of(&Signature { inputs, outputs: Vec::new() })
}

#[test]
fn a_free_axis_that_inputs_share_could_be_ragged() {
    let ids = port("ids", Datatype::Int64, &["N", "T"]);
    let mask = port("mask", Datatype::Bool, &["N", "1", "T"]);
    let other = port("other", Datatype::Fp32, &["N", "8"]);
    let expected = Candidate { symbol: "T".into(), axes: [Some(1), Some(2), None].into() };
    assert_eq!(found(vec![ids, mask, other]), Ok(Some(expected)));
    let expected = Candidate { symbol: "".into(), axes: [Some(1)].into() };
    assert_eq!(found(vec![port("x", Datatype::Fp32, &["", "", "3"])]), Ok(Some(expected)));
    assert_eq!(found(vec![port("x", Datatype::Fp32, &["N", "3"]), port("y", Datatype::Bytes, &["N"])]), Ok(None));
}

#[test]
fn an_axis_that_could_not_be_padded_is_told() {
    let ids = || port("ids", Datatype::Int64, &["N", "T"]);
    let table = [
        (vec![port("x", Datatype::Fp32, &["N", "H", "W"])], "axes 'H' and 'W' are both free, one can be padded"),
        (vec![ids(), port("y", Datatype::Fp32, &["N", "S"])], "axes 'T' and 'S' are both free, one can be padded"),
        (vec![port("x", Datatype::Fp32, &["N", "T", "T"])], "input 'x' has axis 'T' twice"),
        (vec![port("x", Datatype::Fp32, &["T", "T"])], "axis 'T' counts rows as well"),
        (
            vec![port("x", Datatype::Fp32, &["", ""]), port("y", Datatype::Fp32, &["", ""])],
            "several axes behind the first are free, and the model does not name them alike",
        ),
        (vec![port("x", Datatype::Bytes, &["N", "T"])], "input 'x' is BYTES, and no text is known that says nothing"),
        (
            vec![ids(), port("text", Datatype::Bytes, &["N"])],
            "input 'text' is BYTES, and no text is known that says nothing",
        ),
    ];
    for (inputs, why) in table {
        assert_eq!(found(inputs), Err(why.to_owned()));
    }
}

#[test]
fn inputs_that_may_be_left_out_are_not_padded() {
    let mut bias = port("bias", Datatype::Fp32, &["N", "S"]);
    bias.spec.optional = true;
    let expected = Candidate { symbol: "T".into(), axes: [Some(1), None].into() };
    assert_eq!(found(vec![port("ids", Datatype::Int64, &["N", "T"]), bias]), Ok(Some(expected)));
}
