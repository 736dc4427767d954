//! What an experiment came to.

use crate::scenario::{Request, Scenario, Trouble, in_ns};
use crate::world::{Fate, Work};

/// The record of one policy in one scenario.
#[derive(Clone, Debug)]
pub struct Trial {
    /// One for each request of the scenario.
    pub fates: Vec<Fate>,
    /// What the lanes did.
    pub work: Work,
}

/// The figures of a trial, or of one class of its requests. Shares are from 0 to 1; times are in targets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// Requests that came.
    pub offered: usize,
    /// Share of them answered before their deadline.
    pub goodput: f64,
    /// Median time to an answer, of those that got one.
    pub p50: f64,
    /// The same for the slowest hundredth.
    pub p99: f64,
    /// Share told that they will not be served.
    pub refused: f64,
    /// Median time until they were told.
    pub refusal_p50: f64,
    /// Requests that nobody told anything: a defect of the policy.
    pub forgotten: usize,
}

impl Trial {
    /// The figures of all requests.
    #[must_use]
    pub fn figures(&self, scenario: &Scenario) -> Figures {
        self.figures_of(scenario, |_| true)
    }

    /// The figures of those that `is_counted` picks.
    #[must_use]
    pub fn figures_of(&self, scenario: &Scenario, is_counted: impl Fn(&Request) -> bool) -> Figures {
        let (mut answered, mut refused) = (Vec::new(), Vec::new());
        let (mut offered, mut in_time) = (0, 0);
        for (request, fate) in scenario.requests.iter().zip(&self.fates).filter(|(request, _)| is_counted(request)) {
            let allowed_ns = (request.deadline_ns - request.at_ns) as f64;
            let share = |at_ns: u64| at_ns.saturating_sub(request.at_ns) as f64 / allowed_ns;
            offered += 1;
            match *fate {
                Fate::Open => {}
                Fate::Answered(at_ns) => {
                    in_time += usize::from(at_ns <= request.deadline_ns);
                    answered.push(share(at_ns));
                }
                Fate::Refused(at_ns) => refused.push(share(at_ns)),
            }
        }
        let of_offered = |count: usize| if offered > 0 { count as f64 / offered as f64 } else { 0.0 };
        Figures {
            offered,
            goodput: of_offered(in_time),
            p50: quantile(&mut answered, 0.5),
            p99: quantile(&mut answered, 0.99),
            refused: of_offered(refused.len()),
            refusal_p50: quantile(&mut refused, 0.5),
            forgotten: offered - answered.len() - refused.len(),
        }
    }

    /// Share of their time until the last arrival that lanes were running.
    #[must_use]
    pub fn busy(&self, scenario: &Scenario) -> f64 {
        let horizon_ns = scenario.requests.last().map_or(0, |last| last.at_ns).max(1);
        self.work.busy_ns as f64 / (horizon_ns as f64 * f64::from(scenario.lanes))
    }

    /// Rows of the mean batch.
    #[must_use]
    pub fn rows_mean(&self) -> f64 {
        self.work.rows as f64 / self.work.runs.max(1) as f64
    }

    /// Share of the work on rows that was padding.
    #[must_use]
    pub fn padding(&self) -> f64 {
        1.0 - self.work.units_useful as f64 / self.work.units.max(1) as f64
    }

    /// Goodput of those who arrived within these times.
    #[must_use]
    pub fn goodput_between(&self, scenario: &Scenario, from_ns: u64, until_ns: u64) -> f64 {
        self.figures_of(scenario, |request| (from_ns..until_ns).contains(&request.at_ns)).goodput
    }

    /// Targets from a stall's end until those who arrive get at least this goodput, over five targets; `None` where
    /// that never comes, or there was no stall.
    #[must_use]
    pub fn recovery(&self, scenario: &Scenario, goodput_min: f64) -> Option<u32> {
        const WINDOW_TARGETS: u64 = 5;
        let Trouble::Stall { until_ns, .. } = scenario.trouble else { return None };
        let target_ns = in_ns(scenario.models[0].target_s);
        let last_ns = scenario.requests.last()?.at_ns;
        (0..)
            .map(|count| (count, until_ns + u64::from(count) * target_ns))
            .take_while(|(_, from_ns)| from_ns + WINDOW_TARGETS * target_ns <= last_ns)
            .find(|(_, from_ns)| {
                self.goodput_between(scenario, *from_ns, from_ns + WINDOW_TARGETS * target_ns) >= goodput_min
            })
            .map(|(count, _)| count)
    }
}

/// The value that this share of them does not exceed; 0 where there is none.
fn quantile(values: &mut [f64], share: f64) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let place = ((values.len() - 1) as f64 * share).round() as usize;
    *values.select_nth_unstable_by(place, f64::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Model;

    fn scenario() -> Scenario {
        Scenario::of_arrivals(&Model::accelerator(), 1, &[0.0, 1.0, 2.0, 3.0], 1)
    }

    #[test]
    fn figures_tell_good_late_refused_and_forgotten_apart() {
        let (scenario, second) = (scenario(), 1_000_000_000);
        let fates = vec![
            Fate::Answered(7_500_000),
            Fate::Answered(second + 30_000_000),
            Fate::Refused(2 * second + 1_500_000),
            Fate::Open,
        ];
        let figures = Trial { fates, work: Work::default() }.figures(&scenario);
        assert_eq!((figures.offered, figures.goodput, figures.refused, figures.forgotten), (4, 0.25, 0.25, 1));
        assert_eq!((figures.p50, figures.p99, figures.refusal_p50), (2.0, 2.0, 0.1));
    }

    #[test]
    fn recovery_is_the_first_window_that_is_good_again() {
        let times: Vec<f64> = (0..400).map(|count| f64::from(count) * 0.5e-3).collect();
        let mut scenario = Scenario::of_arrivals(&Model::accelerator(), 1, &times, 1);
        scenario.trouble = Trouble::Stall { from_ns: 0, until_ns: 15_000_000 };
        let fate = |request: &Request| match request.at_ns {
            at_ns if at_ns < 45_000_000 => Fate::Refused(at_ns),
            at_ns => Fate::Answered(at_ns + 1),
        };
        let fates = scenario.requests.iter().map(fate).collect();
        let trial = Trial { fates, work: Work::default() };
        assert_eq!(trial.recovery(&scenario, 1.0), Some(2));
        assert_eq!(trial.recovery(&scenario, 0.6), Some(0));
        assert_eq!(trial.recovery(&scenario, 1.1), None);
    }
}
