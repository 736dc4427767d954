//! Exactly one answer, under random arrivals, cancels and failures.

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;
use servekit_core::{
    Answer, Answers, Batch, Budget, Lease, ModelCounters, ModelKey, Next, Pending, Policy, Reason, Refusal,
    RequestScope, Scheduler, ShardCounters, Ticket, Transport, Verdict, execute,
};
use servekit_core::{Model, Queued};
use servekit_testing::{Clock, FakeModel, Inbox, contract_of_rows, fp32_values};

use crate::{policy, rows};

/// What may happen, in any order.
#[derive(Clone, Debug)]
enum Event {
    /// A request of this many rows, for one of two models, that may take this long.
    Arrive {
        model: u8,
        rows: u8,
        deadline_ms: u8,
        alone: bool,
    },
    /// The caller of one of those open leaves.
    Leave(u8),
    /// A lane forms a batch and keeps it for now.
    Form,
    /// The batch formed first is run.
    Run,
    Wait {
        milliseconds: u8,
    },
    /// Rows with this last digit are rejected, or panic, from now on.
    Poison {
        digit: u8,
        panics: bool,
    },
    Shrink {
        rows_max: u8,
    },
    Close {
        model: u8,
    },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => (0..2_u8, 0..12_u8, 1..40_u8, proptest::bool::weighted(0.1))
            .prop_map(|(model, rows, deadline_ms, alone)| Event::Arrive { model, rows, deadline_ms, alone }),
        3 => any::<u8>().prop_map(Event::Leave),
        5 => Just(Event::Form),
        5 => Just(Event::Run),
        3 => (1..20_u8).prop_map(|milliseconds| Event::Wait { milliseconds }),
        1 => (0..100_u8, any::<bool>()).prop_map(|(digit, panics)| Event::Poison { digit, panics }),
        1 => (1..5_u8).prop_map(|rows_max| Event::Shrink { rows_max }),
        1 => (0..2_u8).prop_map(|model| Event::Close { model }),
    ]
}

/// A shard with two models, without sockets.
struct World {
    clock: Clock,
    inbox: Inbox,
    models: [FakeModel; 2],
    scheduler: Scheduler,
    formed: Vec<Batch>,
    answers: Answers,
    open: HashMap<Ticket, Open>,
    shard: Arc<ShardCounters>,
    counters: [Arc<ModelCounters>; 2],
    lease: Lease,
    row_next: u16,
    answered: u64,
    left: u64,
}

struct Open {
    scope: RequestScope,
    values: Vec<f32>,
    key: ModelKey,
}

impl World {
    fn new() -> Self {
        let shard = ShardCounters::new();
        let mut scheduler = Scheduler::new(12, 200);
        for key in 0..2 {
            scheduler.add(ModelKey(key), "fake", Policy { lanes: 64, ..policy(4) });
        }
        Self {
            clock: Clock::new(),
            inbox: Inbox::new(),
            models: [0, 1].map(|_| FakeModel::new(contract_of_rows(1))),
            scheduler,
            formed: Vec::new(),
            answers: Answers::default(),
            open: HashMap::new(),
            counters: [0, 1].map(|_| ModelCounters::new(&shard, &[])),
            shard,
            lease: Budget::new(1 << 30, 1_000, 1).lease(),
            row_next: 0,
            answered: 0,
            left: 0,
        }
    }

    fn on(&mut self, event: &Event) {
        match *event {
            Event::Arrive { model, rows, deadline_ms, alone } => self.arrive(model, rows, deadline_ms, alone),
            Event::Leave(pick) => self.leave(pick),
            Event::Form => drop(self.form()),
            Event::Run => self.run(),
            Event::Wait { milliseconds } => self.clock.advance_ms(u64::from(milliseconds)),
            Event::Poison { digit, panics } => {
                for model in &self.models {
                    let value = f32::from(digit);
                    if panics { model.panic_at(value) } else { model.reject(value) }
                }
            }
            Event::Shrink { rows_max } => self.models[0].fit_rows(u32::from(rows_max)),
            Event::Close { model } => {
                let refusal = Refusal::new(Reason::Draining, "shutting down");
                self.scheduler.close(ModelKey(u32::from(model)), &refusal, &mut self.answers);
            }
        }
        self.receive();
    }

