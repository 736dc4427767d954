//! The shard's side of a mailbox, without a shard.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use servekit_core::{Answer, Caller, Inputs, Mailbox, Pending, Tensor, Ticket};

/// Issues tickets, builds requests and receives their answers.
#[derive(Debug)]
pub struct Inbox {
    mailbox: Arc<Mailbox>,
    wakes: Arc<AtomicUsize>,
    slot_next: AtomicU32,
}

impl Default for Inbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Inbox {
    /// Tickets that can be open at once.
    const SLOTS: usize = 1 << 16;

    /// An empty inbox.
    #[must_use]
    pub fn new() -> Self {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&wakes);
        let wake = Box::new(move || {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        Self { mailbox: Mailbox::new(Self::SLOTS, wake), wakes, slot_next: AtomicU32::new(0) }
    }

    /// Who asks next.
    #[must_use]
    pub fn caller(&self) -> Caller {
        let slot = self.slot_next.fetch_add(1, Ordering::SeqCst) % Self::SLOTS as u32;
        Caller::new(self.mailbox.issue(slot), Arc::clone(&self.mailbox))
    }

    /// A request that arrives now, of as many rows as its first input, and may take 30 s.
    #[must_use]
    pub fn request(&self, inputs: impl IntoIterator<Item = Tensor>, now: Instant) -> Pending {
        let inputs: Inputs = inputs.into_iter().map(Some).collect();
        let first = inputs.first().and_then(Option::as_ref).and_then(|tensor| tensor.shape.first());
        let rows = first.map_or(1, |&rows| u32::try_from(rows).expect("a test's rows fit 32 bits"));
        let deadline = now + Duration::from_secs(30);
        Pending {
            caller: self.caller(),
            inputs,
            rows,
            arrived_at: now,
            deadline,
            priority: 0,
            alone: false,
            prepared: None,
            way: None,
        }
    }

    /// The caller of this request leaves.
    pub fn leave(&self, ticket: Ticket) {
        self.mailbox.retire(ticket);
    }

    /// Takes out what has come, and ends those tickets, as a shard does.
    #[must_use]
    pub fn answers(&self) -> Vec<Answer> {
        let mut answers = Vec::new();
        self.mailbox.collect(&mut answers);
        for answer in &answers {
            self.mailbox.retire(answer.ticket);
        }
        answers
    }

    /// How often the shard was woken.
    #[must_use]
    pub fn wakes(&self) -> usize {
        self.wakes.load(Ordering::SeqCst)
    }
}
