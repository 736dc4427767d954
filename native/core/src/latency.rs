//! How long a run of some rows takes, learned from the runs themselves.
//!
//! A line through forgotten weighted least squares says most of it, a slow table of ratios the rest (a kernel that pads
//! to multiples of eight, a slope that doubles past a cache). What a stall or a throttled core does to it is bounded:
//! one long run is cut to what is usual, a few in a row are believed and change the pace at once.

mod belief;
mod curve;
mod surprise;

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use belief::{Belief, Line};
use curve::Curve;
use surprise::Surprises;

use crate::Rules;

/// No estimate is longer, whatever was seen; it also keeps every sum finite.
const RUN_NS_MAX: f64 = 3.6e12;
/// What a run of no duration, as coarse clocks report it, counts as; also the least base and slope of a line.
const RUN_NS_MIN: f64 = 1.0;
/// A written surface may not claim a longer base or row.
const SURFACE_NS_MAX: f64 = 6e10;
/// Stated for a model that never ran: too short for anyone to be refused because of it. Only the even split between base
/// and row outlives the first run, which makes it a careful guess of what larger batches take.
const PRIOR: Surface =
    Surface { base_ns: 10_000.0, row_ns: 10_000.0, spread: 1.0, corrections: Vec::new(), samples: 0 };
/// Relative deviation supposed after the first run.
const SPREAD_FIRST: f64 = 0.25;
/// More would hide even a change of pace by a factor of two and a half.
const SPREAD_MAX: f64 = 1.0;
/// Deviations between what half and what nearly all runs take.
const CAUTION: f64 = 1.5;
/// The most that caution adds.
const CAUTION_MAX: f64 = 0.5;
/// The line is learned first, and fast; what deviates from it only then.
const SAMPLES_FAST: u64 = 50;
/// What one more run leaves of the weight of earlier ones, while learning fast and after.
const FORGETTING: [f64; 2] = [0.95, 0.995];
/// The spread is learned fast for this long: as an average over all runs first, then as one that forgets.
const SPREAD_SAMPLES_FAST: u64 = 100;
/// What one more run weighs in the spread, at least: while learning fast and after.
const SPREAD_GAINS: [f64; 2] = [0.05, 0.01];
/// Runs that the evidence of a restored surface counts as, at either end: what is remembered yields within a second.
const RESTORED_SAMPLES: f64 = 10.0;

/// What was learned about one model's runs, for profile files and for people. Any content is accepted when it is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Surface {
    /// Nanoseconds that a run takes besides its rows.
    pub base_ns: f64,
    /// Nanoseconds that each row adds.
    pub row_ns: f64,
    /// Relative standard deviation of runs from what is expected.
    pub spread: f64,
    /// By rows, from one row on: the usual time over what the line says.
    pub corrections: Vec<f32>,
    /// Runs it was learned from.
    pub samples: u64,
}

/// How long runs take by their rows: what a lane is occupied for, from gathering inputs to cutting outputs.
///
/// Every estimate is between 1 ns and an hour and does not fall with more rows. Nothing is allocated after construction.
#[derive(Clone, Debug)]
pub struct Latency {
    belief: Belief,
    curve: Curve,
    /// Runs in a row that took unusually long, or unusually short.
    surprises: Surprises,
    samples: u64,
    rules: Rules,
}

impl Latency {
    /// Knows nothing and expects little; the first run replaces that.
    #[must_use]
    pub fn new(rows_max: u32) -> Self {
        Self::of(&PRIOR, rows_max)
    }

    /// Starts from what was learned before. Values out of range are clamped, missing corrections are 1.
    #[must_use]
    pub fn of(surface: &Surface, rows_max: u32) -> Self {
        let line = Line::new(
            within(surface.base_ns, RUN_NS_MIN, SURFACE_NS_MAX, PRIOR.base_ns),
            within(surface.row_ns, RUN_NS_MIN, SURFACE_NS_MAX, PRIOR.row_ns),
        );
        let mut belief = Belief::new(line, within(surface.spread, 0.0, SPREAD_MAX, SPREAD_MAX));
        let mut curve = Curve::new(rows_max);
        if surface.samples > 0 {
            curve.restore(&surface.corrections);
            for rows in [1, curve.rows_max()] {
                belief.suppose(f64::from(rows), RESTORED_SAMPLES);
            }
        }
        curve.publish(line);
        Self { belief, curve, surprises: Surprises::default(), samples: surface.samples, rules: Rules::ALL }
    }

    /// The same, learning by these rules from now on.
    #[must_use]
    pub fn under(self, rules: Rules) -> Self {
        Self { rules, ..self }
    }

    /// What it learns by.
    pub(crate) fn rules(&self) -> Rules {
        self.rules
    }

    /// A run of these rows occupied its lane for this long.
    pub fn observe(&mut self, rows: u32, run: Duration) {
        let rows = rows.max(1);
        let time = nanoseconds(run).clamp(RUN_NS_MIN, RUN_NS_MAX);
        if self.samples == 0 {
            self.belief = Belief::first(self.belief.line, f64::from(rows), time);
            self.curve.publish(self.belief.line);
        } else {
            self.learn(rows, time);
        }
        self.samples = self.samples.saturating_add(1);
    }

