//! A shard over sockets: what polls, and how other threads reach it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token, Waker};
use servekit_core::Mailbox;

use super::accept::Acceptor;
use super::transport::{Peer, Socket};
use super::{Ready, Shard};
use crate::listeners::Listening;
use crate::shared::{Shared, resident_bytes};

/// Events taken from one poll.
const EVENTS_MAX: usize = 1_024;

/// The token of the waker; listeners have those below it, connections those from 0 on.
const WAKER: Token = Token(usize::MAX);

/// How often memory in use is measured, by shards that are awake.
const MEASURE_INTERVAL: Duration = Duration::from_secs(1);

/// Something another thread wants of a shard.
#[derive(Debug)]
pub(crate) enum Command {
    /// Take this connection.
    Open(Socket, Peer),
    /// To the shard that accepts: this connection found no place.
    Returned(Socket, Peer),
    /// To the shard that accepts: let clients in.
    Listen(Listening),
    /// End.
    Stop,
}

/// How other threads reach a shard.
#[derive(Debug)]
pub(crate) struct Post {
    /// Holds commands for connections and the server's life, never requests.
    commands: Mutex<Vec<Command>>,
    waker: Waker,
    /// Something waits for the shard.
    pending: AtomicBool,
    /// The shard sleeps or is about to: only then is waking it worth a system call.
    asleep: AtomicBool,
}

impl Post {
    /// Has the shard look around soon.
    pub(crate) fn wake(&self) {
        self.pending.store(true, Ordering::SeqCst);
        if self.asleep.swap(false, Ordering::SeqCst) {
            // It fails only where the system has no memory left for a flag; the next timer looks around as well.
            let _later = self.waker.wake();
        }
    }

    /// Gives the shard something to do.
    pub(crate) fn send(&self, command: Command) {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).push(command);
        self.wake();
    }

    /// How long the shard may sleep: not at all where something came in meanwhile.
    fn fall_asleep(&self, timeout: Option<Duration>) -> Option<Duration> {
        self.asleep.store(true, Ordering::SeqCst);
        if self.pending.load(Ordering::SeqCst) { Some(Duration::ZERO) } else { timeout }
    }

    /// Whether something came in.
    fn wake_up(&self) -> bool {
        self.asleep.store(false, Ordering::SeqCst);
        self.pending.swap(false, Ordering::SeqCst)
    }

    fn commands(&self) -> Vec<Command> {
        std::mem::take(&mut self.commands.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A shard that is about to be started.
pub(crate) struct Handle {
    pub post: Arc<Post>,
    poll: Poll,
}

impl Handle {
    /// What a shard polls with.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let (pending, asleep) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Self { post: Arc::new(Post { commands: Mutex::default(), waker, pending, asleep }), poll })
    }
}

/// Starts the thread of a shard. The first one accepts for all.
///
/// # Errors
/// Those of the system.
pub(crate) fn start(
    shared: &Arc<Shared>,
    index: usize,
    handle: Handle,
    posts: &Arc<[Arc<Post>]>,
    slots: usize,
) -> io::Result<JoinHandle<()>> {
    let (shared, posts) = (Arc::clone(shared), Arc::clone(posts));
    std::thread::Builder::new().name(format!("servekit-shard-{index}")).spawn(move || {
        let post = Arc::clone(&handle.post);
        let mailbox = Mailbox::new(slots, Box::new(move || post.wake()));
        let shard = Shard::new(&shared, index, mailbox, slots, Box::new(Instant::now));
        let acceptor = Acceptor::new(Arc::clone(&shared));
        let measured_at = None;
        Runner { shard, acceptor, shared, posts, index, handle, measured_at }.run();
    })
}

struct Runner {
    shard: Shard<Socket>,
    acceptor: Acceptor,
    shared: Arc<Shared>,
    posts: Arc<[Arc<Post>]>,
    index: usize,
    handle: Handle,
    measured_at: Option<Instant>,
}

impl Runner {
    fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut is_stopping = false;
        while !is_stopping {
            let timeout = [self.shard.wait(), self.acceptor.wait()].into_iter().flatten().min();
            let timeout = self.handle.post.fall_asleep(timeout);
            if let Err(error) = self.handle.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                self.shared.log.warn("poll_failed", &format!("shard {} cannot poll: {error}", self.index));
            }
            for event in &events {
                let ready = Ready {
                    readable: event.is_readable() || event.is_error(),
                    writable: event.is_writable(),
                    read_closed: event.is_read_closed(),
                };
                match event.token() {
                    WAKER => {}
                    Token(number) if number >= Acceptor::TOKEN_MIN => self.acceptor.ready(number),
                    Token(number) => self.shard.ready(number as u32, ready),
                }
            }
            if self.handle.post.wake_up() {
                for command in self.handle.post.commands() {
                    is_stopping |= self.obey(command);
                }
            }
            self.measure();
            self.shard.begin();
            self.accept();
            self.shard.tick();
        }
    }

    /// Does what another thread wants; true where that is to end.
    fn obey(&mut self, command: Command) -> bool {
        match command {
            Command::Open(socket, peer) => self.open(socket, peer),
            Command::Returned(socket, peer) => self.acceptor.hold(socket, peer),
            Command::Listen(listening) => self.acceptor.listen(listening, self.handle.poll.registry()),
            Command::Stop => return true,
        }
        false
    }

    fn accept(&mut self) {
        if self.shard.has_left() {
            return self.acceptor.close();
        }
        for _ in 0..Acceptor::TURN_MAX {
            let Some((socket, peer, index)) = self.acceptor.accept(&self.shared.counters[self.index]) else { break };
            if index == self.index {
                self.open(socket, peer);
            } else {
                self.posts[index].send(Command::Open(socket, peer));
            }
        }
    }

    fn open(&mut self, mut socket: Socket, peer: Peer) {
        // Where there is none, `open` says so.
        let _has_room = self.shard.make_room();
        let number = self.shard.next_number() as usize;
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registry = self.handle.poll.registry();
        if registry.register(socket.source(), Token(number), interest).is_err() {
            self.shared.standings[self.index].connections.fetch_sub(1, Ordering::Relaxed);
            self.shared.peers.leave(peer.counted());
            return;
        }
        if let Err(mut socket) = self.shard.open(socket, peer) {
            // It is registered again by the shard that takes it; what fails here fails there, and is seen there.
            let _gone = self.handle.poll.registry().deregister(socket.source());
            self.shared.standings[self.index].connections.fetch_sub(1, Ordering::Relaxed);
            self.posts[Acceptor::SHARD].send(Command::Returned(socket, peer));
        }
    }

    fn measure(&mut self) {
        let now = Instant::now();
        if self.measured_at.is_none_or(|at| at + MEASURE_INTERVAL <= now) {
            self.measured_at = Some(now);
            if let Some(bytes) = resident_bytes() {
                self.shared.pressure.note(bytes, self.shared.limits.memory_bytes_max);
                self.shared.pool.press(self.shared.pressure.is_high());
            }
        }
    }
}
