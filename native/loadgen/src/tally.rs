//! What is counted while a run goes on.

use std::collections::BTreeMap;

use servekit_wire::client::{Answer, Status};

use crate::flights::Flight;
use crate::histogram::Histogram;
use crate::outcome::{ByPriority, Late, Outcome, Quantiles, RefusalTimes, SlowReaders, Window};
use crate::plan::Plan;
use crate::verdict::{self, Evidence};

const NS_PER_MS: f64 = 1e6;
const NS_PER_S: f64 = 1e9;

/// Counts and times of one run.
#[derive(Debug)]
pub(crate) struct Tally {
    seconds: f64,
    slo_ns: u64,
    from_ns: u64,
    to_ns: u64,
    window_ns: u64,
    offered: u64,
    sent: u64,
    sent_total: u64,
    ok_total: u64,
    answered_total: u64,
    answer_bytes_total: u64,
    cancelled: u64,
    waited: u64,
    unsent: u64,
    served: Histogram,
    refusals: Histogram,
    late: Histogram,
    refused: Vec<Refused>,
    failed: BTreeMap<&'static str, u64>,
    classes: Vec<Class>,
    timeline: Vec<Window>,
}

/// One kind of no.
#[derive(Debug)]
struct Refused {
    status: Status,
    count: u64,
    text: String,
}

#[derive(Debug, Default)]
struct Class {
    offered: u64,
    good: u64,
    served: Histogram,
}

/// What the driver alone knows at the end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) cpu_share: f64,
    pub(crate) reconnects: u64,
    pub(crate) slow: SlowReaders,
}

impl Tally {
    pub(crate) fn new(plan: &Plan) -> Self {
        let window_ns = ((plan.window_ms * NS_PER_MS) as u64).max(1);
        let from_ns = (plan.warm_seconds * NS_PER_S) as u64;
        let to_ns = ((plan.warm_seconds + plan.seconds) * NS_PER_S) as u64;
        let windows = (to_ns - from_ns).div_ceil(window_ns) as usize;
        Self {
            seconds: plan.seconds,
            slo_ns: (plan.slo_ms * NS_PER_MS) as u64,
            from_ns,
            to_ns,
            window_ns,
            offered: 0,
            sent: 0,
            sent_total: 0,
            ok_total: 0,
            answered_total: 0,
            answer_bytes_total: 0,
            cancelled: 0,
            waited: 0,
            unsent: 0,
            served: Histogram::default(),
            refusals: Histogram::default(),
            late: Histogram::default(),
            refused: Vec::new(),
            failed: BTreeMap::new(),
            classes: (0..plan.priorities.len().max(1)).map(|_| Class::default()).collect(),
            timeline: vec![Window::default(); windows.max(1)],
        }
    }

    /// When the part that counts ends, and with it the schedule.
    pub(crate) fn to_ns(&self) -> u64 {
        self.to_ns
    }

    /// A request is due; whether it counts.
    pub(crate) fn offer(&mut self, due_ns: u64, class: u16) -> bool {
        let counted = (self.from_ns..self.to_ns).contains(&due_ns);
        if counted {
            self.offered += 1;
            self.classes[usize::from(class)].offered += 1;
            self.window(due_ns).offered += 1;
        }
        counted
    }

    /// One that is due finds no connection free.
    pub(crate) fn wait(&mut self, counted: bool) {
        self.waited += u64::from(counted);
    }

    pub(crate) fn send(&mut self, flight: &Flight, late_ns: u64) {
        self.sent_total += 1;
        if flight.counted {
            self.sent += 1;
            self.late.record(late_ns);
        }
    }

    pub(crate) fn answer(&mut self, flight: &Flight, answer: &Answer, text: &[u8], now_ns: u64) {
        self.answered_total += 1;
        self.answer_bytes_total += answer.body_bytes;
        self.ok_total += u64::from(answer.status.is_ok());
        if !flight.counted {
            return;
        }
        let took_ns = now_ns.saturating_sub(flight.due_ns);
        if !answer.status.is_ok() {
            self.refusals.record(took_ns);
            self.window(flight.due_ns).refused += 1;
            return self.refuse(answer.status, text);
        }
        let good = u64::from(took_ns <= self.slo_ns);
        self.served.record(took_ns);
        let class = &mut self.classes[usize::from(flight.class)];
        class.served.record(took_ns);
        class.good += good;
        let window = self.window(flight.due_ns);
        window.ok += 1;
        window.good += good;
    }

