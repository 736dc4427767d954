//! Totals over all connections, leased to shards in blocks: no request touches a number that shards share, and the sum
//! of what all hold never passes the limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::{Reason, Refusal};

/// A limit on a sum over all shards.
#[derive(Debug)]
pub struct Quota {
    limit: u64,
    /// What a shard takes at once.
    block: u64,
    /// Held by shares. Changed once per block.
    taken: AtomicU64,
}

impl Quota {
    /// A quota given out in blocks of this size.
    #[must_use]
    pub fn new(limit: u64, block: u64) -> Arc<Self> {
        Arc::new(Self { limit, block: block.max(1), taken: AtomicU64::new(0) })
    }

    /// The limit.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// A share that holds nothing yet.
    #[must_use]
    pub fn share(self: &Arc<Self>) -> Share {
        Share { quota: Arc::clone(self), held: 0, used: 0 }
    }

    /// Takes an amount for as long as what is returned lives; `None` where it is not free.
    #[must_use]
    pub fn hold(self: &Arc<Self>, amount: u64) -> Option<Hold> {
        let held = self.take(amount, amount)?;
        Some(Hold { quota: Arc::clone(self), held })
    }

    /// What nobody holds.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.limit.saturating_sub(self.taken.load(Ordering::Relaxed))
    }

    /// Takes `wanted`, or where there is less, `needed`; says how much.
    fn take(&self, needed: u64, wanted: u64) -> Option<u64> {
        let mut taken = self.taken.load(Ordering::Relaxed);
        loop {
            let free = self.limit.saturating_sub(taken);
            let amount = if wanted <= free { wanted } else { needed };
            if amount > free {
                return None;
            }
            match self.taken.compare_exchange_weak(taken, taken + amount, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(amount),
                Err(now) => taken = now,
            }
        }
    }

    fn give(&self, amount: u64) {
        self.taken.fetch_sub(amount, Ordering::Relaxed);
    }
}

/// Part of a quota, for one request. Dropped, it goes back.
#[derive(Debug)]
pub struct Hold {
    quota: Arc<Quota>,
    held: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.quota.give(self.held);
    }
}

/// What one shard holds of a quota, and uses of that. Dropped, it gives everything back.
#[derive(Debug)]
pub struct Share {
    quota: Arc<Quota>,
    held: u64,
    used: u64,
}

impl Share {
    /// Reserves an amount; false, and nothing changes, where it is not free.
    #[must_use]
    pub fn reserve(&mut self, amount: u64) -> bool {
        let Some(used) = self.used.checked_add(amount) else { return false };
        if used > self.held {
            let needed = used - self.held;
            let wanted = needed.div_ceil(self.quota.block).saturating_mul(self.quota.block);
            let Some(taken) = self.quota.take(needed, wanted) else { return false };
            self.held += taken;
        }
        self.used = used;
        true
    }

    /// Releases what was reserved. A block is kept for the next request, more goes back.
    pub fn release(&mut self, amount: u64) {
        debug_assert!(amount <= self.used, "released more than was reserved");
        self.used = self.used.saturating_sub(amount);
        let spare = self.held - self.used;
        if spare >= 2 * self.quota.block {
            self.give_back(spare - self.quota.block);
        }
    }

    /// Gives back all that is not used: for a shard that goes to sleep.
    pub fn settle(&mut self) {
        if self.held > self.used {
            self.give_back(self.held - self.used);
        }
    }

    /// Reserved and not yet released.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used
    }

    /// What could be reserved here now.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.quota.free() + (self.held - self.used)
    }

    fn give_back(&mut self, amount: u64) {
        self.held -= amount;
        self.quota.give(amount);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.quota.give(self.held);
    }
}

/// The process's totals.
#[derive(Clone, Debug)]
pub struct Budget {
    bytes: Arc<Quota>,
    requests: Arc<Quota>,
    connections: Arc<Quota>,
}

impl Budget {
    /// Bytes in flight, requests queued or running, open connections.
    #[must_use]
    pub fn new(bytes_max: u64, requests_max: u64, connections_max: u64) -> Self {
        const BYTES_BLOCK: u64 = 1 << 20;
        const REQUESTS_BLOCK: u64 = 64;
        Self {
            bytes: Quota::new(bytes_max, BYTES_BLOCK),
            requests: Quota::new(requests_max, REQUESTS_BLOCK),
            connections: Quota::new(connections_max, 1),
        }
    }

    /// A shard's lease.
    #[must_use]
    pub fn lease(&self) -> Lease {
        Lease { bytes: self.bytes.share(), requests: self.requests.share(), connections: self.connections.share() }
    }
}

/// One shard's part of the budget.
#[derive(Debug)]
pub struct Lease {
    bytes: Share,
    requests: Share,
    connections: Share,
}

impl Lease {
    /// Reserves bytes before they are allocated.
    ///
    /// # Errors
    /// `MemoryFull`
    pub fn reserve_bytes(&mut self, bytes: u64) -> Result<(), Refusal> {
        const WAIT: Duration = Duration::from_millis(100);
        if self.bytes.reserve(bytes) {
            return Ok(());
        }
        let text = format!("request needs {bytes} bytes, {} are free; retry in 100 ms", self.bytes.free());
        Err(Refusal::new(Reason::MemoryFull, text).retry_after(WAIT))
    }

    /// Gives bytes back.
    pub fn release_bytes(&mut self, bytes: u64) {
        self.bytes.release(bytes);
    }

    /// Reserves a place for a request.
    ///
    /// # Errors
    /// `QueueFull`
    pub fn reserve_request(&mut self) -> Result<(), Refusal> {
        const WAIT: Duration = Duration::from_millis(100);
        if self.requests.reserve(1) {
            return Ok(());
        }
        let limit = self.requests.quota.limit();
        let text = format!("{limit} of {limit} requests wait: Exceeds maximum queue size; retry in 100 ms");
        Err(Refusal::new(Reason::QueueFull, text).retry_after(WAIT))
    }

    /// Gives the place back.
    pub fn release_request(&mut self) {
        self.requests.release(1);
    }

    /// Reserves a connection; false where there are too many.
    #[must_use]
    pub fn reserve_connection(&mut self) -> bool {
        self.connections.reserve(1)
    }

    /// Gives the connection back.
    pub fn release_connection(&mut self) {
        self.connections.release(1);
    }

    /// Gives back all blocks that are not used: for a shard that goes to sleep.
    pub fn settle(&mut self) {
        self.bytes.settle();
        self.requests.settle();
        self.connections.settle();
    }

    /// Bytes reserved on this shard.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.used()
    }

    /// Requests reserved on this shard.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.used()
    }

    /// Connections reserved on this shard.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.used()
    }
}

#[cfg(test)]
mod tests;
