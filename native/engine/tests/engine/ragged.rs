//! Rows of several lengths share a run where that was proved to change nothing.

use servekit_core::{Datatype, Inputs, Model, Ragged, Tensor};
use servekit_engine::{Lane, LoadedModel};
use servekit_testing::{fp32, fp32_values, tensor};

use crate::rig::{inputs, model, run, run_together, spec};

fn int64(shape: &[i64], values: impl IntoIterator<Item = i64>) -> Tensor {
    tensor(Datatype::Int64, shape, values.into_iter().flat_map(i64::to_le_bytes).collect::<Vec<u8>>())
}

/// Ids that differ from place to place, and a mask that shows all of them.
fn tokens(rows: i64, length: i64) -> Inputs {
    let ids = (0..rows * length).map(|index| (index * 7 + length) % 16);
    inputs([int64(&[rows, length], ids), int64(&[rows, length], (0..rows * length).map(|_| 1))])
}

fn features(shape: &[i64]) -> Inputs {
    let count = shape.iter().product::<i64>();
    inputs([fp32(shape, &(0..count).map(|index| (index as f32 * 0.7).sin()).collect::<Vec<f32>>())])
}

fn why(model: &LoadedModel) -> &str {
    let decisions = &model.description().decisions;
    decisions.iter().find(|(topic, _)| topic == "lengths").map_or("", |(_, why)| why.as_str())
}

fn ragged(model: &LoadedModel) -> &Ragged {
    model.contract().ragged.as_deref().unwrap_or_else(|| panic!("not mixed: {}", why(model)))
}

/// Runs the requests together and alone; what comes back has their own lengths and values.
fn assert_same_together(lane: &mut Lane, ragged: &Ragged, requests: &[Inputs]) {
    let rows_of = |request: &Inputs| request[0].as_ref().expect("given").shape[0];
    let rows = requests.iter().map(rows_of).sum();
    let together = run_together(lane, &requests.iter().collect::<Vec<_>>(), rows).expect("answered").outputs;
    let mut start = 0;
    for request in requests {
        let alone = run(lane, request).expect("answered").outputs;
        let (count, length) = (rows_of(request) as usize, ragged.length(request) as usize);
        for ((whole, axis), alone) in together.iter().zip(&ragged.outputs).zip(&alone) {
            let own = whole.rows(start, count);
            let own = axis.map_or(own.clone(), |axis| own.cut(axis, length));
            assert_eq!(own.shape, alone.shape);
            for (own, alone) in fp32_values(&own).into_iter().zip(fp32_values(alone)) {
                assert!((own - alone).abs() <= 1e-5, "{own} {alone} at length {length}");
            }
        }
        start += count;
    }
}

#[test]
fn masked_rows_of_several_lengths_are_answered_as_alone() {
    let model = model("ragged_attention");
    let ragged = ragged(&model);
    assert_eq!((&*ragged.inputs, &*ragged.outputs), (&[Some(1), Some(1)][..], &[None, Some(1)][..]));
    assert!(why(&model).contains("'attention_mask' hides it by zeros"), "{}", why(&model));
    assert!(ragged.length_max >= 512, "{}", why(&model));
    let requests = [(1, 5), (2, 1), (1, 40), (3, 5), (1, 33)].map(|(rows, length)| tokens(rows, length));
    assert!(requests.iter().all(|request| ragged.mixes(request)));
    let mut lane = model.lane().expect("a lane");
    assert_same_together(&mut lane, ragged, &requests);
    assert_same_together(&mut lane, ragged, &requests[..1]);
    assert_same_together(&mut lane, ragged, &[tokens(1, 3), tokens(2, 3)]);
}

#[test]
fn a_row_that_hides_all_of_itself_is_not_mixed() {
    let model = model("ragged_attention");
    let mut request = tokens(2, 3);
    request[1] = Some(int64(&[2, 3], [1, 1, 1, 0, 0, 0]));
    assert!(!ragged(&model).mixes(&request));
    request[1] = Some(int64(&[2, 3], [1, 1, 1, 0, 0, 1]));
    assert!(ragged(&model).mixes(&request));
}

