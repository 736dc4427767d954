//! What a contract lets through, and what it says about the rest.
#![forbid(unsafe_code)]

use servekit_core::{Axis, Batching, Contract, Datatype, Limits, Reason, Refusal, Tensor, TensorSpec};
use servekit_testing::{contract_alone, contract_of_rows, fp32, limits, tensor};

fn head(shape: &[i64], datatype: Datatype) -> Result<(), Refusal> {
    contract_of_rows(4).check_head(0, datatype, shape, &limits())
}

fn told(outcome: Result<impl std::fmt::Debug, Refusal>) -> (Reason, String) {
    let refusal = outcome.expect_err("it must be refused");
    (refusal.reason, refusal.text.into_owned())
}

#[test]
fn a_head_is_checked_before_its_bytes() {
    assert_eq!(head(&[3, 4], Datatype::Fp32), Ok(()));
    assert_eq!(head(&[0, 4], Datatype::Fp32), Ok(()));
    let table: [(&[i64], Datatype, Reason, &str); 7] = [
        (&[1; 17], Datatype::Fp32, Reason::TensorTooLarge, "input 'x' has rank 17, at most 16 are allowed; reshape it"),
        (
            &[-1, 4],
            Datatype::Fp32,
            Reason::ShapeMismatch,
            "unexpected shape for input 'x' for model 'fake'. Expected [-1,4], got [-1,4]; axis 0 is negative, sizes from 0 are allowed",
        ),
        (
            &[i64::MAX, 4],
            Datatype::Fp32,
            Reason::TensorTooLarge,
            "input 'x' of shape [9223372036854775807,4] has more than 2147483647 elements, which is the most allowed; split the request",
        ),
        (
            &[1, 4],
            Datatype::Fp64,
            Reason::DatatypeMismatch,
            "inference input 'x' data-type is 'FP64', but model 'fake' expects 'FP32'; convert it first",
        ),
        (
            &[1, 5],
            Datatype::Fp32,
            Reason::ShapeMismatch,
            "unexpected shape for input 'x' for model 'fake'. Expected [-1,4], got [1,5]; send the expected sizes, -1 stands for any",
        ),
        (
            &[4],
            Datatype::Fp32,
            Reason::ShapeMismatch,
            "unexpected shape for input 'x' for model 'fake'. Expected [-1,4], got [4]; send the expected sizes, -1 stands for any",
        ),
        (
            &[],
            Datatype::Fp32,
            Reason::ShapeMismatch,
            "unexpected shape for input 'x' for model 'fake'. Expected [-1,4], got []; send the expected sizes, -1 stands for any",
        ),
    ];
    for (shape, datatype, reason, text) in table {
        assert_eq!(told(head(shape, datatype)), (reason, String::from(text)));
    }
}

#[test]
fn elements_are_allowed_up_to_the_limit_and_not_one_more() {
    let contract = Contract { inputs: [free("x", 1)].into(), ..contract_of_rows(1) };
    let limits = Limits { tensor_elements_max: 10, ..limits() };
    assert_eq!(contract.check_head(0, Datatype::Fp32, &[10], &limits), Ok(()));
    assert_eq!(told(contract.check_head(0, Datatype::Fp32, &[11], &limits)).0, Reason::TensorTooLarge);
}

/// An FP32 input of this rank whose sizes are all free.
fn free(name: &str, rank: usize) -> TensorSpec {
    TensorSpec {
        name: name.into(),
        datatype: Datatype::Fp32,
        axes: (0..rank).map(|_| Axis::Symbol("".into())).collect(),
        optional: false,
        labels: None,
        base64: false,
    }
}

/// Inputs `x` and `mask`, and `bias`, which has a default.
fn three_inputs(batching: Batching) -> Contract {
    let bias = TensorSpec { optional: true, ..free("bias", 1) };
    let inputs = [free("x", 2), free("mask", 2), bias].into();
    Contract { inputs, batching, ..contract_of_rows(1) }
}

fn column(rows: i64) -> Option<Tensor> {
    Some(fp32(&[rows, 1], &vec![0.0; rows as usize]))
}

