//! The life of a server: bound, listening, draining, gone.

use std::fmt;
use std::io;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use servekit_core::{ClassSurface, ModelKey, Refusal};

use crate::config::Config;
use crate::listeners::{Addresses, BindError, Listeners, SocketFile};
use crate::listing::{Absence, Entry, Listing, Phase, Served, State, Version};
use crate::log::{self, Log};
use crate::refusals;
use crate::shard::{self, Command, Handle, Post};
use crate::shared::Shared;
use crate::snapshot::{self, Snapshot};
use crate::why;

/// How long the last answers of a server that ends may take to be written.
const LAST_WORDS_MAX: Duration = Duration::from_millis(500);

/// How long the last lines of the log may take to be written.
const LAST_LINES_MAX: Duration = Duration::from_millis(500);

/// How long runners may take to end; one that is still in a run then is left behind.
const RUNNERS_END_MAX: Duration = Duration::from_millis(500);

/// Requests that one shard may have open, answers to slow readers included; a slot costs four bytes.
const SLOTS_MAX: u64 = 1 << 17;

/// A running server. It lets clients in once it is told to [`listen`](Self::listen).
///
/// Dropping it stops it.
pub struct Server {
    shared: Arc<Shared>,
    posts: Arc<[Arc<Post>]>,
    addresses: Addresses,
    started_at: SystemTime,
    control: Mutex<Control>,
}

/// What only the owner of the server changes. Locked by control calls alone.
struct Control {
    listeners: Listeners,
    /// Its file goes with the server.
    socket_file: Option<SocketFile>,
    models_published: u32,
    shards: Vec<JoinHandle<()>>,
    runners: Vec<JoinHandle<()>>,
    /// Closes when the last runner has ended.
    runners_ended: Receiver<()>,
}

/// Why a server could not start.
#[derive(Debug)]
pub enum StartError {
    /// An address is not to be had.
    Bind(BindError),
    /// The system gave no thread or no descriptor.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(error) => error.fmt(formatter),
            Self::System(error) => write!(formatter, "the server cannot start: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<BindError> for StartError {
    fn from(error: BindError) -> Self {
        Self::Bind(error)
    }
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DrainReport {
    /// Every accepted request has had its answer, and every answer is written.
    pub drained: bool,
    /// Accepted requests that were refused because time was up.
    pub unanswered: u64,
}

impl Server {
    /// Binds all sockets, without listening yet, and starts all threads.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn bind(config: Config) -> Result<Self, StartError> {
        let Config { data, shards, runners, limits, access, log: sink, server_timing, give_back_memory } = config;
        let (mut listeners, addresses) = Listeners::bind(&data)?;
        let shard_count = shards.max(1);
        let slots = limits.queue_requests_max.saturating_add(limits.connections_max).min(SLOTS_MAX) as usize;
        let (log, lines) = Log::new(access);
        thread("servekit-log").spawn(move || log::write(&lines, &sink))?;
        let mut shared = Shared::new(limits, log, shard_count, runners, give_back_memory);
        shared.server_timing = server_timing;
        let shared = Arc::new(shared);
        let handles = (0..shard_count).map(|_| Handle::new()).collect::<io::Result<Vec<_>>>()?;
        let posts: Arc<[Arc<Post>]> = handles.iter().map(|handle| Arc::clone(&handle.post)).collect();
        let (ended, runners_ended) = channel();
        let socket_file = listeners.file.take();
        let mut control = Control {
            listeners,
            socket_file,
            models_published: 0,
            shards: Vec::new(),
            runners: Vec::new(),
            runners_ended,
        };
        for (index, handle) in handles.into_iter().enumerate() {
            control.shards.push(shard::start(&shared, index, handle, &posts, slots)?);
        }
        for index in 0..runners {
            let (shared, ended) = (Arc::clone(&shared), ended.clone());
            control.runners.push(thread(&format!("servekit-runner-{index}")).spawn(move || {
                run(&shared, shard_count + index);
                drop(ended);
            })?);
        }
        Ok(Self { shared, posts, addresses, started_at: SystemTime::now(), control: Mutex::new(control) })
    }

    /// Addresses in use, with real ports.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Lets clients in: the server is ready as soon as its models are.
    ///
    /// # Errors
    /// Those of the system.
    pub fn listen(&self) -> io::Result<()> {
        let listening = self.control().listeners.listen()?;
        self.change(|listing| match listing.phase {
            Phase::Starting => Some(listing.at(Phase::Ready)),
            _ => None,
        });
        self.posts[0].send(Command::Listen(listening));
        Ok(())
    }

    /// Serves a model, in place of any of the same name and version: what came in for that one is still answered by it.
    ///
    /// # Errors
    /// Where the model cannot have its lanes; whatever was served before still is.
    pub fn publish(&self, served: Served) -> Result<(), Refusal> {
        let mut control = self.control();
        let key = ModelKey(control.models_published + 1);
        // Each leg has a key of its own.
        control.models_published += 1 + served.legs.len() as u32;
        let (name, version, required) = (served.name.clone(), served.version.clone(), served.required);
        let bytes_max = self.shared.limits.model_in_flight_bytes_max;
        let published = Arc::new(Version::new(key, served, bytes_max, &self.shared.counters));
        if published.served.needs_runners() {
            self.shared.pool.open(&published)?;
        }
        let replaced = self.served(&name, &version);
        let entry = Entry { name, version, required, state: State::Served(published) };
        self.change(|listing| Some(listing.with(entry.clone())));
        self.close(replaced);
        Ok(())
    }

    /// Tells of a model that is not served (yet), so that requests and readiness can say so.
    pub fn announce(&self, name: &str, version: &str, required: bool, absence: Absence) {
        let _control = self.control();
        let replaced = self.served(name, version);
        let state = State::Absent(absence);
        let entry = Entry { name: name.into(), version: version.into(), required, state };
        self.change(|listing| Some(listing.with(entry.clone())));
        self.close(replaced);
    }

    /// Forgets a model: what came in for it is still answered, what comes from now on is not found.
    pub fn retract(&self, name: &str, version: &str) {
        let _control = self.control();
        let replaced = self.served(name, version);
        self.change(|listing| Some(listing.without(name, version)));
        self.close(replaced);
    }

    /// Readiness turns false at once; after `delay` of normal service clients are asked to go. A second call may only
    /// shorten the delay.
    pub fn begin_drain(&self, delay: Duration) {
        let leave_at = Instant::now() + delay;
        self.change(|listing| match listing.phase {
            Phase::Ending => None,
            Phase::Draining { leave_at: earlier } if earlier <= leave_at => None,
            _ => Some(listing.at(Phase::Draining { leave_at })),
        });
    }

    /// Waits until every accepted request has its answer. Those that have none in time are refused and counted.
    pub fn wait_drained(&self, timeout: Duration) -> DrainReport {
        if self.shared.wait_idle(timeout) {
            return DrainReport { drained: true, unanswered: 0 };
        }
        self.end();
        self.shared.wait_idle(LAST_WORDS_MAX);
        let unanswered = self.shared.unanswered.load(std::sync::atomic::Ordering::Relaxed);
        DrainReport { drained: false, unanswered }
    }

    /// Ends at once: whoever still waits is refused.
    pub fn stop(&self) {
        self.end();
        self.shared.pool.stop(&refusals::draining());
        let mut control = self.control();
        for post in self.posts.iter() {
            post.send(Command::Stop);
        }
        for shard in control.shards.drain(..) {
            // A shard that panicked has been told of on its way; there is nothing more to do for it.
            let _panicked = shard.join();
        }
        // Nothing is ever sent: the channel closes with the last runner, and a run that does not end is not waited for.
        let _closed = control.runners_ended.recv_timeout(RUNNERS_END_MAX);
        control.runners.clear();
        control.socket_file = None;
        self.shared.log.finish(LAST_LINES_MAX);
    }

    /// What the server knows of itself and its models.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        snapshot::take(&self.shared, self.started_at)
    }

