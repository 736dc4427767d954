//! A connection as its shard keeps it: socket, protocol, and the requests that are open on it.

use std::io::{self, IoSlice};
use std::rc::Rc;
use std::time::{Duration, Instant};

use servekit_wire::{Connection, StreamId};
use smallvec::SmallVec;

use super::transport::{Peer, Transport};
use crate::intent::Intent;

/// Slices of one vectored write. Most answers need one; more would be paid for by all.
const SLICES_MAX: usize = 16;

/// Heads that a connection's client repeats; clients have one or two.
const INTENTS_KEPT: usize = 4;

/// How long requests run alone after too many failing rows, and the time in which those are counted.
const ROW_FAILURES_IN: Duration = Duration::from_secs(10);

/// One connection of a shard.
pub(crate) struct Link<T> {
    /// In the shard's table.
    pub number: u32,
    pub transport: T,
    pub wire: Connection,
    pub peer: Peer,
    /// Slots of its open requests; each request knows its place here.
    pub open: SmallVec<[(StreamId, u32); 4]>,
    /// Where among them the last one was found.
    found: usize,
    /// What the last heads asked for, by the low bits of their ids.
    intents: [Option<(u32, Rc<Intent>)>; INTENTS_KEPT],
    /// The socket may have more to read: set by the poll, cleared by a read that found nothing. Outlives ticks in
    /// which reading is paused, because the poll tells only changes.
    pub readable: bool,
    /// The socket may take more; as `readable`.
    pub writable: bool,
    /// The peer's end of the stream is near: read until it is found.
    pub read_closed: bool,
    /// The end was found, or reading failed.
    pub input_over: bool,
    /// Reading or writing failed: nothing can be said any more.
    pub broken: bool,
    /// Writing was shut down, so that the peer sees the end while the rest of its input is dropped.
    pub shut_down: bool,
    /// Is in the shard's list of connections with something to write or to end.
    pub dirty: bool,
    /// Is in one of the shard's lists of connections with something to read or to go on with.
    pub active: bool,
    /// What has yet to be read of it may have lain there since then; `None` where all was read at its last turn.
    pub unheard_since: Option<Instant>,
    /// Accepted requests that have no answer yet.
    pub waiting: u64,
    /// As much waits as may: what it sent ahead waits.
    pub paused: bool,
    /// The protocol may have something to tell without being given more.
    pub goes_on: bool,
    /// HTTP/2 has spoken: large reads are worth their while at once.
    pub multiplexed: bool,
    /// It is to go, and is given a moment to bring the request that may be on its way.
    pub is_leaving: bool,
    /// Bytes that were read and not taken by the protocol yet.
    pub unread: Vec<u8>,
    /// When bytes last went either way.
    pub used_at: Instant,
    /// Bytes held in the shard's lease for what the connection holds beyond its requests.
    pub reserved: u64,
    /// Bytes granted to requests whose bodies are coming.
    pub granted: u64,
    /// Failing rows since `failures_since`.
    failures: u64,
    failures_since: Option<Instant>,
    alone_until: Option<Instant>,
}

impl<T> Link<T> {
    /// A connection that was just accepted.
    pub(crate) fn new(number: u32, transport: T, peer: Peer, wire: Connection, now: Instant) -> Self {
        Self {
            number,
            transport,
            wire,
            peer,
            open: SmallVec::new(),
            found: 0,
            intents: [const { None }; INTENTS_KEPT],
            readable: true,
            writable: true,
            read_closed: false,
            input_over: false,
            broken: false,
            shut_down: false,
            dirty: false,
            active: false,
            unheard_since: None,
            waiting: 0,
            paused: false,
            goes_on: false,
            multiplexed: false,
            is_leaving: false,
            unread: Vec::new(),
            used_at: now,
            reserved: 0,
            granted: 0,
            failures: 0,
            failures_since: None,
            alone_until: None,
        }
    }

    /// What a head seen before asked for.
    pub(crate) fn intent(&self, id: u32) -> Option<&Rc<Intent>> {
        match &self.intents[id as usize % INTENTS_KEPT] {
            Some((known, intent)) if *known == id => Some(intent),
            _ => None,
        }
    }

    /// Keeps what a head asks for.
    pub(crate) fn remember(&mut self, id: u32, intent: Rc<Intent>) {
        self.intents[id as usize % INTENTS_KEPT] = Some((id, intent));
    }

    /// Slot of the open request of this stream.
    pub(crate) fn slot(&mut self, stream: StreamId) -> Option<u32> {
        // Bodies come in the order of their heads, or follow them so closely that the newest are looked at first.
        let is_at = |at: usize| self.open.get(at).is_some_and(|(open, _)| *open == stream);
        if !is_at(self.found) {
            let is_next = is_at(self.found + 1);
            let newest = || self.open.iter().rposition(|(open, _)| *open == stream);
            self.found = if is_next { self.found + 1 } else { newest()? };
        }
        Some(self.open[self.found].1)
    }

    /// Nothing is asked and nothing is to be said.
    pub(crate) fn is_idle(&mut self) -> bool {
        self.open.is_empty() && self.wire.output().is_empty()
    }

    /// Nothing more will happen, and what was to be said is said or cannot be.
    pub(crate) fn is_over(&mut self) -> bool {
        self.broken || self.wire.ended() && self.wire.output().is_empty()
    }

    /// Its client has closed while requests wait that this tick could not answer. That a client only stops to send
    /// cannot be told from that; whoever leaves must cost nothing, so both count as leaving.
    pub(crate) fn has_left(&mut self) -> bool {
        self.input_over && !self.open.is_empty() && self.wire.output().is_empty()
    }

    /// Writes what the socket takes.
    pub(crate) fn flush(&mut self, now: Instant)
    where
        T: Transport,
    {
        while self.writable && !self.broken && !self.wire.output().is_empty() {
            let output = self.wire.output();
            let (taken, offered) = match output.sole_slice() {
                Some(slice) => (self.transport.write(&[IoSlice::new(slice)]), slice.len()),
                None => {
                    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                    let count = output.slices(&mut slices);
                    let offered = slices[..count].iter().map(|slice| slice.len()).sum();
                    (self.transport.write(&slices[..count]), offered)
                }
            };
            match taken {
                Ok(0) => self.broken = true,
                Ok(written) => {
                    self.wire.output().consume(written);
                    self.wire.wrote(now);
                    self.used_at = now;
                    // A short write means a full socket; the poll tells when that changes.
                    self.writable = written == offered;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(_) => self.broken = true,
            }
        }
        if !self.wire.output().is_empty() {
            self.wire.detach();
        } else if self.wire.lingering() && !self.shut_down {
            self.transport.shutdown_write();
            self.shut_down = true;
        }
    }

    /// Notes that a row of this connection made the model fail.
    pub(crate) fn row_failed(&mut self, failures_max: u64, now: Instant) {
        if self.failures_since.is_none_or(|since| now.saturating_duration_since(since) > ROW_FAILURES_IN) {
            self.failures_since = Some(now);
            self.failures = 0;
        }
        self.failures += 1;
        if self.failures >= failures_max {
            self.alone_until = Some(now + ROW_FAILURES_IN);
            self.failures_since = None;
        }
    }

    /// Whether its requests must run alone, for the sake of the others.
    pub(crate) fn runs_alone(&self, now: Instant) -> bool {
        self.alone_until.is_some_and(|until| now < until)
    }
}
