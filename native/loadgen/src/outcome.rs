//! What a run showed.

use std::collections::BTreeMap;

use serde::Serialize;

/// One run. Counts and times are of the requests that were due in the part that counts.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The generator kept up, so the figures are the server's.
    pub valid: bool,
    /// Where it did not: why.
    pub invalid_because: Vec<String>,
    /// Length of the part that counts.
    pub seconds: f64,
    /// Due.
    pub offered: u64,
    /// Left the generator.
    pub sent: u64,
    /// Answered, with whatever status.
    pub answered: u64,
    /// Served.
    pub ok: u64,
    /// Served within the objective, counted from when they were due.
    pub good: u64,
    /// Left by their caller.
    pub cancelled: u64,
    /// Answers that were no, by status: `503`, `grpc 14`, `reset 7`.
    pub refused: BTreeMap<String, u64>,
    /// The first text of each.
    pub refusal_texts: BTreeMap<String, String>,
    /// No answer, by reason.
    pub failed: BTreeMap<String, u64>,
    /// Due per second.
    pub offered_per_s: f64,
    /// Served within the objective per second.
    pub goodput_per_s: f64,
    /// Served per second.
    pub served_per_s: f64,
    /// Times of all that were offered and not cancelled; who was not served took for ever.
    pub offered_ms: Quantiles,
    /// Times of those served.
    pub served_ms: Quantiles,
    /// Times of those refused.
    pub refusal_ms: RefusalTimes,
    /// From due to sent.
    pub late_ms: Late,
    /// By class, in the plan's order.
    pub priorities: Vec<ByPriority>,
    /// The part that counts, window by window.
    pub timeline: Vec<Window>,
    /// Of one core, used by the generator.
    pub cpu_share: f64,
    /// Had to wait for a connection or stream.
    pub waited: u64,
    /// Connections opened in place of lost ones.
    pub reconnects: u64,
    /// Sent in all, the warm-up too.
    pub sent_total: u64,
    /// Served in all, the warm-up too.
    pub ok_total: u64,
    /// Answered in all, the warm-up too.
    pub answered_total: u64,
    /// Bytes of all answers' bodies.
    pub answer_bytes_total: u64,
    /// Callers who hardly read.
    pub slow: SlowReaders,
}

/// Milliseconds; `None` is for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// Half are not above it.
    pub p50: Option<f64>,
    /// Nine of ten.
    pub p90: Option<f64>,
    /// 99 of 100.
    pub p99: Option<f64>,
    /// 999 of 1000.
    pub p999: Option<f64>,
}

/// Milliseconds; `None` where there was no refusal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct RefusalTimes {
    /// Half are not above it.
    pub p50: Option<f64>,
    /// 99 of 100.
    pub p99: Option<f64>,
}

/// Milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Late {
    /// Half are not above it.
    pub p50: f64,
    /// 99 of 100.
    pub p99: f64,
    /// None is above it.
    pub max: f64,
}

/// One class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ByPriority {
    /// As it was sent.
    pub level: u32,
    /// Due and not cancelled.
    pub offered: u64,
    /// Served within the objective.
    pub good: u64,
    /// Times of all that were offered.
    pub offered_ms: Quantiles,
}

/// Requests that were due in one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Window {
    /// Due.
    pub offered: u64,
    /// Served.
    pub ok: u64,
    /// Served within the objective.
    pub good: u64,
    /// Answered otherwise.
    pub refused: u64,
}

/// What callers who hardly read did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SlowReaders {
    /// How many.
    pub connections: u32,
    /// What the server took from them.
    pub sent_bytes: u64,
    /// What they took.
    pub read_bytes: u64,
    /// How often the server ended one of them.
    pub closed: u64,
}
