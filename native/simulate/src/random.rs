//! Random numbers that are the same on every machine and in every run.

/// A stream of numbers that its seed determines: xoshiro256++.
#[derive(Clone, Debug)]
pub struct Random {
    state: [u64; 4],
}

impl Random {
    /// The stream of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // SplitMix64, as the generator's authors advise: seeds that differ in one bit give unlike states.
        let mut mixed = seed;
        let state = [(); 4].map(|()| {
            mixed = mixed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let step = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let step = (step ^ (step >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            step ^ (step >> 31)
        });
        Self { state }
    }

    fn next(&mut self) -> u64 {
        let [first, second, third, fourth] = &mut self.state;
        let number = first.wrapping_add(*fourth).rotate_left(23).wrapping_add(*first);
        let shifted = *second << 17;
        *third ^= *first;
        *fourth ^= *second;
        *second ^= *third;
        *first ^= *fourth;
        *third ^= shifted;
        *fourth = fourth.rotate_left(45);
        number
    }

    /// From 0 up to, but not including, 1.
    pub fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// One of `low..=high`, all alike.
    pub fn whole(&mut self, low: u32, high: u32) -> u32 {
        low + (self.uniform() * f64::from(high - low + 1)) as u32
    }

    /// From `low` to `high`, even in the logarithm; both are above zero.
    pub fn spread(&mut self, low: f64, high: f64) -> f64 {
        low * (high / low).powf(self.uniform())
    }

    /// The gap to the next of events that come at this mean distance, independently.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.uniform()).ln()
    }

    /// Mean 0, deviation 1.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_determines_its_stream() {
        let numbers = |seed| {
            let mut random = Random::new(seed);
            [(); 8].map(|()| random.next())
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(6));
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        const DRAWS: u32 = 200_000;
        let mut random = Random::new(1);
        let mut mean_of = |draw: &mut dyn FnMut(&mut Random) -> f64| {
            (0..DRAWS).map(|_| draw(&mut random)).sum::<f64>() / f64::from(DRAWS)
        };
        assert!((mean_of(&mut |random| random.uniform()) - 0.5).abs() < 0.005);
        assert!((mean_of(&mut |random| random.exponential(3.0)) - 3.0).abs() < 0.03);
        assert!(mean_of(&mut |random| random.normal()).abs() < 0.01);
        assert!((mean_of(&mut |random| random.normal().powi(2)) - 1.0).abs() < 0.02);
        assert!((mean_of(&mut |random| f64::from(random.whole(1, 4))) - 2.5).abs() < 0.02);
    }
}
