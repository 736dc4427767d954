//! What no policy can beat: the fluid model of batches that cost `base + row * n`.

use crate::Model;

/// One model on equal lanes, as a line: rates in rows a second, times in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fluid {
    /// Seconds of a run whatever its rows.
    pub base_s: f64,
    /// Seconds more for each row.
    pub row_s: f64,
    /// Runs at a time.
    pub lanes: u32,
    /// Rows of a batch.
    pub rows_max: u32,
    /// Seconds within which a request is to be answered.
    pub target_s: f64,
}

impl Fluid {
    /// The line that a model's service is said to have.
    #[must_use]
    pub fn of(model: &Model, lanes: u32) -> Self {
        let Model { service, target_s, rows_max, .. } = model;
        Self { base_s: service.base_s, row_s: service.row_s, lanes, rows_max: *rows_max, target_s: *target_s }
    }

    /// The same on a machine that is this many times as slow.
    #[must_use]
    pub fn slower(self, factor: f64) -> Self {
        Self { base_s: self.base_s * factor, row_s: self.row_s * factor, ..self }
    }

    /// Seconds of a run of this many rows.
    #[must_use]
    pub fn run_s(&self, rows: u32) -> f64 {
        self.base_s + self.row_s * f64::from(rows)
    }

    /// Rows a second when all batches are of this size and no lane rests.
    #[must_use]
    pub fn rate(&self, rows: u32) -> f64 {
        f64::from(self.lanes) * f64::from(rows) / self.run_s(rows)
    }

    /// Rows of the largest run that ends within this time; 0 where none does.
    #[must_use]
    pub fn rows_within(&self, seconds: f64) -> u32 {
        let fits = |rows: &u32| self.run_s(*rows) <= seconds;
        let guess = ((seconds - self.base_s) / self.row_s).clamp(0.0, f64::from(self.rows_max)) as u32;
        // The division may round to either side of a whole number.
        (guess.saturating_sub(1)..=(guess + 1).min(self.rows_max)).rev().find(fits).unwrap_or(0)
    }

    /// The batch at which nobody need be dropped: the largest that, with the wait for a lane, ends within the target.
    /// At least one row.
    #[must_use]
    pub fn rows_best(&self) -> u32 {
        self.rows_within(self.target_s / (1.0 + 1.0 / f64::from(self.lanes))).max(1)
    }

    /// Rows a second that can be served without dropping anybody.
    #[must_use]
    pub fn capacity(&self) -> f64 {
        self.rate(self.rows_best())
    }

    /// The batch that a greedy server settles at; `None` where the queue grows for ever.
    #[must_use]
    pub fn rows_of_greed(&self, arrival_rate: f64) -> Option<f64> {
        let spare = f64::from(self.lanes) - arrival_rate * self.row_s;
        (spare > 0.0).then(|| arrival_rate * self.base_s / spare)
    }

    /// The most rows a second that can be answered in time when this many arrive: batches of one size, formed of
    /// those who are young enough to survive their run.
    #[must_use]
    pub fn goodput(&self, arrival_rate: f64) -> f64 {
        // Where the young are scarce the best batch is the whole line's, not of whole rows: requests of some seconds
        // ago are as good as fresh ones, and batches may alternate between two sizes.
        let young = |rows: f64| arrival_rate * (self.target_s - self.base_s - self.row_s * rows);
        let rows_young = arrival_rate * (self.target_s - self.base_s) / (1.0 + arrival_rate * self.row_s);
        let rows = rows_young.clamp(0.0, f64::from(self.rows_max)).min((self.target_s - self.base_s) / self.row_s);
        if rows <= 0.0 || young(rows) < 0.0 {
            return 0.0;
        }
        (f64::from(self.lanes) * rows / (self.base_s + self.row_s * rows)).min(arrival_rate)
    }

    /// Share of arrivals that can be answered in time.
    #[must_use]
    pub fn goodput_share(&self, arrival_rate: f64) -> f64 {
        if arrival_rate > 0.0 { self.goodput(arrival_rate) / arrival_rate } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Fluid {
        Fluid::of(&Model::cpu_small(), 1)
    }

    fn accelerator() -> Fluid {
        Fluid::of(&Model::accelerator(), 1)
    }

    fn close(found: f64, expected: f64) -> bool {
        (found / expected - 1.0).abs() < 0.005
    }

    #[test]
    fn capacity_is_that_of_the_largest_batch_that_can_wait_for_its_lane() {
        let tiny = Fluid::of(&Model::tiny(), 1);
        assert_eq!([small(), tiny, accelerator()].map(|fluid| fluid.rows_best()), [64, 256, 54].map(|rows| rows));
        assert!(close(small().capacity(), 70_175.0));
        assert!(close(tiny.capacity(), 25_296_443.0));
        assert!(close(accelerator().capacity(), 7_297.0));
        let four = Fluid { lanes: 4, ..accelerator() };
        assert_eq!(four.rows_best(), 64);
    }

    #[test]
    fn greed_settles_at_the_fixed_point_of_batch_and_arrivals() {
        let fluid = accelerator();
        let rate = 0.6 * fluid.capacity();
        let rows = fluid.rows_of_greed(rate).expect("below the line's asymptote");
        assert!(close(rows, 15.6));
        assert!(close(rate * (fluid.base_s + fluid.row_s * rows), rows));
        assert_eq!(fluid.rows_of_greed(1.0 / fluid.row_s), None);
    }

    #[test]
    fn goodput_is_all_that_arrives_up_to_capacity_and_bounded_beyond() {
        for fluid in [small(), accelerator(), Fluid { lanes: 4, ..small() }] {
            let capacity = fluid.capacity();
            for load in [0.1, 0.5, 0.9, 0.99] {
                assert!(close(fluid.goodput_share(load * capacity), 1.0), "{fluid:?} at {load}");
            }
            let beyond = [1.1, 1.3, 1.5, 2.0, 4.0].map(|load| fluid.goodput(load * capacity));
            assert!(beyond.is_sorted(), "{beyond:?}");
            assert!(beyond[4] <= fluid.rate(fluid.rows_max) * 1.000_001);
        }
        assert!(close(small().goodput_share(1.1 * small().capacity()), 0.909));
        assert!(close(accelerator().goodput_share(1.1 * accelerator().capacity()), 0.926));
        assert!(close(accelerator().goodput_share(1.5 * accelerator().capacity()), 0.696));
    }

    #[test]
    fn a_target_shorter_than_a_run_gives_nothing() {
        let fluid = Fluid { target_s: 1e-3, ..accelerator() };
        assert_eq!((fluid.goodput(1_000.0), fluid.rows_within(1e-3), fluid.rows_best()), (0.0, 0, 1));
    }

    #[test]
    fn rows_within_is_the_largest_that_fits() {
        let fluid = small();
        for rows in 1..=64 {
            assert_eq!(fluid.rows_within(fluid.run_s(rows) + 1e-12), rows);
        }
        assert_eq!(fluid.rows_within(1.0), 64);
    }
}
