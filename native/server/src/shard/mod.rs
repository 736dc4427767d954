//! A network thread: it owns its connections and their requests, and turns what is ready into answers, tick by tick.
//!
//! One tick: read and take in what is ready, take the pool's answers, run inline batches, write each connection that
//! has something to say once, look at the clock. A tick is a function of what is ready and of the time; tests drive it
//! without sockets.

mod accept;
mod answering;
mod desk;
mod inline;
mod intake;
mod link;
mod reading;
mod run;
mod slab;
mod transport;
mod unary;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Cache};
use servekit_core::{Answer, Answers, Batch, Ending, Mailbox};
use servekit_wire::{Connection, Limits as WireLimits};

use self::answering::SWEEP_INTERVAL;
use self::desk::Desk;
use self::link::Link;
use self::reading::Turn;
use self::slab::Slab;
use self::transport::{Peer, Transport};
use crate::config::wire_limits;
use crate::listing::{Listing, Phase};
use crate::shared::Shared;

pub(crate) use self::run::{Command, Handle, Post, start};
pub(crate) use self::unary::with_facts;

/// What one read may take.
const SCRATCH_BYTES: usize = 64 << 10;

/// How long a shard reads before it runs what it has taken in. It is not needed as long as a shard can read all that
/// comes. Where it cannot, nothing would be answered in time otherwise: all would have grown old once all is read.
const HEARING_MAX: Duration = Duration::from_millis(2);

/// The clock is read after so much was heard: a connection counts 1, and so does each of these bytes.
const HEARD_MAX: usize = 16;
const HEARD_BYTES: usize = 512;

/// How often connections that were answered go on with what they sent ahead, before sockets are looked at again.
const ROUNDS_MAX: usize = 16;

/// A connection that was used this recently may have its next request on the way when clients are asked to go. It is
/// given as long to bring it, and told with the answer.
const LEAVING_GRACE: Duration = Duration::from_millis(200);

/// Freed memory is given back once a shard has had nothing in hand for so long: before, the next request would only have
/// to ask for it again.
const QUIET_MIN: Duration = Duration::from_millis(200);

/// Less than this is kept for the next requests.
const KEPT_BYTES_MAX: u64 = 4 << 20;

/// Sleep that is no longer than this was none: something was there already.
const AWAKE_MAX: Duration = Duration::from_micros(50);

/// Ages of connections are spread over so many values, so that those opened together do not end together.
const AGES: usize = 16;

/// Reads the time. Tests have their own.
pub(crate) type Clock = Box<dyn Fn() -> Instant>;

/// One shard, over sockets or what tests take for them.
pub(crate) struct Shard<T> {
    desk: Desk,
    links: Slab<Link<T>>,
    clock: Clock,
    listing: Cache<Arc<ArcSwap<Listing>>, Arc<Listing>>,
    scratch: Box<[u8]>,
    /// Limits of connections, which differ in the age at which they end.
    wire_limits: Vec<Arc<WireLimits>>,
    /// How often connections look at the clock.
    check_interval: Duration,
    checked_at: Instant,
    /// When sockets were looked at last, since when the shard slept after it and until when at most; `None` where it did
    /// not, and where it would sleep for as long as it takes.
    looked_at: Instant,
    slept_from: Option<Instant>,
    sleeps_until: Option<Instant>,
    /// The last inline batches took longer than a shard runs them at a time.
    runs_long: bool,
    swept_at: Instant,
    /// When clients were asked to go.
    left_at: Option<Instant>,
    /// Most bytes of requests and answers at once since freed memory was given back last.
    bytes_peak: u64,
    /// When there were bytes last.
    held_at: Instant,
    /// They were not asked yet in the tick in which that time came.
    is_leaving: bool,
    /// Connections that have more to read, for which there was no time: those that were not heard since longest come first.
    later: Vec<u32>,
    /// Only used while connections are heard.
    heard: Vec<u32>,
    /// When no more is read in this tick.
    hears_until: Instant,
    batch: Batch,
    answers: Answers,
    collected: Vec<Answer>,
}

/// What is ready on a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ready {
    pub readable: bool,
    pub writable: bool,
    /// The peer will send no more than what is there.
    pub read_closed: bool,
}

