//! The loop of a run: one thread, one poll, all connections.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mio::event::Event;
use mio::{Events, Poll, Token};

use crate::arrivals::Schedule;
use crate::connection::{Connection, Lost};
use crate::dice::Dice;
use crate::flights::{Flight, Flights};
use crate::outcome::Outcome;
use crate::plan::{Cancel, Load, Plan};
use crate::pool::Pool;
use crate::requests::{Choice, Requests};
use crate::slow::Readers;
use crate::tally::{Tally, Usage};
use crate::timer::{Timer, thread_cpu};
use crate::{Error, plan};

const CONNECT_MAX: Duration = Duration::from_secs(5);
const CONNECT_STEP: Duration = Duration::from_millis(20);
/// Opened at a time, so that no queue of the listener overflows.
const CONNECT_TOGETHER: usize = 64;
const TICK: Duration = Duration::from_millis(50);
const TICK_NS: u64 = TICK.as_nanos() as u64;
/// Sent in one go before answers are looked at again.
const BURST: usize = 32;
const EVENTS: usize = 256;
const READ_BYTES: usize = 64 << 10;
const TIMER: Token = Token(usize::MAX - 1);
const NS_PER_S: f64 = 1e9;
const NS_PER_MS: f64 = 1e6;

/// Where the next request comes from.
#[derive(Debug)]
enum Source {
    /// The schedule, and when its next request is due; `None` once it has ended.
    Open(Box<Schedule>, Option<u64>),
    /// How many are to be on their way.
    Closed(usize),
}

/// One that is due.
#[derive(Clone, Copy, Debug)]
struct Due {
    at_ns: u64,
    choice: Choice,
    counted: bool,
    /// It found no connection free.
    waits: bool,
}

/// A caller who will leave.
type Leaving = Reverse<(u64, u32, u32)>;

struct Driver {
    poll: Poll,
    timer: Timer,
    requests: Requests,
    pool: Pool,
    source: Source,
    /// Due, and waiting for a connection.
    backlog: VecDeque<Due>,
    /// Connections with requests that are not yet written to the socket.
    unflushed: Vec<usize>,
    flights: Flights,
    leaving: BinaryHeap<Leaving>,
    cancel: Option<Cancel>,
    dice: Dice,
    readers: Readers,
    tally: Tally,
    /// What all times of the run are counted from.
    start: Instant,
    tick_ns: u64,
    /// When answers are no longer awaited.
    last_ns: u64,
}

/// Carries out a plan that makes sense.
pub(crate) fn run(plan: &Plan, contents: Vec<Bytes>) -> Result<Outcome, Error> {
    let address = resolve(&plan.target.address)?;
    let source = match &plan.load {
        Load::Open { rate, arrivals } => {
            let mut schedule = Box::new(Schedule::new(arrivals, *rate, plan.seed)?);
            let first_ns = schedule.next_ns();
            Source::Open(schedule, Some(first_ns))
        }
        Load::Closed { in_flight } => Source::Closed(*in_flight as usize),
    };
    let failed = |error: io::Error| Error::Server(format!("{}: {error}", plan.target.address));
    let mut driver = Driver::new(plan, contents, address, source).map_err(failed)?;
    driver.connect(&plan.target.address)?;
    let cpu_share = driver.drive().map_err(failed)?;
    Ok(driver.finish(plan, cpu_share))
}

fn resolve(address: &str) -> Result<SocketAddr, Error> {
    let mut found = address.to_socket_addrs().map_err(|error| Error::Server(format!("{address}: {error}")))?;
    found.next().ok_or_else(|| Error::Server(format!("{address}: the name has no address")))
}

