//! What was counted, at one moment: added up over threads, then written as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use super::AnatomySnapshot;
use crate::Step;

/// Durations by bound.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Distribution {
    /// Per bound, the last is for what exceeds all.
    pub counts: Vec<u64>,
    /// Seconds
    pub sum_s: f64,
}

/// Rows by bound.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RowDistribution {
    /// Per bound, the last is for what exceeds all.
    pub counts: Vec<u64>,
    /// Rows
    pub sum: u64,
}

/// A duration summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sum {
    /// Seconds
    pub sum_s: f64,
}

/// Requests of one transport and outcome.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RequestsSnapshot {
    /// Label of the transport.
    pub transport: &'static str,
    /// `ok`, `cancelled` or a label of the catalogue.
    pub outcome: &'static str,
    /// Per bound, the last is for what exceeds all.
    pub counts: Vec<u64>,
    /// Seconds
    pub sum_s: f64,
}

/// Positions of batches whose rows were padded to one length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PaddingSnapshot {
    /// Positions that callers sent.
    pub useful: u64,
    /// Positions that were added.
    pub padded: u64,
}

/// How long one step of a model took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepSnapshot {
    /// What operators know it by.
    pub name: Box<str>,
    /// `row`, `batch` or `model`.
    pub place: &'static str,
    /// One observation per request where it runs on rows, else one per batch.
    pub seconds: Distribution,
}

impl StepSnapshot {
    pub(super) fn of(step: &Step, seconds: Distribution) -> Self {
        Self { name: step.name.clone(), place: step.place.name(), seconds }
    }
}

/// Counters of one model.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)] // The guide's table of metrics explains each.
pub struct ModelSnapshot {
    pub requests: Vec<RequestsSnapshot>,
    pub queue: Distribution,
    pub run: Distribution,
    pub input: Sum,
    pub output: Sum,
    pub batch_rows: RowDistribution,
    pub rows: u64,
    pub runs: u64,
    pub panics: u64,
    pub padding: PaddingSnapshot,
    pub shed: BTreeMap<&'static str, u64>,
    pub anatomy: Vec<AnatomySnapshot>,
    pub dispatch: BTreeMap<&'static str, u64>,
    pub steps: Vec<StepSnapshot>,
    pub in_flight_requests: u64,
    pub queue_rows: u64,
    pub queue_requests: u64,
}

impl ModelSnapshot {
    /// Adds what another thread counted for the same model.
    pub fn merge(&mut self, other: &Self) {
        for theirs in &other.requests {
            let ours =
                self.requests.iter_mut().find(|r| r.transport == theirs.transport && r.outcome == theirs.outcome);
            match ours {
                Some(ours) => {
                    add_counts(&mut ours.counts, &theirs.counts);
                    ours.sum_s += theirs.sum_s;
                }
                None => self.requests.push(theirs.clone()),
            }
        }
        add_distribution(&mut self.queue, &other.queue);
        add_distribution(&mut self.run, &other.run);
        self.input.sum_s += other.input.sum_s;
        self.output.sum_s += other.output.sum_s;
        add_counts(&mut self.batch_rows.counts, &other.batch_rows.counts);
        self.batch_rows.sum += other.batch_rows.sum;
        self.rows += other.rows;
        self.runs += other.runs;
        self.panics += other.panics;
        self.padding.useful += other.padding.useful;
        self.padding.padded += other.padding.padded;
        add_map(&mut self.shed, &other.shed);
        for theirs in &other.anatomy {
            match self.anatomy.iter_mut().find(|ours| ours.transport == theirs.transport) {
                Some(ours) => ours.merge(theirs),
                None => self.anatomy.push(theirs.clone()),
            }
        }
        add_map(&mut self.dispatch, &other.dispatch);
        for (place, theirs) in other.steps.iter().enumerate() {
            match self.steps.get_mut(place) {
                Some(ours) => add_distribution(&mut ours.seconds, &theirs.seconds),
                None => self.steps.push(theirs.clone()),
            }
        }
        self.in_flight_requests = self.in_flight_requests.wrapping_add(other.in_flight_requests);
        self.queue_rows += other.queue_rows;
        self.queue_requests += other.queue_requests;
    }
}

/// Counters that belong to no model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)] // The guide's table of metrics explains each.
pub struct ShardSnapshot {
    pub connections: u64,
    pub connections_closed: BTreeMap<&'static str, u64>,
    pub streams: u64,
    pub in_flight_requests: u64,
    pub in_flight_bytes: u64,
    pub accepted: u64,
    pub answered: u64,
    pub cancelled: u64,
    pub refusals: BTreeMap<&'static str, u64>,
}

impl ShardSnapshot {
    /// Adds what another thread counted.
    pub fn merge(&mut self, other: &Self) {
        self.connections = self.connections.wrapping_add(other.connections);
        add_map(&mut self.connections_closed, &other.connections_closed);
        self.streams = self.streams.wrapping_add(other.streams);
        self.in_flight_requests = self.in_flight_requests.wrapping_add(other.in_flight_requests);
        self.in_flight_bytes += other.in_flight_bytes;
        self.accepted += other.accepted;
        self.answered += other.answered;
        self.cancelled += other.cancelled;
        add_map(&mut self.refusals, &other.refusals);
    }
}

fn add_distribution(ours: &mut Distribution, theirs: &Distribution) {
    add_counts(&mut ours.counts, &theirs.counts);
    ours.sum_s += theirs.sum_s;
}

fn add_counts(ours: &mut Vec<u64>, theirs: &[u64]) {
    ours.resize(ours.len().max(theirs.len()), 0);
    ours.iter_mut().zip(theirs).for_each(|(ours, theirs)| *ours += theirs);
}

fn add_map(ours: &mut BTreeMap<&'static str, u64>, theirs: &BTreeMap<&'static str, u64>) {
    for (label, count) in theirs {
        *ours.entry(label).or_default() += count;
    }
}
