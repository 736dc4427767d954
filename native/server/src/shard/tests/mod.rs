//! A shard between pipes instead of sockets, under a clock that stands still.

mod connections;
mod deadlines;
mod drain;
mod inference;
mod legs;
mod limits;
mod preparing;
mod streams;
mod timings;
mod urgency;

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use servekit_core::{Limits, Mailbox, ModelKey, Policy, ShardSnapshot};
use servekit_testing::{Chain, Clock, FakeModel, Preparing};

use super::transport::{Peer, Transport};
use super::{QUIET_MIN, Ready, Shard};
use crate::config::{AccessLog, LogFormat};
use crate::dialect::fixtures;
use crate::listing::{Entry, Listing, Phase, Placement, Served, State, Version};
use crate::log::Log;
use crate::shared::Shared;

/// Both ends of a connection.
#[derive(Default)]
struct Ends {
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    /// Bytes that the server may still write before its socket is full.
    room: usize,
    client_closed: bool,
    server_closed: bool,
    shut_down: bool,
    /// Taking in what is there takes this long.
    reading: Option<(Clock, Duration)>,
}

/// The server's end.
struct Pipe(Rc<RefCell<Ends>>);

impl Transport for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut ends = self.0.borrow_mut();
        let count = into.len().min(ends.incoming.len());
        if count == 0 && !ends.client_closed {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if let Some((clock, time)) = &ends.reading {
            clock.advance(*time);
        }
        into[..count].copy_from_slice(&ends.incoming[..count]);
        ends.incoming.drain(..count);
        Ok(count)
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut ends = self.0.borrow_mut();
        let mut count = 0;
        for slice in slices {
            let taken = slice.len().min(ends.room);
            ends.outgoing.extend_from_slice(&slice[..taken]);
            ends.room -= taken;
            count += taken;
        }
        if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }

    fn shutdown_write(&mut self) {
        self.0.borrow_mut().shut_down = true;
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.0.borrow_mut().server_closed = true;
    }
}

/// The client's end.
struct Client {
    ends: Rc<RefCell<Ends>>,
    number: u32,
}

/// An HTTP/1 answer.
#[derive(Debug, PartialEq, Eq)]
struct Heard {
    status: u16,
    head: String,
    body: String,
}

impl Client {
    /// Puts bytes on their way.
    fn say(&self, bytes: impl AsRef<[u8]>) {
        self.ends.borrow_mut().incoming.extend_from_slice(bytes.as_ref());
    }

    fn close(&self) {
        self.ends.borrow_mut().client_closed = true;
    }

    fn is_closed(&self) -> bool {
        self.ends.borrow().server_closed
    }

    /// Takes no more than so many bytes from now on.
    fn set_room(&self, bytes: usize) {
        self.ends.borrow_mut().room = bytes;
    }

    fn hear_bytes(&self) -> Vec<u8> {
        std::mem::take(&mut self.ends.borrow_mut().outgoing)
    }

    /// All answers that have come since.
    fn hear(&self) -> Vec<Heard> {
        let text = String::from_utf8(self.hear_bytes()).expect("answers of these tests are text");
        let mut rest = text.as_str();
        let mut answers = Vec::new();
        while let Some((head, behind)) = rest.split_once("\r\n\r\n") {
            let length: usize = field(head, "content-length").map_or(0, |value| value.parse().expect("a length"));
            let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
            answers.push(Heard { status, head: head.to_owned(), body: behind[..length].to_owned() });
            rest = &behind[length..];
        }
        answers
    }

    fn hear_statuses(&self) -> Vec<u16> {
        self.hear().iter().map(|heard| heard.status).collect()
    }
}

/// The shard under test.
struct Bench {
    clock: Clock,
    shared: Arc<Shared>,
    shard: Shard<Pipe>,
    /// One message per wake of the shard.
    wakes: Receiver<()>,
    models: u32,
    /// Times that memory was given back.
    given_back: Arc<AtomicUsize>,
    _lines: Receiver<crate::log::Entry>,
}

