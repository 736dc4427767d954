//! What happened, counted where it happens: each shard and each runner writes its own counters, a scrape adds them up.

mod anatomy;
mod histogram;
mod scope;
mod snapshot;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anatomy::Anatomy;
pub use anatomy::AnatomySnapshot;
pub use histogram::{Bounds, Histogram};
pub use scope::{RequestScope, Verdict};
pub use snapshot::{
    Distribution, ModelSnapshot, PaddingSnapshot, RequestsSnapshot, RowDistribution, ShardSnapshot, StepSnapshot, Sum,
};

use crate::{Batcher, Dispatch, Padding, Queued, Reason, Report, Shed, ShedCounts, Step, StepPlace};

/// A number with one writer: a load and a store, no locked instruction. Wraps, so gauges of several writers may be
/// added up.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, amount: u64) {
        self.set(self.get().wrapping_add(amount));
    }

    pub(crate) fn subtract(&self, amount: u64) {
        self.set(self.get().wrapping_sub(amount));
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a request is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Transport {
    /// JSON alone
    HttpJson,
    /// JSON with binary tensors behind it, or raw
    HttpBinary,
    /// gRPC
    Grpc,
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::HttpJson, Self::HttpBinary, Self::Grpc];

    /// Value of the metric's label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::HttpJson => "http_json",
            Self::HttpBinary => "http_binary",
            Self::Grpc => "grpc",
        }
    }
}