#[test]
fn rows_are_counted_along_the_first_axis() {
    let contract = three_inputs(Batching::Rows);
    for rows in [0, 1, 7] {
        assert_eq!(contract.check_set(&[column(rows), column(rows), None], &limits()), Ok(rows as u32));
    }
    let alone = three_inputs(Batching::Alone("the test says so".into()));
    assert_eq!(alone.check_set(&[column(7), column(3), None], &limits()), Ok(1));
}

#[test]
fn a_request_that_overrides_a_default_is_one_row_whatever_its_shapes() {
    let contract = three_inputs(Batching::Rows);
    let bias = Some(fp32(&[2], &[0.5, 1.5]));
    assert!(!contract.counts_rows(&[column(7), column(7), bias.clone()]));
    assert_eq!(contract.check_set(&[column(7), column(7), bias], &limits()), Ok(1));
}

#[test]
fn inputs_that_are_missing_are_named() {
    let contract = three_inputs(Batching::Rows);
    let table = [
        ([column(1), None, None], "expected 2 inputs but got 1 inputs for model 'fake', 'mask' is missing; add it"),
        (
            [None, None, column(1)],
            "expected 2 inputs but got 0 inputs for model 'fake', 'x', 'mask' is missing; add it",
        ),
    ];
    for (inputs, text) in table {
        assert_eq!(told(contract.check_set(&inputs, &limits())), (Reason::UnknownTensor, String::from(text)));
    }
}

#[test]
fn inputs_that_differ_in_rows_are_refused() {
    let outcome = three_inputs(Batching::Rows).check_set(&[column(2), column(3), None], &limits());
    let text = "unexpected shape for input 'mask' for model 'fake'. Expected 2 rows as in 'x', got 3; send the same number of rows in every input";
    assert_eq!(told(outcome), (Reason::ShapeMismatch, String::from(text)));
}

#[test]
fn bytes_must_be_those_of_the_shape() {
    let contract = contract_of_rows(1);
    for (bytes, fits) in [(11, false), (12, true), (13, false)] {
        let outcome = contract.check_set(&[Some(tensor(Datatype::Fp32, &[3, 1], vec![0; bytes]))], &limits());
        assert_eq!(outcome.is_ok(), fits, "{bytes}");
        if !fits {
            let text = format!(
                "input byte size mismatch for input 'x' for model 'fake'. Expected 12, got {bytes}; send the bytes its shape needs"
            );
            assert_eq!(told(outcome), (Reason::ByteSizeMismatch, text));
        }
    }
}

#[test]
fn rows_are_allowed_up_to_the_limit_and_not_one_more() {
    let contract = contract_of_rows(1);
    let limits = Limits { request_rows_max: 8, ..limits() };
    assert_eq!(contract.check_set(&[column(8)], &limits), Ok(8));
    let text = "inference request batch-size must be <= 8 for 'fake', 9 found; split the request";
    assert_eq!(told(contract.check_set(&[column(9)], &limits)), (Reason::TooManyRows, String::from(text)));
}

#[test]
fn a_row_must_fit_into_a_batch() {
    let limits = Limits { batch_bytes_max: 16, ..limits() };
    let row = |width: i64, rows: i64| Some(fp32(&[rows, width], &vec![0.0; (rows * width) as usize]));
    assert_eq!(contract_of_rows(4).check_set(&[row(4, 3)], &limits), Ok(3));
    let text = "one row has 20 bytes, at most 16 are allowed; send smaller rows or raise batch_bytes_max";
    let refused = contract_of_rows(5).check_set(&[row(5, 1)], &limits);
    assert_eq!(told(refused), (Reason::TensorTooLarge, String::from(text)));
    assert_eq!(contract_alone(2, 2).check_set(&[row(2, 2)], &limits), Ok(1));
    assert_eq!(told(contract_alone(3, 2).check_set(&[row(2, 3)], &limits)).0, Reason::TensorTooLarge);
}

#[test]
fn names_are_found_and_metadata_says_what_is_free() {
    let contract = three_inputs(Batching::Rows);
    assert_eq!((contract.input(b"mask"), contract.input(b"y"), contract.output(b"y")), (Some(1), None, Some(0)));
    assert_eq!(contract_of_rows(4).inputs[0].metadata_shape(), [-1, 4]);
    assert_eq!(servekit_core::list(&[1; 17]), format!("[{}…]", "1,".repeat(16)));
}
