//! What a shard needs of a socket, so that tests can do without one.

use std::io::{self, IoSlice, Read, Write};
use std::net::{IpAddr, Shutdown};

/// A byte stream that never blocks.
pub(crate) trait Transport {
    /// Reads what is there; 0 at the end, `WouldBlock` where there is nothing yet.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize>;

    /// Writes as much as fits, from the front; `WouldBlock` where nothing does.
    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Tells the peer that nothing more will be written.
    fn shutdown_write(&mut self);
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// By TCP.
    Address(IpAddr),
    /// By the Unix socket.
    Local,
}

impl Peer {
    /// The address that is counted against the limit of one peer's connections; none for those on this machine.
    pub(crate) fn counted(self) -> Option<IpAddr> {
        match self {
            Self::Address(address) if !address.to_canonical().is_loopback() => Some(address.to_canonical()),
            Self::Address(_) | Self::Local => None,
        }
    }
}

/// A socket of either family.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(mio::net::TcpStream),
    Unix(mio::net::UnixStream),
}

impl Socket {
    /// What `poll` watches.
    pub(crate) fn source(&mut self) -> &mut dyn mio::event::Source {
        match self {
            Self::Tcp(stream) => stream,
            Self::Unix(stream) => stream,
        }
    }
}

impl Transport for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(into),
            Self::Unix(stream) => stream.read(into),
        }
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        // One slice, the usual case, is cheaper for the kernel as a plain write.
        match (self, slices) {
            (Self::Tcp(stream), [slice]) => stream.write(slice),
            (Self::Tcp(stream), slices) => stream.write_vectored(slices),
            (Self::Unix(stream), [slice]) => stream.write(slice),
            (Self::Unix(stream), slices) => stream.write_vectored(slices),
        }
    }

    fn shutdown_write(&mut self) {
        // A socket that is gone needs no shutdown.
        let _gone = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_on_this_machine_are_not_counted() {
        let counted = |text: &str| Peer::Address(text.parse().expect("an address")).counted();
        for text in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(counted(text), None, "{text}");
        }
        assert_eq!(Peer::Local.counted(), None);
        assert_eq!(counted("::ffff:10.0.0.1"), counted("10.0.0.1"));
        assert!(counted("10.0.0.1").is_some());
    }
}