macro_rules! endings {
    ($($(#[$meta:meta])* $variant:ident => $label:literal,)*) => {
        /// Why a connection or stream was ended without a text.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Ending { $($(#[$meta])* $variant),* }

        impl Ending {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Value of the metric's label.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label),* }
            }
        }
    };
}

endings! {
    /// Longest idle, closed for a newcomer
    Connections => "connections",
    /// Too many from one address
    ConnectionsPeer => "connections_peer",
    /// The first bytes did not come in time
    Handshake => "handshake",
    /// No request for too long
    Idle => "idle",
    /// Open for too long
    Age => "age",
    /// One stream more than was allowed
    Streams => "streams",
    /// The peer broke HTTP/2
    H2Protocol => "h2_protocol",
    /// The peer made work without use
    Calm => "calm",
    /// No answer to a keep-alive
    DeadPeer => "dead_peer",
    /// The peer took no byte for too long
    WriteTimeout => "write_timeout",
}

/// Counters of one thread that do not belong to a model. One writer.
#[derive(Debug)]
pub struct ShardCounters {
    connections: Counter,
    streams: Counter,
    in_flight_requests: Counter,
    in_flight_bytes: Counter,
    accepted: Counter,
    answered: Counter,
    cancelled: Counter,
    /// By [`Ending`]
    closed: Box<[Counter]>,
    /// By [`Reason`]
    refusals: Box<[Counter]>,
}

impl Default for ShardCounters {
    fn default() -> Self {
        Self {
            connections: Counter::default(),
            streams: Counter::default(),
            in_flight_requests: Counter::default(),
            in_flight_bytes: Counter::default(),
            accepted: Counter::default(),
            answered: Counter::default(),
            cancelled: Counter::default(),
            closed: Ending::ALL.iter().map(|_| Counter::default()).collect(),
            refusals: Reason::ALL.iter().map(|_| Counter::default()).collect(),
        }
    }
}

impl ShardCounters {
    /// All at zero.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A connection was accepted.
    pub fn connection_opened(&self) {
        self.connections.add(1);
    }

    /// A connection is gone.
    pub fn connection_closed(&self) {
        self.connections.subtract(1);
    }

    /// A connection or a stream was ended by us, without a text. The gauges are told apart from this.
    pub fn ended(&self, ending: Ending) {
        self.closed[ending as usize].add(1);
    }

    /// A stream of HTTP/2 was opened.
    pub fn stream_opened(&self) {
        self.streams.add(1);
    }

    /// A stream of HTTP/2 is gone.
    pub fn stream_closed(&self) {
        self.streams.subtract(1);
    }

    /// Bytes reserved on this shard now.
    pub fn set_in_flight_bytes(&self, bytes: u64) {
        self.in_flight_bytes.set(bytes);
    }

    /// A refusal was written for which no [`RequestScope`] was open.
    pub fn refused(&self, reason: Reason) {
        self.refusals[reason as usize].add(1);
    }

    /// What it has counted.
    #[must_use]
    pub fn snapshot(&self) -> ShardSnapshot {
        ShardSnapshot {
            connections: self.connections.get(),
            connections_closed: Ending::ALL.iter().map(|e| (e.label(), self.closed[*e as usize].get())).collect(),
            streams: self.streams.get(),
            in_flight_requests: self.in_flight_requests.get(),
            in_flight_bytes: self.in_flight_bytes.get(),
            accepted: self.accepted.get(),
            answered: self.answered.get(),
            cancelled: self.cancelled.get(),
            refusals: Reason::ALL.iter().map(|r| (r.entry().label, self.refusals[*r as usize].get())).collect(),
        }
    }
}

/// Results, cancellations and each reason of a refusal.
const VERDICTS: usize = 2 + Reason::ALL.len();

/// Counters of one thread and one model. One writer.
#[derive(Debug)]
pub struct ModelCounters {
    /// Of the same thread.
    shard: Arc<ShardCounters>,
    in_flight_requests: Counter,
    /// By transport and verdict; made when first needed, as nearly none is.
    requests: Box<[OnceLock<Histogram>]>,
    /// By transport; made when first needed.
    anatomies: [OnceLock<Anatomy>; Transport::ALL.len()],
    queue: Histogram,
    run: Histogram,
    batch_rows: Histogram,
    /// Nanoseconds
    input: Counter,
    /// Nanoseconds
    output: Counter,
    rows: Counter,
    runs: Counter,
    panics: Counter,
    /// Positions
    useful: Counter,
    /// Positions
    padded: Counter,
    /// By [`Shed`]
    shed: [Counter; Shed::ALL.len()],
    /// By [`Dispatch`]
    dispatch: [Counter; Dispatch::ALL.len()],
    /// Of the model, in its order; those of its preparer first.
    steps: Box<[(Step, Histogram)]>,
    queue_rows: Counter,
    queue_requests: Counter,
}

impl ModelCounters {
    /// All at zero, for the thread that writes `shard` and a model of these steps.
    #[must_use]
    pub fn new(shard: &Arc<ShardCounters>, steps: &[Step]) -> Arc<Self> {
        Arc::new(Self {
            shard: Arc::clone(shard),
            in_flight_requests: Counter::default(),
            requests: (0..Transport::ALL.len() * VERDICTS).map(|_| OnceLock::new()).collect(),
            anatomies: std::array::from_fn(|_| OnceLock::new()),
            queue: Histogram::seconds(),
            run: Histogram::seconds(),
            batch_rows: Histogram::rows(),
            input: Counter::default(),
            output: Counter::default(),
            rows: Counter::default(),
            runs: Counter::default(),
            panics: Counter::default(),
            useful: Counter::default(),
            padded: Counter::default(),
            shed: std::array::from_fn(|_| Counter::default()),
            dispatch: std::array::from_fn(|_| Counter::default()),
            steps: steps.iter().map(|step| (step.clone(), Histogram::seconds())).collect(),
            queue_rows: Counter::default(),
            queue_requests: Counter::default(),
        })
    }

    /// A batch was run.
    pub fn ran(&self, dispatch: Dispatch, report: &Report) {
        for run in &report.runs {
            self.runs.add(1);
            self.run.observe(nanoseconds(run.run));
            self.batch_rows.observe(u64::from(run.rows));
            self.input.add(nanoseconds(run.input));
            self.output.add(nanoseconds(run.output));
            self.rows.add(u64::from(run.rows_answered()));
        }
        self.panics.add(u64::from(report.panics));
        self.dispatch[dispatch as usize].add(1);
        let (_, steps) = self.steps.split_at(self.row_steps());
        observe(steps, &report.steps);
    }

    /// A request was prepared, or was refused by one of these steps.
    pub fn prepared(&self, steps: &[Duration]) {
        observe(&self.steps, steps);
    }

    /// A request waited this long for its run in a leg; for its answer the wait of all legs counts, at the model.
    pub fn waited(&self, queue: Duration) {
        self.queue.observe(nanoseconds(queue));
    }

    /// A preparer panicked.
    pub fn panicked(&self) {
        self.panics.add(1);
    }

    /// Requests were given up without a run.
    pub fn shed(&self, counts: &ShedCounts) {
        for shed in Shed::ALL {
            self.shed[shed as usize].add(counts.of(shed));
        }
    }

    /// Rows of batches were brought to one length.
    pub fn padded(&self, padding: &Padding) {
        self.useful.add(padding.useful);
        self.padded.add(padding.padded);
    }

    /// Counts what a queue has given up, and what it has padded, since it was asked last.
    pub fn gave(&self, batcher: &mut Batcher) {
        let (shed, padding) = (batcher.take_shed(), batcher.take_padding());
        if shed.total() > 0 {
            self.shed(&shed);
        }
        if padding != Padding::default() {
            self.padded(&padding);
        }
    }

    /// What waits in the queue that this thread keeps.
    pub fn set_queue(&self, queued: Queued) {
        self.queue_requests.set(queued.requests as u64);
        self.queue_rows.set(queued.rows as u64);
    }

    /// What it has counted.
    #[must_use]
    pub fn snapshot(&self) -> ModelSnapshot {
        let (mut requests, mut anatomy) = (Vec::new(), Vec::new());
        for transport in Transport::ALL {
            for verdict in 0..VERDICTS {
                if let Some(histogram) = self.requests[transport as usize * VERDICTS + verdict].get() {
                    let Distribution { counts, sum_s } = histogram.distribution();
                    let outcome = scope::verdict_label(verdict);
                    if let Some(anatomies) = self.anatomies[transport as usize].get().filter(|_| verdict == scope::OK) {
                        anatomy.push(anatomies.snapshot(transport.label(), counts.clone()));
                    }
                    requests.push(RequestsSnapshot { transport: transport.label(), outcome, counts, sum_s });
                }
            }
        }
        ModelSnapshot {
            requests,
            queue: self.queue.distribution(),
            run: self.run.distribution(),
            input: Sum { sum_s: histogram::seconds(self.input.get()) },
            output: Sum { sum_s: histogram::seconds(self.output.get()) },
            batch_rows: self.batch_rows.row_distribution(),
            rows: self.rows.get(),
            runs: self.runs.get(),
            panics: self.panics.get(),
            padding: PaddingSnapshot { useful: self.useful.get(), padded: self.padded.get() },
            shed: Shed::ALL.iter().map(|s| (s.label(), self.shed[*s as usize].get())).collect(),
            anatomy,
            dispatch: Dispatch::ALL.iter().map(|d| (d.label(), self.dispatch[*d as usize].get())).collect(),
            steps: self.steps.iter().map(|(step, taken)| StepSnapshot::of(step, taken.distribution())).collect(),
            in_flight_requests: self.in_flight_requests.get(),
            queue_rows: self.queue_rows.get(),
            queue_requests: self.queue_requests.get(),
        }
    }

    /// Steps of the preparer.
    fn row_steps(&self) -> usize {
        self.steps.iter().take_while(|(step, _)| step.place == StepPlace::Row).count()
    }

    fn anatomy(&self, transport: Transport) -> &Anatomy {
        self.anatomies[transport as usize].get_or_init(Anatomy::new)
    }

    fn requests(&self, transport: Transport, verdict: usize) -> &Histogram {
        self.requests[transport as usize * VERDICTS + verdict].get_or_init(Histogram::seconds)
    }
}

fn observe(steps: &[(Step, Histogram)], durations: &[Duration]) {
    for ((_, taken), duration) in steps.iter().zip(durations) {
        taken.observe(nanoseconds(*duration));
    }
}

/// As many as 64 bits hold, which are those of 584 years; without arithmetic in 128 bits, as it is done per request.
fn nanoseconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(duration.subsec_nanos()))
}
