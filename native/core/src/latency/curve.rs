//! What is asked for on every decision: a table of times by rows that never falls, and the best batch up to each size.

use super::belief::Line;
use super::{RUN_NS_MAX, RUN_NS_MIN};

/// Larger batches are estimated along the line: 4,096 rows x 26 bytes is what a model may cost at most.
const TABLE_ROWS_MAX: u32 = 4_096;
/// A ratio further from 1 is not believed.
const RATIO_MAX: f32 = 3.0;
/// Runs that the line is trusted for at a size of which nothing is known; with `HITS_MAX` the last gain is 0.03.
const LINE_HITS: f32 = 8.0;
const HITS_MAX: f32 = 25.0;
/// What was learned before counts as so many runs.
const RESTORED_HITS: f32 = 4.0;
/// A neighbour's run counts as this much of one's own when the table is smoothed.
const NEIGHBOUR: f32 = 1.0 / 16.0;
/// What a rewriting of the table leaves of a size's hits: what was not seen for thousands of runs leans on the line.
const HITS_LEFT: f32 = 0.992;
/// The table is rewritten after two runs for each of its rows, within these bounds: each run pays for half a row.
const PUBLISHED_RUNS_MIN: u32 = 16;
const PUBLISHED_RUNS_MAX: u32 = 512;
/// It is rewritten after an eighth of these where the line has moved by this share, as one client's runs alone make it,
const DRIFT: f64 = 0.02;
/// and at once where it has moved by this one.
const LEAP: f64 = 0.04;

/// Sizes in a row that share one time, because what was learned of them alone would fall with more rows.
#[derive(Clone, Copy, Debug, Default)]
struct Pool {
    time: f32,
    weight: f32,
    sizes: u16,
}

impl Pool {
    fn merge(&mut self, next: Self) {
        let weight = self.weight + next.weight;
        self.time = (self.time * self.weight + next.time * next.weight) / weight;
        self.weight = weight;
        self.sizes += next.sizes;
    }
}

#[derive(Clone, Debug)]
pub(super) struct Curve {
    /// By rows: usual time over what the line says.
    ratios: Box<[f32]>,
    /// By rows: runs that the ratio was learned from, fading.
    hits: Box<[f32]>,
    /// By rows: nanoseconds, never falling.
    times: Box<[f32]>,
    /// By rows: the batch of the highest rate among those that are not larger.
    knees: Box<[u16]>,
    /// Only used while the table is rewritten.
    pools: Box<[Pool]>,
    /// What the table was written from.
    line: Line,
    /// Nanoseconds that each row past the table adds.
    row_beyond: f64,
    age: u32,
}

impl Curve {
    pub fn new(rows_max: u32) -> Self {
        let length = rows_max.clamp(1, TABLE_ROWS_MAX) as usize;
        Self {
            ratios: vec![1.0; length].into(),
            hits: vec![0.0; length].into(),
            times: vec![0.0; length].into(),
            knees: vec![1; length].into(),
            pools: vec![Pool::default(); length].into(),
            line: Line::new(RUN_NS_MIN, RUN_NS_MIN),
            row_beyond: 0.0,
            age: 0,
        }
    }

    pub fn rows_max(&self) -> u32 {
        self.times.len() as u32
    }

    pub fn corrections(&self) -> &[f32] {
        &self.ratios
    }

    /// Takes over what was learned before.
    pub fn restore(&mut self, corrections: &[f32]) {
        for ((ratio, hits), &correction) in self.ratios.iter_mut().zip(&mut self.hits).zip(corrections) {
            if correction.is_finite() {
                *ratio = correction.clamp(1.0 / RATIO_MAX, RATIO_MAX);
                *hits = RESTORED_HITS;
            }
        }
    }

    pub fn forget(&mut self) {
        self.ratios.fill(1.0);
        self.hits.fill(0.0);
    }

    /// Usual time over what the line says; past the table that of its end.
    pub fn ratio(&self, rows: u32) -> f64 {
        f64::from(self.ratios[self.place(rows)])
    }

    /// A run of these rows took so many times what the line says.
    pub fn learn(&mut self, rows: u32, ratio: f64) {
        if rows > self.rows_max() {
            return;
        }
        let place = self.place(rows);
        let (known, hits) = (&mut self.ratios[place], &mut self.hits[place]);
        *known += (ratio as f32 - *known) / (LINE_HITS + *hits);
        *known = known.clamp(1.0 / RATIO_MAX, RATIO_MAX);
        *hits = (*hits + 1.0).min(HITS_MAX);
    }