#[test]
fn lengths_that_disagree_are_not_mixed_and_the_model_judges_them_alone() {
    let model = model("ragged_attention");
    let request = inputs([int64(&[1, 3], [1, 2, 3]), int64(&[1, 2], [1, 1])]);
    assert!(!ragged(&model).mixes(&request));
    assert!(run(&mut model.lane().expect("a lane"), &request).is_err());
}

#[test]
fn masks_are_found_by_any_name_and_either_way_round() {
    let table = [
        ("ragged_mean", "'mask' hides it by zeros", vec![fp32(&[1, 2, 3], &[1.0; 6]), fp32(&[1, 2], &[1.0; 2])]),
        ("ragged_keep", "'keep' hides it by zeros", vec![int64(&[1, 2], [1, 2]), int64(&[1, 2], [1, 1])]),
        ("ragged_hide", "'padding_mask' hides it by ones", vec![int64(&[1, 2], [1, 2]), int64(&[1, 2], [0, 0])]),
    ];
    for (name, expected, short) in table {
        let model = model(name);
        assert!(why(&model).contains(expected), "{name}: {}", why(&model));
        let double = |tensor: &Tensor| {
            let twice = Tensor::concatenate(&vec![tensor.clone(); 4]).expect("rows");
            let mut shape = tensor.shape.clone();
            shape[1] *= 4;
            Tensor { shape, ..twice }
        };
        let long = inputs(short.iter().map(double));
        let short = inputs(short);
        assert_same_together(&mut model.lane().expect("a lane"), ragged(&model), &[short, long]);
    }
}

#[test]
fn without_a_mask_lengths_are_mixed_where_padding_changes_nothing() {
    let tokens = model("ragged_tokens");
    assert_eq!((&*ragged(&tokens).inputs, &*ragged(&tokens).outputs), (&[Some(3)][..], &[Some(3)][..]));
    let requests = [3, 1, 7].map(|length| features(&[2, 2, 1, length]));
    assert_same_together(&mut tokens.lane().expect("a lane"), ragged(&tokens), &requests);
    let sum = model("ragged_sum");
    assert_eq!(&*ragged(&sum).outputs, [None]);
    let requests = [3, 1, 7].map(|length| features(&[2, length, 3]));
    assert_same_together(&mut sum.lane().expect("a lane"), ragged(&sum), &requests);
    let ones = model("ragged_ones");
    assert!(why(&ones).contains("padded with ones"), "{}", why(&ones));
    let requests = [3, 1, 7].map(|length| inputs([int64(&[1, length], (0..length).map(|id| id * 3 % 16))]));
    assert_same_together(&mut ones.lane().expect("a lane"), ragged(&ones), &requests);
}

#[test]
fn where_padding_changes_answers_lengths_stay_apart() {
    for name in ["ragged_convolution", "ragged_recurrent", "ragged_greatest", "ragged_greatest_whole"] {
        let model = model(name);
        assert_eq!(model.contract().ragged, None, "{name}");
        let expected = "exact lengths only: padding a row of length";
        assert!(model.contract().is_batched() && why(&model).starts_with(expected), "{name}: {}", why(&model));
    }
    let map = model("ragged_map");
    assert_eq!(why(&map), "exact lengths only: output 'shares' has the length in two axes");
}

#[test]
fn lengths_are_mixed_up_to_the_longest_that_the_model_takes() {
    let model = model("ragged_places");
    let ragged = ragged(&model);
    assert_eq!(ragged.length_max, 64, "{}", why(&model));
    let request = |length: i64| inputs([int64(&[1, length], (0..length).map(|id| id % 16))]);
    assert!(ragged.mixes(&request(64)) && !ragged.mixes(&request(65)) && !ragged.mixes(&request(0)));
    assert_same_together(&mut model.lane().expect("a lane"), ragged, &[request(64), request(1), request(9)]);
}

#[test]
fn models_without_a_free_length_have_nothing_to_decide() {
    assert_eq!(why(&model("two")), "");
    let texts = crate::rig::load(&spec("same_BYTES")).expect("loads");
    assert_eq!((why(&texts), &texts.contract().ragged), ("", &None));
}

#[test]
fn another_lane_pads_as_well() {
    let model = model("ragged_attention");
    for _ in 0..2 {
        let mut lane = model.lane().expect("a lane");
        assert_same_together(&mut lane, ragged(&model), &[tokens(1, 2), tokens(1, 6)]);
    }
}