impl<T: Transport> Shard<T> {
    /// A shard without connections.
    pub(crate) fn new(shared: &Arc<Shared>, index: usize, mailbox: Arc<Mailbox>, slots: usize, clock: Clock) -> Self {
        let now = clock();
        let mut desk = Desk::new(shared, index, mailbox, slots, now);
        let limits = wire_limits(&shared.limits);
        let check_interval = check_interval(&limits);
        let aged = |_| {
            let connection_age_max = desk.jitter.around(limits.connection_age_max);
            Arc::new(WireLimits { connection_age_max, ..limits.clone() })
        };
        let wire_limits = (0..AGES).map(aged).collect();
        Self {
            desk,
            links: Slab::default(),
            clock,
            listing: Cache::new(Arc::clone(&shared.listing)),
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            wire_limits,
            check_interval,
            checked_at: now,
            looked_at: now,
            slept_from: Some(now),
            sleeps_until: None,
            runs_long: false,
            swept_at: now,
            left_at: None,
            bytes_peak: 0,
            held_at: now,
            is_leaving: false,
            later: Vec::new(),
            heard: Vec::new(),
            hears_until: now,
            batch: Batch::default(),
            answers: Answers::default(),
            collected: Vec::new(),
        }
    }

    /// The number that the next connection gets.
    pub(crate) fn next_number(&self) -> u32 {
        self.links.next_number()
    }

    /// Sees to it that one more connection can be opened: where there are too many, the one that is idle longest goes.
    /// Done before the newcomer's number is looked at, because whoever goes leaves a number behind, which is the next.
    pub(crate) fn make_room(&mut self) -> bool {
        if self.desk.lease.reserve_connection() {
            self.desk.lease.release_connection();
            return true;
        }
        let Some(idle) = self.longest_idle() else { return false };
        self.desk.counters.ended(Ending::Connections);
        self.desk.now = (self.clock)();
        self.close(idle);
        true
    }

    /// Takes a connection over, in place of the one that is idle longest where there are too many. Gives it back where
    /// none is idle: then it must wait.
    ///
    /// # Errors
    /// The connection.
    pub(crate) fn open(&mut self, transport: T, peer: Peer) -> Result<u32, T> {
        if !self.make_room() || !self.desk.lease.reserve_connection() {
            return Err(transport);
        }
        let now = (self.clock)();
        let number = self.links.next_number();
        let limits = Arc::clone(&self.wire_limits[number as usize % AGES]);
        let mut link = Link::new(number, transport, peer, Connection::new(limits, now), now);
        self.desk.counters.connection_opened();
        if self.has_left() {
            link.wire.drain(now);
            self.desk.resume(&mut link);
            self.desk.touch(&mut link);
        }
        self.desk.activate(&mut link);
        Ok(self.links.insert(link))
    }

    /// Notes what the poll has told of a connection.
    pub(crate) fn ready(&mut self, number: u32, ready: Ready) {
        let Some(link) = self.links.get_mut(number) else { return };
        if ready.readable || ready.read_closed {
            link.readable = true;
            link.read_closed |= ready.read_closed;
            self.desk.activate(link);
        }
        if ready.writable && !link.writable {
            link.writable = true;
            self.desk.touch(link);
        }
    }

    /// Whether clients were asked to go, so that nobody else is let in.
    pub(crate) fn has_left(&self) -> bool {
        self.left_at.is_some()
    }

    /// Begins a turn: reads the clock, and looks whether models or the server's phase have changed.
    pub(crate) fn begin(&mut self) {
        let now = (self.clock)();
        // Who slept has seen at once what came, unless they were stopped and woke too late; who did not sleep finds what
        // has come since they looked last.
        let has_slept = self.slept_from.is_some_and(|from| from + AWAKE_MAX < now);
        let woken_at = self.sleeps_until.map_or(now, |until| until.min(now));
        self.desk.heard_since = if has_slept { woken_at } else { self.looked_at };
        (self.looked_at, self.desk.now) = (now, now);
        self.refresh();
    }

    /// The turn itself.
    pub(crate) fn tick(&mut self) {
        self.hears_until = self.desk.now + HEARING_MAX;
        self.receive();
        self.go_on();
        self.collect();
        if self.runs_long || self.is_behind() {
            // Whoever was refused need not wait for the run of the others.
            self.flush();
        }
        self.dispatch();
        if std::mem::take(&mut self.is_leaving) {
            // What was sent before is read by now, so that no request is cut off that could still be seen.
            self.leave();
        }
        for _ in 0..ROUNDS_MAX {
            if self.desk.active.is_empty() || self.is_behind() {
                break;
            }
            self.receive();
            self.dispatch();
        }
        self.check_time();
        self.give_back_memory();
        self.flush();
        self.desk.counters.set_in_flight_bytes(self.desk.lease.bytes());
        if self.has_left() {
            self.tell_busy();
        }
    }

