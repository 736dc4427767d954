//! Where the time of answered requests went, told apart by how long they took, so that the slow ones are explained by
//! what they met and not by what requests meet on the whole.

use serde::Serialize;

use super::histogram::seconds;
use super::{Counter, Histogram, nanoseconds};
use crate::Timing;

/// Steps of a request's way that are told apart.
const STEPS: usize = 5;

/// Durations of requests answered with a result, and what they consist of. One writer.
#[derive(Debug)]
pub(super) struct Anatomy {
    /// By bucket of a request's whole duration, as histograms of durations have them; then by step: nanoseconds.
    buckets: Box<[[Counter; STEPS]]>,
}

/// Where the time of the requests of one transport went that were answered with a result, by bucket of their whole
/// duration. All lists have one entry per bound and one more for what exceeds all.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AnatomySnapshot {
    /// Label of the transport.
    pub transport: &'static str,
    /// Requests.
    pub counts: Vec<u64>,
    /// Seconds that they waited for their batches.
    pub queue_s: Vec<f64>,
    /// Seconds in which the inputs of their batches were gathered.
    pub input_s: Vec<f64>,
    /// Seconds that the model ran for them.
    pub run_s: Vec<f64>,
    /// Seconds in which the outputs of their batches were taken apart.
    pub output_s: Vec<f64>,
    /// All other seconds: reading, decoding, encoding, and waiting for the network thread.
    pub rest_s: Vec<f64>,
}

impl Anatomy {
    pub(super) fn new() -> Self {
        Self {
            buckets: (0..Histogram::BUCKETS_OF_SECONDS).map(|_| std::array::from_fn(|_| Counter::default())).collect(),
        }
    }

    /// Adds a request whose whole duration lies in this bucket. Durations are in nanoseconds; `timing` has the others.
    #[inline]
    pub(super) fn add(&self, bucket: usize, duration: u64, queue: u64, timing: &Timing) {
        let Some([queues, inputs, runs, outputs, rests]) = self.buckets.get(bucket) else { return };
        let [input, run, output] = [timing.input, timing.run, timing.output].map(nanoseconds);
        queues.add(queue);
        inputs.add(input);
        runs.add(run);
        outputs.add(output);
        // Parts of one request may run at the same time, so together they may take longer than the request.
        rests.add(duration.saturating_sub(queue.wrapping_add(input).wrapping_add(run).wrapping_add(output)));
    }

    /// What was added, with the counts of the histogram that told the buckets.
    pub(super) fn snapshot(&self, transport: &'static str, counts: Vec<u64>) -> AnatomySnapshot {
        let step = |step: usize| self.buckets.iter().map(|steps| seconds(steps[step].get())).collect();
        AnatomySnapshot {
            transport,
            counts,
            queue_s: step(0),
            input_s: step(1),
            run_s: step(2),
            output_s: step(3),
            rest_s: step(4),
        }
    }
}

impl AnatomySnapshot {
    /// Adds what another thread counted of the same transport.
    pub(super) fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(ours, theirs)| *ours += theirs);
        let steps = [
            (&mut self.queue_s, &other.queue_s),
            (&mut self.input_s, &other.input_s),
            (&mut self.run_s, &other.run_s),
            (&mut self.output_s, &other.output_s),
            (&mut self.rest_s, &other.rest_s),
        ];
        for (ours, theirs) in steps {
            ours.iter_mut().zip(theirs).for_each(|(ours, theirs)| *ours += theirs);
        }
    }
}
