//! The least share of a model that every class gets while it has work.

use crate::Policy;

/// Of the rows that leave, what a class that waits gets at least.
const SHARE_MIN: f32 = 0.05;

/// Rows that each class has yet to get to reach its share. A class without work is owed nothing.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    owed: [f32; Policy::PRIORITIES_MAX],
    /// Whether any class is owed anything.
    is_owing: bool,
}

impl Shares {
    /// Counts the rows of a batch by class; `waiting` has a bit for each class in which requests are left.
    pub(crate) fn dispatched(&mut self, taken: &[u32; Policy::PRIORITIES_MAX], waiting: u8, rows_max: u32) {
        let rows = taken.iter().sum::<u32>();
        // Nobody but the one that was served has work.
        let is_sole = waiting & waiting.wrapping_sub(1) == 0 && taken[waiting.trailing_zeros() as usize % 8] == rows;
        if (waiting == 0 || is_sole) && !self.is_owing {
            return;
        }
        let share = SHARE_MIN * rows as f32;
        self.is_owing = false;
        for (tier, owed) in self.owed.iter_mut().enumerate() {
            let is_waiting = waiting & (1 << tier) != 0;
            // One batch at most: what was missed long ago is not made up for.
            let due = (*owed + share - taken[tier] as f32).clamp(0.0, rows_max as f32);
            *owed = if is_waiting { due } else { 0.0 };
            self.is_owing |= *owed > 0.0;
        }
    }

    /// Nobody waits, so nobody is owed anything.
    pub(crate) fn forget(&mut self) {
        if self.is_owing {
            *self = Self::default();
        }
    }

    /// Whether any class is owed anything.
    pub(crate) fn is_owing(&self) -> bool {
        self.is_owing
    }

    /// Whole rows that a class is owed.
    pub(crate) fn owed(&self, tier: usize) -> u32 {
        self.owed[tier] as u32
    }

    /// The class that goes first among those that wait: the highest, unless one is owed a whole batch.
    pub(crate) fn first(&self, waiting: u8, rows_max: u32) -> Option<usize> {
        let highest = (waiting != 0).then(|| waiting.trailing_zeros() as usize)?;
        if !self.is_owing {
            return Some(highest);
        }
        let is_starved = |tier: &usize| waiting & (1 << tier) != 0 && self.owed[*tier] >= rows_max as f32;
        Some((highest..Policy::PRIORITIES_MAX).find(is_starved).unwrap_or(highest))
    }
}

#[cfg(test)]
mod tests {
    use super::Shares;

    #[test]
    fn a_class_that_gets_nothing_gets_a_batch_in_twenty() {
        let mut shares = Shares::default();
        let mut low = 0;
        for _ in 0..210 {
            let first = shares.first(0b11, 8).expect("both wait");
            let taken = if first == 0 { [8, 0, 0, 0, 0, 0, 0, 0] } else { [0, 8, 0, 0, 0, 0, 0, 0] };
            low += u32::from(first == 1);
            shares.dispatched(&taken, 0b11, 8);
        }
        assert_eq!(low, 10);
    }

    #[test]
    fn who_does_not_wait_is_owed_nothing() {
        let mut shares = Shares::default();
        for _ in 0..100 {
            shares.dispatched(&[8, 0, 0, 0, 0, 0, 0, 0], 0b11, 8);
        }
        assert_eq!((shares.owed(1), shares.first(0b11, 8)), (8, Some(1)));
        shares.dispatched(&[8, 0, 0, 0, 0, 0, 0, 0], 0b01, 8);
        assert_eq!((shares.owed(1), shares.first(0b11, 8), shares.first(0, 8)), (0, Some(0), None));
    }
}
