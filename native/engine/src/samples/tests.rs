use servekit_core::{Axis, TensorSpec};
use servekit_testing::{byte_strings, fp32, limits};

use super::*;

/// x FP32 [-1, 2], s BYTES [-1], and w FP32 [2] with a default.
fn contract() -> Contract {
    let spec = |name: &str, datatype, axes: &[Axis], optional| TensorSpec {
        name: name.into(),
        datatype,
        axes: axes.into(),
        optional,
        labels: None,
        base64: false,
    };
    let free = Axis::Symbol("N".into());
    let x = spec("x", Datatype::Fp32, &[free.clone(), Axis::Fixed(2)], false);
    let s = spec("s", Datatype::Bytes, &[free], false);
    let w = spec("w", Datatype::Fp32, &[Axis::Fixed(2)], true);
    let (outputs, batching) = (Box::default(), Batching::Rows);
    Contract { model: "m".into(), inputs: [x, s, w].into(), outputs, batching, ragged: None }
}

fn sample(name: &str, tensor: servekit_core::Tensor) -> Sample {
    Sample { name: name.to_owned(), tensor }
}

#[test]
fn samples_are_one_request_in_any_order() {
    let samples = [sample("s", byte_strings(&[2], &[b"a", b"bb"])), sample("x", fp32(&[2, 2], &[1.0; 4]))];
    let (inputs, rows) = request(&samples, &contract(), &limits()).expect("samples that fit");
    assert_eq!((inputs.len(), rows), (3, 2));
    assert_eq!(inputs[0].as_ref(), Some(&samples[1].tensor));
    assert!(inputs[2].is_none());
}

#[test]
fn samples_that_are_no_request_say_why() {
    let (x, s) = (sample("x", fp32(&[1, 2], &[1.0; 2])), sample("s", byte_strings(&[1], &[b"a"])));
    let table = [
        (vec![x.clone()], "'s' is missing"),
        (vec![x.clone(), sample("y", s.tensor.clone())], "there is no input 'y', inputs are 'x', 's', 'w'"),
        (vec![x.clone(), x.clone(), s.clone()], "given twice"),
        (vec![sample("x", fp32(&[1, 3], &[1.0; 3])), s.clone()], "unexpected shape for input 'x'"),
        (vec![sample("x", s.tensor.clone()), s.clone()], "data-type is 'BYTES'"),
        (vec![x.clone(), sample("s", byte_strings(&[1], &[]))], "do not fill its shape"),
        (vec![sample("x", fp32(&[2, 2], &[1.0; 4])), s.clone()], "same number of rows"),
        (vec![x, s, sample("w", fp32(&[2], &[1.0; 2]))], "has a default"),
    ];
    for (samples, expected) in table {
        let problem = request(&samples, &contract(), &limits()).expect_err(expected);
        assert!(problem.contains(expected), "{problem}");
    }
}
