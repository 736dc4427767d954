//! The Scheduler and the Batchers that serve, run by the virtual clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use servekit_core::{
    Answer, Answers, Axis, Batch, Batching, Caller, Contract, Datatype, Executor, Inputs, Item, Mailbox, Mode,
    ModelKey, Next, Pending, Ragged, Report, Rules, RunFailure, RunOutputs, Scheduler, Shape, Surface, Tensor,
    TensorSpec, execute,
};

use crate::Model;
use crate::scenario::{Request, Scenario, in_ns};
use crate::world::{Policy, Step, World};

/// What the Batcher believes of the service at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Prior {
    /// Nothing: it learns from its first runs.
    #[default]
    None,
    /// This many times the truth, as a profile of another machine would say.
    Scaled(f64),
}

/// How the Batcher is set up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Setting {
    /// When requests are told that they cannot be served.
    pub mode: Mode,
    /// What it believes at the start.
    pub prior: Prior,
    /// Whether it is told no target: it then serves in order of arrival and sheds only the expired.
    pub is_blind: bool,
    /// Whether every run is reported to it as if the service were the line of its start: it never learns.
    pub is_frozen: bool,
    /// Which of its rules are in force.
    pub rules: Rules,
}

impl Setting {
    /// In this mode, without a prior.
    #[must_use]
    pub const fn of(mode: Mode) -> Self {
        Self { mode, prior: Prior::None, is_blind: false, is_frozen: false, rules: Rules::ALL }
    }

    /// With this prior.
    #[must_use]
    pub fn with_prior(self, prior: Prior) -> Self {
        Self { prior, ..self }
    }

    fn name(self) -> String {
        let mode = match self.mode {
            Mode::Auto => "auto",
            Mode::Late => "late",
            Mode::FailFast => "fail fast",
        };
        let prior = match self.prior {
            Prior::None => String::new(),
            Prior::Scaled(factor) => format!(", prior x{}", (100.0 * factor).round() / 100.0),
        };
        let blind = if self.is_blind { ", no target" } else { "" };
        let frozen = if self.is_frozen { ", no learning" } else { "" };
        let ablated = if self.rules == Rules::ALL { "" } else { ", ablated" };
        format!("**Slackline** {mode}{prior}{blind}{frozen}{ablated}")
    }
}

/// The real thing: core's Scheduler with a Batcher for each model, its batches run by core's `execute`.
pub struct Slackline {
    setting: Setting,
    scheduler: Scheduler,
    contracts: Vec<Contract>,
    mailbox: Arc<Mailbox>,
    batch: Batch,
    answers: Answers,
    /// What instant the virtual clock's zero is.
    epoch: Instant,
    /// What is told when a lane's run ends.
    running: Vec<Option<(ModelKey, Report)>>,
}

impl Slackline {
    /// For the models of this scenario.
    #[must_use]
    pub fn new(setting: Setting, scenario: &Scenario) -> Self {
        const REQUESTS_MAX: usize = 1 << 20;
        let contracts: Vec<Contract> = scenario.models.iter().map(contract).collect();
        let mut scheduler = Scheduler::new(REQUESTS_MAX, scenario.lanes);
        for ((key, model), contract) in (0..).zip(&scenario.models).zip(&contracts) {
            let policy = policy(setting, model, scenario.lanes, contract);
            scheduler.add(ModelKey(key), model.name.as_str(), policy);
        }
        Self {
            setting,
            scheduler,
            contracts,
            mailbox: Mailbox::new(scenario.requests.len(), Box::new(|| {})),
            batch: Batch::default(),
            answers: Answers::default(),
            epoch: Instant::now(),
            running: (0..scenario.lanes).map(|_| None).collect(),
        }
    }

    fn instant(&self, at_ns: u64) -> Instant {
        self.epoch + Duration::from_nanos(at_ns)
    }

    fn pending(&self, index: usize, scenario: &Scenario) -> Pending {
        let Request { at_ns, deadline_ns, length, priority, model } = scenario.requests[index];
        let shape = match scenario.models[usize::from(model)].service.shape {
            crate::Shape::Padded => Shape::from_slice(&[1, i64::from(length)]),
            crate::Shape::Line | crate::Shape::Stairs | crate::Shape::Bend => Shape::from_slice(&[1]),
        };
        // Nobody looks at the elements.
        let input = Tensor { datatype: Datatype::Fp32, shape, data: Default::default() };
        Pending {
            caller: Caller::new(self.mailbox.issue(index as u32), Arc::clone(&self.mailbox)),
            inputs: Inputs::from_buf([Some(input)]),
            rows: 1,
            arrived_at: self.instant(at_ns),
            deadline: self.instant(deadline_ns),
            priority,
            alone: false,
            prepared: None,
            way: None,
        }
    }

    /// Records whom the Batcher has refused while it formed a batch.
    fn record_refused(&mut self, now_ns: u64, world: &mut World<'_>) {
        for Answer { ticket, .. } in self.answers.drain() {
            world.refuse(ticket.slot as usize, now_ns);
        }
    }

