//! What callers may rely on, whatever others do.
#![forbid(unsafe_code)]

#[path = "laws/batching.rs"]
mod batching;
#[path = "laws/execution.rs"]
mod execution;
#[path = "laws/once.rs"]
mod once;
#[path = "laws/oversize.rs"]
mod oversize;
#[path = "laws/preparation.rs"]
mod preparation;
#[path = "laws/ragged.rs"]
mod ragged;
#[path = "laws/rules.rs"]
mod rules;
#[path = "laws/scheduling.rs"]
mod scheduling;
#[path = "laws/service.rs"]
mod service;
#[path = "laws/slackline.rs"]
mod slackline;
#[path = "laws/ways.rs"]
mod ways;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use servekit_core::{
    Answer, Answers, Batch, Batcher, Contract, Executor, Model, Next, Pending, Policy, Reason, Refusal, Report, Ticket,
    execute,
};
use servekit_testing::{Clock, FakeModel, Inbox, contract_of_rows, fp32, fp32_values, limits};

/// One model, its queue, one lane and a shard's inbox, on a paused clock.
struct Bench {
    clock: Clock,
    inbox: Inbox,
    model: FakeModel,
    lane: Box<dyn Executor>,
    batcher: Batcher,
    batch: Batch,
    answers: Answers,
}

impl Bench {
    fn new(contract: Contract) -> Self {
        let policy = Policy::of(&contract, &limits());
        Self::with(contract, policy)
    }

    fn with(contract: Contract, policy: Policy) -> Self {
        let model = FakeModel::new(contract);
        Self {
            clock: Clock::new(),
            inbox: Inbox::new(),
            lane: model.lane(),
            model,
            batcher: Batcher::new("fake", policy),
            batch: Batch::default(),
            answers: Answers::default(),
        }
    }

    /// A request of rows that begin with these values.
    fn request(&self, values: &[f32]) -> Pending {
        self.inbox.request([rows(values)], self.clock.now())
    }

    fn offer(&mut self, pending: Pending) -> Ticket {
        let ticket = pending.caller.ticket();
        self.batcher.offer(pending, self.clock.now()).expect("there is room in the queue");
        ticket
    }

    fn offer_rows(&mut self, values: &[f32]) -> Ticket {
        let pending = self.request(values);
        self.offer(pending)
    }

    fn next(&mut self) -> Next {
        let next = self.batcher.next(self.clock.now(), &mut self.batch, &mut self.answers);
        self.answers.send();
        next
    }

    /// Runs the batch that was formed.
    fn execute(&mut self) -> Report {
        let clock = self.clock.clone();
        let report =
            execute(&mut *self.lane, self.model.contract(), &mut self.batch, &|| clock.now(), &mut self.answers);
        self.batcher.ran(&report, report.ended_at);
        self.answers.send();
        report
    }

    /// Runs batches until nothing waits.
    fn run_all(&mut self) -> Vec<Report> {
        let mut reports = Vec::new();
        while self.next() == Next::Run {
            reports.push(self.execute());
        }
        reports
    }

    /// What each caller got; fails where one got two answers.
    fn answers(&mut self) -> HashMap<Ticket, Result<Vec<f32>, Reason>> {
        let mut answers = HashMap::new();
        for Answer { ticket, outcome } in self.inbox.answers() {
            let outcome = outcome.map(|reply| fp32_values(&reply.outputs[0])).map_err(|refusal| refusal.reason);
            assert!(answers.insert(ticket, outcome).is_none(), "two answers for {ticket:?}");
        }
        answers
    }

    /// The one refusal that was sent.
    fn refusal(&mut self) -> Refusal {
        let mut answers = self.inbox.answers();
        assert_eq!(answers.len(), 1);
        answers.remove(0).outcome.expect_err("a refusal")
    }
}

/// One column of values.
fn rows(values: &[f32]) -> servekit_core::Tensor {
    fp32(&[values.len() as i64, 1], values)
}

fn policy(rows_max: u32) -> Policy {
    let bounds = Policy::of(&contract_of_rows(1), &limits());
    Policy { rows_max, bytes_max: 1 << 20, requests_max: 1_000, answer_bytes_max: 1 << 20, ..bounds }
}

fn expired_at(mut pending: Pending, deadline: Instant) -> Pending {
    pending.deadline = deadline;
    pending
}

fn in_ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
