use std::ffi::CString;

use servekit_core::TensorSpec;

use super::*;
use crate::capi::ElementType;

fn port(name: &str, datatype: Datatype, axes: &[i64]) -> Port {
    let axis = |&size: &i64| if size < 0 { Axis::Symbol("".into()) } else { Axis::Fixed(size) };
    Port {
        name: CString::new(name).expect("a name"),
        spec: TensorSpec {
            name: name.into(),
            datatype,
            axes: axes.iter().map(axis).collect(),
            optional: false,
            labels: None,
            base64: false,
        },
        element: ElementType::from(datatype),
        zip_map: None,
        has_shape: true,
    }
}

fn row(ports: Vec<Port>, tables: &[(&str, i64)], kind: Kind) -> Vec<Tensor> {
    let tables = tables.iter().map(|(name, rows)| ((*name).to_owned(), *rows)).collect();
    let clues = Clues { tables, ..Clues::default() };
    let signature = Signature { inputs: ports, outputs: Vec::new() };
    let values = Values::new(&signature, &clues, true);
    let shapes = values.shapes(16, 1 << 20).expect("small");
    values.row(&shapes, kind, 1).into_iter().map(|tensor| tensor.expect("given")).collect()
}

fn whole(tensor: &Tensor) -> Vec<i64> {
    tensor.data.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

const KINDS: [Kind; 5] = [Kind::Usual, Kind::Small, Kind::Large, Kind::Ones, Kind::Zeros];

#[test]
fn rows_are_the_same_every_time_and_differ_by_seed() {
    let make = || vec![port("x", Datatype::Fp32, &[-1, 8]), port("n", Datatype::Int64, &[-1])];
    for kind in KINDS {
        assert_eq!(row(make(), &[], kind), row(make(), &[], kind));
    }
    let signature = Signature { inputs: make(), outputs: Vec::new() };
    let values = Values::new(&signature, &Clues::default(), true);
    let shapes = values.shapes(1, 1 << 20).expect("small");
    assert_ne!(values.row(&shapes, Kind::Usual, 0), values.row(&shapes, Kind::Usual, 1));
    assert_eq!(shapes, [Shape::from_slice(&[1, 8]), Shape::from_slice(&[1])]);
}

#[test]
fn floats_come_at_every_scale_and_large_ones_with_both_signs() {
    let signature = Signature { inputs: vec![port("x", Datatype::Fp32, &[-1, 64])], outputs: Vec::new() };
    let values = Values::new(&signature, &Clues::default(), true);
    let shapes = values.shapes(1, 1 << 20).expect("small");
    let of = |kind, seed| floats(values.row(&shapes, kind, seed)[0].as_ref().expect("given"));
    for (kind, scale) in [(Kind::Usual, 1.0), (Kind::Small, 1e-3), (Kind::Large, 1e3)] {
        assert!(of(kind, 0).iter().all(|value| (0.249 * scale..=scale).contains(&value.abs())), "{kind:?}");
    }
    assert_eq!(of(Kind::Ones, 0), [1.0; 64]);
    assert_eq!(of(Kind::Zeros, 0), [0.0; 64].map(|zero: f32| -zero).map(f32::abs));
    let turned: Vec<f32> = of(Kind::Large, 0).iter().map(|value| -value).collect();
    assert_eq!(of(Kind::Large, 1), turned);
}

#[test]
fn indices_stay_inside_the_table_and_reach_its_end() {
    for kind in KINDS {
        let found = row(vec![port("x", Datatype::Int64, &[-1, 200])], &[("x", 100)], kind);
        let numbers = whole(&found[0]);
        assert!(numbers.iter().all(|number| (0..100).contains(number)), "{kind:?}: {numbers:?}");
        if kind == Kind::Large {
            assert!(numbers.contains(&99));
        }
    }
    let one = row(vec![port("ids", Datatype::Int64, &[-1, 3])], &[("ids", 1)], Kind::Ones);
    assert_eq!(whole(&one[0]), [0, 0, 0]);
}

#[test]
fn names_tell_what_whole_numbers_mean() {
    let ports = || {
        let axes = [-1, 8];
        vec![
            port("attention_mask", Datatype::Int64, &axes),
            port("token_type_ids", Datatype::Int64, &axes),
            port("position_ids", Datatype::Int64, &axes),
            port("input_lengths", Datatype::Int64, &[-1]),
        ]
    };
    let found: Vec<Vec<i64>> = row(ports(), &[], Kind::Usual).iter().map(whole).collect();
    assert_eq!(found[0], [1, 1, 1, 1, 1, 1, 0, 0]);
    assert!(found[1].iter().all(|number| (0..2).contains(number)));
    assert_eq!(found[2], [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(found[3], [6]);
    let small: Vec<Vec<i64>> = row(ports(), &[], Kind::Small).iter().map(whole).collect();
    assert_eq!((small[0].iter().sum::<i64>(), small[3][0]), (1, 1));
    let float = row(vec![port("mask", Datatype::Fp32, &[-1, 4])], &[], Kind::Ones);
    assert_eq!(floats(&float[0]), [1.0; 4]);
}

#[test]
fn every_datatype_fills_its_shape() {
    for datatype in Datatype::ALL {
        for kind in KINDS {
            let tensor = &row(vec![port("x", datatype, &[-1, 5])], &[], kind)[0];
            match datatype.element_bytes() {
                Some(bytes) => assert_eq!(tensor.data.len(), 5 * bytes),
                None => assert_eq!(tensor.elements().count(), 5),
            }
        }
    }
    let halves = row(vec![port("x", Datatype::Fp16, &[-1, 1])], &[], Kind::Ones);
    assert_eq!(halves[0].data[..], 0x3c00_u16.to_le_bytes());
    assert_eq!((to_fp16(-1000.0), to_fp16(1e9), to_fp16(1e-9)), (0xe3d0, 0x7c00, 0));
}

#[test]
fn rows_too_large_for_a_batch_are_not_made() {
    let signature = Signature { inputs: vec![port("x", Datatype::Fp32, &[-1, -1, 1 << 40])], outputs: Vec::new() };
    assert!(Values::new(&signature, &Clues::default(), true).shapes(64, 1 << 20).is_none());
}

#[test]
fn a_nudge_changes_floats_a_little_and_nothing_else() {
    let ports = vec![port("x", Datatype::Fp32, &[-1, 8]), port("n", Datatype::Int64, &[-1])];
    let inputs: Inputs = row(ports, &[], Kind::Usual).into_iter().map(Some).collect();
    let nudged_inputs = nudged(&inputs, 1e-3, 0).expect("floats");
    assert_eq!(inputs[1], nudged_inputs[1]);
    let pairs = [&inputs, &nudged_inputs].map(|inputs| floats(inputs[0].as_ref().expect("given")));
    for (left, right) in pairs[0].iter().zip(&pairs[1]) {
        let share = (left - right).abs() / left.abs();
        assert!((0.9e-3..1.1e-3).contains(&share), "{share}");
    }
    let only_ids: Inputs = [inputs[1].clone()].into_iter().collect();
    assert!(nudged(&only_ids, 1e-3, 0).is_none());
}