    pub(crate) fn cancel(&mut self, flight: &Flight) {
        if flight.counted {
            self.cancelled += 1;
            self.classes[usize::from(flight.class)].offered -= 1;
        }
    }

    /// One that gets no answer any more.
    pub(crate) fn fail(&mut self, counted: bool, reason: &'static str) {
        if counted {
            *self.failed.entry(reason).or_default() += 1;
        }
    }

    /// One that was due and never left.
    pub(crate) fn give_up(&mut self, counted: bool) {
        self.unsent += u64::from(counted);
        self.fail(counted, "not sent");
    }

    fn refuse(&mut self, status: Status, text: &[u8]) {
        if let Some(known) = self.refused.iter_mut().find(|refused| refused.status == status) {
            known.count += 1;
            return;
        }
        self.refused.push(Refused { status, count: 1, text: String::from_utf8_lossy(text).into_owned() });
    }

    fn window(&mut self, due_ns: u64) -> &mut Window {
        let at = ((due_ns - self.from_ns) / self.window_ns) as usize;
        let last = self.timeline.len() - 1;
        &mut self.timeline[at.min(last)]
    }

    pub(crate) fn finish(self, plan: &Plan, usage: Usage) -> Outcome {
        let good: u64 = self.classes.iter().map(|class| class.good).sum();
        let ok = self.served.count();
        let late = |share| self.late.quantile_ns(share, self.late.count()).map_or(0.0, milliseconds);
        let late_ms = Late { p50: late(0.5), p99: late(0.99), max: milliseconds(self.late.max_ns()) };
        let invalid_because = verdict::reasons(&Evidence {
            slo_ms: plan.slo_ms,
            late_p99_ms: late_ms.p99,
            cpu_share: usage.cpu_share,
            offered: self.offered,
            waited: self.waited,
            unsent: self.unsent,
            served: ok,
        });
        let refusal = |share| self.refusals.quantile_ns(share, self.refusals.count()).map(milliseconds);
        let by_priority = |(class, plan): (&Class, &crate::plan::Priority)| ByPriority {
            level: plan.level,
            offered: class.offered,
            good: class.good,
            offered_ms: quantiles(&class.served, class.offered),
        };
        Outcome {
            valid: invalid_because.is_empty(),
            invalid_because,
            seconds: self.seconds,
            offered: self.offered,
            sent: self.sent,
            answered: ok + self.refusals.count(),
            ok,
            good,
            cancelled: self.cancelled,
            refused: self.refused.iter().map(|refused| (label(refused.status), refused.count)).collect(),
            refusal_texts: self.refused.iter().map(|refused| (label(refused.status), refused.text.clone())).collect(),
            failed: self.failed.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect(),
            offered_per_s: self.offered as f64 / self.seconds,
            goodput_per_s: good as f64 / self.seconds,
            served_per_s: ok as f64 / self.seconds,
            offered_ms: quantiles(&self.served, self.offered.saturating_sub(self.cancelled)),
            served_ms: quantiles(&self.served, ok),
            refusal_ms: RefusalTimes { p50: refusal(0.5), p99: refusal(0.99) },
            late_ms,
            priorities: self.classes.iter().zip(&plan.priorities).map(by_priority).collect(),
            timeline: self.timeline,
            cpu_share: usage.cpu_share,
            waited: self.waited,
            reconnects: usage.reconnects,
            sent_total: self.sent_total,
            ok_total: self.ok_total,
            answered_total: self.answered_total,
            answer_bytes_total: self.answer_bytes_total,
            slow: usage.slow,
        }
    }
}

fn quantiles(served: &Histogram, total: u64) -> Quantiles {
    let quantile = |share| served.quantile_ns(share, total).map(milliseconds);
    Quantiles { p50: quantile(0.5), p90: quantile(0.9), p99: quantile(0.99), p999: quantile(0.999) }
}

fn milliseconds(ns: u64) -> f64 {
    ns as f64 / NS_PER_MS
}

fn label(status: Status) -> String {
    match status {
        Status::Http(status) => status.to_string(),
        Status::Grpc(code) => format!("grpc {code}"),
        Status::Reset(code) => format!("reset {code}"),
    }
}

#[cfg(test)]
mod tests;
