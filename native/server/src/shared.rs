//! What all threads of a server look at.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use servekit_core::{Budget, Limits, ShardCounters};

use crate::config::{Hook, ServerTiming};
use crate::listing::Listing;
use crate::log::Log;
use crate::pool::Pool;

/// Shared by the shards, the runners and the server's owner. Nothing in it is locked on a request's way, except the
/// pool's queue.
pub(crate) struct Shared {
    pub limits: Limits,
    /// Models and phase: replaced whole, read by everybody.
    pub listing: Arc<ArcSwap<Listing>>,
    pub budget: Budget,
    pub pool: Pool,
    pub log: Log,
    pub peers: Peers,
    pub pressure: Pressure,
    /// See [`Config`](crate::Config).
    pub give_back_memory: Hook,
    /// See [`Config`](crate::Config); off until it is set.
    pub server_timing: ServerTiming,
    /// One per shard, in their order.
    pub standings: Box<[Standing]>,
    /// One per shard and then one per runner.
    pub counters: Box<[Arc<ShardCounters>]>,
    /// Accepted requests that were refused because the server ended.
    pub unanswered: AtomicU64,
    /// Rung by a shard that has nothing left to do while the server drains.
    drained: (Mutex<()>, Condvar),
}

/// What one shard tells the others.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// Connections that are open or on their way to it. Whoever accepts adds, the shard subtracts.
    pub connections: AtomicUsize,
    /// Requests and answers it still has to deal with, once it has asked its clients to go; until then all ones.
    busy: AtomicU64,
}

impl Shared {
    /// Everything that threads share, before there is any thread or model.
    pub(crate) fn new(limits: Limits, log: Log, shards: usize, runners: usize, give_back_memory: Hook) -> Self {
        let standing = |_| Standing { connections: AtomicUsize::new(0), busy: AtomicU64::new(u64::MAX) };
        Self {
            listing: Arc::default(),
            budget: Budget::new(limits.in_flight_bytes_max, limits.queue_requests_max, limits.connections_max),
            pool: Pool::new(limits.queue_requests_max, runners),
            log,
            peers: Peers::new(limits.connections_peer_max),
            pressure: Pressure::default(),
            give_back_memory,
            server_timing: ServerTiming::Off,
            standings: (0..shards).map(standing).collect(),
            counters: (0..shards + runners).map(|_| ShardCounters::new()).collect(),
            unanswered: AtomicU64::new(0),
            drained: (Mutex::new(()), Condvar::new()),
            limits,
        }
    }

    /// Tells how much a shard still has to deal with.
    pub(crate) fn tell_busy(&self, shard: usize, busy: u64) {
        let before = self.standings[shard].busy.swap(busy, Ordering::Relaxed);
        if busy == 0 && before != 0 {
            let (lock, bell) = &self.drained;
            drop(lock.lock().unwrap_or_else(PoisonError::into_inner));
            bell.notify_all();
        }
    }

    /// Waits until no shard has anything left to do; false where it takes longer.
    pub(crate) fn wait_idle(&self, timeout: Duration) -> bool {
        let (lock, bell) = &self.drained;
        let guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let is_busy = |(): &mut ()| self.standings.iter().any(|standing| standing.busy.load(Ordering::Relaxed) > 0);
        let waited = bell.wait_timeout_while(guard, timeout, is_busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

/// Connections by address, for those that are counted.
#[derive(Debug)]
pub(crate) struct Peers {
    allowed: u64,
    /// Locked once per connection of a peer on another machine.
    counts: Mutex<HashMap<IpAddr, u64>>,
}

impl Peers {
    /// Counts so many per address.
    pub(crate) fn new(allowed: u64) -> Self {
        Self { allowed, counts: Mutex::default() }
    }

    /// Counts one more; false, and nothing is counted, where it is one too many.
    pub(crate) fn enter(&self, address: Option<IpAddr>) -> bool {
        let Some(address) = address else { return true };
        let mut counts = self.lock();
        let count = counts.entry(address).or_default();
        let is_allowed = *count < self.allowed;
        *count += u64::from(is_allowed);
        is_allowed
    }

    /// Counts one less.
    pub(crate) fn leave(&self, address: Option<IpAddr>) {
        let Some(address) = address else { return };
        let mut counts = self.lock();
        if let Some(count) = counts.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&address);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, u64>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How near the process is to its memory's limit, by what it really uses.
#[derive(Debug, Default)]
pub(crate) struct Pressure {
    percent: AtomicU8,
    resident_bytes: AtomicU64,
}

impl Pressure {
    /// Notes what is used.
    pub(crate) fn note(&self, resident_bytes: u64, allowed_bytes: u64) {
        let percent = (resident_bytes.saturating_mul(100) / allowed_bytes.max(1)).min(100);
        self.percent.store(percent as u8, Ordering::Relaxed);
        self.resident_bytes.store(resident_bytes, Ordering::Relaxed);
    }

    /// Idle connections must go, and batches are halved.
    pub(crate) fn is_high(&self) -> bool {
        self.percent.load(Ordering::Relaxed) >= 80
    }

    /// Whether a body of this size may still come in.
    pub(crate) fn admits(&self, bytes: u64) -> bool {
        const LARGE_BYTES_MIN: u64 = 1 << 20;
        match self.percent.load(Ordering::Relaxed) {
            0..90 => true,
            90..95 => bytes <= LARGE_BYTES_MIN,
            _ => false,
        }
    }
}

/// Memory that the process has in RAM; `None` where the system does not tell.
pub(crate) fn resident_bytes() -> Option<u64> {
    const PAGE_BYTES: u64 = 4_096;
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * PAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_connections_and_not_one_more() {
        let peers = Peers::new(2);
        let [one, other] = ["10.0.0.1", "10.0.0.2"].map(|text| Some(text.parse().expect("an address")));
        assert!(peers.enter(one) && peers.enter(one) && !peers.enter(one));
        assert!(peers.enter(other));
        peers.leave(one);
        assert!(peers.enter(one));
        assert!((0..9).all(|_| peers.enter(None)));
        [one, one, other].into_iter().for_each(|address| peers.leave(address));
        assert!(peers.lock().is_empty());
    }

    #[test]
    fn large_bodies_are_refused_before_all_are() {
        let pressure = Pressure::default();
        let cases =
            [(79, true, true, false), (80, true, true, true), (90, true, false, true), (95, false, false, true)];
        for (percent, small, large, idle) in cases {
            pressure.note(percent, 100);
            let found = (pressure.admits(1), pressure.admits((1 << 20) + 1), pressure.is_high());
            assert_eq!(found, (small, large, idle), "{percent}");
        }
    }

    #[test]
    fn the_system_tells_what_is_used() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }
}
