//! Rows of several lengths that ran together: each caller gets their own length back.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Instant;

use servekit_core::{
    Answers, Axis, Batch, Contract, Executor, Item, Mask, Outputs, Ragged, RunFailure, RunOutputs, Tensor, execute,
};
use servekit_testing::{Inbox, contract_of_rows, fp32, fp32_values};

/// Pads with zeros, gives what it was given, and how many rows there were as a second output.
struct Padding {
    /// What each row of the first output has more than its input.
    surplus: usize,
    runs: Vec<usize>,
}

impl Executor for Padding {
    fn run(&mut self, items: &[Item], rows: u32) -> Result<RunOutputs, RunFailure> {
        let tensors = || items.iter().filter_map(|item| item.inputs()[0].as_ref());
        let length = tensors().map(|tensor| tensor.shape[1] as usize).max().unwrap_or(0) + self.surplus;
        self.runs.push(items.len());
        let mut values = Vec::new();
        for tensor in tensors() {
            let own = tensor.shape[1] as usize;
            for row in fp32_values(tensor).chunks(own.max(1)) {
                values.extend_from_slice(row);
                values.resize(values.len() + length - own, 0.0);
            }
        }
        let counts = fp32(&[i64::from(rows)], &vec![rows as f32; rows as usize]);
        let outputs = Outputs::from_iter([fp32(&[i64::from(rows), length as i64], &values), counts]);
        Ok(RunOutputs { outputs, ..RunOutputs::default() })
    }
}

fn ragged() -> Ragged {
    Ragged { inputs: [Some(1)].into(), outputs: [Some(1), None].into(), length_max: 8, masks: [].into() }
}

fn contract() -> Contract {
    let mut contract = contract_of_rows(-1);
    contract.inputs[0].axes[1] = Axis::Symbol("length".into());
    contract.outputs = [contract.outputs[0].clone(), contract.outputs[0].clone()].into();
    Contract { ragged: Some(Arc::new(ragged())), ..contract }
}

/// The first outputs of these requests, which run as one batch.
fn answers_of(requests: &[Tensor], lane: &mut Padding) -> Vec<Tensor> {
    let (inbox, now) = (Inbox::new(), Instant::now());
    let mut batch = Batch::default();
    for request in requests {
        let pending = inbox.request([request.clone()], now);
        batch.rows += pending.rows;
        batch.items.push(Item::whole(Box::new(pending)));
    }
    let mut answers = Answers::default();
    execute(lane, &contract(), &mut batch, &|| now, &mut answers);
    answers.send();
    let mut answers = inbox.answers();
    answers.sort_by_key(|answer| answer.ticket.slot);
    answers.into_iter().map(|answer| answer.outcome.expect("answered").outputs.remove(0)).collect()
}

#[test]
fn each_caller_gets_their_own_length_back() {
    let requests = [fp32(&[1, 2], &[1.0, 2.0]), fp32(&[2, 4], &[3.0; 8]), fp32(&[1, 1], &[4.0]), fp32(&[0, 3], &[])];
    let mut lane = Padding { surplus: 0, runs: Vec::new() };
    assert_eq!(answers_of(&requests, &mut lane), requests);
    assert_eq!(lane.runs, [4]);
}

#[test]
fn rows_of_one_length_are_slices_of_the_run() {
    let requests = [fp32(&[1, 3], &[1.0; 3]), fp32(&[2, 3], &[2.0; 6])];
    let answers = answers_of(&requests, &mut Padding { surplus: 0, runs: Vec::new() });
    assert_eq!(answers, requests);
    assert_eq!(answers[0].data.as_ptr_range().end, answers[1].data.as_ptr(), "nothing was copied");
}

#[test]
fn outputs_of_another_length_than_the_batch_are_not_cut_but_run_again_alone() {
    let requests = [fp32(&[1, 1], &[1.0]), fp32(&[1, 2], &[2.0; 2])];
    let mut lane = Padding { surplus: 1, runs: Vec::new() };
    assert_eq!(answers_of(&requests, &mut lane), [fp32(&[1, 2], &[1.0, 0.0]), fp32(&[1, 3], &[2.0, 2.0, 0.0])]);
    assert_eq!(lane.runs, [2, 1, 1]);
}

#[test]
fn only_what_was_proved_is_mixed() {
    let zero: Box<[u8]> = 0.0_f32.to_le_bytes().into();
    let masks = [Mask { input: 1, hides: zero }].into();
    let ragged = Ragged { inputs: [Some(1), Some(1), None].into(), outputs: [].into(), length_max: 3, masks };
    let mixes = |ids: Tensor, mask: Tensor| ragged.mixes(&[Some(ids), Some(mask), None]);
    let zeros = |rows: i64, length: i64| fp32(&[rows, length], &vec![0.0; (rows * length) as usize]);
    let shown = |rows: i64, length: i64| fp32(&[rows, length], &vec![1.0; (rows * length) as usize]);
    assert!(mixes(zeros(2, 3), shown(2, 3)));
    assert!(mixes(zeros(2, 2), fp32(&[2, 2], &[0.0, 1.0, 1.0, 0.0])));
    assert!(!mixes(zeros(2, 2), fp32(&[2, 2], &[1.0, 1.0, 0.0, 0.0])), "a row hides all of itself");
    assert!(!mixes(zeros(1, 4), shown(1, 4)), "longer than proved");
    assert!(!mixes(zeros(1, 0), shown(1, 0)), "no length");
    assert!(!mixes(zeros(1, 3), shown(1, 2)), "lengths that disagree");
    assert!(!mixes(shown(1, 2), shown(1, 3)), "lengths that disagree");
    assert!(mixes(zeros(0, 2), shown(0, 2)), "no rows");
    assert_eq!(ragged.length(&[Some(zeros(1, 2)), Some(shown(1, 3)), None]), 3);
}
