//! Waking up to the microsecond: the poll itself counts in milliseconds only.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use rustix::time::{timerfd_create, timerfd_settime};

const NS_PER_S: u64 = 1_000_000_000;

/// A timer that makes a poll return. It is never read: setting it again takes back what it said.
#[derive(Debug)]
pub(crate) struct Timer {
    file: OwnedFd,
    /// When it goes off, since the start of the run; 0 when it is not set.
    set_ns: u64,
}

impl Timer {
    pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let file = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        registry.register(&mut SourceFd(&file.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self { file, set_ns: 0 })
    }

    /// Goes off at `at_ns`; does nothing where it is set to that already.
    pub(crate) fn set(&mut self, at_ns: u64, now_ns: u64) -> io::Result<()> {
        if self.set_ns == at_ns {
            return Ok(());
        }
        self.set_ns = at_ns;
        let wait_ns = at_ns.saturating_sub(now_ns).max(1);
        let value = Timespec { tv_sec: (wait_ns / NS_PER_S) as i64, tv_nsec: (wait_ns % NS_PER_S) as i64 };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(&self.file, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }

    /// It went off.
    pub(crate) fn clear(&mut self) {
        self.set_ns = 0;
    }
}

/// Time that this thread has spent on a processor.
pub(crate) fn thread_cpu() -> Duration {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(spent.tv_sec).unwrap_or(0), u32::try_from(spent.tv_nsec).unwrap_or(0))
}