impl Bench {
    /// A shard without models, with the default limits as changed by the test.
    fn new(change: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = servekit_testing::limits();
        change(&mut limits);
        let access = AccessLog { sample: 0.0, format: LogFormat::Text, lines_per_second_max: 10, field_bytes_max: 64 };
        let (log, lines) = Log::new(access);
        let clock = Clock::new();
        let given_back = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&given_back);
        let give_back = Box::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let shared = Arc::new(Shared::new(limits, log, 1, 1, give_back));
        let (wake, wakes) = channel();
        let wake = Box::new(move || {
            // A bench that is gone needs no wake.
            let _gone = wake.send(());
        });
        let mailbox = Mailbox::new(SLOTS, wake);
        let time = clock.clone();
        let shard = Shard::new(&shared, 0, mailbox, SLOTS, Box::new(move || time.now()));
        let bench = Self { clock, shared, shard, wakes, models: 0, given_back, _lines: lines };
        bench.change(|listing| listing.at(Phase::Ready));
        bench
    }

    /// A shard with one model, named `ident`, that gives back what it gets.
    fn serving(placement: Placement, change: impl FnOnce(&mut Limits)) -> (Self, FakeModel) {
        let mut bench = Self::new(change);
        let model = bench.publish(placement);
        (bench, model)
    }

    /// The same with a model that doubles what it gets, before its batches.
    fn preparing(change: impl FnOnce(&mut Limits)) -> (Self, FakeModel, Preparing) {
        let mut bench = Self::new(change);
        let (model, preparing) = FakeModel::preparing(fixtures::ident());
        // Whatever is said of it, a shard does not prepare.
        bench.publish_model(&model, Placement::Inline);
        (bench, model, preparing)
    }

    /// The same with a model from which a way leads on through these, which get so many copies of each row.
    fn leading(legs: &[FakeModel], copies: u32, change: impl FnOnce(&mut Limits)) -> (Self, FakeModel, Chain) {
        Self::leading_into(legs, copies, change, |_| {})
    }

    /// The same with queues of the legs that are the test's own.
    fn leading_into(
        legs: &[FakeModel],
        copies: u32,
        change: impl FnOnce(&mut Limits),
        change_legs: impl Fn(&mut Policy),
    ) -> (Self, FakeModel, Chain) {
        let mut bench = Self::new(change);
        let chain = Chain::new(legs, copies);
        let model = FakeModel::new(fixtures::ident()).leading(&chain);
        let mut served = bench.served(&model, Placement::Inline);
        let leg = |(place, leg): (usize, &FakeModel)| {
            let mut served = bench.served(leg, Placement::Pool);
            change_legs(&mut served.policy);
            Served { name: format!("ident/{}", place + 1).into(), ..served }
        };
        served.legs = legs.iter().enumerate().map(leg).collect();
        bench.publish_served(served);
        (bench, model, chain)
    }

    fn publish(&mut self, placement: Placement) -> FakeModel {
        let model = FakeModel::new(fixtures::ident());
        self.publish_model(&model, placement);
        model
    }

    fn publish_model(&mut self, model: &FakeModel, placement: Placement) {
        let served = self.served(model, placement);
        self.publish_served(served);
    }

    fn served(&self, model: &FakeModel, placement: Placement) -> Served {
        let contract = fixtures::ident();
        let limits = &self.shared.limits;
        Served {
            name: contract.model.clone(),
            version: "1".into(),
            model: Arc::new(model.clone()),
            placement,
            inline_bytes_max: INLINE_BYTES_MAX,
            policy: Policy::of(&contract, limits),
            targets: (1..=limits.priority_levels_max)
                .map(|level| Duration::from_millis(level * limits.latency_target_ms.unwrap_or_default()))
                .collect(),
            priority_default: 1,
            required: true,
            platform: "onnxruntime_onnx".into(),
            properties: Vec::new(),
            description: serde_json::Map::new(),
            legs: Vec::new(),
        }
    }

    fn publish_served(&mut self, served: Served) {
        let (key, name, number) = (ModelKey(self.models + 1), served.name.clone(), served.version.clone());
        self.models += 1 + served.legs.len() as u32;
        let bytes_max = self.shared.limits.model_in_flight_bytes_max;
        let version = Arc::new(Version::new(key, served, bytes_max, &self.shared.counters));
        self.shared.pool.open(&version).expect("a fake model has lanes");
        let entry = Entry { name, version: number, required: true, state: State::Served(version) };
        self.change(|listing| listing.with(entry.clone()));
    }

    /// The one model that is served.
    fn version(&self) -> Arc<Version> {
        self.shared.listing.load().served().next().map(Arc::clone).expect("one was published")
    }

    fn change(&self, change: impl Fn(&Listing) -> Listing) {
        self.shared.listing.rcu(|listing| change(listing));
    }

    /// Ends the runners, who have answered everything.
    fn stop(&self, runners: impl IntoIterator<Item = std::thread::JoinHandle<()>>) {
        self.shared.pool.stop(&crate::refusals::draining());
        for runner in runners {
            runner.join().expect("a runner ends with its pool");
        }
    }

    /// Runs one runner until the pool stops.
    fn start_runner(&self) -> std::thread::JoinHandle<()> {
        let shared = Arc::clone(&self.shared);
        std::thread::spawn(move || {
            shared.pool.run(1, &|_| {});
        })
    }

    fn connect(&mut self) -> Client {
        self.connect_from(Peer::Local).unwrap_or_else(|_| panic!("there is a place"))
    }

    fn connect_from(&mut self, peer: Peer) -> Result<Client, Pipe> {
        let ends = Rc::new(RefCell::new(Ends { room: usize::MAX, ..Ends::default() }));
        self.shared.standings[0].connections.fetch_add(1, Ordering::Relaxed);
        let number = self.shard.open(Pipe(Rc::clone(&ends)), peer)?;
        Ok(Client { ends, number })
    }

    /// One tick in which these clients are ready.
    fn tick(&mut self, clients: &[&Client]) {
        for client in clients {
            let read_closed = client.ends.borrow().client_closed;
            self.shard.ready(client.number, Ready { readable: true, writable: true, read_closed });
        }
        self.shard.begin();
        self.shard.tick();
        let _timeout = self.shard.wait();
    }

    /// Waits until somebody has put something into the shard's mailbox.
    fn wait_woken(&self) {
        self.wakes.recv_timeout(Duration::from_secs(20)).expect("somebody wakes the shard");
    }

    /// Ticks until each of these has so many answers; says them.
    fn hear_all(&mut self, clients: &[&Client], count: usize) -> Vec<Vec<Heard>> {
        let mut heard: Vec<Vec<Heard>> = clients.iter().map(|_| Vec::new()).collect();
        loop {
            heard.iter_mut().zip(clients).for_each(|(heard, client)| heard.extend(client.hear()));
            if heard.iter().all(|heard| heard.len() >= count) {
                return heard;
            }
            self.wait_woken();
            self.tick(&[]);
        }
    }

    /// Gives back what the shard keeps of the models' bytes for the next requests.
    fn settle(&mut self) {
        self.shard.desk.lanes.iter_mut().for_each(|lane| lane.bytes.settle());
    }

    fn model_bytes_free(&self) -> u64 {
        self.version().bytes.free()
    }

    fn counted(&self) -> ShardSnapshot {
        self.shared.counters[0].snapshot()
    }

    /// Nothing is open, queued or reserved, and every accepted request had its end.
    fn assert_idle(&self) {
        let counted = self.counted();
        assert_eq!(counted.in_flight_requests, 0);
        assert_eq!(counted.in_flight_bytes, 0);
        assert_eq!(counted.streams, 0);
        assert_eq!(counted.accepted, counted.answered + counted.cancelled);
        assert_eq!(self.shard.desk.requests.len(), 0);
        assert_eq!(self.shard.desk.lease.requests(), 0);
        assert_eq!(self.shard.desk.scheduler.queued().requests, 0);
        assert!(self.shard.desk.lanes.iter().all(|lane| lane.bytes.used() == 0));
    }
}

