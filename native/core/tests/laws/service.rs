//! A service on a paused clock: one Batcher, some lanes that take as long as they are told, and requests that arrive
//! whether or not others have been answered.

use std::cell::Cell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use servekit_core::{
    Answer, Answers, Batch, Batcher, Next, Outputs, Pending, Policy, Reason, Reply, Report, Run, Ticket, Timing,
};
use servekit_testing::{Clock, Inbox};

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Served { late: bool },
    Refused(Reason),
}

/// A request that was offered, by when it was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offered {
    pub(crate) at: Duration,
    pub(crate) priority: u8,
    pub(crate) rows: u32,
    deadline: Instant,
    pub(crate) fate: Option<Fate>,
}

/// A batch in its lane.
struct Busy {
    ends_at: Instant,
    run: Duration,
    batch: Batch,
}

/// How long a batch takes, by its rows and its longest length.
pub(crate) type RunTime = Box<dyn FnMut(&Batch) -> Duration>;

pub(crate) struct Service {
    pub(crate) clock: Clock,
    pub(crate) inbox: Inbox,
    pub(crate) batcher: Batcher,
    pub(crate) offered: Vec<Offered>,
    /// Rows of each batch.
    pub(crate) batches: Vec<u32>,
    start: Instant,
    lanes: Vec<Option<Busy>>,
    run_time: RunTime,
    tickets: HashMap<Ticket, usize>,
    wakes_at: Option<Instant>,
    answers: Answers,
}

/// Microseconds for a run and for each of its rows.
pub(crate) fn linear(base_us: f64, row_us: f64) -> RunTime {
    Box::new(move |batch| Duration::from_secs_f64((base_us + row_us * f64::from(batch.rows)) * 1e-6))
}

impl Service {
    pub(crate) fn new(policy: Policy, run_time: RunTime) -> Self {
        let clock = Clock::new();
        Self {
            start: clock.now(),
            inbox: Inbox::new(),
            lanes: (0..policy.lanes).map(|_| None).collect(),
            batcher: Batcher::new("fake", policy),
            offered: Vec::new(),
            batches: Vec::new(),
            run_time,
            tickets: HashMap::new(),
            wakes_at: None,
            answers: Answers::default(),
            clock,
        }
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.clock.now() - self.start
    }

    /// A request arrives now.
    pub(crate) fn offer(&mut self, pending: Pending) {
        let (ticket, now) = (pending.caller.ticket(), self.clock.now());
        let could_run = self.lanes.iter().any(Option::is_none) && self.batcher.queued().requests == 0;
        let mut offered = Offered {
            at: self.elapsed(),
            priority: pending.priority,
            rows: pending.rows,
            deadline: pending.deadline,
            fate: None,
        };
        match self.batcher.offer(pending, now) {
            Ok(()) => drop(self.tickets.insert(ticket, self.offered.len())),
            Err(refused) => {
                assert!(!could_run || refused.refusal.reason != Reason::Overloaded, "refused while it could run");
                offered.fate = Some(Fate::Refused(refused.refusal.reason));
                refused.pending.caller.dismiss();
                self.inbox.leave(ticket);
            }
        }
        self.offered.push(offered);
        self.dispatch();
    }

    /// Lets time pass, and lanes do what they do meanwhile.
    pub(crate) fn advance_to(&mut self, elapsed: Duration) {
        let until = self.start + elapsed;
        while let Some(at) = self.event_next().filter(|at| *at <= until) {
            self.clock.advance(at.saturating_duration_since(self.clock.now()));
            self.finish();
            self.dispatch();
        }
        self.clock.advance(until.saturating_duration_since(self.clock.now()));
    }

    /// Lets lanes work until nothing is left, and checks that nothing is.
    pub(crate) fn finish_all(&mut self) {
        while let Some(at) = self.event_next() {
            self.advance_to(at.saturating_duration_since(self.start));
        }
        assert_eq!(self.batcher.queued(), servekit_core::Queued::default(), "idle is zero");
        assert_eq!(self.batcher.estimate().lanes_busy, 0);
        assert_eq!(self.batcher.laxity(self.clock.now()), None);
        assert!(self.tickets.is_empty(), "{} never answered", self.tickets.len());
        assert!(self.offered.iter().all(|offered| offered.fate.is_some()));
    }

