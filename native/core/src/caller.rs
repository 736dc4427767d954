//! Who asked, and the one way back to them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::{Refusal, Reply};

/// Names one accepted request on its shard. Slots are used again; the generation tells the uses apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// Index into the shard's table of requests.
    pub slot: u32,
    /// Which use of the slot.
    pub generation: u32,
}

/// A result or a refusal, on its way to the shard that asked.
#[derive(Debug)]
pub struct Answer {
    /// Whose.
    pub ticket: Ticket,
    /// What.
    pub outcome: Result<Reply, Refusal>,
}

/// The way from whoever runs batches back to one shard.
///
/// Answers cross under a lock held for a push or a swap, once per batch and shard; a lock, because both sides are
/// rarely there at once and a queue without one would cost an allocation per message.
pub struct Mailbox {
    answers: Mutex<Vec<Answer>>,
    /// Current generation of each slot: a ticket lives while its generation is this one. Written by the shard only;
    /// read by whoever forms batches, to leave out those whose callers have gone.
    generations: Box<[AtomicU32]>,
    /// Makes the shard look into its mailbox. Given by the shard's owner; called after every delivery.
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Mailbox {
    /// A mailbox for a shard with this many request slots.
    #[must_use]
    pub fn new(slots: usize, wake: Box<dyn Fn() + Send + Sync>) -> Arc<Self> {
        let generations = (0..slots).map(|_| AtomicU32::new(0)).collect();
        Arc::new(Self { answers: Mutex::default(), generations, wake })
    }

    /// The ticket of a slot that is taken into use; the earlier one is retired.
    #[must_use]
    pub fn issue(&self, slot: u32) -> Ticket {
        let generation = self.generations[slot as usize].load(Ordering::Relaxed);
        Ticket { slot, generation }
    }

    /// Ends a ticket: answered, or its caller has left. Rows still queued for it are never run.
    pub fn retire(&self, ticket: Ticket) {
        let generation = &self.generations[ticket.slot as usize];
        if generation.load(Ordering::Relaxed) == ticket.generation {
            generation.store(ticket.generation.wrapping_add(1), Ordering::Release);
        }
    }

    /// Whether somebody still waits for this.
    #[must_use]
    pub fn is_live(&self, ticket: Ticket) -> bool {
        self.generations[ticket.slot as usize].load(Ordering::Acquire) == ticket.generation
    }

    /// Puts answers in and wakes the shard once; `answers` is empty afterwards and keeps its capacity.
    pub fn deliver(&self, answers: &mut Vec<Answer>) {
        if answers.is_empty() {
            return;
        }
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).append(answers);
        (self.wake)();
    }

    /// Takes all answers out, by exchange with an empty vector.
    pub fn collect(&self, into: &mut Vec<Answer>) {
        debug_assert!(into.is_empty());
        std::mem::swap(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner), into);
    }
}

impl std::fmt::Debug for Mailbox {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Mailbox").field("slots", &self.generations.len()).finish_non_exhaustive()
    }
}

/// The right to answer one request, exactly once: answering consumes it, and dropping it answers `abandoned`, unless
/// the caller has left.
#[derive(Debug)]
pub struct Caller {
    ticket: Ticket,
    /// `None` once answered.
    mailbox: Option<Arc<Mailbox>>,
}

impl Caller {
    /// A caller waiting at `mailbox`.
    #[must_use]
    pub fn new(ticket: Ticket, mailbox: Arc<Mailbox>) -> Self {
        Self { ticket, mailbox: Some(mailbox) }
    }

    /// Names the request.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// Whether the caller still waits.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.mailbox.as_ref().is_some_and(|mailbox| mailbox.is_live(self.ticket))
    }

    /// Turns the right into the duty to put an answer for this ticket into this mailbox; [`Answers`](crate::Answers)
    /// does that.
    #[inline]
    pub(crate) fn take(mut self) -> Option<(Arc<Mailbox>, Ticket)> {
        Some((self.mailbox.take()?, self.ticket))
    }

    /// Gives the right back to the shard, which answers by itself.
    pub fn dismiss(mut self) {
        self.mailbox = None;
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        if let Some(mailbox) = self.mailbox.take()
            && mailbox.is_live(self.ticket)
        {
            mailbox.deliver(&mut vec![Answer { ticket: self.ticket, outcome: Err(Refusal::abandoned()) }]);
        }
    }
}

#[cfg(test)]
mod tests;
