//! From sockets to the protocol: what is there, in turns, and no more than is wanted.

use std::io;

use super::desk::Desk;
use super::link::Link;
use super::transport::Transport;

/// What the first read of a quiet HTTP/1 connection may take: a small request, and not much of what comes after it.
const FIRST_READ_BYTES: usize = 16 << 10;

/// What one connection may read before the others have their turn: of a large body, and of requests.
const TURN_BYTES_MAX: usize = 256 << 10;
const TURN_SMALL_BYTES_MAX: usize = 64 << 10;

/// A connection's turn to be read.
pub(super) struct Turn<'a> {
    desk: &'a mut Desk,
    scratch: &'a mut [u8],
}

/// What a turn has brought.
pub(super) struct Taken {
    pub bytes: usize,
    /// The socket may have more.
    pub has_more: bool,
}

impl<'a> Turn<'a> {
    /// A turn that reads into `scratch`.
    pub(super) fn new(desk: &'a mut Desk, scratch: &'a mut [u8]) -> Self {
        Self { desk, scratch }
    }

    /// Takes in what was kept, and then what the socket has.
    pub(super) fn take<T: Transport>(self, link: &mut Link<T>) -> Taken {
        let Self { desk, scratch } = self;
        let now = desk.now;
        if std::mem::take(&mut link.goes_on) || !link.unread.is_empty() {
            feed(desk, link, &[]);
        }
        let mut bytes = 0;
        while link.readable && !link.input_over && !link.broken && Desk::wants_input(link) {
            if bytes >= if link.granted > 0 { TURN_BYTES_MAX } else { TURN_SMALL_BYTES_MAX } {
                return Taken { bytes, has_more: true };
            }
            let is_large = link.multiplexed || link.granted > 0;
            let size = if is_large { scratch.len() } else { FIRST_READ_BYTES };
            match link.transport.read(&mut scratch[..size]) {
                Ok(0) => {
                    link.input_over = true;
                    link.wire.input_ended(now);
                    feed(desk, link, &[]);
                    desk.touch(link);
                }
                Ok(count) => {
                    link.used_at = now;
                    // A short read means an empty socket; the poll tells when that changes, or has told of its end.
                    link.readable = count == size || link.read_closed;
                    bytes += count;
                    feed(desk, link, &scratch[..count]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => link.readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    link.broken = true;
                    desk.touch(link);
                }
            }
        }
        Taken { bytes, has_more: false }
    }
}

/// Hands bytes to the protocol, behind those that it has not taken yet.
fn feed<T: Transport>(desk: &mut Desk, link: &mut Link<T>, bytes: &[u8]) {
    if link.unread.is_empty() {
        let mut rest = bytes;
        desk.advance(link, &mut rest);
        link.unread.extend_from_slice(rest);
        return;
    }
    let mut unread = std::mem::take(&mut link.unread);
    unread.extend_from_slice(bytes);
    let mut rest = &unread[..];
    desk.advance(link, &mut rest);
    let taken = unread.len() - rest.len();
    if taken < unread.len() {
        unread.drain(..taken);
        link.unread = unread;
    }
}

impl Desk {
    /// Acts on everything that the protocol makes of these bytes; leaves what it does not take.
    pub(super) fn advance<T: Transport>(&mut self, link: &mut Link<T>, input: &mut &[u8]) {
        loop {
            link.paused = link.waiting >= self.shared.limits.connection_requests_in_flight_max;
            if link.paused || (input.is_empty() && !link.wire.goes_on()) {
                break;
            }
            let Some(event) = link.wire.advance(input, self.now) else { break };
            self.event(link, event);
        }
        if !link.wire.output().is_empty() || link.wire.ended() || link.wire.lingering() {
            self.touch(link);
        }
    }

    /// Whether a connection may be read: it has room, and not too much is open on it.
    fn wants_input<T>(link: &Link<T>) -> bool {
        link.unread.is_empty() && !link.paused && link.wire.wants_input()
    }

    /// Keeps the books of what a connection holds beyond its requests. What cannot be reserved is not counted: it
    /// exists already, and stops whoever comes next.
    pub(super) fn reserve_unsent<T: Transport>(&mut self, link: &mut Link<T>) {
        let is_quiet = link.wire.output().is_empty() && link.open.is_empty();
        let held = if is_quiet { 0 } else { (link.wire.held_bytes() as u64).saturating_sub(link.granted) };
        if held > link.reserved {
            if self.lease.reserve_bytes(held - link.reserved).is_ok() {
                link.reserved = held;
            }
        } else {
            self.lease.release_bytes(link.reserved - held);
            link.reserved = held;
        }
    }
}