    /// How long nothing needs to be done unless something becomes ready; `None` for as long as it takes.
    pub(crate) fn wait(&mut self) -> Option<Duration> {
        (self.slept_from, self.sleeps_until) = (None, None);
        let has_more = !self.desk.active.is_empty() || !self.later.is_empty();
        if has_more || self.desk.scheduler.queued().requests > 0 {
            return Some(Duration::ZERO);
        }
        let now = (self.clock)();
        self.slept_from = Some(now);
        let check = (self.links.len() > 0).then(|| self.checked_at + self.check_interval);
        let sweep = self.desk.deadline_min.map(|deadline| deadline.max(self.swept_at + SWEEP_INTERVAL));
        let leave = match self.desk.listing.phase {
            Phase::Draining { leave_at } if !self.has_left() => Some(leave_at),
            _ => self.left_at.map(|left_at| left_at + LEAVING_GRACE).filter(|&end| end > now),
        };
        let quiet = self.owes_memory().then(|| self.held_at + QUIET_MIN);
        let next = [check, sweep, leave, quiet].into_iter().flatten().min()?;
        self.sleeps_until = Some(next.max(now));
        Some(next.saturating_duration_since(now))
    }

    fn refresh(&mut self) {
        let listing = self.listing.load();
        if listing.generation != self.desk.listing.generation {
            self.desk.listing = Arc::clone(listing);
            self.desk.change_lanes(&mut self.answers);
            self.settle();
            self.desk.tell_watches(&mut self.links);
        }
        match self.desk.listing.phase {
            Phase::Draining { leave_at } if !self.has_left() && leave_at <= self.desk.now => {
                self.left_at = Some(self.desk.now);
                self.desk.asks_to_go = true;
                self.is_leaving = true;
            }
            Phase::Ending => {
                self.left_at.get_or_insert(self.desk.now);
                self.desk.asks_to_go = true;
                let owed = self.desk.give_all_up(&mut self.links);
                self.desk.shared.unanswered.fetch_add(owed, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    /// Asks all clients to go.
    fn leave(&mut self) {
        for slot in self.desk.watches.clone() {
            let Some(request) = self.desk.requests.get(slot) else { continue };
            if let Some(link) = self.links.get_mut(request.link) {
                self.desk.end_watch(link, slot, &crate::refusals::draining());
            }
        }
        for (_, link) in self.links.iter_mut() {
            let is_recent = self.desk.now.saturating_duration_since(link.used_at) < LEAVING_GRACE;
            if is_recent && !link.multiplexed && link.is_idle() {
                link.is_leaving = true;
            } else {
                self.desk.part(link);
            }
        }
    }

    /// Ends the grace of those who could still have brought a request.
    fn part(&mut self) {
        for (_, link) in self.links.iter_mut().filter(|(_, link)| link.is_leaving) {
            self.desk.part(link);
        }
    }

    /// Reads the connections that the poll has told of, and those that go on. They come before the ones left over, who
    /// are likely to be late already.
    fn receive(&mut self) {
        let mut active = std::mem::take(&mut self.desk.active);
        self.hear(&mut active);
        // Whoever became active meanwhile stands in the list that took this one's place.
        active.append(&mut self.desk.active);
        self.desk.active = active;
    }

    /// Reads the connections that were left over.
    fn go_on(&mut self) {
        let mut later = std::mem::take(&mut self.later);
        self.hear(&mut later);
        later.append(&mut self.later);
        self.later = later;
    }

    /// Gives connections their turns while there is time, the first one in any case; the others are left over.
    fn hear(&mut self, numbers: &mut Vec<u32>) {
        let heard_since = self.desk.heard_since;
        let (mut effort, mut is_first) = (0, true);
        for number in numbers.drain(..) {
            let Some(link) = self.links.get_mut(number) else { continue };
            if effort >= HEARD_MAX {
                self.desk.now = (self.clock)();
                effort = 0;
            }
            if self.desk.now >= self.hears_until && !is_first {
                link.unheard_since.get_or_insert(heard_since);
                self.later.push(number);
                continue;
            }
            is_first = false;
            link.active = false;
            if let Some(unheard_since) = link.unheard_since.take() {
                self.desk.heard_since = unheard_since;
            }
            let turn = Turn::new(&mut self.desk, &mut self.scratch).take(link);
            effort += 1 + turn.bytes / HEARD_BYTES;
            if turn.has_more {
                link.unheard_since = Some(self.desk.heard_since);
                if !link.active {
                    link.active = true;
                    self.heard.push(number);
                }
            }
            self.desk.heard_since = heard_since;
        }
        self.later.append(&mut self.heard);
        self.bytes_peak = self.bytes_peak.max(self.desk.lease.bytes());
    }

    /// Whether more has come than there was time to read.
    fn is_behind(&self) -> bool {
        self.desk.now >= self.hears_until && !self.later.is_empty()
    }

    /// Takes the answers of the pool.
    fn collect(&mut self) {
        self.desk.mailbox.collect(&mut self.collected);
        for answer in &self.collected {
            self.desk.answer(&mut self.links, answer);
        }
        self.collected.clear();
    }

    /// Gives out what stands in `answers`.
    fn settle(&mut self) {
        self.answers.give(|answer| self.desk.answer(&mut self.links, answer));
    }

    /// Writes every connection that has something to say, once, and closes those that are over.
    fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.desk.dirty);
        for number in dirty.drain(..) {
            let Some(link) = self.links.get_mut(number) else { continue };
            link.dirty = false;
            link.flush(self.desk.now);
            self.desk.reserve_unsent(link);
            if link.is_over() || link.has_left() {
                self.close(number);
            }
        }
        dirty.append(&mut self.desk.dirty);
        self.desk.dirty = dirty;
    }

    /// Lets connections and deadlines look at the clock, each as often as it needs.
    fn check_time(&mut self) {
        let now = self.desk.now;
        let is_due = |at: Instant, interval: Duration| at + interval <= now;
        if self.desk.deadline_min.is_some_and(|deadline| deadline <= now) && is_due(self.swept_at, SWEEP_INTERVAL) {
            self.swept_at = now;
            self.desk.sweep(&mut self.links);
        }
        if self.left_at.is_some_and(|left_at| is_due(left_at, LEAVING_GRACE)) {
            self.part();
        }
        if !is_due(self.checked_at, self.check_interval) {
            return;
        }
        self.checked_at = now;
        let closes_idle = self.desk.shared.pressure.is_high();
        self.desk.scheduler.press(closes_idle);
        for (_, link) in self.links.iter_mut() {
            link.wire.on_time(now);
            // Whoever was let in just now has yet to say its first word.
            if closes_idle && link.is_idle() && is_due(link.used_at, self.check_interval) {
                link.wire.drain(now);
            }
            self.desk.advance(link, &mut &[][..]);
            if !link.is_idle() || link.wire.ended() {
                self.desk.touch(link);
            }
        }
    }

    /// Gives memory back after large requests, once nothing is in hand.
    fn give_back_memory(&mut self) {
        if self.desk.lease.bytes() > 0 {
            self.held_at = self.desk.now;
        } else if self.owes_memory() && self.held_at + QUIET_MIN <= self.desk.now {
            self.bytes_peak = 0;
            (self.desk.shared.give_back_memory)();
        }
    }

    fn owes_memory(&self) -> bool {
        self.bytes_peak > KEPT_BYTES_MAX && self.desk.lease.bytes() == 0
    }

    fn longest_idle(&mut self) -> Option<u32> {
        let idle = self.links.iter_mut().filter_map(|(number, link)| link.is_idle().then_some((link.used_at, number)));
        idle.min().map(|(_, number)| number)
    }

    /// Ends a connection; whoever waits on it has left.
    fn close(&mut self, number: u32) {
        let Some(mut link) = self.links.remove(number) else { return };
        while let Some(&(_, slot)) = link.open.last() {
            self.desk.leave(&mut link, slot);
        }
        self.desk.lease.release_bytes(link.reserved);
        self.desk.lease.release_connection();
        self.desk.counters.connection_closed();
        self.desk.shared.peers.leave(link.peer.counted());
        self.desk.shared.standings[self.desk.index].connections.fetch_sub(1, Ordering::Relaxed);
    }

    fn tell_busy(&mut self) {
        let is_unfinished = |(_, link): (u32, &mut Link<T>)| {
            link.is_leaving || link.wire.is_parting() || link.wire.lingering() || !link.wire.output().is_empty()
        };
        let unfinished = self.links.iter_mut().map(is_unfinished).filter(|&is_unfinished| is_unfinished).count();
        let busy = self.desk.awaited() + unfinished;
        self.desk.shared.tell_busy(self.desk.index, busy as u64);
    }
}

/// A few times per shortest limit, and a few times a second at most.
fn check_interval(limits: &WireLimits) -> Duration {
    let shortest = [
        limits.handshake_max,
        limits.header_read_max,
        limits.connection_idle_max,
        limits.body_grace_max,
        limits.body_read_max,
        limits.write_stall_max,
        limits.keepalive_interval,
        limits.keepalive_timeout_max,
    ]
    .into_iter()
    .min()
    .unwrap_or_default();
    (shortest / 4).clamp(Duration::from_millis(10), Duration::from_millis(500))
}
