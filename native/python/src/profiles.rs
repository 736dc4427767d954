//! Keeps what models learn while they are served, so that their next start begins there. Nothing that goes wrong with it
//! is felt by requests.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use servekit_engine::LoadedModel;
use servekit_server::core::{ClassSurface, Model as _};

use crate::loading::tell;

/// How often what was learned is written.
const KEEP_INTERVAL: Duration = Duration::from_secs(60);
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

/// Knows what is kept of one model in service.
#[derive(Debug)]
pub struct Keeper {
    /// Runs that were known when it was last kept, or loaded.
    runs_kept: u64,
    due_at: Instant,
}

impl Keeper {
    /// Of a model that has just been put into service.
    #[must_use]
    pub fn new(model: &LoadedModel, now: Instant) -> Self {
        Self {
            runs_kept: model.surfaces().first().map_or(0, |whole| whole.surface.samples),
            due_at: now + KEEP_INTERVAL,
        }
    }

    /// Whether it is time to look again.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        now >= self.due_at
    }

    /// Writes what was learned, the model's own first, if there is enough of it and a place to keep it.
    pub fn keep(&mut self, model: &LoadedModel, learned: &[ClassSurface], warnings: &Warnings) {
        let now = Instant::now();
        self.due_at = now + KEEP_INTERVAL;
        let (Some(file), Some(whole)) = (model.profile_file(), learned.first()) else { return };
        let runs = whole.surface.samples;
        if runs.saturating_sub(self.runs_kept) <= RUNS_MIN {
            return;
        }
        match file.write(learned) {
            Ok(()) => self.runs_kept = runs,
            Err(error) => {
                let name = &model.contract().model;
                let text =
                    "requests are served as before, and the next start has to learn anew; check batching.profiles";
                warnings.warn(now, &format!("run times of model '{name}' cannot be kept: {error}; {text}"));
            }
        }
    }
}