impl Driver {
    fn new(plan: &Plan, contents: Vec<Bytes>, address: SocketAddr, source: Source) -> io::Result<Self> {
        let poll = Poll::new()?;
        let timer = Timer::new(poll.registry(), TIMER)?;
        let tally = Tally::new(plan);
        let last_ns = tally.to_ns() + (plan.patience_seconds * NS_PER_S) as u64;
        let streams_max = if plan.target.protocol == plan::Protocol::Grpc { plan.streams } else { 1 };
        Ok(Self {
            poll,
            timer,
            requests: Requests::new(plan, contents),
            pool: Pool::new(address, plan.connections, streams_max),
            source,
            backlog: VecDeque::new(),
            unflushed: Vec::new(),
            flights: Flights::default(),
            leaving: BinaryHeap::new(),
            cancel: plan.cancel,
            dice: Dice::new(plan.seed, 2),
            readers: Readers::new(address, plan.slow, TICK),
            tally,
            start: Instant::now(),
            tick_ns: TICK_NS,
            last_ns,
        })
    }

    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// Opens all connections, and waits until the server has greeted on each.
    fn connect(&mut self, address: &str) -> Result<(), Error> {
        let mut events = Events::with_capacity(EVENTS);
        let mut buffer = vec![0; READ_BYTES];
        let mut opened = 0;
        while opened < self.pool.len() {
            let until = (opened + CONNECT_TOGETHER).min(self.pool.len());
            let failed = |error: io::Error| Error::Server(format!("{address} after {opened} connections: {error}"));
            for at in opened..until {
                self.pool.open(at, &self.requests, self.poll.registry()).map_err(failed)?;
            }
            let since = Instant::now();
            while !self.pool.has_room(until) {
                self.poll_once(&mut events, Some(CONNECT_STEP)).map_err(failed)?;
                for event in &events {
                    if self.on_socket(event, &mut buffer).is_err() {
                        return Err(Error::Server(format!("{address} refuses connections; is the server running")));
                    }
                }
                if since.elapsed() > CONNECT_MAX {
                    let seconds = CONNECT_MAX.as_secs();
                    return Err(Error::Server(format!("{address} has not taken a connection for {seconds} s")));
                }
            }
            opened = until;
        }
        (0..opened).for_each(|at| self.pool.queue(at));
        Ok(())
    }

    /// Sends everything and reads the answers; returns the share of a core that this took while requests were due.
    fn drive(&mut self) -> io::Result<f64> {
        let mut events = Events::with_capacity(EVENTS);
        let mut buffer = vec![0; READ_BYTES];
        self.start = Instant::now();
        let (cpu_before, mut cpu_share) = (thread_cpu(), None);
        loop {
            let now_ns = self.now_ns();
            self.send_due(now_ns);
            self.flush();
            self.leave_due(now_ns);
            if now_ns >= self.tick_ns {
                self.tick_ns = now_ns + TICK_NS;
                self.pool.on_tick(&self.requests, self.poll.registry());
                if now_ns < self.tally.to_ns() {
                    self.readers.on_tick(&self.requests);
                }
            }
            if cpu_share.is_none() && now_ns >= self.tally.to_ns() {
                cpu_share = Some((thread_cpu() - cpu_before).as_secs_f64() * NS_PER_S / now_ns as f64);
            }
            if self.is_over(now_ns) {
                return Ok(cpu_share.unwrap_or_default());
            }
            self.wait(&mut events)?;
            for event in &events {
                if event.token() == TIMER {
                    self.timer.clear();
                    continue;
                }
                let lost = self.on_socket(event, &mut buffer);
                self.settle(event.token().0, lost);
            }
        }
    }

    fn is_over(&self, now_ns: u64) -> bool {
        now_ns >= self.tally.to_ns() && (self.flights.len() == 0 && self.backlog.is_empty() || now_ns >= self.last_ns)
    }