    /// How long runs of a served model take, as its queues have learned: for each of its legs, of which most models have
    /// one. Empty before the first batch.
    #[must_use]
    pub fn surfaces(&self, name: &str, version: &str) -> Vec<Vec<ClassSurface>> {
        let Some(version) = self.served(name, version) else { return Vec::new() };
        let legs = std::iter::once(&version).chain(&version.legs);
        legs.map(|leg| leg.estimates.merged().map_or_else(Vec::new, |merged| merged.surfaces)).collect()
    }

    /// Why a model answers as fast as it does, in words and figures; an empty version stands for the highest that is
    /// served. `None` where it is not served.
    #[must_use]
    pub fn why(&self, name: &str, version: &str) -> Option<serde_json::Value> {
        let listing = self.shared.listing.load();
        let version = listing.find(name, version).ok()?;
        Some(why::why(&self.shared, version))
    }

    fn end(&self) {
        self.change(|listing| (listing.phase != Phase::Ending).then(|| listing.at(Phase::Ending)));
    }

    /// Puts a changed listing in place and has all shards look at it.
    fn change(&self, change: impl Fn(&Listing) -> Option<Listing>) {
        self.shared.listing.rcu(|listing| change(listing).map_or_else(|| Arc::clone(listing), Arc::new));
        self.posts.iter().for_each(|post| post.wake());
    }

    fn served(&self, name: &str, version: &str) -> Option<Arc<Version>> {
        let listing = self.shared.listing.load();
        let entry = listing.versions(name).iter().find(|entry| &*entry.version == version)?;
        entry.served().cloned()
    }

    fn close(&self, version: Option<Arc<Version>>) {
        if let Some(version) = version {
            self.shared.pool.close(version.key);
        }
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Server").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

fn thread(name: &str) -> std::thread::Builder {
    std::thread::Builder::new().name(name.to_owned())
}

/// A runner's life, counted by its own counters.
fn run(shared: &Shared, index: usize) {
    shared.pool.run(index, &|fault| shared.log.fault(fault));
}

#[cfg(test)]
mod tests;
