//! What each rule is worth: the same requests and the same luck without it.

use servekit_core::{Mode, Rules};

use super::{Order, Table, percent};
use crate::contest::{Contender, each};
use crate::scenario::{Kind, Scenario, Size};
use crate::{Figures, Model, Noise, Prior, Setting, Trial};

/// Each cell is the mean of at most so many experiments, as troubles are rare and starts short.
const EXPERIMENTS_MAX: u32 = 8;
/// Whoever asks for fewer requests than that many times this wants a quick look: one experiment for each.
const REQUESTS_EACH: u32 = 1_500;
/// Targets that a start takes.
const START_TARGETS: f64 = 20.0;

/// The rules without some of them.
struct Ablation {
    name: &'static str,
    setting: Setting,
    /// The lanes hear of arrivals only at multiples of this.
    tick_ns: u64,
}

/// What all of them go through.
struct Course {
    name: &'static str,
    model: Model,
    lanes: u32,
    column: (Kind, f64),
    /// Only the first few targets count.
    is_start: bool,
}

/// What came of it.
#[derive(Clone, Copy, Default)]
struct Outcome {
    goodput: f64,
    p50: f64,
    p99: f64,
    busy: f64,
}

/// One lane, then four: what holding is worth shows only there.
pub(super) fn ablations(order: &Order) -> Vec<Table> {
    let (one, four) = (one_lane(), four_lanes());
    let single = compare(&everything(), &one, order);
    let single = table("One lane: goodput % / p99 ÷ S", &single, |Outcome { goodput, p99, .. }| {
        format!("{} / {p99:.2}", percent(goodput))
    });
    let several = compare(&of_lanes(), &four, order);
    let title = "Four lanes: goodput % / p50 ÷ S / p99 ÷ S / lanes busy";
    let several = table(title, &several, |Outcome { goodput, p50, p99, busy }| {
        format!("{} / {p50:.2} / {p99:.2} / {busy:.2}", percent(goodput))
    });
    vec![single, several]
}

impl Ablation {
    /// As it is set up unless told otherwise, by a model that was served before.
    const ALL: Setting = Setting { prior: Prior::Scaled(1.0), ..Setting::of(Mode::Auto) };

    const fn without(name: &'static str, rules: Rules) -> Self {
        Self::set(name, Setting { rules, ..Self::ALL })
    }

    const fn starting(name: &'static str, prior: Prior) -> Self {
        Self::set(name, Setting { prior, ..Self::ALL })
    }

    const fn set(name: &'static str, setting: Setting) -> Self {
        Self { name, setting, tick_ns: 0 }
    }

    const fn ticking(name: &'static str, tick_ns: u64) -> Self {
        Self { name, setting: Self::ALL, tick_ns }
    }
}

const NO_WINDOW: Ablation = Ablation::without("no window", Rules { window: false, ..Rules::ALL });
const NO_SLACK: Ablation = Ablation::without("no window, no bound", Rules { slack: false, ..Rules::ALL });
const TICKS: [Ablation; 2] =
    [Ablation::ticking("ticks of 100 µs", 100_000), Ablation::ticking("ticks of 1 ms", 1_000_000)];

fn everything() -> Vec<Ablation> {
    let [short, long] = TICKS;
    vec![
        Ablation::set("all rules", Ablation::ALL),
        NO_WINDOW,
        NO_SLACK,
        Ablation::without("no clamp", Rules { clamp: false, ..Rules::ALL }),
        Ablation::without("no change point", Rules { change: false, ..Rules::ALL }),
        Ablation::without("neither of these two", Rules { clamp: false, change: false, ..Rules::ALL }),
        Ablation::starting("start: nothing known", Prior::None),
        Ablation::starting("start: three times too long", Prior::Scaled(3.0)),
        Ablation::starting("start: three times too short", Prior::Scaled(1.0 / 3.0)),
        Ablation::set("no learning", Setting { is_frozen: true, ..Ablation::ALL }),
        Ablation::set("no target", Setting { is_blind: true, ..Ablation::ALL }),
        short,
        long,
    ]
}

fn of_lanes() -> Vec<Ablation> {
    let [short, long] = TICKS;
    let no_hold = Ablation::without("no hold", Rules { hold: false, ..Rules::ALL });
    vec![Ablation::set("all rules", Ablation::ALL), no_hold, NO_WINDOW, NO_SLACK, short, long]
}

fn one_lane() -> Vec<Course> {
    let course = |name, model: &Model, column| Course { name, model: model.clone(), lanes: 1, column, is_start: false };
    let (small, large) = (Model::cpu_small(), Model::accelerator());
    let often = large.clone().with_noise(Noise::Outliers { every: 50, factor: 3 });
    let rare = large.clone().with_noise(Noise::Outliers { every: 500, factor: 50 });
    vec![
        course("A 1.1", &small, (Kind::Poisson, 1.1)),
        course("A 1.5", &small, (Kind::Poisson, 1.5)),
        course("C 0.9", &large, (Kind::Poisson, 0.9)),
        course("C 1.1", &large, (Kind::Poisson, 1.1)),
        course("C 1.5", &large, (Kind::Poisson, 1.5)),
        course("stall", &large, (Kind::Stall, 0.9)),
        course("drift", &large, (Kind::Drift, 0.9)),
        course("×3", &often, (Kind::Poisson, 0.9)),
        course("×50", &rare, (Kind::Poisson, 0.9)),
        Course { is_start: true, ..course("start", &large, (Kind::Poisson, 0.9)) },
    ]
}