/// What the field of this name says in a head.
fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(found, _)| *found == name).map(|(_, value)| value)
}

/// What one inline batch may bring in.
const INLINE_BYTES_MAX: u64 = 4_096;
const SLOTS: usize = 4_096;

/// A request whose one row has this value.
fn infer(value: f32) -> String {
    infer_with(value, "")
}

/// The same with further header lines.
fn infer_with(value: f32, fields: &str) -> String {
    post(&json(value), fields)
}

fn json(value: f32) -> String {
    format!(r#"{{"inputs":[{{"name":"x","shape":[1,1],"datatype":"FP32","data":[{value:?}]}}]}}"#)
}

fn post(body: &str, fields: &str) -> String {
    let length = body.len();
    format!("POST /v2/models/ident/infer HTTP/1.1\r\nhost: a\r\n{fields}content-length: {length}\r\n\r\n{body}")
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")
}

/// The one value of an answer.
fn value_of(heard: &Heard) -> f64 {
    assert_eq!(heard.status, 200, "{heard:?}");
    let body: serde_json::Value = serde_json::from_str(&heard.body).expect("JSON");
    body["outputs"][0]["data"][0].as_f64().expect("a number")
}

fn values_of(heard: &[Heard]) -> Vec<f64> {
    heard.iter().map(value_of).collect()
}
