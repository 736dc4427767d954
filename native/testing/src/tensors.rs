//! Tensors and contracts in one line.

use bytes::Bytes;
use servekit_core::{Axis, Batching, Contract, Datatype, Tensor, TensorSpec};

/// A tensor of these bytes.
#[must_use]
pub fn tensor(datatype: Datatype, shape: &[i64], data: impl Into<Bytes>) -> Tensor {
    Tensor { datatype, shape: shape.into(), data: data.into() }
}

/// An FP32 tensor.
#[must_use]
pub fn fp32(shape: &[i64], values: &[f32]) -> Tensor {
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(Datatype::Fp32, shape, data)
}

/// The values of an FP32 tensor.
#[must_use]
pub fn fp32_values(tensor: &Tensor) -> Vec<f32> {
    assert_eq!(tensor.datatype, Datatype::Fp32);
    tensor.data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// A BYTES tensor.
#[must_use]
pub fn byte_strings(shape: &[i64], elements: &[&[u8]]) -> Tensor {
    let mut data = Vec::new();
    for element in elements {
        let length = u32::try_from(element.len()).expect("a test's element fits 32 bits");
        data.extend_from_slice(&length.to_le_bytes());
        data.extend_from_slice(element);
    }
    tensor(Datatype::Bytes, shape, data)
}

/// A batched model `fake`: FP32 `x` of [-1, width] in, `y` of the same shape out.
#[must_use]
pub fn contract_of_rows(width: i64) -> Contract {
    contract(&Axis::Symbol("batch".into()), width, Batching::Rows)
}

/// The same shapes with one request a run.
#[must_use]
pub fn contract_alone(rows: i64, width: i64) -> Contract {
    contract(&Axis::Fixed(rows), width, Batching::Alone("the test says so".into()))
}

fn contract(rows: &Axis, width: i64, batching: Batching) -> Contract {
    let spec = |name: &str| TensorSpec {
        name: name.into(),
        datatype: Datatype::Fp32,
        axes: [rows.clone(), Axis::Fixed(width)].into(),
        optional: false,
        labels: None,
        base64: false,
    };
    Contract { model: "fake".into(), inputs: [spec("x")].into(), outputs: [spec("y")].into(), batching, ragged: None }
}
