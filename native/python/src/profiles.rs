//! Keeps what models learn while they are served, so that their next start begins there. Nothing that goes wrong with it
//! is felt by requests.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use servekit_server::core::ClassSurface;

use crate::loading::{Queue, tell};

/// How often what was learned is written.
pub const KEEP_INTERVAL: Duration = Duration::from_secs(60);
/// Fewer new runs are not worth a file.
const RUNS_MIN: u64 = 200;
/// Disks that fail, fail again and again: they are told of this often, for all models together.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// When the last warning about files was told. Locked by control threads, rarely.
#[derive(Debug, Default)]
pub struct Warnings(Mutex<Option<Instant>>);

impl Warnings {
    fn warn(&self, now: Instant, text: &str) {
        let mut told_at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told_at.is_none_or(|told_at| now.saturating_duration_since(told_at) >= WARNING_INTERVAL) {
            *told_at = Some(now);
            tell(text);
        }
    }
}

/// Knows what is kept of one queue.
#[derive(Debug)]
pub struct Keeper {
    queue: Queue,
    /// Runs that were known when it was last kept, or loaded.
    runs_kept: u64,
}

impl Keeper {
    /// Of a queue that has just been opened.
    #[must_use]
    pub fn new(queue: Queue) -> Self {
        Self { runs_kept: queue.start.samples(), queue }
    }

    /// Writes what was learned, of all shapes first, if there is enough of it and a place to keep it.
    pub fn keep(&mut self, learned: &[ClassSurface], warnings: &Warnings) {
        let runs = learned.first().map_or(0, |whole| whole.surface.samples);
        let Queue { name, start } = &self.queue;
        if !start.is_kept() || runs.saturating_sub(self.runs_kept) <= RUNS_MIN {
            return;
        }
        match start.keep(learned) {
            Ok(()) => self.runs_kept = runs,
            Err(error) => {
                let text =
                    "requests are served as before, and the next start has to learn anew; check batching.profiles";
                let told = format!("run times of model '{name}' cannot be kept: {error}; {text}");
                warnings.warn(Instant::now(), &told);
            }
        }
    }
}
