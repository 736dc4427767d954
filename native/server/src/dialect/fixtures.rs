//! Contracts, limits and replies for the tests of dialects.

pub(crate) use servekit_testing::limits;

use proptest::test_runner::{Config, RngSeed};

use servekit_core::{Axis, Batching, Contract, Datatype, Reply, Tensor, TensorSpec, Timing};

/// A tensor of a contract: name, datatype, axes; -1 is free.
pub(crate) type Spec<'s> = (&'s str, &'s str, &'s [i64]);

fn spec(&(name, datatype, axes): &Spec<'_>) -> TensorSpec {
    let axis = |&size: &i64| if size < 0 { Axis::Symbol("n".into()) } else { Axis::Fixed(size) };
    TensorSpec {
        name: name.into(),
        datatype: Datatype::parse(datatype.as_bytes()).expect("a datatype"),
        axes: axes.iter().map(axis).collect(),
        optional: false,
        labels: None,
        base64: false,
    }
}

/// A contract whose first axes are rows.
pub(crate) fn contract(model: &str, inputs: &[Spec<'_>], outputs: &[Spec<'_>]) -> Contract {
    Contract {
        model: model.into(),
        inputs: inputs.iter().map(spec).collect(),
        outputs: outputs.iter().map(spec).collect(),
        batching: Batching::Rows,
        ragged: None,
    }
}

/// Four numbers in, three out.
pub(crate) fn tiny() -> Contract {
    contract("tiny", &[("x", "FP32", &[-1, 4])], &[("y", "FP32", &[-1, 3])])
}

/// What comes in goes out.
pub(crate) fn ident() -> Contract {
    contract("ident", &[("x", "FP32", &[-1, -1])], &[("y", "FP32", &[-1, -1])])
}

/// Two inputs.
pub(crate) fn text() -> Contract {
    contract("text", &[("ids", "INT64", &[-1, -1]), ("mask", "INT64", &[-1, -1])], &[("y", "FP32", &[-1, 2])])
}

/// One input and output of any datatype, three values a row.
pub(crate) fn same(datatype: &str) -> Contract {
    contract(&format!("same_{datatype}"), &[("x", datatype, &[-1, 3])], &[("y", datatype, &[-1, 3])])
}

/// The same contract with labels at its first output.
pub(crate) fn labelled(mut contract: Contract, labels: &[&str]) -> Contract {
    contract.outputs[0].labels = Some(labels.iter().map(|&label| label.into()).collect());
    contract
}

/// A reply of these outputs.
pub(crate) fn reply(outputs: impl IntoIterator<Item = Tensor>) -> Reply {
    Reply { outputs: outputs.into_iter().collect(), timing: Timing::default(), steps: None }
}

/// A tensor of these bytes.
pub(crate) fn tensor(datatype: &str, shape: &[i64], data: impl Into<Vec<u8>>) -> Tensor {
    let datatype = Datatype::parse(datatype.as_bytes()).expect("a datatype");
    Tensor { datatype, shape: shape.into(), data: data.into().into() }
}

/// Little-endian bytes of singles.
pub(crate) fn singles(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// BYTES elements with their lengths.
pub(crate) fn elements<E: AsRef<[u8]>>(elements: &[E]) -> Vec<u8> {
    let with_length = |element: &E| [&(element.as_ref().len() as u32).to_le_bytes(), element.as_ref()].concat();
    elements.iter().flat_map(with_length).collect()
}

/// Many cases, the same ones in every run.
pub(crate) fn repeatable() -> Config {
    Config { cases: 1_000, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::default() }
}
