//! Answers on their way to the shards that asked.

use std::sync::Arc;

use crate::{Answer, Caller, Mailbox, Refusal, Reply};

/// Answers collected while a batch runs, by mailbox. Used again; in steady state nothing is allocated.
///
/// Dropping it sends what is in it.
#[derive(Debug, Default)]
pub struct Answers {
    /// One entry per shard ever met: there are few, and they live as long as the process.
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    mailbox: Arc<Mailbox>,
    answers: Vec<Answer>,
}

impl Answers {
    /// Adds one; nothing where the caller was answered before.
    #[inline]
    pub fn push(&mut self, caller: Caller, outcome: Result<Reply, Refusal>) {
        let Some((mailbox, answer)) = caller.answer(outcome) else { return };
        match self.groups.iter_mut().find(|group| Arc::ptr_eq(&group.mailbox, &mailbox)) {
            Some(group) => group.answers.push(answer),
            None => self.groups.push(Group { mailbox, answers: vec![answer] }),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.iter().map(|group| group.answers.len()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.iter().all(|group| group.answers.is_empty())
    }

    /// Takes all out, without mailboxes: for a shard that runs its own batches.
    pub fn drain(&mut self) -> impl Iterator<Item = Answer> + '_ {
        self.groups.iter_mut().flat_map(|group| group.answers.drain(..))
    }

    /// Delivers all: one delivery and one wake per shard.
    pub fn send(&mut self) {
        for group in &mut self.groups {
            group.mailbox.deliver(&mut group.answers);
        }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.send();
    }
}
