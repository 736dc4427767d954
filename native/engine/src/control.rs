//! Stopping a run from outside.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ort::sys;

use crate::capi::{Handle, api, check};
use crate::fault::Fault;

/// The options of one lane's runs, and whether one is under way.
pub(crate) struct Control {
    options: Handle<sys::OrtRunOptions>,
    /// Held only to note the begin and the end of a run, or to stop it, so never for long. A lock, so that a stop can
    /// only hit the run it was meant for.
    run: Mutex<Run>,
}

#[derive(Default)]
struct Run {
    started_at: Option<Instant>,
    is_stopped: bool,
}

impl Control {
    pub(crate) fn new() -> Result<Arc<Self>, Fault> {
        // SAFETY: `out` is valid for one pointer.
        let options: Handle<sys::OrtRunOptions> = Handle::create(|out| unsafe { (api().CreateRunOptions)(out) })?;
        let fatal = sys::OrtLoggingLevel::ORT_LOGGING_LEVEL_FATAL as i32;
        // SAFETY: the options were just made. What fails in a run is told by its status, to its caller; the log is not
        // for callers to fill.
        check(unsafe { (api().RunOptionsSetRunLogSeverityLevel)(options.pointer(), fatal) })?;
        Ok(Arc::new(Self { options, run: Mutex::default() }))
    }

    /// For `Run`.
    pub(crate) fn options(&self) -> *const sys::OrtRunOptions {
        self.options.pointer()
    }

    pub(crate) fn begin(&self, now: Instant) {
        self.lock().started_at = Some(now);
    }

    pub(crate) fn end(&self) {
        let mut run = self.lock();
        run.started_at = None;
        if std::mem::take(&mut run.is_stopped) {
            // SAFETY: the options are alive; the flag sticks until it is unset. It can only fail on null.
            let _ = check(unsafe { (api().RunOptionsUnsetTerminate)(self.options.pointer()) });
        }
    }

    /// Stops the run under way if `is_due` says so of its start.
    fn stop_if(&self, is_due: impl FnOnce(Instant) -> bool) -> bool {
        let mut run = self.lock();
        if run.is_stopped || !run.started_at.is_some_and(is_due) {
            return false;
        }
        // SAFETY: the options are alive; the library documents this call for use while a run reads them.
        run.is_stopped = check(unsafe { (api().RunOptionsSetTerminate)(self.options.pointer()) }).is_ok();
        run.is_stopped
    }

    fn lock(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stops runs of one lane; works on any thread, also when the lane is gone.
#[derive(Clone)]
pub struct Terminator(pub(crate) Arc<Control>);

impl Terminator {
    /// Stops the run under way. False if there is none, or it was stopped before. The library looks at the request
    /// between operators: a single long operator runs to its end.
    #[must_use]
    pub fn stop(&self) -> bool {
        self.0.stop_if(|_| true)
    }

    /// Stops the run under way if it has taken longer than `run_max`.
    #[must_use]
    pub fn stop_overdue(&self, now: Instant, run_max: Duration) -> bool {
        self.0.stop_if(|started_at| now.saturating_duration_since(started_at) > run_max)
    }
}