    fn run(&mut self, lane: usize, now_ns: u64, world: &mut World<'_>) -> u64 {
        let (epoch, key) = (self.epoch, self.batch.key);
        let clock_ns = AtomicU64::new(now_ns);
        let clock = || epoch + Duration::from_nanos(clock_ns.load(Ordering::Relaxed));
        let mut executor = Lane { world, clock_ns: &clock_ns, model: key.0 as u16 };
        let contract = &self.contracts[key.0 as usize];
        let mut report = execute(&mut executor, contract, &mut self.batch, &clock, &mut self.answers);
        let ended_ns = clock_ns.into_inner();
        for Answer { ticket, outcome } in self.answers.drain() {
            match outcome {
                Ok(_) => world.answer(ticket.slot as usize, ended_ns),
                Err(_) => world.refuse(ticket.slot as usize, ended_ns),
            }
        }
        if self.setting.is_frozen {
            let service = &world.scenario.models[key.0 as usize].service;
            report.runs.iter_mut().for_each(|run| run.run = seconds(service.expected_s(run.rows, 1)));
        }
        self.running[lane] = Some((key, report));
        ended_ns
    }
}

impl Policy for Slackline {
    fn name(&self) -> String {
        self.setting.name()
    }

    fn arrive(&mut self, index: usize, now_ns: u64, world: &mut World<'_>) {
        let pending = self.pending(index, world.scenario);
        let key = ModelKey(u32::from(world.scenario.requests[index].model));
        if let Err(refused) = self.scheduler.offer(key, pending, self.instant(now_ns)) {
            refused.pending.caller.dismiss();
            world.refuse(index, now_ns);
        }
    }

    fn dispatch(&mut self, lane: usize, now_ns: u64, world: &mut World<'_>) -> Step {
        let next = self.scheduler.next(self.instant(now_ns), &mut self.batch, &mut self.answers);
        self.record_refused(now_ns, world);
        match next {
            Next::Idle => Step::Idle,
            Next::WaitUntil(until) => {
                Step::Waits { until_ns: until.saturating_duration_since(self.epoch).as_nanos() as u64 }
            }
            Next::Run => Step::Runs { until_ns: self.run(lane, now_ns, world) },
        }
    }

    fn complete(&mut self, lane: usize, now_ns: u64, _world: &mut World<'_>) {
        if let Some((key, report)) = self.running[lane].take() {
            self.scheduler.ran(key, &report, self.instant(now_ns));
        }
    }
}

/// A lane whose runs take no time but the virtual clock's.
struct Lane<'a, 'b> {
    world: &'a mut World<'b>,
    clock_ns: &'a AtomicU64,
    model: u16,
}

impl Executor for Lane<'_, '_> {
    fn run(&mut self, items: &[Item], _rows: u32) -> Result<RunOutputs, RunFailure> {
        let now_ns = self.clock_ns.load(Ordering::Relaxed);
        let ended_ns = self.world.run(self.model, items.iter().map(length), now_ns);
        self.clock_ns.store(ended_ns, Ordering::Relaxed);
        let run = Duration::from_nanos(ended_ns - now_ns);
        Ok(RunOutputs { run, ..RunOutputs::default() })
    }
}

/// Length of an item's row; 1 where its model has none.
fn length(item: &Item) -> u32 {
    let input = item.inputs().first().and_then(Option::as_ref);
    input.and_then(|input| input.shape.get(1)).map_or(1, |&length| length as u32)
}

fn contract(model: &Model) -> Contract {
    let symbol = |name: &str| Axis::Symbol(name.into());
    const LENGTH_MAX: u64 = 512;
    let has_lengths = model.service.shape == crate::Shape::Padded;
    let ragged = || Ragged { inputs: [Some(1)].into(), outputs: [].into(), length_max: LENGTH_MAX, masks: [].into() };
    let axes: Box<[Axis]> =
        if has_lengths { [symbol("batch"), symbol("length")].into() } else { [symbol("batch")].into() };
    let input =
        TensorSpec { name: "x".into(), datatype: Datatype::Fp32, axes, optional: false, labels: None, base64: false };
    Contract {
        model: model.name.as_str().into(),
        inputs: [input].into(),
        outputs: [].into(),
        batching: Batching::Rows,
        ragged: has_lengths.then(|| Arc::new(ragged())),
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_nanos(in_ns(seconds))
}

fn policy(setting: Setting, model: &Model, lanes: u32, contract: &Contract) -> servekit_core::Policy {
    // The simulator asks what rules do; hard caps on the queue are not among them.
    const REQUESTS_MAX: usize = 1 << 20;
    servekit_core::Policy {
        rows_max: model.rows_max,
        bytes_max: usize::MAX,
        batched: true,
        requests_max: REQUESTS_MAX,
        answer_bytes_max: u64::MAX,
        target: if setting.is_blind { Duration::ZERO } else { seconds(model.target_s) },
        mode: setting.mode,
        egress: Duration::ZERO,
        lanes,
        cores: 1,
        ragged: contract.ragged.clone(),
        surface: surface(setting.prior, model),
        class_surfaces: Arc::default(),
        rules: setting.rules,
    }
}

fn surface(prior: Prior, model: &Model) -> Option<Surface> {
    const SPREAD: f64 = 0.08;
    const SAMPLES: u64 = 1_000;
    let Prior::Scaled(factor) = prior else { return None };
    let in_ns = |seconds: f64| factor * seconds * 1e9;
    Some(Surface {
        base_ns: in_ns(model.service.base_s),
        row_ns: in_ns(model.service.row_s),
        spread: SPREAD,
        corrections: Vec::new(),
        samples: SAMPLES,
    })
}