    /// Counts a run, and tells whether the table is too old or too far from this line.
    pub fn is_due(&mut self, line: Line) -> bool {
        self.age += 1;
        let age_max = (2 * self.rows_max()).clamp(PUBLISHED_RUNS_MIN, PUBLISHED_RUNS_MAX);
        let share = if self.age >= age_max / 8 { DRIFT } else { LEAP };
        let has_moved = |rows: f64| {
            let before = self.line.at(rows);
            (line.at(rows) - before).abs() > share * before
        };
        self.age >= age_max || has_moved(1.0) || has_moved(self.times.len() as f64)
    }

    /// Rewrites the table along this line.
    pub fn publish(&mut self, line: Line) {
        let pools = self.pool(line);
        self.spread_out(pools);
        let mut knee = (1, f64::INFINITY);
        for ((&time, best), rows) in self.times.iter().zip(&mut self.knees).zip(1_u16..) {
            // Rates are compared without dividing.
            let time = f64::from(time);
            if f64::from(rows) * knee.1 > f64::from(knee.0) * time {
                knee = (rows, time);
            }
            *best = knee.0;
        }
        for hits in &mut self.hits {
            *hits *= HITS_LEFT;
        }
        let length = self.times.len();
        self.row_beyond = line.row * f64::from(self.times[length - 1]) / line.at(length as f64);
        self.line = line;
        self.age = 0;
    }

    /// Merges neighbours until no time falls with more rows; sizes known well count more. The number of pools left.
    ///
    /// A size that ran often speaks for itself, others lean on those beside them, and on the line.
    fn pool(&mut self, line: Line) -> usize {
        let Self { ratios, hits, pools, .. } = self;
        let mut known = ratios.iter().zip(hits.iter()).map(|(ratio, hits)| (hits * ratio, *hits));
        let mut before = (0.0, 0.0);
        let mut own = known.next().unwrap_or_default();
        let mut count = 0;
        for place in 0..ratios.len() {
            let after = known.next().unwrap_or_default();
            let sum = 1.0 + own.0 + NEIGHBOUR * (before.0 + after.0);
            let weight = 1.0 + own.1 + NEIGHBOUR * (before.1 + after.1);
            let usual = line.at((place + 1) as f64).min(RUN_NS_MAX) as f32;
            let mut last = Pool { time: (usual * sum / weight).max(RUN_NS_MIN as f32), weight, sizes: 1 };
            while count > 0 && pools[count - 1].time > last.time {
                count -= 1;
                let next = std::mem::replace(&mut last, pools[count]);
                last.merge(next);
            }
            pools[count] = last;
            count += 1;
            (before, own) = (own, after);
        }
        count
    }

    fn spread_out(&mut self, pools: usize) {
        let mut times = self.times.iter_mut();
        for pool in &self.pools[..pools] {
            for time in times.by_ref().take(usize::from(pool.sizes)) {
                *time = pool.time;
            }
        }
    }

    /// Nanoseconds; never less for more rows.
    pub fn time(&self, rows: u32) -> f64 {
        let known = f64::from(self.times[self.place(rows)]);
        (known + self.row_beyond * f64::from(rows.saturating_sub(self.rows_max()))).min(RUN_NS_MAX)
    }

    /// The most rows whose time is accepted, by a test that accepts all shorter times too; 0 for none.
    pub fn rows_within(&self, rows_max: u32, accepts: impl Fn(f64) -> bool) -> u32 {
        let (mut fitting, mut excess) = (0, u64::from(rows_max) + 1);
        while fitting + 1 < excess {
            let middle = u64::midpoint(fitting, excess);
            if accepts(self.time(middle as u32)) {
                fitting = middle;
            } else {
                excess = middle;
            }
        }
        fitting as u32
    }

    /// The batch of the highest rate, up to so many rows.
    pub fn knee(&self, rows_max: u32) -> u32 {
        let known = u32::from(self.knees[self.place(rows_max)]);
        // Past the table the rate only rises or only falls, so its end is the only other candidate.
        let is_faster_beyond = rows_max > self.rows_max()
            && f64::from(rows_max) * self.time(known) > f64::from(known) * self.time(rows_max);
        if is_faster_beyond { rows_max } else { known }
    }

    fn place(&self, rows: u32) -> usize {
        (rows.max(1) as usize).min(self.times.len()) - 1
    }
}
