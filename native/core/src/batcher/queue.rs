//! Requests that wait, most urgent first.

use std::collections::VecDeque;
use std::collections::vec_deque::Iter;
use std::time::Instant;

use crate::Item;

/// A request that waits.
#[derive(Debug)]
pub(crate) struct Entry {
    /// What it is ordered by, kept beside it because every decision reads it: when its run must have ended; without a
    /// target, when it arrived.
    pub(crate) due: Instant,
    pub(crate) item: Item,
}

/// Requests of one class and one length, most urgent first, and among equals in order of arrival. Keeps its memory.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    entries: VecDeque<Entry>,
    rows: usize,
}

impl Queue {
    /// Nearly always the last place is the right one.
    pub(crate) fn insert(&mut self, due: Instant, item: Item) {
        self.rows += item.rows();
        let entry = Entry { due, item };
        if self.entries.back().is_none_or(|last| last.due <= due) {
            self.entries.push_back(entry);
        } else {
            let place = self.entries.partition_point(|other| other.due <= due);
            self.entries.insert(place, entry);
        }
    }

    /// Gives back what is left of the request that was first.
    pub(crate) fn push_front(&mut self, due: Instant, item: Item) {
        self.rows += item.rows();
        self.entries.push_front(Entry { due, item });
    }

    pub(crate) fn front(&self) -> Option<&Entry> {
        self.entries.front()
    }

    pub(crate) fn pop_front(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.rows -= entry.item.rows();
        Some(entry)
    }

    pub(crate) fn iter(&self) -> Iter<'_, Entry> {
        self.entries.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Puts this many aside, behind the others. Until [`put_back`](Self::put_back) brings them to the front again nothing
    /// may be inserted.
    pub(crate) fn put_aside(&mut self, count: usize) {
        self.entries.rotate_left(count);
    }

    /// How many are due before this time.
    pub(crate) fn count_before(&self, time: Instant) -> usize {
        match self.entries.front() {
            Some(first) if first.due < time => self.entries.partition_point(|entry| entry.due < time),
            _ => 0,
        }
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Entry> {
        self.entries.get(index)
    }

    /// Ends what [`put_aside`](Self::put_aside) began.
    pub(crate) fn put_back(&mut self, count: usize) {
        self.entries.rotate_right(count);
    }

    /// Takes out those for which this is not so.
    pub(crate) fn retain(&mut self, mut keeps: impl FnMut(&Item) -> bool) {
        let rows = &mut self.rows;
        self.entries.retain(|entry| {
            let is_kept = keeps(&entry.item);
            if !is_kept {
                *rows -= entry.item.rows();
            }
            is_kept
        });
    }

    /// Takes all out.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Item> + '_ {
        self.rows = 0;
        self.entries.drain(..).map(|entry| entry.item)
    }
}
