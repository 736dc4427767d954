use super::*;

fn row(values: &[f32]) -> Inputs {
    inputs([fp32(&[1, values.len() as i64], values)])
}

#[test]
fn a_batch_is_each_of_its_requests_alone() {
    let mut lane = lane(&plan_of_sums());
    let requests = [
        inputs([fp32(&[1, 3], &[1.0, 2.0, 3.0])]),
        inputs([fp32(&[0, 3], &[])]),
        inputs([fp32(&[2, 3], &[4.0, 5.0, 6.0, 7.0, 8.0, 9.0])]),
    ];
    let together = run(&mut lane, &requests.iter().collect::<Vec<_>>()).expect("answered");
    assert_eq!(fp32_values(&together.outputs[0]), [3.0, 6.0, 9.0, 12.0, 15.0, 18.0, 21.0, 24.0, 27.0]);
    assert_eq!((together.steps.len(), together.refused.len()), (2, 0));
    let mut start = 0;
    for request in &requests {
        let alone = run(&mut lane, &[request]).expect("answered").outputs;
        let rows = request[0].as_ref().expect("given").shape[0] as usize;
        for (whole, alone) in together.outputs.iter().zip(&alone) {
            assert_eq!(&whole.rows(start, rows), alone);
        }
        start += rows;
    }
    assert_eq!(together.outputs[2].data, fp32(&[3, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]).data);
}

#[test]
fn an_answer_that_is_still_held_is_not_written_over() {
    let mut lane = lane(&plan_of_sums());
    let request = |value: f32| inputs([fp32(&[2, 4_000], &[value; 8_000])]);
    let held: Vec<RunOutputs> =
        (0..12).map(|value| run(&mut lane, &[&request(value as f32)]).expect("answered")).collect();
    for (value, outputs) in held.iter().enumerate() {
        let value = value as f32;
        for (output, factor) in outputs.outputs.iter().zip([3.0, 2.0, 1.0]) {
            assert!(fp32_values(output).iter().all(|&found| found == factor * value), "{value}");
        }
    }
}

#[test]
fn what_nobody_holds_is_used_again() {
    let mut lane = lane(&plan_of_one(picky, "[]"));
    let request = inputs([fp32(&[2, 4_000], &[1.0; 8_000])]);
    let places: Vec<usize> =
        (0..5).map(|_| run(&mut lane, &[&request]).expect("answered").outputs[0].data.as_ptr() as usize).collect();
    assert!(places.iter().all(|&place| place == places[0]), "{places:?}");
}

#[test]
fn a_lone_request_is_read_where_it_lies() {
    let mut lane = lane(&plan_of_sums());
    // Where a buffer of a lane lies, so at a multiple of 64.
    let first = run(&mut lane, &[&inputs([fp32(&[2, 4_000], &[1.0; 8_000])])]).expect("answered").outputs;
    let request = inputs([first[0].clone()]);
    let again = run(&mut lane, &[&request]).expect("answered").outputs;
    assert_eq!(again[2].data.as_ptr(), first[0].data.as_ptr());
    let odd = fp32(&[1, 2_001], &[2.0; 2_001]);
    let shifted = tensor(Datatype::Fp32, &[1, 2_000], odd.data.slice(4..));
    assert!(
        fp32_values(&run(&mut lane, &[&inputs([shifted])]).expect("answered").outputs[1]).iter().all(|&it| it == 4.0)
    );
}

