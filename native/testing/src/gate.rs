//! Where work stops in the middle for as long as a test wants, and time passes.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::Clock;

/// Clones are handles of the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate {
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Debug, Default)]
struct State {
    is_held: bool,
    running: usize,
    time: Option<(Clock, Duration)>,
}

impl Gate {
    /// Whoever passes lets this much time pass.
    pub(crate) fn take_time(&self, clock: &Clock, each: Duration) {
        self.state().time = Some((clock.clone(), each));
    }

    /// How much time that is.
    pub(crate) fn time(&self) -> Duration {
        self.state().time.as_ref().map_or(Duration::ZERO, |(_, each)| *each)
    }

    /// Stops all who come until [`release`](Self::release).
    pub(crate) fn hold(&self) {
        self.state().is_held = true;
    }

    /// Lets them go on.
    pub(crate) fn release(&self) {
        self.state().is_held = false;
        self.state.1.notify_all();
    }

    /// Waits until this many are in the middle at once.
    pub(crate) fn wait_running(&self, count: usize) {
        let state = self.state();
        drop(self.state.1.wait_while(state, |state| state.running < count).unwrap_or_else(PoisonError::into_inner));
    }

    /// Is in the middle, and stays there while the test holds it.
    pub(crate) fn pass(&self) {
        let (_, changed) = &*self.state;
        let mut state = self.state();
        state.running += 1;
        changed.notify_all();
        let mut state = changed.wait_while(state, |state| state.is_held).unwrap_or_else(PoisonError::into_inner);
        state.running -= 1;
        if let Some((clock, each)) = &state.time {
            clock.advance(*each);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