    fn arrive(&mut self, model: u8, count: u8, deadline_ms: u8, alone: bool) {
        let now = self.clock.now();
        let values: Vec<f32> = (0..u16::from(count)).map(|row| f32::from((self.row_next + row) % 1_000)).collect();
        self.row_next += u16::from(count);
        let mut scope = RequestScope::open(&self.shard, Transport::Grpc, now);
        scope.enter(&self.counters[usize::from(model)]);
        let mut pending: Pending = self.inbox.request([rows(&values)], now);
        pending.deadline = now + std::time::Duration::from_millis(u64::from(deadline_ms));
        pending.alone = alone;
        let (ticket, bytes) = (pending.caller.ticket(), pending.bytes() as u64);
        let key = ModelKey(u32::from(model));
        match self.scheduler.offer(key, pending, now) {
            Ok(()) => {
                scope.accept(now);
                self.lease.reserve_bytes(bytes).expect("room");
                self.lease.reserve_request().expect("room");
                assert!(self.open.insert(ticket, Open { scope, values, key }).is_none());
            }
            Err(refused) => {
                self.inbox.leave(ticket);
                scope.close(Verdict::Refused(refused.refusal.reason), now);
            }
        }
    }

    fn leave(&mut self, pick: u8) {
        let mut tickets: Vec<Ticket> = self.open.keys().copied().collect();
        tickets.sort_by_key(|ticket| ticket.slot);
        let Some(&ticket) = tickets.get(usize::from(pick) % tickets.len().max(1)) else { return };
        let open = self.open.remove(&ticket).expect("it was listed");
        self.inbox.leave(ticket);
        self.scheduler.leave(open.key, open.values.len() * 4, self.clock.now());
        self.release(&open.values);
        self.left += 1;
    }

    fn form(&mut self) -> bool {
        let mut batch = Batch::default();
        let is_formed = self.scheduler.next(self.clock.now(), &mut batch, &mut self.answers) == Next::Run;
        if is_formed {
            assert!(batch.rows <= 4 && !batch.items.is_empty());
            self.formed.push(batch);
        }
        is_formed
    }

    fn run(&mut self) {
        if self.formed.is_empty() {
            return;
        }
        let mut batch = self.formed.remove(0);
        let model = &self.models[batch.key.0 as usize];
        let mut lane = model.lane();
        let clock = self.clock.clone();
        let report = execute(&mut *lane, model.contract(), &mut batch, &|| clock.now(), &mut self.answers);
        self.counters[batch.key.0 as usize].ran(batch.dispatch, &report);
        self.scheduler.ran(batch.key, &report, report.ended_at);
    }

    fn receive(&mut self) {
        self.answers.send();
        for Answer { ticket, outcome } in self.inbox.answers() {
            let Some(open) = self.open.remove(&ticket) else {
                continue; // The caller left while the batch ran.
            };
            if let Ok(reply) = &outcome {
                assert_eq!(fp32_values(&reply.outputs[0]), open.values, "everyone gets their own rows");
            }
            self.release(&open.values);
            open.scope.close(Verdict::of(&outcome), self.clock.now());
            self.answered += 1;
        }
    }

    fn release(&mut self, values: &[f32]) {
        self.lease.release_bytes(values.len() as u64 * 4);
        self.lease.release_request();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_accepted_request_is_answered_once_or_left_and_idle_is_zero(
        events in proptest::collection::vec(event(), 1..120),
    ) {
        let mut world = World::new();
        events.iter().for_each(|event| world.on(event));
        loop {
            world.run();
            world.receive();
            if !world.form() && world.formed.is_empty() {
                break;
            }
        }
        world.receive();

        prop_assert!(world.open.is_empty(), "{} never answered", world.open.len());
        let counted = world.shard.snapshot();
        prop_assert_eq!(counted.answered, world.answered);
        prop_assert_eq!(counted.cancelled, world.left);
        prop_assert_eq!(counted.answered + counted.cancelled, counted.accepted);
        prop_assert_eq!(counted.in_flight_requests, 0);
        prop_assert_eq!((world.lease.bytes(), world.lease.requests()), (0, 0));
        prop_assert_eq!(world.scheduler.queued(), Queued::default());
        let finished: u64 = world.counters.iter().flat_map(|counters| counters.snapshot().requests)
            .filter(|requests| requests.outcome != "queue_full")
            .map(|requests| requests.counts.iter().sum::<u64>()).sum();
        prop_assert!(finished >= counted.accepted);
        prop_assert!(world.counters.iter().all(|counters| counters.snapshot().in_flight_requests == 0));
    }
}
