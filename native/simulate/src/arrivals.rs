//! When requests come.

use crate::Random;

/// How the rate of arrivals changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// It does not: independent arrivals.
    Poisson,
    /// Two states of random length: 0.4 times the mean for 20 targets, 2.2 times for 10, on average.
    Bursts,
    /// Ten times as much for ten targets as for the next ten.
    OnOff,
}

/// A stretch of time in which the rate stays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stretch {
    /// Seconds from the start.
    pub from_s: f64,
    /// Its end.
    pub until_s: f64,
    /// Arrivals a second, expected.
    pub rate: f64,
}

/// What arrives: how much on average, for how long, how unevenly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Traffic {
    /// How the rate changes.
    pub pattern: Pattern,
    /// Arrivals a second on average.
    pub rate: f64,
    /// Seconds until the last.
    pub length_s: f64,
    /// Seconds that stretches are measured by: the target.
    pub target_s: f64,
}

impl Traffic {
    /// Stretches of constant rate from 0 to the end.
    #[must_use]
    pub fn stretches(&self, random: &mut Random) -> Vec<Stretch> {
        let mut stretches = Vec::new();
        let (mut from_s, mut is_high) = (0.0, false);
        while from_s < self.length_s {
            let (factor, mean) = match (self.pattern, is_high) {
                (Pattern::Poisson, _) => (1.0, f64::INFINITY),
                (Pattern::Bursts, false) => (0.4, random.exponential(20.0)),
                (Pattern::Bursts, true) => (2.2, random.exponential(10.0)),
                (Pattern::OnOff, false) => (2.0 / 11.0, 10.0),
                (Pattern::OnOff, true) => (20.0 / 11.0, 10.0),
            };
            let until_s = (from_s + mean * self.target_s).min(self.length_s);
            stretches.push(Stretch { from_s, until_s, rate: factor * self.rate });
            (from_s, is_high) = (until_s, !is_high);
        }
        stretches
    }
}

/// Arrival times within these stretches, in seconds, ascending.
#[must_use]
pub fn arrivals(stretches: &[Stretch], random: &mut Random) -> Vec<f64> {
    let mut arrivals = Vec::new();
    for stretch in stretches {
        let mut at_s = stretch.from_s;
        loop {
            // Forgetful: what is left of a gap at a stretch's end is drawn anew at the next one's rate.
            at_s += random.exponential(1.0 / stretch.rate);
            if at_s >= stretch.until_s {
                break;
            }
            arrivals.push(at_s);
        }
    }
    arrivals
}

/// A length as texts have it: lognormal around this median, at most `length_max`.
pub fn text_length(median: f64, length_max: u32, random: &mut Random) -> u32 {
    const DEVIATION: f64 = 0.8;
    let length = median * (DEVIATION * random.normal()).exp();
    (length.round() as u32).clamp(1, length_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(pattern: Pattern) -> Traffic {
        Traffic { pattern, rate: 1_000.0, length_s: 400.0, target_s: 0.1 }
    }

    #[test]
    fn every_pattern_has_the_mean_rate_it_was_asked_for() {
        for (pattern, allowed) in [(Pattern::Poisson, 0.01), (Pattern::OnOff, 0.01), (Pattern::Bursts, 0.1)] {
            let mut random = Random::new(5);
            let found = arrivals(&traffic(pattern).stretches(&mut random), &mut random);
            assert!(found.is_sorted());
            assert!((found.len() as f64 / 400_000.0 - 1.0).abs() < allowed, "{pattern:?}: {}", found.len());
        }
    }

    #[test]
    fn stretches_cover_all_of_the_time_without_a_gap() {
        for pattern in [Pattern::Poisson, Pattern::Bursts, Pattern::OnOff] {
            let stretches = traffic(pattern).stretches(&mut Random::new(2));
            assert_eq!((stretches[0].from_s, stretches[stretches.len() - 1].until_s), (0.0, 400.0));
            assert!(stretches.windows(2).all(|pair| pair[0].until_s == pair[1].from_s));
        }
    }

    #[test]
    fn half_of_the_texts_are_shorter_than_the_median() {
        let mut random = Random::new(9);
        let short = (0..10_000).filter(|_| text_length(48.0, 512, &mut random) <= 48).count();
        assert!((4_800..=5_300).contains(&short), "{short}");
    }
}
