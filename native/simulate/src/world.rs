//! The lanes, the virtual clock's events, and the record of what became of every request.

use crate::scenario::{Scenario, Trouble, in_ns};
use crate::{Random, Trial};

/// What became of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// Nothing yet.
    #[default]
    Open,
    /// It got a result then.
    Answered(u64),
    /// It was told then that it will not be served.
    Refused(u64),
}

/// What a policy did when it was offered a free lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It started a run, which ends then.
    Runs {
        /// Nanoseconds from the start.
        until_ns: u64,
    },
    /// It rather waits, though not longer than this.
    Waits {
        /// Nanoseconds from the start.
        until_ns: u64,
    },
    /// It has nothing to run.
    Idle,
}

/// Decides what runs when. Told of everything that happens, in order.
pub trait Policy {
    /// For tables.
    fn name(&self) -> String;

    /// A request has arrived; `index` is its place in the scenario.
    fn arrive(&mut self, index: usize, now_ns: u64, world: &mut World<'_>);

    /// This lane is free.
    fn dispatch(&mut self, lane: usize, now_ns: u64, world: &mut World<'_>) -> Step;

    /// The run of this lane has ended.
    fn complete(&mut self, lane: usize, now_ns: u64, world: &mut World<'_>);
}

/// The scenario as it unfolds.
#[derive(Debug)]
pub struct World<'a> {
    /// What happens.
    pub scenario: &'a Scenario,
    random: Random,
    fates: Vec<Fate>,
    /// What lanes did.
    work: Work,
}

/// Sums over all runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Runs.
    pub runs: u64,
    /// Their rows.
    pub rows: u64,
    /// Nanoseconds of lanes until the last arrival.
    pub busy_ns: u64,
    /// Rows times the length of their batch's longest.
    pub units: u64,
    /// Sum of the rows' own lengths.
    pub units_useful: u64,
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let fates = vec![Fate::Open; scenario.requests.len()];
        Self { scenario, random: Random::new(scenario.seed ^ 0x7275_6e73), fates, work: Work::default() }
    }

    /// Runs rows of these lengths from now on, and says when that ends.
    pub fn run(&mut self, model: u16, lengths: impl Iterator<Item = u32>, now_ns: u64) -> u64 {
        let (mut rows, mut length_max, mut useful) = (0_u32, 0, 0);
        for length in lengths {
            rows += 1;
            length_max = length_max.max(length);
            useful += u64::from(length);
        }
        let service = &self.scenario.models[usize::from(model)].service;
        let mut run_s = service.sample_s(rows, length_max, &mut self.random);
        if let Trouble::Slow { from_ns, until_ns, factor } = self.scenario.trouble
            && (from_ns..until_ns).contains(&now_ns)
        {
            run_s *= factor;
        }
        let ended_ns = self.after_stall(now_ns, in_ns(run_s).max(1));
        let horizon_ns = self.scenario.requests.last().map_or(0, |last| last.at_ns);
        self.work.busy_ns += ended_ns.min(horizon_ns).saturating_sub(now_ns);
        self.work.runs += 1;
        self.work.rows += u64::from(rows);
        self.work.units += u64::from(rows) * u64::from(length_max);
        self.work.units_useful += useful;
        ended_ns
    }

    /// This request gets its result then.
    pub fn answer(&mut self, index: usize, at_ns: u64) {
        self.close(index, Fate::Answered(at_ns));
    }

    /// This request is told that it will not be served.
    pub fn refuse(&mut self, index: usize, now_ns: u64) {
        self.close(index, Fate::Refused(now_ns));
    }

    fn close(&mut self, index: usize, fate: Fate) {
        assert_eq!(self.fates[index], Fate::Open, "request {index} is answered twice, the second time {fate:?}");
        self.fates[index] = fate;
    }

    /// When work of this length ends that begins now: it does not advance during a stall.
    fn after_stall(&self, now_ns: u64, run_ns: u64) -> u64 {
        match self.scenario.trouble {
            Trouble::Stall { from_ns, until_ns } if now_ns < until_ns && now_ns + run_ns > from_ns => {
                now_ns + run_ns + (until_ns - from_ns.max(now_ns))
            }
            _ => now_ns + run_ns,
        }
    }
}