    /// All lanes stop for so long: what runs ends later.
    pub(crate) fn stall(&mut self, time: Duration) {
        for busy in self.lanes.iter_mut().flatten() {
            busy.ends_at += time;
            busy.run += time;
        }
    }

    /// Share of the rows that came between these times, and were answered in time.
    pub(crate) fn goodput(&self, from: Duration, until: Duration) -> f64 {
        self.goodput_of(from, until, |_| true)
    }

    pub(crate) fn goodput_of(&self, from: Duration, until: Duration, counts: impl Fn(&Offered) -> bool) -> f64 {
        let (mut good, mut all) = (0, 0);
        for offered in self.offered.iter().filter(|offered| offered.at >= from && offered.at < until && counts(offered))
        {
            all += offered.rows;
            good += if offered.fate == Some(Fate::Served { late: false }) { offered.rows } else { 0 };
        }
        f64::from(good) / f64::from(all.max(1))
    }

    fn event_next(&self) -> Option<Instant> {
        self.lanes.iter().flatten().map(|busy| busy.ends_at).chain(self.wakes_at).min()
    }

    /// Answers batches that have run by now.
    fn finish(&mut self) {
        let now = self.clock.now();
        for lane in 0..self.lanes.len() {
            if self.lanes[lane].as_ref().is_none_or(|busy| busy.ends_at > now) {
                continue;
            }
            let Some(Busy { run, mut batch, .. }) = self.lanes[lane].take() else { continue };
            let mut report = Report::started(batch.run, now - run);
            let requests = batch.items.len() as u32;
            report.runs.push(Run {
                rows: batch.rows,
                requests,
                rows_refused: 0,
                input: Duration::ZERO,
                run,
                output: Duration::ZERO,
            });
            for item in batch.items.drain(..) {
                let reply = Reply { outputs: Outputs::new(), timing: Timing::default(), steps: None };
                item.answer(Ok(reply), &mut self.answers);
            }
            self.batcher.ran(&report, now);
            self.receive();
        }
    }

    /// Gives batches to lanes that are free.
    fn dispatch(&mut self) {
        let now = self.clock.now();
        self.wakes_at = None;
        for lane in 0..self.lanes.len() {
            if self.lanes[lane].is_some() {
                continue;
            }
            let mut batch = Batch::default();
            let next = self.batcher.next(now, &mut batch, &mut self.answers);
            self.receive();
            match next {
                Next::Run => {
                    self.check(&batch, now);
                    self.batches.push(batch.rows);
                    let run = (self.run_time)(&batch);
                    self.lanes[lane] = Some(Busy { ends_at: now + run, run, batch });
                }
                Next::WaitUntil(until) => {
                    assert!(until > now, "a wait ends after it begins");
                    self.wakes_at = Some(until);
                    return;
                }
                Next::Idle => {
                    assert_eq!(self.batcher.queued().requests, 0, "a free lane leaves nothing");
                    return;
                }
            }
        }
    }

    fn check(&self, batch: &Batch, now: Instant) {
        let policy = self.batcher.policy();
        let is_sole = batch.items.len() == 1;
        assert!(!batch.items.is_empty());
        assert!(batch.rows <= policy.rows_max || (is_sole && !policy.batched), "{} rows", batch.rows);
        assert!(batch.bytes <= policy.bytes_max || batch.rows == 1, "{} bytes", batch.bytes);
        assert!(batch.items.iter().all(|item| item.deadline() > now && item.is_waiting()));
        assert!(is_sole || batch.items.iter().all(|item| item.inputs().len() == batch.items[0].inputs().len()));
    }

    fn receive(&mut self) {
        let now = self.clock.now();
        self.answers.send();
        for Answer { ticket, outcome } in self.inbox.answers() {
            let Some(index) = self.tickets.remove(&ticket) else { panic!("two answers for {ticket:?}") };
            let offered = &mut self.offered[index];
            let fate = match outcome {
                Ok(_) => Fate::Served { late: now > offered.deadline },
                Err(refusal) => Fate::Refused(refusal.reason),
            };
            assert!(offered.fate.replace(fate).is_none(), "both shed and served");
        }
    }
}

/// A cell that a run time shares with its test, for a pace that changes.
pub(crate) type Pace = std::rc::Rc<Cell<f64>>;
