//! Randomness for spreading things in time; not for secrets.

use std::time::Duration;

/// A small generator (xorshift64*), one per shard.
#[derive(Debug)]
pub(crate) struct Jitter {
    state: u64,
}

impl Jitter {
    /// A generator of its own sequence.
    pub(crate) fn new(seed: u64) -> Self {
        // The state may be anything but 0; the odd factor keeps neighbouring seeds apart.
        Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
    }

    /// In `0..1`.
    pub(crate) fn fraction(&mut self) -> f64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let bits = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        bits as f64 / (1_u64 << 53) as f64
    }

    /// Times a random 1 to 1.5.
    pub(crate) fn stretched(&mut self, time: Duration) -> Duration {
        time.mul_f64(1.0 + self.fraction() / 2.0)
    }

    /// Times a random 0.9 to 1.1.
    pub(crate) fn around(&mut self, time: Duration) -> Duration {
        time.mul_f64(0.9 + self.fraction() / 5.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_fill_the_unit_interval() {
        let mut jitter = Jitter::new(0);
        let mut seen = [0_u32; 10];
        for _ in 0..10_000 {
            seen[(jitter.fraction() * 10.0) as usize] += 1;
        }
        assert!(seen.iter().all(|&count| (800..1_200).contains(&count)), "{seen:?}");
    }
}
