//! What was counted, as the numbers that explain it.

use std::collections::BTreeMap;

use serde::Serialize;
use servekit_core::{AnatomySnapshot, Bounds, ModelSnapshot};

use super::Facts;
use super::throttling::Throttling;

/// Of the requests, the share that counts as the slowest.
const SLOWEST: f64 = 0.01;

/// Everything that the words rest on. Shares are between 0 and 1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Figures {
    /// How long all this has been counted.
    pub served_s: f64,
    /// Requests answered with a result.
    pub answered: u64,
    /// By the transport's label, their shares.
    pub transports: BTreeMap<&'static str, f64>,
    /// What all of them consist of; `None` where there is none.
    pub all: Option<Steps>,
    /// What the slowest hundredth consists of.
    pub slowest: Option<Slowest>,
    pub batches: Batches,
    pub lanes: Lanes,
    pub shed: Shed,
    /// Of the positions that runs computed, the share that was added to bring rows to one length.
    pub padding: f64,
    pub throttling: Option<Throttling>,
}

/// Shares of the time of some requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Steps {
    pub queue: f64,
    pub input: f64,
    pub run: f64,
    pub output: f64,
    pub rest: f64,
}

/// The requests from the bucket on in which the slowest hundredth begins.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Slowest {
    pub requests: u64,
    /// 99 of 100 requests took at most this long; `None` where that is longer than the last bound.
    pub p99_ms_max: Option<f64>,
    pub steps: Steps,
}

/// What ran.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Batches {
    pub runs: u64,
    pub rows_mean: f64,
    pub rows_max: u32,
    /// Rows of the batch of the best rate that the target allows; `None` before the first batch.
    pub knee_rows: Option<u32>,
    /// Milliseconds of a run on the mean.
    pub run_ms_mean: f64,
    /// By why they left their queue, their shares; without those that never did.
    pub reasons: BTreeMap<&'static str, f64>,
}

/// Where it ran.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Lanes {
    pub count: u32,
    /// Of their time, the share in which they gathered, ran or took apart.
    pub busy: f64,
}

/// Who was given up.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Shed {
    pub requests: u64,
    /// Of all requests that have ended.
    pub share: f64,
    /// By reason, their shares; without those that never were.
    pub reasons: BTreeMap<&'static str, f64>,
}

impl Figures {
    pub(super) fn of(facts: &Facts<'_>) -> Self {
        let counted = &facts.counted;
        let answered: u64 = counted.anatomy.iter().flat_map(|anatomy| &anatomy.counts).sum();
        let of_transport = |anatomy: &AnatomySnapshot| share(anatomy.counts.iter().sum(), answered);
        let rows_run = (counted.batch_rows.sum, counted.runs.max(1));
        let busy_s = counted.input.sum_s + counted.run.sum_s + counted.output.sum_s;
        let lanes_s = f64::from(facts.lanes) * facts.served.as_secs_f64();
        Self {
            served_s: facts.served.as_secs_f64(),
            answered,
            transports: counted.anatomy.iter().map(|anatomy| (anatomy.transport, of_transport(anatomy))).collect(),
            all: (answered > 0).then(|| steps(counted, 0)),
            slowest: slowest(counted, answered),
            batches: Batches {
                runs: counted.runs,
                rows_mean: rows_run.0 as f64 / rows_run.1 as f64,
                rows_max: facts.rows_max,
                knee_rows: facts.estimate.as_ref().map(|estimate| estimate.knee_rows),
                run_ms_mean: counted.run.sum_s * 1e3 / rows_run.1 as f64,
                reasons: shares(&counted.dispatch),
            },
            lanes: Lanes { count: facts.lanes, busy: if lanes_s > 0.0 { (busy_s / lanes_s).min(1.0) } else { 0.0 } },
            shed: shed(counted),
            padding: share(counted.padding.padded, counted.padding.useful + counted.padding.padded),
            throttling: facts.throttling,
        }
    }
}

fn shed(counted: &ModelSnapshot) -> Shed {
    let requests: u64 = counted.shed.values().sum();
    let ended: u64 = counted.requests.iter().flat_map(|requests| &requests.counts).sum();
    // What is counted last is missing for a moment on the other side.
    Shed { requests, share: share(requests, ended.max(requests)), reasons: shares(&counted.shed) }
}

/// From the bucket on in which the slowest begin.
fn slowest(counted: &ModelSnapshot, answered: u64) -> Option<Slowest> {
    let bounds = Bounds::in_use().seconds;
    let count = |bucket: usize| counted.anatomy.iter().filter_map(|anatomy| anatomy.counts.get(bucket)).sum::<u64>();
    let enough = ((answered as f64 * SLOWEST).ceil() as u64).max(1);
    let mut requests = 0;
    let bucket = (0..=bounds.len()).rev().find(|&bucket| {
        requests += count(bucket);
        requests >= enough
    })?;
    Some(Slowest { requests, p99_ms_max: bounds.get(bucket).map(|bound| bound * 1e3), steps: steps(counted, bucket) })
}

/// What the requests of a bucket and those behind it consist of.
fn steps(counted: &ModelSnapshot, from: usize) -> Steps {
    let seconds = |step: fn(&AnatomySnapshot) -> &[f64]| -> f64 {
        counted.anatomy.iter().flat_map(|anatomy| step(anatomy).iter().skip(from)).sum()
    };
    let sums = Steps {
        queue: seconds(|anatomy| &anatomy.queue_s),
        input: seconds(|anatomy| &anatomy.input_s),
        run: seconds(|anatomy| &anatomy.run_s),
        output: seconds(|anatomy| &anatomy.output_s),
        rest: seconds(|anatomy| &anatomy.rest_s),
    };
    let total = sums.queue + sums.input + sums.run + sums.output + sums.rest;
    // Requests that took no time at all consist of nothing.
    let part = |step: f64| if total > 0.0 { step / total } else { 0.0 };
    Steps {
        queue: part(sums.queue),
        input: part(sums.input),
        run: part(sums.run),
        output: part(sums.output),
        rest: part(sums.rest),
    }
}

fn shares(counts: &BTreeMap<&'static str, u64>) -> BTreeMap<&'static str, f64> {
    let total = counts.values().sum();
    counts.iter().filter(|(_, count)| **count > 0).map(|(label, count)| (*label, share(*count, total))).collect()
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
