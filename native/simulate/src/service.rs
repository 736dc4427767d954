//! How long a run takes: what the simulated lanes do, and what policies are told about it.

use crate::Random;

/// How the time of a run grows with its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `base + row * n`.
    Line,
    /// `base + row * n`, n rounded up to a multiple of 8, as kernels do that work in tiles.
    Stairs,
    /// Each row past 32 costs twice as much, as where a cache overflows.
    Bend,
    /// Each row costs `row` for every step of the longest row's length, as padding makes it.
    Padded,
}

/// What makes two runs of the same rows differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noise {
    /// Nothing.
    Quiet,
    /// Lognormal with a deviation of 8 %, and one run in 500 takes three times as long.
    Jitter,
    /// The same deviation, and other runs that take far longer.
    Outliers {
        /// One run in so many is one.
        every: u32,
        /// How many times as long it takes.
        factor: u32,
    },
}

impl Noise {
    /// The share of runs that take so many times as long.
    fn outliers(self) -> (f64, f64) {
        match self {
            Self::Quiet => (0.0, 1.0),
            Self::Jitter => (0.002, 3.0),
            Self::Outliers { every, factor } => (1.0 / f64::from(every), f64::from(factor)),
        }
    }
}

/// The service of one model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Service {
    /// Seconds of a run whatever its rows.
    pub base_s: f64,
    /// Seconds more for each row.
    pub row_s: f64,
    /// How both add up.
    pub shape: Shape,
    /// How runs scatter around that.
    pub noise: Noise,
}

impl Service {
    /// A straight line with jitter.
    #[must_use]
    pub const fn line(base_s: f64, row_s: f64) -> Self {
        Self { base_s, row_s, shape: Shape::Line, noise: Noise::Jitter }
    }

    /// The same without jitter and outliers.
    #[must_use]
    pub const fn quiet(self) -> Self {
        Self { noise: Noise::Quiet, ..self }
    }

    /// The same line, bent or stepped.
    #[must_use]
    pub const fn shaped(self, shape: Shape) -> Self {
        Self { shape, ..self }
    }

    /// Seconds of a run without noise; `length` is that of its longest row.
    #[must_use]
    pub fn expected_s(&self, rows: u32, length: u32) -> f64 {
        const TILE_ROWS: u32 = 8;
        const BEND_ROWS: u32 = 32;
        let units = match self.shape {
            Shape::Line => f64::from(rows),
            Shape::Stairs => f64::from(rows.next_multiple_of(TILE_ROWS)),
            Shape::Bend => f64::from(rows + rows.saturating_sub(BEND_ROWS)),
            Shape::Padded => f64::from(rows) * f64::from(length),
        };
        self.base_s + self.row_s * units
    }

    /// Seconds of one run. Draws the same numbers whatever the rows, so that policies meet the same luck run by run.
    pub fn sample_s(&self, rows: u32, length: u32, random: &mut Random) -> f64 {
        const DEVIATION: f64 = 0.08;
        let expected_s = self.expected_s(rows, length);
        if self.noise == Noise::Quiet {
            return expected_s;
        }
        let (share, factor) = self.noise.outliers();
        let outlier = if random.uniform() < share { factor } else { 1.0 };
        expected_s * (DEVIATION * random.normal()).exp() * outlier
    }
}

/// A model as the simulator serves it. Every request is one row.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// For tables.
    pub name: String,
    /// How long its runs take.
    pub service: Service,
    /// Seconds within which a request is to be answered.
    pub target_s: f64,
    /// Rows of a batch.
    pub rows_max: u32,
}

impl Model {
    /// A small model on a CPU.
    #[must_use]
    pub fn cpu_small() -> Self {
        Self { name: String::from("A"), service: Service::line(80e-6, 13e-6), target_s: 2e-3, rows_max: 64 }
    }

    /// A tiny model, whose runs cost little more than their call.
    #[must_use]
    pub fn tiny() -> Self {
        Self { name: String::from("B"), service: Service::line(5e-6, 0.02e-6), target_s: 0.1e-3, rows_max: 256 }
    }

    /// A model on an accelerator.
    #[must_use]
    pub fn accelerator() -> Self {
        Self { name: String::from("C"), service: Service::line(2e-3, 0.1e-3), target_s: 15e-3, rows_max: 64 }
    }

    /// The same without jitter and outliers.
    #[must_use]
    pub fn quiet(mut self) -> Self {
        self.service = self.service.quiet();
        self
    }

    /// The same with this noise.
    #[must_use]
    pub fn with_noise(mut self, noise: Noise) -> Self {
        self.service.noise = noise;
        self
    }

    /// The same, bent or stepped.
    #[must_use]
    pub fn shaped(mut self, shape: Shape) -> Self {
        self.service = self.service.shaped(shape);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_differ_only_where_they_say() {
        let line = Service::line(2.0, 0.5).quiet();
        let seconds = |shape, rows| line.shaped(shape).expected_s(rows, 10);
        assert_eq!([1, 9, 40].map(|rows| seconds(Shape::Line, rows)), [2.5, 6.5, 22.0]);
        assert_eq!([1, 9, 40].map(|rows| seconds(Shape::Stairs, rows)), [6.0, 10.0, 22.0]);
        assert_eq!([1, 9, 40].map(|rows| seconds(Shape::Bend, rows)), [2.5, 6.5, 26.0]);
        assert_eq!(seconds(Shape::Padded, 3), 17.0);
    }

    #[test]
    fn jitter_scatters_around_the_line_and_quiet_does_not() {
        let (service, mut random) = (Service::line(1.0, 0.0), Random::new(3));
        assert_eq!(service.quiet().sample_s(4, 0, &mut random), 1.0);
        let draws: Vec<f64> = (0..20_000).map(|_| service.sample_s(4, 0, &mut random)).collect();
        let outliers = draws.iter().filter(|&&seconds| seconds > 2.0).count();
        assert!((20..=65).contains(&outliers), "{outliers}");
        let inside = draws.iter().filter(|&&seconds| (seconds - 1.0).abs() < 0.16).count();
        assert!((18_600..=19_400).contains(&inside), "{inside}");
    }
}
