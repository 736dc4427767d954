//! Random numbers that are the same on every machine.

/// SplitMix64: one addition and a few shifts for a number, and no two seeds that run alike.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// `stream` keeps the numbers of different purposes of one seed apart.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut dice = Self(seed);
        dice.0 = dice.next().wrapping_add(stream.wrapping_mul(0xd1b5_4a32_d192_ed03));
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// From 0 up to, but never, 1.
    pub(crate) fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Exponential with mean 1.
    pub(crate) fn exponential(&mut self) -> f64 {
        -(1.0 - self.share()).ln()
    }
}

/// Draws from a few things by weight.
#[derive(Clone, Debug)]
pub(crate) struct Mix {
    /// Running sums of the weights, the last one 1.
    sums: Vec<f64>,
}

impl Mix {
    pub(crate) fn new(weights: impl Iterator<Item = f64>) -> Self {
        let mut sums: Vec<f64> = weights
            .scan(0.0, |sum, weight| {
                *sum += weight;
                Some(*sum)
            })
            .collect();
        let total = sums.last().copied().unwrap_or(1.0);
        sums.iter_mut().for_each(|sum| *sum /= total);
        Self { sums }
    }

    /// Which one; 0 where there is no choice.
    pub(crate) fn draw(&self, dice: &mut Dice) -> usize {
        if self.sums.len() < 2 {
            return 0;
        }
        let share = dice.share();
        self.sums.partition_point(|&sum| sum <= share).min(self.sums.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_fill_the_unit_evenly() {
        let mut dice = Dice::new(3, 0);
        let mut counts = [0_u32; 10];
        for _ in 0..100_000 {
            counts[(dice.share() * 10.0) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }

    #[test]
    fn streams_of_one_seed_differ_and_repeat() {
        let draw = |seed, stream| Dice::new(seed, stream).share();
        assert_eq!(draw(1, 2).to_bits(), draw(1, 2).to_bits());
        assert_ne!(draw(1, 2).to_bits(), draw(1, 3).to_bits());
        assert_ne!(draw(1, 2).to_bits(), draw(2, 2).to_bits());
    }

    #[test]
    fn a_mix_draws_by_weight() {
        let (mix, mut dice) = (Mix::new([3.0, 1.0, 6.0].into_iter()), Dice::new(5, 0));
        let mut counts = [0_u32; 3];
        for _ in 0..100_000 {
            counts[mix.draw(&mut dice)] += 1;
        }
        for (count, expected) in counts.into_iter().zip([30_000, 10_000, 60_000]) {
            assert!(count.abs_diff(expected) < 1_000, "{counts:?}");
        }
        assert_eq!(Mix::new([7.0].into_iter()).draw(&mut dice), 0);
    }
}
