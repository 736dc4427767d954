//! A line, the evidence it was fitted to, and how far runs stray from it.

use super::{RUN_NS_MAX, RUN_NS_MIN, SPREAD_FIRST, SPREAD_MAX};

/// Runs within this many deviations of the usual are taken as they are.
const TOLERANCE: f64 = 3.0;
/// Runs this close are always taken as they are, however steady the model has been.
const TOLERANCE_MIN: f64 = 0.15;
/// How slowly the slope follows rows that hardly vary, in shares of their squared mean: it stays a fixed share of the
/// run where they do not vary at all.
const STIFFNESS: f64 = 1e-3;
/// Evidence is remote where one run of that size says more about the slope than a quarter of all earlier ones.
const REMOTE: f64 = 0.25;
/// What a change of pace leaves of the weight of earlier runs.
const REMEMBERED: f64 = 0.05;
/// Mean absolute to standard deviation.
const DEVIATION: f64 = 1.25;

/// Nanoseconds by rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub base: f64,
    pub row: f64,
}

impl Line {
    pub fn new(base: f64, row: f64) -> Self {
        Self { base: base.clamp(RUN_NS_MIN, RUN_NS_MAX), row: row.clamp(RUN_NS_MIN, RUN_NS_MAX) }
    }

    pub fn at(self, rows: f64) -> f64 {
        self.base + self.row * rows
    }

    fn times(self, factor: f64) -> Self {
        Self::new(self.base * factor, self.row * factor)
    }
}

/// Weighted sums over past runs; older ones weigh less.
#[derive(Clone, Copy, Debug, Default)]
struct Evidence {
    weight: f64,
    rows: f64,
    rows_squared: f64,
    time: f64,
    rows_time: f64,
}

impl Evidence {
    /// What a model that runs along this line would have shown, with rows of this mean and variance.
    fn along(line: Line, centre: f64, variance: f64, count: f64) -> Self {
        let time = line.at(centre);
        let weight = count / (time * time);
        let square = centre * centre + variance;
        Self {
            weight,
            rows: weight * centre,
            rows_squared: weight * square,
            time: weight * time,
            rows_time: weight * (line.base * centre + line.row * square),
        }
    }

    fn add(&mut self, rows: f64, time: f64, weight: f64) {
        self.weight += weight;
        self.rows += weight * rows;
        self.rows_squared += weight * rows * rows;
        self.time += weight * time;
        self.rows_time += weight * rows * time;
    }

    fn fade(&mut self, left: f64) {
        for sum in [&mut self.weight, &mut self.rows, &mut self.rows_squared, &mut self.time, &mut self.rows_time] {
            *sum *= left;
        }
    }

    fn centre(&self) -> f64 {
        self.rows / self.weight
    }

    fn variance(&self) -> f64 {
        let centre = self.centre();
        (self.rows_squared / self.weight - centre * centre).max(0.0)
    }

    /// The line that fits best; where the rows hardly vary, base and slope keep their proportion.
    fn fit(&self, line: Line) -> Line {
        let (centre, variance, mean) = (self.centre(), self.variance(), self.time / self.weight);
        let covariance = self.rows_time / self.weight - centre * mean;
        let stiffness = STIFFNESS * centre * centre;
        let row = (covariance + stiffness * line.row * mean / line.at(centre)) / (variance + stiffness);
        let base = mean - row * centre;
        if base < RUN_NS_MIN {
            Line::new(RUN_NS_MIN, self.rows_time / self.rows_squared)
        } else if row < RUN_NS_MIN {
            Line::new(mean, RUN_NS_MIN)
        } else {
            Line::new(base, row)
        }
    }
}

/// What is thought of a model's pace at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Belief {
    pub line: Line,
    evidence: Evidence,
    /// Relative standard deviation of runs from the usual.
    pub spread: f64,
}

impl Default for Belief {
    fn default() -> Self {
        Self::new(Line::new(RUN_NS_MIN, RUN_NS_MIN), SPREAD_MAX)
    }
}

impl Belief {
    /// A guess, without evidence.
    pub fn new(line: Line, spread: f64) -> Self {
        Self { line, evidence: Evidence::default(), spread }
    }

    /// After the first run ever: its pace, and the proportions that were guessed.
    pub fn first(guess: Line, rows: f64, time: f64) -> Self {
        let mut belief = Self::new(guess.times(time / guess.at(rows)), SPREAD_FIRST);
        belief.suppose(rows, 1.0);
        belief
    }

    /// Counts as many runs of these rows as evidence as if they had been seen.
    pub fn suppose(&mut self, rows: f64, count: f64) {
        let time = self.line.at(rows);
        self.evidence.add(rows, time, count / (time * time));
    }

    /// One more run; its error counts in relation to `scale`.
    pub fn add(&mut self, rows: f64, time: f64, scale: f64, forgetting: f64) {
        self.evidence.fade(forgetting);
        self.evidence.add(rows, time, 1.0 / (scale * scale));
        self.line = self.evidence.fit(self.line);
    }

    /// Follows how far runs stray, whichever way. What is beyond tolerance is to count as at its edge: then one stall does
    /// not make a model look unsteady for long.
    pub fn widen(&mut self, excess: f64, gain: f64) {
        let deviation = DEVIATION * excess;
        self.spread = (self.spread + gain * (deviation - self.spread)).min(SPREAD_MAX);
    }

    /// A run up to this many times longer or shorter than usual is believed; others count as that.
    pub fn tolerance(&self) -> f64 {
        1.0 + (TOLERANCE * self.spread).max(TOLERANCE_MIN)
    }

    /// How many deviations from the usual that is; however steady the model has been, a deviation is never less than a
    /// third of what is always tolerated.
    pub fn deviations(&self, excess: f64) -> f64 {
        excess.abs() / self.spread.max(TOLERANCE_MIN / TOLERANCE)
    }

    /// Whether runs of these rows would be news, so far from all evidence that the line says nothing about them.
    pub fn is_remote(&self, rows: f64) -> bool {
        let centre = self.evidence.centre();
        let time = self.line.at(rows);
        let distance = (rows - centre) * (rows - centre);
        let width = self.evidence.variance() + STIFFNESS * centre * centre;
        distance > REMOTE * width * self.evidence.weight * time * time
    }

    /// The least and the most that runs of these rows can take if those seen are right: more rows take no less time, and
    /// no more than in proportion.
    pub fn cone(&self, rows: f64) -> (f64, f64) {
        let centre = self.evidence.centre();
        let time = self.line.at(centre);
        let proportional = time * rows / centre;
        (time.min(proportional), time.max(proportional))
    }

    /// All runs take this many times as long from now on.
    pub fn paced(&self, factor: f64) -> Self {
        let line = self.line.times(factor);
        Self { line, evidence: self.faded_along(line), spread: self.spread }
    }

    /// So many runs of these rows took this long; those of the sizes known before are as they were.
    pub fn pivoted(&self, rows: f64, time: f64, count: f64) -> Self {
        let centre = self.evidence.centre();
        let (least, most) = self.cone(rows);
        let time_at_centre = self.line.at(centre);
        let row = (time.clamp(least, most) - time_at_centre) / (rows - centre);
        let line = Line::new(time_at_centre - row * centre, row);
        let mut belief = Self { line, evidence: self.faded_along(line), spread: self.spread };
        belief.suppose(rows, count);
        belief
    }

    fn faded_along(&self, line: Line) -> Evidence {
        let centre = self.evidence.centre();
        let time = self.line.at(centre);
        let count = self.evidence.weight * time * time;
        Evidence::along(line, centre, self.evidence.variance(), REMEMBERED * count)
    }
}
