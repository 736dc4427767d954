//! Callers who send on and on and hardly read: what a server must not let others suffer from.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use rustix::net::sockopt::set_socket_recv_buffer_size;
use servekit_wire::Output;

use crate::outcome::SlowReaders;
use crate::plan::Slow;
use crate::requests::{Choice, Requests};

/// They all send the plan's first body in its first class.
const CHOICE: Choice = Choice { body: 0, class: 0 };

/// What one sends at most in a tick, of requests one behind the other: more than it reads, and yet no load by itself.
const WRITTEN_BYTES_MAX: usize = 16 << 10;
/// What the kernel keeps of answers for one, so that the server soon feels that nobody reads.
const KEPT_BYTES: usize = 4 << 10;
const READ_BYTES_MAX: usize = 64 << 10;

/// All of them. They are looked at once a tick and need no poll.
#[derive(Debug)]
pub(crate) struct Readers {
    address: SocketAddr,
    readers: Vec<Option<Reader>>,
    /// What each reads in a tick.
    tick_bytes: usize,
    told: SlowReaders,
}

#[derive(Debug)]
struct Reader {
    socket: TcpStream,
    output: Output,
}

impl Readers {
    pub(crate) fn new(address: SocketAddr, slow: Option<Slow>, tick: Duration) -> Self {
        let connections = slow.map_or(0, |slow| slow.connections);
        let tick_bytes = slow.map_or(0.0, |slow| f64::from(slow.bytes_per_second) * tick.as_secs_f64()) as usize;
        Self {
            address,
            readers: (0..connections).map(|_| None).collect(),
            tick_bytes: tick_bytes.clamp(1, READ_BYTES_MAX),
            told: SlowReaders { connections, ..SlowReaders::default() },
        }
    }

    /// What they sent and read.
    pub(crate) fn told(&self) -> SlowReaders {
        self.told
    }

    /// Lets each send what its socket takes, and read its few bytes.
    pub(crate) fn on_tick(&mut self, requests: &Requests) {
        for reader in &mut self.readers {
            let Some(open) = reader else {
                // Where the server takes no connection now, the next tick asks again.
                *reader = Reader::open(self.address).ok();
                continue;
            };
            if open.step(requests, self.tick_bytes, &mut self.told).is_err() {
                self.told.closed += 1;
                *reader = None;
            }
        }
    }
}

impl Reader {
    fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(address)?;
        set_socket_recv_buffer_size(&socket, KEPT_BYTES)?;
        Ok(Self { socket, output: Output::default() })
    }

    fn step(&mut self, requests: &Requests, read_bytes_max: usize, told: &mut SlowReaders) -> io::Result<()> {
        let mut written = 0;
        while written < WRITTEN_BYTES_MAX {
            if self.output.is_empty() {
                requests.put_http(CHOICE, 0, &mut self.output);
            }
            let mut slices = [io::IoSlice::new(&[]); 2];
            let count = self.output.slices(&mut slices);
            let Some(bytes) = unless_blocked(self.socket.write_vectored(&slices[..count]))? else { break };
            self.output.consume(bytes);
            written += bytes;
        }
        told.sent_bytes += written as u64;
        let mut buffer = [0; READ_BYTES_MAX];
        match unless_blocked(self.socket.read(&mut buffer[..read_bytes_max]))? {
            Some(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Some(bytes) => {
                told.read_bytes += bytes as u64;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// `None` where the socket is not ready, which one that is still being opened is not either.
fn unless_blocked(done: io::Result<usize>) -> io::Result<Option<usize>> {
    match done {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected | io::ErrorKind::Interrupted => Ok(None),
            _ => Err(error),
        },
    }
}
