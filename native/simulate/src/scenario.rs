//! One experiment: models, lanes, requests, and what goes wrong meanwhile.

use crate::arrivals::{Pattern, Stretch, Traffic, arrivals};
use crate::{Fluid, Model, Random};

/// One request of one row. Times are nanoseconds from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// When it arrives.
    pub at_ns: u64,
    /// From then on its answer is of no use.
    pub deadline_ns: u64,
    /// Which model it is for.
    pub model: u16,
    /// Its length, where the model has lengths.
    pub length: u32,
    /// Its class: 0 goes before 1.
    pub priority: u8,
}

/// What befalls all lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Trouble {
    /// Nothing.
    #[default]
    None,
    /// No lane moves within these times.
    Stall {
        /// Nanoseconds from the start.
        from_ns: u64,
        /// Its end.
        until_ns: u64,
    },
    /// Runs that begin within these times take this many times as long.
    Slow {
        /// Nanoseconds from the start.
        from_ns: u64,
        /// Its end.
        until_ns: u64,
        /// Above 1.
        factor: f64,
    },
}

/// Kinds of experiment that the grid is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Independent arrivals.
    Poisson,
    /// Bursts of random length.
    Bursts,
    /// Ten times as much in every other ten targets.
    OnOff,
    /// All lanes stand still for 20 targets.
    Stall,
    /// Runs take twice as long in the middle third.
    Drift,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Poisson, Self::Bursts, Self::OnOff, Self::Stall, Self::Drift];

    fn pattern(self) -> Pattern {
        match self {
            Self::Bursts => Pattern::Bursts,
            Self::OnOff => Pattern::OnOff,
            Self::Poisson | Self::Stall | Self::Drift => Pattern::Poisson,
        }
    }

    fn trouble(self, length_s: f64, target_s: f64) -> Trouble {
        const STALL_TARGETS: f64 = 20.0;
        let third_s = length_s / 3.0;
        match self {
            Self::Poisson | Self::Bursts | Self::OnOff => Trouble::None,
            Self::Stall => {
                Trouble::Stall { from_ns: in_ns(third_s), until_ns: in_ns(third_s + STALL_TARGETS * target_s) }
            }
            Self::Drift => Trouble::Slow { from_ns: in_ns(third_s), until_ns: in_ns(2.0 * third_s), factor: 2.0 },
        }
    }
}

/// How much of an experiment is needed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Size {
    /// At least this many requests.
    pub requests_min: u32,
    /// At least this many targets long.
    pub targets_min: f64,
}

/// One experiment. Policies that run through the same one meet the same requests and the same luck.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Models that share the lanes.
    pub models: Vec<Model>,
    /// Runs at a time.
    pub lanes: u32,
    /// In order of arrival.
    pub requests: Vec<Request>,
    /// What befalls the lanes.
    pub trouble: Trouble,
    /// Policies hear of arrivals only at multiples of this; 0: at once.
    pub tick_ns: u64,
    /// Determines the noise of runs.
    pub seed: u64,
    /// Stretches of constant rate, of the first model.
    pub stretches: Vec<Stretch>,
}

impl Scenario {
    /// One model at this many times its capacity.
    #[must_use]
    pub fn single(model: &Model, lanes: u32, (kind, load): (Kind, f64), size: Size, seed: u64) -> Self {
        let rate = load * Fluid::of(model, lanes).capacity();
        let length_s = (f64::from(size.requests_min) / rate).max(size.targets_min * model.target_s);
        let mut random = Random::new(seed);
        let traffic = Traffic { pattern: kind.pattern(), rate, length_s, target_s: model.target_s };
        let stretches = traffic.stretches(&mut random);
        let mut scenario = Self::of_arrivals(model, lanes, &arrivals(&stretches, &mut random), seed);
        scenario.trouble = kind.trouble(length_s, model.target_s);
        scenario.stretches = stretches;
        scenario
    }

    /// One model and requests that arrive at these seconds, ascending: a recorded trace.
    #[must_use]
    pub fn of_arrivals(model: &Model, lanes: u32, arrivals_s: &[f64], seed: u64) -> Self {
        let requests = arrivals_s.iter().map(|&at_s| request(model, 0, at_s)).collect();
        Self {
            models: vec![model.clone()],
            lanes,
            requests,
            trouble: Trouble::None,
            tick_ns: 0,
            seed,
            stretches: Vec::new(),
        }
    }

    /// Several models on the same lanes, each at its own rate of arrivals, for this many seconds.
    #[must_use]
    pub fn shared(models: &[(Model, f64)], lanes: u32, length_s: f64, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut requests = Vec::new();
        for (index, (model, rate)) in (0_u16..).zip(models) {
            let traffic = Traffic { pattern: Pattern::Poisson, rate: *rate, length_s, target_s: model.target_s };
            let times = arrivals(&traffic.stretches(&mut random), &mut random);
            requests.extend(times.iter().map(|&at_s| request(model, index, at_s)));
        }
        requests.sort_by_key(|request| (request.at_ns, request.model));
        let models = models.iter().map(|(model, _)| model.clone()).collect();
        Self { models, lanes, requests, trouble: Trouble::None, tick_ns: 0, seed, stretches: Vec::new() }
    }

