//! An open-loop load generator: requests leave when they are due, whether or not earlier ones have been answered.
//!
//! A request's clock starts when it is due, not when it is sent: what the generator or a full connection delays counts
//! as latency, so a slow server cannot slow the schedule down and hide itself (no coordinated omission). One thread
//! drives all connections; it sleeps between requests, and tells how late it was and how much of its core it used.
//! Where it was itself the limit, the run is declared invalid with the reason.
#![forbid(unsafe_code)]

mod arrivals;
mod connection;
mod dice;
mod driver;
mod flights;
mod histogram;
mod outcome;
mod plan;
mod pool;
mod requests;
mod slow;
mod tally;
mod timer;
mod trace;
mod verdict;

use bytes::Bytes;

pub use outcome::{ByPriority, Late, Outcome, Quantiles, RefusalTimes, SlowReaders, Window};
pub use plan::{Arrivals, Body, Cancel, Load, Plan, Priority, Protocol, Slow, Target};

/// Why a run did not take place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The plan makes no sense; the text says what was found and what is allowed.
    Plan(String),
    /// The server cannot be reached.
    Server(String),
}

/// Carries out a plan, and blocks until it is done. `contents` are the bodies that the plan describes, in its order.
///
/// # Errors
/// The plan makes no sense, or no connection could be opened.
pub fn run(plan: &Plan, contents: Vec<Vec<u8>>) -> Result<Outcome, Error> {
    let contents: Vec<Bytes> = contents.into_iter().map(Bytes::from).collect();
    plan.check(&contents)?;
    driver::run(plan, contents)
}