    /// Sleeps until something is due or something comes.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let now_ns = self.now_ns();
        let mut until_ns = self.tick_ns;
        if now_ns < self.tally.to_ns() {
            until_ns = until_ns.min(self.tally.to_ns());
        }
        if let Source::Open(_, Some(next_ns)) = self.source {
            until_ns = until_ns.min(next_ns);
        }
        if let Some(Reverse((leave_ns, ..))) = self.leaving.peek() {
            until_ns = until_ns.min(*leave_ns);
        }
        if until_ns <= now_ns || self.is_pressed(now_ns) {
            return self.poll_once(events, Some(Duration::ZERO));
        }
        self.timer.set(until_ns, now_ns)?;
        self.poll_once(events, None)
    }

    fn poll_once(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                events.clear();
                Ok(())
            }
            done => done,
        }
    }

    /// Sends what is due, as far as connections are free; the rest waits in its order.
    fn send_due(&mut self, now_ns: u64) {
        for _ in 0..BURST {
            if self.backlog.is_empty() {
                let Some(due) = self.next_due(now_ns) else { return };
                self.backlog.push_back(due);
            }
            let Some(at) = self.pool.next() else { return self.hold_due(now_ns) };
            if let Some(due) = self.backlog.pop_front() {
                self.send(due, at);
            }
        }
    }

    /// No connection is free: whatever is due waits, and is counted as late from now on.
    fn hold_due(&mut self, now_ns: u64) {
        if let Source::Open(..) = self.source {
            while let Some(due) = self.next_due(now_ns) {
                self.backlog.push_back(due);
            }
        }
        for due in self.backlog.iter_mut().rev().take_while(|due| !due.waits) {
            due.waits = true;
            self.tally.wait(due.counted);
        }
    }

    /// Something is due and could be sent at once.
    fn is_pressed(&self, now_ns: u64) -> bool {
        let closed = |in_flight| now_ns < self.tally.to_ns() && self.flights.len() < in_flight;
        let wanted = !self.backlog.is_empty() || matches!(self.source, Source::Closed(count) if closed(count));
        wanted && self.pool.has_turn()
    }

    fn next_due(&mut self, now_ns: u64) -> Option<Due> {
        let at_ns = match &mut self.source {
            Source::Closed(in_flight) => {
                let wanted = now_ns < self.tally.to_ns() && self.flights.len() < *in_flight;
                wanted.then_some(now_ns)?
            }
            Source::Open(schedule, next_ns) => {
                let due_ns = next_ns.filter(|&next_ns| next_ns <= now_ns)?;
                *next_ns = Some(schedule.next_ns()).filter(|&next_ns| next_ns < self.tally.to_ns());
                due_ns
            }
        };
        let choice = self.requests.draw();
        let counted = self.tally.offer(at_ns, choice.class);
        Some(Due { at_ns, choice, counted, waits: false })
    }

    fn send(&mut self, due: Due, at: usize) {
        let Due { at_ns: due_ns, choice, counted, .. } = due;
        let flight = Flight { due_ns, connection: at as u32, class: choice.class, counted };
        let token = self.flights.add(flight);
        let late_ns = self.now_ns().saturating_sub(due_ns);
        if let Some(cancel) = self.cancel
            && self.dice.share() < cancel.share
        {
            let leave_ns = due_ns + (self.dice.share() * cancel.within_ms * NS_PER_MS) as u64;
            self.leaving.push(Reverse((leave_ns, token, self.flights.generation(token))));
        }
        self.tally.send(&flight, late_ns);
        if let Some(connection) = self.pool.get(at) {
            connection.put(&self.requests, choice, token, late_ns);
            self.unflushed.push(at);
            self.pool.queue(at);
        }
    }

    /// Hands what was sent to the sockets: requests of one connection leave in one write.
    fn flush(&mut self) {
        while let Some(at) = self.unflushed.pop() {
            if let Some(Err(lost)) = self.pool.get(at).map(Connection::flush) {
                self.settle(at, Err(lost));
            }
        }
    }

    /// Lets callers leave whose time has come.
    fn leave_due(&mut self, now_ns: u64) {
        while let Some(&Reverse((leave_ns, token, generation))) = self.leaving.peek()
            && leave_ns <= now_ns
        {
            self.leaving.pop();
            let Some(flight) = self.flights.find(token, generation) else { continue };
            self.flights.take(token);
            self.tally.cancel(&flight);
            let at = flight.connection as usize;
            let reset = self.pool.get(at).is_some_and(|connection| connection.cancel(token));
            self.settle(at, if reset { Ok(()) } else { Err(Lost::Closed) });
        }
    }

    /// Does what a socket's event asks for.
    fn on_socket(&mut self, event: &Event, buffer: &mut [u8]) -> Result<(), Lost> {
        let Some(connection) = self.pool.get(event.token().0) else { return Ok(()) };
        if event.is_writable() || event.is_error() {
            connection.on_writable()?;
        }
        if !event.is_readable() {
            return Ok(());
        }
        let (flights, tally) = (&mut self.flights, &mut self.tally);
        let now_ns = self.start.elapsed().as_nanos() as u64;
        connection.on_readable(buffer, |answer, text| {
            if let Some(flight) = flights.take(answer.token) {
                tally.answer(&flight, &answer, text, now_ns);
            }
        })
    }

    /// Gives a connection its next turn, or replaces it.
    fn settle(&mut self, at: usize, lost: Result<(), Lost>) {
        let parting = self.pool.get(at).is_some_and(|connection| connection.parting());
        if lost.is_ok() && !parting {
            return self.pool.queue(at);
        }
        let reason = if lost == Err(Lost::Malformed) { "malformed answer" } else { "connection lost" };
        for token in self.flights.of(at as u32) {
            if let Some(flight) = self.flights.take(token) {
                self.tally.fail(flight.counted, reason);
            }
        }
        self.pool.replace(at, &self.requests, self.poll.registry());
    }

    fn finish(mut self, plan: &Plan, cpu_share: f64) -> Outcome {
        for flight in self.flights.drain() {
            self.tally.fail(flight.counted, "not answered");
        }
        for due in self.backlog.drain(..) {
            self.tally.give_up(due.counted);
        }
        let usage = Usage { cpu_share, reconnects: self.pool.reconnects(), slow: self.readers.told() };
        self.tally.finish(plan, usage)
    }
}

#[cfg(test)]
mod tests;