/// Runs a scenario through a policy until nothing is left to do.
///
/// # Panics
/// Where the policy answers a request twice, or waits for a time that has come.
#[must_use]
pub fn simulate(scenario: &Scenario, policy: &mut dyn Policy) -> Trial {
    let mut world = World::new(scenario);
    let mut lanes: Vec<Option<u64>> = vec![None; scenario.lanes as usize];
    let (mut arriving, mut wake_ns) = (0, None);
    loop {
        let arrival_ns = scenario.requests.get(arriving).map(|request| scenario.heard_ns(request));
        let end_ns = lanes.iter().flatten().copied().min();
        let Some(now_ns) = [arrival_ns, end_ns, wake_ns].into_iter().flatten().min() else { break };
        for (lane, ends_ns) in lanes.iter_mut().enumerate() {
            if *ends_ns == Some(now_ns) {
                *ends_ns = None;
                policy.complete(lane, now_ns, &mut world);
            }
        }
        while scenario.requests.get(arriving).is_some_and(|request| scenario.heard_ns(request) == now_ns) {
            policy.arrive(arriving, now_ns, &mut world);
            arriving += 1;
        }
        wake_ns = None;
        for (lane, ends_ns) in lanes.iter_mut().enumerate().filter(|(_, ends_ns)| ends_ns.is_none()) {
            match policy.dispatch(lane, now_ns, &mut world) {
                Step::Runs { until_ns } => *ends_ns = Some(until_ns.max(now_ns + 1)),
                Step::Waits { until_ns } => {
                    assert!(until_ns > now_ns, "{} waits at {now_ns} ns until {until_ns} ns", policy.name());
                    wake_ns = Some(until_ns);
                    break;
                }
                Step::Idle => break,
            }
        }
    }
    Trial { fates: world.fates, work: world.work }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Model;

    /// Runs one request at a time.
    #[derive(Default)]
    struct Single {
        waiting: std::collections::VecDeque<usize>,
    }

    impl Policy for Single {
        fn name(&self) -> String {
            String::from("single")
        }

        fn arrive(&mut self, index: usize, _now_ns: u64, _world: &mut World<'_>) {
            self.waiting.push_back(index);
        }

        fn dispatch(&mut self, _lane: usize, now_ns: u64, world: &mut World<'_>) -> Step {
            let Some(index) = self.waiting.pop_front() else { return Step::Idle };
            let until_ns = world.run(0, std::iter::once(1), now_ns);
            world.answer(index, until_ns);
            Step::Runs { until_ns }
        }

        fn complete(&mut self, _lane: usize, _now_ns: u64, _world: &mut World<'_>) {}
    }

    fn at_seconds(times: &[f64], lanes: u32) -> Scenario {
        let mut model = Model::accelerator().quiet();
        (model.service.base_s, model.service.row_s) = (1.0, 0.0);
        Scenario::of_arrivals(&model, lanes, times, 1)
    }

    fn ends(scenario: &Scenario) -> Vec<f64> {
        let trial = simulate(scenario, &mut Single::default());
        let seconds = |fate: &Fate| match fate {
            Fate::Answered(at_ns) => *at_ns as f64 / 1e9,
            Fate::Open | Fate::Refused(_) => f64::NAN,
        };
        trial.fates.iter().map(seconds).collect()
    }

    #[test]
    fn a_lane_runs_one_batch_at_a_time_and_lanes_run_side_by_side() {
        let times = [0.0, 0.0, 0.5, 5.0];
        assert_eq!(ends(&at_seconds(&times, 1)), [1.0, 2.0, 3.0, 6.0]);
        assert_eq!(ends(&at_seconds(&times, 2)), [1.0, 1.0, 2.0, 6.0]);
    }

    #[test]
    fn no_lane_moves_during_a_stall() {
        let mut scenario = at_seconds(&[0.0, 1.5, 2.0, 9.0], 1);
        scenario.trouble = Trouble::Stall { from_ns: 500_000_000, until_ns: 2_500_000_000 };
        assert_eq!(ends(&scenario), [3.0, 4.0, 5.0, 10.0]);
    }

    #[test]
    fn runs_that_begin_in_a_slow_time_take_longer() {
        let mut scenario = at_seconds(&[0.0, 1.0, 4.0], 1);
        scenario.trouble = Trouble::Slow { from_ns: 1_000_000_000, until_ns: 2_000_000_000, factor: 2.0 };
        assert_eq!(ends(&scenario), [1.0, 3.0, 5.0]);
    }

    #[test]
    fn policies_hear_of_arrivals_at_ticks() {
        assert_eq!(ends(&at_seconds(&[0.1, 0.2], 2).with_tick(250_000_000)), [1.25, 1.25]);
    }
}