fn four_lanes() -> Vec<Course> {
    let course = |name, model, load| Course { name, model, lanes: 4, column: (Kind::Poisson, load), is_start: false };
    let (small, large) = (Model::cpu_small, Model::accelerator);
    vec![
        course("C 0.2", large(), 0.2),
        course("C 0.5", large(), 0.5),
        course("C 0.95", large(), 0.95),
        course("A 0.5", small(), 0.5),
        course("A 0.95", small(), 0.95),
    ]
}

impl Course {
    fn scenario(&self, order: &Order, seed: u64) -> Scenario {
        let size = if self.is_start { Size { requests_min: 0, targets_min: START_TARGETS } } else { order.size() };
        Scenario::single(&self.model, self.lanes, self.column, size, seed)
    }
}

impl Outcome {
    fn of(scenario: &Scenario, trial: &Trial) -> Self {
        let Figures { goodput, p50, p99, .. } = trial.figures(scenario);
        Self { goodput, p50, p99, busy: trial.busy(scenario) }
    }

    fn mean(outcomes: impl Iterator<Item = Self>) -> Self {
        let (mut sum, mut count) = (Self::default(), 0.0);
        for Self { goodput, p50, p99, busy } in outcomes {
            count += 1.0;
            sum.goodput += goodput;
            sum.p50 += p50;
            sum.p99 += p99;
            sum.busy += busy;
        }
        Self { goodput: sum.goodput / count, p50: sum.p50 / count, p99: sum.p99 / count, busy: sum.busy / count }
    }
}

/// Mean outcomes of every ablation, course by course.
struct Comparison<'a> {
    courses: &'a [Course],
    rows: Vec<(&'static str, Vec<Outcome>)>,
}

fn compare<'a>(ablations: &[Ablation], courses: &'a [Course], order: &Order) -> Comparison<'a> {
    let count = (order.requests_min / REQUESTS_EACH).clamp(1, EXPERIMENTS_MAX);
    let seeds = || (0..count).map(|number| order.seed + u64::from(number));
    let experiments: Vec<_> = courses.iter().flat_map(|course| seeds().map(move |seed| (course, seed))).collect();
    let outcomes = each(&experiments, |(course, seed)| -> Vec<Outcome> {
        let mut scenario = course.scenario(order, *seed);
        let outcome = |ablation: &Ablation| {
            scenario.tick_ns = ablation.tick_ns;
            Outcome::of(&scenario, &Contender::Slackline(ablation.setting).trial(&scenario))
        };
        ablations.iter().map(outcome).collect()
    });
    let row = |(place, ablation): (usize, &Ablation)| {
        let of_course = |experiments: &[Vec<Outcome>]| Outcome::mean(experiments.iter().map(|found| found[place]));
        (ablation.name, outcomes.chunks(count as usize).map(of_course).collect())
    };
    Comparison { courses, rows: ablations.iter().enumerate().map(row).collect() }
}

fn table(title: &str, comparison: &Comparison<'_>, show: impl Fn(Outcome) -> String) -> Table {
    let Comparison { courses, rows } = comparison;
    let mut table = Table::new(title, courses.iter().map(|course| String::from(course.name)).collect());
    rows.iter().for_each(|(name, outcomes)| table.row(*name, outcomes.iter().map(|outcome| show(*outcome))));
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goodput of the ablation of this name in each course.
    fn goodput(comparison: &Comparison<'_>, name: &str) -> Vec<f64> {
        let row = comparison.rows.iter().find(|row| row.0 == name).expect("a row of this name");
        row.1.iter().map(|outcome| outcome.goodput).collect()
    }

    #[test]
    fn a_rule_that_has_no_part_in_a_course_changes_nothing() {
        let order = Order { seed: 1, requests_min: 300, models: Vec::new(), lanes: 1 };
        let ablations = [
            Ablation::set("all rules", Ablation::ALL),
            Ablation::without("no hold", Rules { hold: false, ..Rules::ALL }),
            NO_WINDOW,
        ];
        let (single, several) = (one_lane(), four_lanes());
        let found = compare(&ablations, &single[5..7], &order);
        assert_eq!(goodput(&found, "no hold"), goodput(&found, "all rules"));
        assert_ne!(goodput(&found, "no window"), goodput(&found, "all rules"));
        let found = compare(&ablations, &several[..1], &order);
        assert_eq!(goodput(&found, "no window"), goodput(&found, "all rules"));
        assert_ne!(found.rows[0].1[0].busy, found.rows[1].1[0].busy);
    }
}
