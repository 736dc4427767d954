//! How many threads the runs of the model at hand have.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use servekit_core::{Latency, Refusal, latency_targets};

use super::{Loader, Tried};
use crate::intra::{Choice, Wanted};
use crate::probe;
use crate::session::{Device, Session};
use crate::warm_up;

impl Loader<'_> {
    /// Whole cores that runs may keep busy.
    pub(super) fn cores(&self) -> u32 {
        self.settings.cores.ceil().max(1.0) as u32
    }

    /// Threads of a run of the session that is tried first.
    pub(super) fn threads_first(&self) -> u32 {
        self.spec.intra_op.unwrap_or(1).max(1)
    }

    /// Decides how many threads a run has, notes it, and builds the session again where it is another number. Takes at
    /// most half of the time until then, and what building sessions takes.
    pub(super) fn choose_threads(&self, tried: &mut Tried, until: Instant) -> Result<(), Refusal> {
        let now = Instant::now();
        let until = now + until.saturating_duration_since(now) / 2;
        let mut built = Vec::new();
        let Choice { threads, why } = self.threads(tried, &mut built, until)?;
        tried.decisions.push(("intra_op".to_owned(), format!("{threads}: {why}")));
        if threads != tried.intra_op {
            let known = built.into_iter().find(|(of, _)| *of == threads).map(|(_, session)| session);
            let session = match known {
                Some(session) => session,
                None => self.session(tried.device, tried.arena_bytes_max, threads)?,
            };
            probe::warm_up(&tried.graph, &session, &tried.findings);
            (tried.intra_op, tried.session) = (threads, session);
        }
        Ok(())
    }

    /// `built` takes the sessions that were built to find out.
    fn threads(&self, tried: &Tried, built: &mut Vec<(u32, Arc<Session>)>, until: Instant) -> Result<Choice, Refusal> {
        let chosen = |threads: u32, why: &str| Ok(Choice { threads, why: why.to_owned() });
        if let Some(threads) = self.spec.intra_op {
            return chosen(threads.max(1), "as configured");
        }
        // Several threads need a session that is no one else's.
        if let Some(why) = &self.spec.shared {
            return chosen(1, &format!("{why}, and a shared file runs on one thread"));
        }
        let findings = &tried.findings;
        let wanted = Wanted {
            least: self.settings.intra_op.clamp(1, self.cores()),
            cores: self.cores(),
            target: self.target(findings.one_row),
            rows_max: if findings.batching.is_ok() { findings.batch_rows_max } else { 1 },
        };
        let Some(batch) = findings.batch.as_ref().filter(|_| tried.device == Device::Cpu) else {
            return chosen(wanted.least, "the cores that each runner has, as no run on the cpu was timed");
        };
        if batch.run.as_micros() < u128::from(self.settings.inline_run_us_max) {
            return chosen(1, "runs are too short to share");
        }
        if let Some(choice) = findings.one_row.and_then(|one_row| wanted.at_once(one_row)) {
            return Ok(choice);
        }
        let subject = self.subject(&tried.graph)?;
        wanted.choose(|threads| -> Result<Option<Latency>, Refusal> {
            if Instant::now() >= until {
                return Ok(None);
            }
            let session = if threads == tried.intra_op {
                Arc::clone(&tried.session)
            } else {
                let session = self.session(tried.device, tried.arena_bytes_max, threads)?;
                built.push((threads, Arc::clone(&session)));
                session
            };
            warm_up::sketch(&subject, &session, findings, until).map_err(|fault| self.refused(fault))
        })
    }

    /// When answers are to be there.
    fn target(&self, one_row: Option<Duration>) -> Duration {
        latency_targets(1, self.spec.latency_target_ms, &BTreeMap::new(), one_row)[0]
    }
}