#[test]
fn everything_lies_as_the_abi_says() {
    let scratch = format!(r#"[{}, {{"name": "t", "dtype": "uint8", "shape": [3]}}]"#, port("s", r#"["n * 2 + 1"]"#));
    let mut lane = lane(&plan_of_one(strict, &scratch));
    for (rows, width) in [(1, 5), (3, 7), (2, 0), (0, 4), (5, 1_000), (1, 1)] {
        let values = vec![0.5; (rows * width) as usize];
        let shifted: Vec<f32> = std::iter::once(0.0).chain(values.clone()).collect();
        let odd = fp32(&[rows * width + 1], &shifted).data.slice(4..);
        let alone = inputs([tensor(Datatype::Fp32, &[rows, width], odd)]);
        let whole = inputs([fp32(&[rows, width], &values)]);
        for requests in [vec![&whole], vec![&alone], vec![&whole, &alone]] {
            let outputs = run(&mut lane, &requests).expect("answered").outputs;
            assert_eq!(outputs[0].shape.as_slice(), [rows * requests.len() as i64, width]);
            assert!(fp32_values(&outputs[0]).iter().all(|&value| value == 1.0), "{rows} x {width}");
        }
    }
}

#[test]
fn a_row_that_is_refused_does_not_harm_its_neighbours() {
    let mut lane = lane(&plan_of_one(picky, "[]"));
    let requests = [row(&[1.0, 2.0]), row(&[-1.0, 2.0]), row(&[f32::NAN, 2.0]), row(&[3.0, -4.0])];
    let outputs = run(&mut lane, &requests.iter().collect::<Vec<_>>()).expect("answered");
    let text = |row: u32, text: &str| RowFault { row, text: text.into() };
    assert_eq!(
        outputs.refused,
        [
            text(1, "after step 1 (one): too low"),
            text(2, "after step 1 (one): the kernel refused it and did not say why")
        ]
    );
    assert_eq!(fp32_values(&outputs.outputs[0]), [1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 3.0, -4.0]);
    assert!(run(&mut lane, &[&requests[0]]).expect("answered").refused.is_empty());
}

#[test]
fn rows_of_a_request_that_runs_alone_are_refused_as_one() {
    let mut lane = PipelineLane::new(layout(&plan_of_one(picky, "[]")), Vec::new(), KERNEL_BYTES_MAX, false);
    let request = inputs([fp32(&[3, 1], &[1.0, -1.0, -2.0])]);
    let part = Part { inputs: &request, rows: 1, is_whole: true };
    let outputs = lane.run_parts(&[part], 1).expect("answered");
    assert_eq!(outputs.refused, [RowFault { row: 0, text: "after step 1 (one): row 1: too low".into() }]);
    assert_eq!(outputs.outputs[0].shape.as_slice(), [3, 1]);
    assert!(matches!(lane.run_parts(&[part, part], 2), Err(RunFailure::Lost(_))));
}

#[test]
fn a_kernel_that_fails_as_a_whole_is_named() {
    let mut lane = lane(&plan_of_one(broken, "[]"));
    let failure = run(&mut lane, &[&row(&[1.0])]).unwrap_err();
    let RunFailure::Rejected(text) = &failure else { panic!("{failure:?}") };
    assert!(text.starts_with("after step 1 (one): the kernel failed as a whole"), "{text}");
}

#[test]
fn sizes_that_make_no_sense_are_the_requests_fault() {
    let scratch = |axis: &str| format!("[{}]", port("s", &format!(r#"["{axis}"]"#)));
    for (axis, word) in [("4 // (n - 2)", "divides by 0"), ("n * 9223372036854775807", "64 bits")] {
        let mut lane = lane(&plan_of_one(strict, &scratch(axis)));
        let failure = run(&mut lane, &[&row(&[1.0, 2.0])]).unwrap_err();
        let RunFailure::Rejected(text) = &failure else { panic!("{failure:?}") };
        assert!(text.starts_with("after step 1 (one): scratch 's': axis '") && text.contains(word), "{text}");
    }
    let mut lane = lane(&plan_of_one(strict, &scratch("n * 1000000000000")));
    let failure = run(&mut lane, &[&row(&[1.0, 2.0])]).unwrap_err();
    assert!(matches!(failure, RunFailure::Memory { asked: Some(8_000_000_000_008..), allowed: KERNEL_BYTES_MAX }));
}

#[test]
fn values_that_do_not_fit_together_are_told_apart() {
    let kernel = kernel_of_two(add);
    let values = [("a", "row", "0"), ("b", "row", "1"), ("y", "batch", "2")]
        .map(|(name, place, slot)| value(name, "float32", r#"["n"]"#, place, slot))
        .join(", ");
    let plan = format!(
        r#"{{"version": 2, "name": "m", "raw": false, "values": [{values}], "slots": 3,
            "inputs": [{{"name": "a", "value": 0}}, {{"name": "b", "value": 1}}], "stages": [],
            "batch": [{{"step": "before step 1 (two)", "kernel": {kernel}, "inputs": [0, 1], "outputs": [2]}}],
            "outputs": [{{"name": "y", "value": 2}}]}}"#
    );
    let mut lane = lane(&plan);
    let uneven = inputs([fp32(&[1, 2], &[1.0; 2]), fp32(&[1, 3], &[1.0; 3])]);
    let failure = run(&mut lane, &[&uneven]).unwrap_err();
    let RunFailure::Rejected(text) = &failure else { panic!("{failure:?}") };
    assert!(text.starts_with("inputs: 'b' is FP32 [1,3], FP32 [n] a row is expected for 1 rows"), "{text}");
    let even = inputs([fp32(&[1, 2], &[1.0; 2]), fp32(&[1, 2], &[2.0; 2])]);
    assert_eq!(fp32_values(&run(&mut lane, &[&even]).expect("answered").outputs[0]), [3.0, 3.0]);
}

#[test]
fn a_batch_that_lies_touches_no_memory() {
    let mut lane = lane(&plan_of_one(picky, "[]"));
    let (short, long) = (row(&[1.0]), row(&[1.0, 2.0]));
    let cut = inputs([Tensor { data: fp32(&[1], &[1.0]).data, ..fp32(&[1, 2], &[1.0, 2.0]) }]);
    let other = inputs([tensor(Datatype::Int32, &[1, 1], vec![0; 4])]);
    let none = Inputs::new();
    for parts in [
        vec![(&short, 1), (&long, 1)],
        vec![(&short, 2), (&short, 1)],
        vec![(&cut, 1)],
        vec![(&other, 1)],
        vec![(&none, 1)],
        vec![],
    ] {
        let parts: Vec<Part<'_>> =
            parts.into_iter().map(|(inputs, rows)| Part { inputs, rows, is_whole: true }).collect();
        let rows: usize = parts.iter().map(|part| part.rows).sum();
        let outcome = lane.run_parts(&parts, rows as u32);
        assert!(matches!(outcome, Err(RunFailure::Lost(_))), "{outcome:?}");
    }
    assert!(run(&mut lane, &[&short]).is_ok());
}
