//! Whether a model in service still answers its own test row, and what follows when it does not.

use std::time::{Duration, Instant};

/// How often the test row of a model that failed is asked again.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// What the test row has told lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Nothing is held against it.
    Well,
    /// A run of it had to be stopped, or its test row failed so many times in a row.
    Suspect {
        /// In a row.
        failures: u64,
        /// When to ask next.
        probe_at: Instant,
    },
    /// Taken off.
    Failed {
        /// When to ask next.
        probe_at: Instant,
    },
}

/// What to do with a model after its test row was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Leave it as it is.
    Nothing,
    /// Serve it no more.
    TakeOff,
    /// Serve it again.
    PutBack,
}

impl Health {
    /// Taken off now.
    #[must_use]
    pub fn failed(now: Instant) -> Self {
        Self::Failed { probe_at: now + PROBE_INTERVAL }
    }

    /// A run had to be stopped: from now on the model has to prove itself.
    #[must_use]
    pub fn suspect(self, now: Instant) -> Self {
        if self == Self::Well { Self::Suspect { failures: 0, probe_at: now } } else { self }
    }

    /// Whether the test row has to be asked.
    #[must_use]
    pub fn is_due(self, now: Instant) -> bool {
        match self {
            Self::Well => false,
            Self::Suspect { probe_at, .. } | Self::Failed { probe_at } => probe_at <= now,
        }
    }

    /// What follows from the test row's success or failure.
    #[must_use]
    pub fn probed(self, is_well: bool, now: Instant, failures_max: u64) -> (Self, Verdict) {
        let probe_at = now + PROBE_INTERVAL;
        match (self, is_well) {
            (Self::Failed { .. }, true) => (Self::Well, Verdict::PutBack),
            (_, true) => (Self::Well, Verdict::Nothing),
            (Self::Failed { .. }, false) => (Self::Failed { probe_at }, Verdict::Nothing),
            (Self::Well, false) => (Self::Suspect { failures: 1, probe_at: now }, Verdict::Nothing),
            (Self::Suspect { failures, .. }, false) if failures + 1 >= failures_max => {
                (Self::Failed { probe_at }, Verdict::TakeOff)
            }
            (Self::Suspect { failures, .. }, false) => {
                (Self::Suspect { failures: failures + 1, probe_at: now }, Verdict::Nothing)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_goes_off_after_so_many_failures_in_a_row_and_comes_back_with_one_success() {
        let now = Instant::now();
        let mut health = Health::Well.suspect(now);
        assert!(health.is_due(now));
        for _ in 0..2 {
            let (next, verdict) = health.probed(false, now, 3);
            assert_eq!(verdict, Verdict::Nothing);
            health = next;
        }
        let (failed, verdict) = health.probed(false, now, 3);
        assert_eq!(verdict, Verdict::TakeOff);
        assert!(!failed.is_due(now) && failed.is_due(now + PROBE_INTERVAL));
        let (still, verdict) = failed.probed(false, now + PROBE_INTERVAL, 3);
        assert_eq!((verdict, still.is_due(now + PROBE_INTERVAL)), (Verdict::Nothing, false));
        assert_eq!(still.probed(true, now, 3), (Health::Well, Verdict::PutBack));
    }

    #[test]
    fn one_success_clears_a_suspicion() {
        let now = Instant::now();
        let (once, _) = Health::Well.suspect(now).probed(false, now, 3);
        assert_eq!(once.probed(true, now, 3), (Health::Well, Verdict::Nothing));
        assert!(!Health::Well.is_due(now));
    }
}
