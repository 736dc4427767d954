//! Every kind of value comes back as it is.

use servekit_core::{Datatype, RunFailure, Tensor};
use servekit_testing::{byte_strings, fp32, fp32_values, tensor};

use crate::rig::{answer, inputs, lane, model, path, run};

fn int64(shape: &[i64], values: &[i64]) -> Tensor {
    tensor(Datatype::Int64, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())
}

#[test]
fn every_datatype_comes_back_bit_for_bit() {
    for datatype in Datatype::ALL {
        let mut lane = lane(&format!("same_{datatype}"));
        // Enough rows that outputs are copied in one case and shared in the other; all bits but those of BOOL.
        for rows in [2, 3000] {
            let given = match datatype.element_bytes() {
                None => byte_strings(&[rows, 3], &vec![&b"a\0b"[..]; 3 * rows as usize]),
                Some(element_bytes) => {
                    let count = 3 * rows as usize * element_bytes;
                    let byte = |index: usize| if datatype == Datatype::Bool { index % 2 } else { index * 37 % 256 };
                    tensor(datatype, &[rows, 3], (0..count).map(|index| byte(index) as u8).collect::<Vec<u8>>())
                }
            };
            assert_eq!(answer(&mut lane, [given.clone()]), given, "{datatype}");
        }
    }
}

#[test]
fn strings_keep_nul_bytes_emptiness_and_what_is_no_text() {
    let given = byte_strings(&[2, 3], &[b"", b"\0", b"a\0b", b"\xff\xfe", "żółw".as_bytes(), &[7; 5000]]);
    assert_eq!(answer(&mut lane("same_BYTES"), [given.clone()]), given);
}

#[test]
fn rows_of_strings_that_do_not_add_up_touch_no_memory() {
    let mut lane = lane("same_BYTES");
    for (shape, data) in [([2, 3], &b"\x01\0\0\0a"[..]), ([1, 3], b"\xff\xff\xff\xffab"), ([0, 3], b"\0\0\0\0")] {
        let outcome = run(&mut lane, &inputs([tensor(Datatype::Bytes, &shape, data.to_vec())]));
        assert!(matches!(outcome, Err(RunFailure::Lost(_))), "{outcome:?}");
    }
    let short = tensor(Datatype::Bytes, &[1, 3], b"\0\0\0\0\0\0\0\0\0\0\0\0".to_vec());
    assert_eq!(answer(&mut lane, [short.clone()]), short);
}

#[test]
fn a_tensor_without_rows_is_a_tensor() {
    let given = fp32(&[0, 3], &[]);
    assert_eq!(answer(&mut lane("same_FP32"), [given.clone()]), given);
    let given = byte_strings(&[0, 3], &[]);
    assert_eq!(answer(&mut lane("same_BYTES"), [given.clone()]), given);
    let wide = fp32(&[2, 0], &[]);
    assert_eq!(answer(&mut lane("wide"), [wide.clone()]), wide);
}

#[test]
fn ranks_from_0_to_8_are_served() {
    assert_eq!(answer(&mut lane("scalar"), [fp32(&[], &[2.5])]), fp32(&[], &[-2.5]));
    let shape = [2, 1, 2, 1, 2, 1, 2, 1];
    let values: Vec<f32> = (0..16).map(|value| value as f32).collect();
    let negated: Vec<f32> = values.iter().map(|value| -value).collect();
    assert_eq!(answer(&mut lane("rank8"), [fp32(&shape, &values)]), fp32(&shape, &negated));
    assert_eq!(model("rank8").description().batch_rows_max, 64);
}

#[test]
fn numbers_that_are_not_finite_come_through() {
    let values = fp32_values(&answer(&mut lane("nonfinite"), [fp32(&[1, 3], &[1.0; 3])]));
    assert!(values[0].is_nan());
    assert_eq!(values[1..], [f32::INFINITY, f32::NEG_INFINITY]);
}

#[test]
fn bytes_at_an_odd_address_are_read_right() {
    let mut lane = lane("wide");
    let values: Vec<f32> = (0..2000).map(|value| value as f32).collect();
    let mut shifted = vec![0_u8];
    shifted.extend_from_slice(&fp32(&[1, 2000], &values).data);
    let given = tensor(Datatype::Fp32, &[1, 2000], bytes::Bytes::from(shifted).slice(1..));
    let doubled: Vec<f32> = values.iter().map(|value| value * 2.0).collect();
    assert_eq!(answer(&mut lane, [given]), fp32(&[1, 2000], &doubled));
}

