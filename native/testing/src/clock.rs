//! Time that passes when a test says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A clock that stands still. Its clones show the same time.
#[derive(Clone, Debug)]
pub struct Clock {
    start: Instant,
    elapsed_ns: Arc<AtomicU64>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { start: Instant::now(), elapsed_ns: Arc::default() }
    }
}

impl Clock {
    /// A clock at its start.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The time it shows.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.start + Duration::from_nanos(self.elapsed_ns.load(Ordering::SeqCst))
    }

    /// A time after its start, whatever it shows.
    #[must_use]
    pub fn at_ms(&self, milliseconds: u64) -> Instant {
        self.start + Duration::from_millis(milliseconds)
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        let nanoseconds = u64::try_from(by.as_nanos()).expect("a test's time fits 64 bits");
        self.elapsed_ns.fetch_add(nanoseconds, Ordering::SeqCst);
    }

    /// Lets milliseconds pass.
    pub fn advance_ms(&self, milliseconds: u64) {
        self.advance(Duration::from_millis(milliseconds));
    }
}
