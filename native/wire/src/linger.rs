//! What a closing connection does once its last answer is given: it drops what still comes, until the peer closes too.
//! Closing before would make the peer's system tell it of a broken connection, and drop what it has yet to read.

use std::time::{Duration, Instant};

use crate::output::Output;

/// How long that goes on, once the last byte is written.
const LINGER_MAX: Duration = Duration::from_secs(1);

/// How far it has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Linger {
    /// When the last byte was written.
    since: Option<Instant>,
}

impl Linger {
    /// The socket took bytes.
    pub(crate) fn wrote(&mut self, now: Instant, output: &Output) {
        if output.is_empty() {
            self.since.get_or_insert(now);
        }
    }

    /// Whether it is over.
    pub(crate) fn is_over(&mut self, now: Instant, output: &Output) -> bool {
        output.is_empty() && now.saturating_duration_since(*self.since.get_or_insert(now)) >= LINGER_MAX
    }
}
