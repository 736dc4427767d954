//! The open streams of a connection, and what is remembered of closed ones.

use std::cell::Cell;
use std::ops::{Index, IndexMut};

use super::stream::Stream;

/// Closed streams remembered one by one.
const CLOSED_MAX: usize = 128;

/// Open streams side by side, in no order. Numbers have a row of their own: few enough to be searched faster than
/// they could be hashed.
#[derive(Debug)]
pub(super) struct Streams {
    ids: Vec<u32>,
    open: Vec<Stream>,
    /// Where the last one was found.
    found: Cell<usize>,
    /// A ring. The numbers of clients are odd; an even one here is one less than that of a stream that we reset while
    /// the peer could still send.
    closed: Vec<u32>,
    closed_next: usize,
    /// The highest of the reset ones that fell out of the ring: at and below it, a late frame may be innocent.
    forgiven_max: u32,
    /// Answered before the peer sent any of their bodies, the latest last: the reset is sent if it does.
    silent: Vec<u32>,
}

/// Why a stream is not open, though its number is not above the last one opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// We reset it (or may have, long ago): the peer may not have known when it sent.
    ByReset,
    /// Both sides had ended it, or the peer had reset it.
    Ended,
    /// Skipped by the peer, or too long ago to tell.
    Unknown,
}

impl Streams {
    pub(super) fn new() -> Self {
        Self {
            ids: Vec::new(),
            open: Vec::new(),
            found: Cell::new(0),
            closed: Vec::new(),
            closed_next: 0,
            forgiven_max: 0,
            silent: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Where a stream is, until one is removed. Most often it is the one that was looked for last, or the one opened
    /// after that, because data and answers of many streams come in the order of their heads; or else the newest.
    pub(super) fn find(&self, id: u32) -> Option<usize> {
        let last = self.found.get();
        let is_at = |at: &usize| self.ids.get(*at) == Some(&id);
        let found = [last, last + 1].into_iter().find(is_at);
        let found = found.or_else(|| self.ids.iter().rposition(|&open| open == id))?;
        self.found.set(found);
        Some(found)
    }

    pub(super) fn push(&mut self, stream: Stream) {
        self.ids.push(stream.id);
        self.open.push(stream);
    }

    /// Forgets a stream; `reset` if we reset it while the peer could still send.
    pub(super) fn remove(&mut self, at: usize, reset: bool) {
        let id = self.ids.swap_remove(at);
        self.open.swap_remove(at);
        self.close(id, reset);
    }

    /// Remembers a stream as closed that was never open, or no longer is.
    pub(super) fn close(&mut self, id: u32, reset: bool) {
        let mark = id - u32::from(reset);
        if self.closed.len() < CLOSED_MAX {
            self.closed.push(mark);
            return;
        }
        let forgotten = std::mem::replace(&mut self.closed[self.closed_next], mark);
        if forgotten.is_multiple_of(2) {
            self.forgiven_max = self.forgiven_max.max(forgotten + 1);
        }
        self.closed_next = (self.closed_next + 1) % CLOSED_MAX;
    }

    /// Remembers that the peer is to be told to stop if it sends on.
    pub(super) fn expect_no_more(&mut self, id: u32) {
        if self.silent.len() == CLOSED_MAX {
            self.silent.remove(0);
        }
        self.silent.push(id);
    }

    /// Whether the peer, which sends on, has to be told to stop; true once.
    pub(super) fn has_to_stop(&mut self, id: u32) -> bool {
        let found = self.silent.iter().position(|&silent| silent == id);
        found.map(|at| self.silent.swap_remove(at)).is_some()
    }

    pub(super) fn closed(&self, id: u32) -> Closed {
        if self.closed.contains(&(id - 1)) || id <= self.forgiven_max {
            Closed::ByReset
        } else if self.closed.contains(&id) {
            Closed::Ended
        } else {
            Closed::Unknown
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Stream> {
        self.open.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.open.iter_mut()
    }

    /// Gives the memory back. Nothing is open.
    pub(super) fn shrink(&mut self) {
        self.silent.shrink_to_fit();
        self.ids.shrink_to_fit();
        self.open.shrink_to_fit();
    }

    /// Forgets all streams; returns their numbers.
    pub(super) fn clear(&mut self) -> Vec<u32> {
        self.open.clear();
        std::mem::take(&mut self.ids)
    }
}

impl Index<usize> for Streams {
    type Output = Stream;

    fn index(&self, at: usize) -> &Stream {
        &self.open[at]
    }
}

impl IndexMut<usize> for Streams {
    fn index_mut(&mut self, at: usize) -> &mut Stream {
        &mut self.open[at]
    }
}
