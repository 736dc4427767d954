//! What runs together is answered as if it ran alone.

use servekit_core::{Batching, Datatype, Inputs, Model, RunFailure};
use servekit_engine::{ModelSpec, Part, Verdict};
use servekit_testing::{byte_strings, fp32, fp32_values, tensor};

use crate::rig::{inputs, lane, load, model, run, run_together, spec};

#[test]
fn a_batch_of_several_requests_is_each_of_them_alone() {
    let mut lane = lane("two");
    let request = |rows: i64, from: i64| {
        let floats: Vec<f32> = (0..2 * rows).map(|index| (from + index) as f32).collect();
        let numbers: Vec<u8> = (0..rows).flat_map(|index| (from * index).to_le_bytes()).collect();
        inputs([fp32(&[rows, 2], &floats), tensor(Datatype::Int64, &[rows], numbers)])
    };
    let requests: Vec<Inputs> = [(1, 5), (3, 7), (0, 1), (2, -4)].map(|(rows, from)| request(rows, from)).into();
    let together = run_together(&mut lane, &requests.iter().collect::<Vec<_>>(), 6).expect("answered").outputs;
    let mut start = 0;
    for request in &requests {
        let alone = run(&mut lane, request).expect("answered").outputs;
        let rows = request[0].as_ref().expect("given").shape[0] as usize;
        for (whole, alone) in together.iter().zip(&alone) {
            assert_eq!(&whole.rows(start, rows), alone);
        }
        start += rows;
    }
}

#[test]
fn batches_of_strings_keep_each_request_apart() {
    let mut lane = lane("same_BYTES");
    let one = inputs([byte_strings(&[1, 3], &[b"a", b"", b"ccc"])]);
    let two = inputs([byte_strings(&[2, 3], &[b"1", b"2", b"3", b"4", b"5", b"6\0"])]);
    let outputs = run_together(&mut lane, &[&one, &two], 3).expect("answered").outputs;
    assert_eq!(Some(outputs[0].rows(0, 1)), one[0]);
    assert_eq!(Some(outputs[0].rows(1, 2)), two[0]);
}

#[test]
fn batches_that_shrink_and_grow_stay_right() {
    let mut lane = lane("wide");
    for rows in [1, 64, 2, 3000, 1, 2] {
        let values: Vec<f32> = (0..rows).map(|row| (row * rows) as f32).collect();
        let requests: Vec<Inputs> = values.iter().map(|&value| inputs([fp32(&[1, 1], &[value])])).collect();
        let outputs = run_together(&mut lane, &requests.iter().collect::<Vec<_>>(), rows).expect("answered").outputs;
        let doubled: Vec<f32> = values.iter().map(|value| 2.0 * value).collect();
        assert_eq!(fp32_values(&outputs[0]), doubled);
    }
}

#[test]
fn a_batch_that_lies_about_its_rows_touches_no_memory() {
    // Its rows see each other's padding, so lengths are not mixed.
    let mut lane = lane("ragged_greatest");
    let (short, long) = (inputs([fp32(&[1, 4, 3], &[1.0; 12])]), inputs([fp32(&[1, 8, 3], &[1.0; 24])]));
    for (requests, rows) in [([&short, &long], 2), ([&short, &short], 3), ([&short, &short], 1)] {
        let outcome = run_together(&mut lane, &requests, rows);
        assert!(matches!(outcome, Err(RunFailure::Lost(_))), "{outcome:?}");
    }
    assert!(run(&mut lane, &short).is_ok());
}

#[test]
fn rows_that_do_not_come_back_fail_the_batch_but_not_the_request_alone() {
    let trusted = ModelSpec { trust_batching: true, ..spec("drops") };
    let model = load(&trusted).expect("loaded");
    assert!(model.contract().is_batched());
    assert_eq!(model.description().proof.verdict, Verdict::Trusted);
    let mut lane = model.lane().expect("a lane");
    let (kept, dropped) = (inputs([fp32(&[1], &[5.0])]), inputs([fp32(&[2], &[0.0, 3.0])]));
    let outcome = run_together(&mut lane, &[&kept, &dropped], 3);
    assert_eq!(outcome.unwrap_err(), RunFailure::Rejected("output 'y' has 2 rows for a batch of 3".to_owned()));
    let part = Part { inputs: &dropped, rows: 2, is_whole: false };
    assert!(matches!(lane.run_parts(&[part], 2), Err(RunFailure::Rejected(_))));
    assert_eq!(fp32_values(&run(&mut lane, &dropped).expect("answered").outputs[0]), [3.0]);
}

#[test]
fn what_cannot_share_a_run_does_not() {
    let table = [
        ("doubled", "1 made-up rows gave output 'y' the shape [2,3]"),
        ("total", "made-up rows gave output 'y' the shape [1,1]; the graph has ReduceSum over all axes"),
        ("picky", "no made-up input ran"),
        ("outer", "made-up rows gave output 'y' the shape"),
        ("fixed", "first axis of input 'x' is fixed at 2"),
        ("scalar", "input 'x' is a scalar"),
        ("grow", "first axis of input 'n' is fixed at 1"),
        ("weight_out", "first axis of output 'w' is fixed at 2048"),
    ];
    for (name, expected) in table {
        let model = model(name);
        let Batching::Alone(why) = &model.contract().batching else { panic!("{name} is batched") };
        assert!(why.contains(expected), "{name}: {why}");
        assert_eq!(model.description().batch_rows_max, 1);
    }
}

#[test]
fn what_may_share_a_run_does() {
    for name in ["same_FP32", "same_BYTES", "wide", "two", "pick", "nonfinite", "zipmap_strings", "external"] {
        let model = model(name);
        assert_eq!(model.contract().batching, Batching::Rows, "{name}");
        let decisions = &model.description().decisions;
        assert!(decisions.iter().any(|(topic, text)| topic == "batching" && text.starts_with("rows")), "{decisions:?}");
    }
}
