//! When a free lane had better wait for more rows.

use std::time::{Duration, Instant};

use crate::Latency;

/// Share of the batch of balance from which on nothing is held.
const THETA: f64 = 1.0;
/// Nobody has come for this many expected gaps: nobody will.
const KAPPA: f64 = 2.0;
/// Share of its own run that the first request is held for at most.
const ETA: f64 = 0.5;

/// A batch that could leave now, while its model has lanes to spare.
pub(crate) struct Holding<'a> {
    pub(crate) latency: &'a Latency,
    /// Of the batch as it is.
    pub(crate) rows: u32,
    /// Of the most urgent request.
    pub(crate) due: Instant,
    pub(crate) arrived_at: Instant,
    pub(crate) last_arrival: Instant,
    pub(crate) rows_per_s: f64,
    pub(crate) lanes: u32,
}

impl Holding<'_> {
    /// Until when to hold it. With other lanes free, one that arrives a little later loses little by waiting for this
    /// batch, while a lane spent on a batch of one costs a whole base.
    pub(crate) fn until(&self) -> Option<Instant> {
        if self.rows_per_s <= 0.0 || f64::from(self.rows) >= THETA * self.balance() - 0.5 {
            return None;
        }
        let frontrun = self.due.checked_sub(self.latency.cautious(self.rows + 1))?;
        let silence = Duration::try_from_secs_f64(KAPPA / self.rows_per_s).ok()?;
        let patience = self.latency.expected(self.rows).mul_f64(ETA);
        Some(frontrun.min(self.last_arrival + silence).min(self.arrived_at + patience))
    }

    /// Rows per batch at which lanes that never wait would find as many waiting again.
    fn balance(&self) -> f64 {
        let spare = f64::from(self.lanes) - self.rows_per_s * self.latency.per_row().as_secs_f64();
        if spare > 0.0 { self.rows_per_s * self.latency.base().as_secs_f64() / spare } else { f64::INFINITY }
    }
}
