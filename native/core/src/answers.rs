//! Answers on their way to the shards that asked.

use std::sync::Arc;

use crate::{Answer, Caller, Mailbox, Passed, Pending, Refusal, Reply};

/// Answers collected while a batch runs, by mailbox. Used again; in steady state nothing is allocated.
///
/// Dropping it sends what is in it.
#[derive(Debug, Default)]
pub struct Answers {
    /// One entry per shard ever met: there are few, and they live as long as the process.
    groups: Vec<Group>,
    /// Those who go on to another leg before they are answered.
    passed: Vec<Passed>,
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
        let Some((mailbox, ticket)) = caller.take() else { return };
        let known = self.groups.iter().position(|group| Arc::ptr_eq(&group.mailbox, &mailbox));
        let place = known.unwrap_or_else(|| {
            self.groups.push(Group { mailbox, answers: Vec::new() });
            self.groups.len() - 1
        });
        self.groups[place].answers.push(Answer { ticket, outcome });
    }

    /// Adds what a run came to for a whole request: an answer, unless the request goes on to another leg.
    #[inline]
    pub(crate) fn ran(&mut self, pending: Box<Pending>, outcome: Result<Reply, Refusal>) {
        match outcome {
            Ok(reply) if pending.way.is_some() => self.passed.push(Passed { pending, reply }),
            outcome => self.push(pending.caller, outcome),
        }
    }

    /// Takes those out who go on.
    pub fn take_passed(&mut self) -> Vec<Passed> {
        std::mem::take(&mut self.passed)
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

    /// Takes all out, without mailboxes.
    pub fn drain(&mut self) -> impl Iterator<Item = Answer> + '_ {
        self.groups.iter_mut().flat_map(|group| group.answers.drain(..))
    }

    /// Shows all to `give`, and drops them: for a shard that runs its own batches, and need not move what it only
    /// reads.
    pub fn give(&mut self, mut give: impl FnMut(&Answer)) {
        for group in &mut self.groups {
            group.answers.iter().for_each(&mut give);
            group.answers.clear();
        }
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