    fn learn(&mut self, rows: u32, time: f64) {
        let count = f64::from(rows);
        let line_time = self.belief.line.at(count);
        let usual = line_time * self.curve.ratio(rows);
        let is_remote = self.belief.is_remote(count);
        let excess = excess(time, usual);
        if self.surprises.is_one(excess, self.belief.spread) {
            if self.rules.change && self.surprises.note(rows, time, excess, &self.belief) {
                return self.turn();
            }
        } else {
            self.surprises.clear();
        }
        let tolerance = if self.rules.clamp { self.belief.tolerance() } else { f64::INFINITY };
        let believed = if is_remote {
            let (least, most) = self.belief.cone(count);
            time.clamp(least / tolerance, most * tolerance)
        } else {
            time.clamp(usual / tolerance, usual * tolerance)
        };
        // Errors count in relation to the run. Where nothing was seen yet, the run itself says better what that is.
        let scale = if is_remote { believed } else { line_time };
        let forgetting = FORGETTING[usize::from(self.samples >= SAMPLES_FAST)];
        self.belief.add(count, believed, scale, forgetting);
        let gain = SPREAD_GAINS[usize::from(self.samples >= SPREAD_SAMPLES_FAST)];
        self.belief.widen(excess.abs().min(tolerance - 1.0), gain.max(1.0 / (self.samples as f64 + 1.0)));
        if self.samples >= SAMPLES_FAST {
            self.curve.learn(rows, believed / self.belief.line.at(count));
        }
        if self.curve.is_due(self.belief.line) {
            self.curve.publish(self.belief.line);
        }
    }

    /// Several runs in a row contradicted the belief. At sizes known well the pace has changed, for all sizes alike; at a
    /// size hardly seen before it was the line that leant the wrong way.
    fn turn(&mut self) {
        let before = *self.surprises.before();
        let curve = &self.curve;
        let factor = self.surprises.median(|rows| before.line.at(f64::from(rows)) * curve.ratio(rows));
        let rows = self.surprises.rows_mean();
        if before.is_remote(rows) {
            self.belief = before.pivoted(rows, factor * before.line.at(rows), self.surprises.count() as f64);
            self.curve.forget();
        } else {
            self.belief = before.paced(factor);
        }
        self.surprises.clear();
        self.curve.publish(self.belief.line);
    }

    /// What half of the runs of these rows take.
    #[must_use]
    pub fn expected(&self, rows: u32) -> Duration {
        duration(self.curve.time(rows))
    }

    /// What nearly all runs of these rows take.
    #[must_use]
    pub fn cautious(&self, rows: u32) -> Duration {
        duration(self.curve.time(rows) * self.margin())
    }

    /// The most rows, up to so many, that nearly always run within the slack; 0 where not even one does.
    #[must_use]
    pub fn rows_fitting(&self, slack: Duration, rows_max: u32) -> u32 {
        let margin = self.margin();
        self.curve.rows_within(rows_max, |time| duration(time * margin) <= slack)
    }

    /// The batch of the highest rate that leaves the target to a request which just missed the one before, `lanes`
    /// running in turns; a target of zero bounds nothing. At least 1.
    #[must_use]
    pub fn knee(&self, target: Duration, lanes: u32, rows_max: u32) -> u32 {
        let fitting = if target.is_zero() {
            rows_max
        } else {
            let turns = 1.0 + 1.0 / f64::from(lanes.max(1));
            let target = nanoseconds(target);
            self.curve.rows_within(rows_max, |time| time * turns <= target)
        };
        self.curve.knee(fitting.max(1))
    }

    /// What a run takes besides its rows.
    #[must_use]
    pub fn base(&self) -> Duration {
        duration(self.belief.line.base)
    }

    /// What each row adds.
    #[must_use]
    pub fn per_row(&self) -> Duration {
        duration(self.belief.line.row)
    }

    /// Relative standard deviation of runs from what is expected of them.
    #[must_use]
    pub fn spread(&self) -> f64 {
        self.belief.spread
    }

    /// Runs this was learned from; 0 means that every estimate is a guess.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// What was learned, to start from another time.
    #[must_use]
    pub fn surface(&self) -> Surface {
        Surface {
            base_ns: self.belief.line.base,
            row_ns: self.belief.line.row,
            spread: self.belief.spread,
            corrections: self.curve.corrections().to_vec(),
            samples: self.samples,
        }
    }

    fn margin(&self) -> f64 {
        1.0 + (CAUTION * self.belief.spread).min(CAUTION_MAX)
    }
}

/// How many times longer than usual, less one; below zero how many times shorter. A halved pace is as far from the usual
/// one as a doubled one.
fn excess(time: f64, usual: f64) -> f64 {
    if time >= usual { time / usual - 1.0 } else { 1.0 - usual / time }
}

fn within(value: f64, least: f64, most: f64, otherwise: f64) -> f64 {
    if value.is_nan() { otherwise } else { value.clamp(least, most) }
}

/// Without the detour over 128 bits.
fn nanoseconds(duration: Duration) -> f64 {
    1e9 * duration.as_secs() as f64 + f64::from(duration.subsec_nanos())
}

fn duration(nanoseconds: f64) -> Duration {
    Duration::from_nanos(nanoseconds.clamp(RUN_NS_MIN, RUN_NS_MAX) as u64)
}