    /// This share of the requests, drawn by chance, goes before the others.
    #[must_use]
    pub fn with_urgent(mut self, share: f64) -> Self {
        let mut random = Random::new(self.seed ^ 0x7572_6765_6e74);
        self.requests.iter_mut().for_each(|request| request.priority = u8::from(random.uniform() >= share));
        self
    }

    /// Requests have lengths like texts: lognormal, median 48, at most 512.
    #[must_use]
    pub fn with_lengths(mut self) -> Self {
        let mut random = Random::new(self.seed ^ 0x6c65_6e67_7468);
        self.requests.iter_mut().for_each(|request| {
            request.length = crate::arrivals::text_length(48.0, 512, &mut random);
        });
        self
    }

    /// Policies hear of arrivals only at multiples of this.
    #[must_use]
    pub fn with_tick(mut self, tick_ns: u64) -> Self {
        self.tick_ns = tick_ns;
        self
    }

    /// When policies hear of this request.
    #[must_use]
    pub fn heard_ns(&self, request: &Request) -> u64 {
        if self.tick_ns == 0 { request.at_ns } else { request.at_ns.next_multiple_of(self.tick_ns) }
    }

    /// The share of requests that the fluid model says can be answered in time: stretch by stretch, weighed by the
    /// requests that came, at the speed that the lanes had. Nobody counts whose deadline is within a stall, or so soon
    /// after it that not even a run of one row can answer them.
    #[must_use]
    pub fn bound(&self) -> f64 {
        let fluid = Fluid::of(&self.models[0], self.lanes);
        let run_ns = in_ns(fluid.run_s(1));
        let mut stretch = 0;
        let mut sum = 0.0;
        for request in &self.requests {
            let at_s = request.at_ns as f64 / 1e9;
            while stretch + 1 < self.stretches.len() && self.stretches[stretch].until_s <= at_s {
                stretch += 1;
            }
            let rate = self.stretches.get(stretch).map_or(0.0, |stretch| stretch.rate);
            sum += match self.trouble {
                Trouble::Stall { from_ns, until_ns }
                    if request.deadline_ns >= from_ns && request.deadline_ns < until_ns + run_ns =>
                {
                    0.0
                }
                Trouble::Slow { from_ns, until_ns, factor } if (from_ns..until_ns).contains(&request.at_ns) => {
                    fluid.slower(factor).goodput_share(rate)
                }
                _ => fluid.goodput_share(rate),
            };
        }
        sum / self.requests.len().max(1) as f64
    }
}

fn request(model: &Model, index: u16, at_s: f64) -> Request {
    let at_ns = in_ns(at_s);
    Request { at_ns, deadline_ns: at_ns + in_ns(model.target_s), model: index, length: 1, priority: 0 }
}

/// Seconds as nanoseconds.
#[must_use]
pub fn in_ns(seconds: f64) -> u64 {
    (seconds * 1e9).round().max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { requests_min: 5_000, targets_min: 60.0 };

    #[test]
    fn the_same_seed_gives_the_same_experiment() {
        let scenario = |seed| Scenario::single(&Model::accelerator(), 1, (Kind::Bursts, 0.8), SIZE, seed);
        assert_eq!(scenario(4), scenario(4));
        assert_ne!(scenario(4).requests, scenario(5).requests);
    }

    #[test]
    fn an_experiment_is_long_enough_in_requests_and_in_targets() {
        for (model, load) in [(Model::cpu_small(), 0.3), (Model::accelerator(), 2.0), (Model::tiny(), 0.3)] {
            let scenario = Scenario::single(&model, 1, (Kind::Poisson, load), SIZE, 1);
            let last_ns = scenario.requests.last().expect("some").at_ns;
            assert!(scenario.requests.len() > 4_700);
            assert!(last_ns as f64 >= 59.0 * model.target_s * 1e9);
        }
    }

    #[test]
    fn the_bound_knows_stretches_and_troubles() {
        let bound = |kind, load| Scenario::single(&Model::accelerator(), 1, (kind, load), SIZE, 3).bound();
        assert!((bound(Kind::Poisson, 0.9) - 1.0).abs() < 1e-3);
        assert!((bound(Kind::Poisson, 1.1) - 0.926).abs() < 2e-3);
        assert!(bound(Kind::OnOff, 0.9) < 0.75);
        assert!((0.5..0.8).contains(&bound(Kind::Stall, 0.5)));
        assert!((0.6..0.9).contains(&bound(Kind::Drift, 0.9)));
    }

    #[test]
    fn who_arrives_between_ticks_is_heard_of_at_the_next() {
        let scenario = Scenario::single(&Model::accelerator(), 1, (Kind::Poisson, 0.5), SIZE, 3).with_tick(1_000_000);
        let request = Request { at_ns: 1_000_001, ..scenario.requests[0] };
        assert_eq!(scenario.heard_ns(&request), 2_000_000);
        assert_eq!(scenario.heard_ns(&Request { at_ns: 2_000_000, ..request }), 2_000_000);
    }
}