#[test]
fn an_optional_input_has_its_default_until_it_is_given() {
    let model = model("optional");
    let specs = &servekit_core::Model::contract(&model).inputs;
    let shown: Vec<(&str, bool)> = specs.iter().map(|spec| (spec.name.as_ref(), spec.optional)).collect();
    assert_eq!(shown, [("x", false), ("w", true)]);
    assert!(servekit_core::Model::contract(&model).is_batched());
    let mut lane = model.lane().expect("a lane");
    let x = fp32(&[2, 3], &[1.0; 6]);
    let left_out = [Some(x.clone()), None].into_iter().collect();
    let outputs = run(&mut lane, &left_out).expect("answered").outputs;
    assert_eq!(fp32_values(&outputs[0]), [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
    let outputs = run(&mut lane, &inputs([x, fp32(&[3], &[0.0, 5.0, 7.0])])).expect("answered").outputs;
    assert_eq!(fp32_values(&outputs[0]), [0.0, 5.0, 7.0, 0.0, 5.0, 7.0]);
    let outputs = run(&mut lane, &left_out).expect("answered").outputs;
    assert_eq!(fp32_values(&outputs[0])[..3], [1.0, 2.0, 3.0]);
}

#[test]
fn a_classifier_answers_a_matrix_with_labels_in_its_own_order() {
    for name in ["zipmap_strings", "zipmap_numbers"] {
        let expected = std::fs::read_to_string(path(&format!("{name}.expected"))).expect("the expected answers");
        let mut lines = expected.lines();
        let labels: Vec<&str> = lines.next().expect("labels").split(' ').collect();
        let model = model(name);
        let contract = servekit_core::Model::contract(&model);
        let output = &contract.outputs[1];
        let shown: Vec<&str> = output.labels.as_deref().expect("labels").iter().map(AsRef::as_ref).collect();
        assert_eq!((shown, output.metadata_shape()), (labels, vec![-1, 3]));
        assert!(contract.is_batched(), "{:?}", contract.batching);
        let mut lane = model.lane().expect("a lane");
        let given = inputs([fp32(&[3, 2], &[0.0, 0.0, 1.0, -1.0, 2.0, 3.0])]);
        let outputs = run(&mut lane, &given).expect("answered").outputs;
        let found = fp32_values(&outputs[1]);
        let shares: Vec<f32> =
            lines.flat_map(|line| line.split(' ')).map(|share| share.parse().expect("a number")).collect();
        assert_eq!(outputs[1].shape.as_slice(), [3, 3]);
        assert!(found.iter().zip(&shares).all(|(one, other)| (one - other).abs() < 1e-5), "{found:?} {shares:?}");
    }
}

#[test]
fn an_output_that_is_an_input_survives_the_next_run() {
    let mut lane = lane("through");
    let large: Vec<f32> = (0..5000).map(|value| value as f32).collect();
    for values in [&large[..], &[1.0, 2.0]] {
        let given = fp32(&[1, values.len() as i64], values);
        let outputs = run(&mut lane, &inputs([given.clone()])).expect("answered").outputs;
        let other = fp32(&[1, values.len() as i64], &vec![9.0; values.len()]);
        run(&mut lane, &inputs([other])).expect("answered");
        assert_eq!(outputs[0], given);
    }
}

#[test]
fn outputs_outlive_the_model_even_where_they_are_its_weights() {
    let model = model("weight_out");
    let mut lane = model.lane().expect("a lane");
    let outputs = run(&mut lane, &inputs([fp32(&[2000, 1], &[3.0; 2000])])).expect("answered").outputs;
    drop(lane);
    drop(model);
    let other = crate::rig::model("wide");
    drop(other);
    assert_eq!(fp32_values(&outputs[0]), [-3.0; 2000]);
    assert_eq!(fp32_values(&outputs[1]), (0..2048).map(|value| value as f32).collect::<Vec<f32>>());
}

#[test]
fn the_models_own_refusal_is_told_without_paths() {
    let mut lane = lane("pick");
    let Err(RunFailure::Rejected(text)) = run(&mut lane, &inputs([int64(&[1], &[99])])) else { panic!("rejected") };
    assert!(text.starts_with("Gather: ") && text.contains("99") && !text.contains('/'), "{text}");
    assert_eq!(fp32_values(&answer(&mut lane, [int64(&[2], &[-1, 0])])), [6.0, 7.0, 0.0, 1.0]);
}

#[test]
fn memory_that_runs_out_is_told_and_the_lane_goes_on() {
    let mut lane = lane("grow");
    for asked in [[100_000, 100_000], [20_000, 20_000]] {
        let Err(RunFailure::Memory { asked: found, allowed }) = run(&mut lane, &inputs([int64(&[1, 2], &asked)]))
        else {
            panic!("memory")
        };
        assert_eq!(found.map(|bytes| bytes / (asked[0] * asked[1]) as u64), Some(4));
        assert_eq!(allowed, 128 << 20);
    }
    assert_eq!(answer(&mut lane, [int64(&[1, 2], &[2, 2])]), fp32(&[2, 2], &[0.0; 4]));
}
