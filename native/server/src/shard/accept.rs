//! Who is let in, and which shard takes them.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};
use servekit_core::{Ending, ShardCounters};

use super::transport::{Peer, Socket};
use crate::listeners::Listening;
use crate::shared::Shared;

/// How long accepting pauses where every connection is in use.
const FULL_PAUSE: Duration = Duration::from_millis(20);

/// How long accepting pauses where the system has no descriptors left.
const DESCRIPTORS_PAUSE: Duration = Duration::from_millis(100);

/// Lets clients in; only that of the first shard ever listens.
pub(crate) struct Acceptor {
    shared: Arc<Shared>,
    listeners: Vec<Listener>,
    /// Connections that found no place yet, and are asked in again before any other.
    held: VecDeque<(Socket, Peer)>,
    paused_until: Option<Instant>,
    /// The operator was told that descriptors run out; once is enough.
    has_warned: bool,
}

struct Listener {
    kind: Kind,
    /// The poll has told of a client that is not accepted yet.
    ready: bool,
}

enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Acceptor {
    /// The shard that accepts.
    pub(crate) const SHARD: usize = 0;

    /// Connections let in during one tick; the others wait for the next, so that open ones are served meanwhile.
    pub(crate) const TURN_MAX: usize = 64;

    /// Tokens from this one on are those of listeners.
    pub(crate) const TOKEN_MIN: usize = usize::MAX - 8;

    /// One that listens to nothing yet.
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, listeners: Vec::new(), held: VecDeque::new(), paused_until: None, has_warned: false }
    }

    /// Begins to let clients in.
    pub(crate) fn listen(&mut self, listening: Listening, registry: &Registry) {
        let tcp = listening.tcp.into_iter().map(|listener| Kind::Tcp(TcpListener::from_std(listener)));
        let unix = listening.unix.into_iter().map(|listener| Kind::Unix(UnixListener::from_std(listener)));
        for mut kind in tcp.chain(unix) {
            let token = Token(Self::TOKEN_MIN + self.listeners.len());
            let registered = match &mut kind {
                Kind::Tcp(listener) => registry.register(listener, token, Interest::READABLE),
                Kind::Unix(listener) => registry.register(listener, token, Interest::READABLE),
            };
            if let Err(error) = registered {
                self.shared.log.warn("listen_failed", &format!("a listener cannot be polled: {error}"));
            }
            self.listeners.push(Listener { kind, ready: true });
        }
    }

    /// Notes that clients wait at a listener.
    pub(crate) fn ready(&mut self, token: usize) {
        if let Some(listener) = self.listeners.get_mut(token - Self::TOKEN_MIN) {
            listener.ready = true;
        }
    }

    /// Keeps a connection that no shard could take, and lets nobody else in for a while.
    pub(crate) fn hold(&mut self, socket: Socket, peer: Peer) {
        self.held.push_back((socket, peer));
        self.paused_until = Some(Instant::now() + FULL_PAUSE);
    }

    /// How long it needs no turn; `None` until a listener is ready.
    pub(crate) fn wait(&self) -> Option<Duration> {
        let has_work = !self.held.is_empty() || self.listeners.iter().any(|listener| listener.ready);
        let paused = self.paused_until.map(|until| until.saturating_duration_since(Instant::now()));
        has_work.then(|| paused.unwrap_or(Duration::ZERO))
    }

    /// Lets nobody in any more.
    pub(crate) fn close(&mut self) {
        self.listeners.clear();
        for (_, peer) in self.held.drain(..) {
            self.shared.peers.leave(peer.counted());
        }
    }

    /// The next client, and the shard that takes it: the one with the fewest connections.
    pub(crate) fn accept(&mut self, counters: &ShardCounters) -> Option<(Socket, Peer, usize)> {
        if self.paused_until.is_some_and(|until| until > Instant::now()) {
            return None;
        }
        self.paused_until = None;
        let (socket, peer) = match self.held.pop_front() {
            Some(held) => held,
            None => self.next(counters)?,
        };
        let open = |(_, standing): &(usize, &crate::shared::Standing)| standing.connections.load(Ordering::Relaxed);
        let (index, standing) = self.shared.standings.iter().enumerate().min_by_key(open)?;
        standing.connections.fetch_add(1, Ordering::Relaxed);
        Some((socket, peer, index))
    }

    fn next(&mut self, counters: &ShardCounters) -> Option<(Socket, Peer)> {
        while let Some(listener) = self.listeners.iter_mut().find(|listener| listener.ready) {
            match listener.kind.accept() {
                Ok((socket, peer)) => {
                    if self.shared.peers.enter(peer.counted()) {
                        return Some((socket, peer));
                    }
                    counters.ended(Ending::ConnectionsPeer);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => listener.ready = false,
                Err(error) if is_exhausted(&error) => {
                    self.paused_until = Some(Instant::now() + DESCRIPTORS_PAUSE);
                    if !std::mem::replace(&mut self.has_warned, true) {
                        let text = format!("no client can be accepted for now: {error}; raise the open-file limit");
                        self.shared.log.warn("accept_paused", &text);
                    }
                    return None;
                }
                // The client has gone already, or the system had a moment's trouble with this one.
                Err(_) => {}
            }
        }
        None
    }
}

impl Kind {
    fn accept(&self) -> io::Result<(Socket, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept()?;
                // Answers are written whole, so waiting for more to send would only delay them. A socket that refuses
                // is served as it is.
                let _delayed = stream.set_nodelay(true);
                Ok((Socket::Tcp(stream), Peer::Address(address.ip())))
            }
            Self::Unix(listener) => Ok((Socket::Unix(listener.accept()?.0), Peer::Local)),
        }
    }
}

/// Descriptors or memory of the process or of the system have run out.
fn is_exhausted(error: &io::Error) -> bool {
    const ENOMEM: i32 = 12;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = 105;
    matches!(error.raw_os_error(), Some(ENOMEM | ENFILE | EMFILE | ENOBUFS))
}
