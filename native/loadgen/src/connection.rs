//! One connection: its socket, and what is spoken on it.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use servekit_wire::Output;
use servekit_wire::client::{Answer, Http1Client, Http2Client};

use crate::requests::{Choice, Requests};

const SLICES_MAX: usize = 16;

/// A connection that lives, or is being opened.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: TcpStream,
    framing: Framing,
    output: Output,
    /// The socket has said that it can be written to.
    connected: bool,
    streams_max: usize,
}

#[derive(Debug)]
enum Framing {
    /// With the request that is on its way.
    Http1(Box<Http1Client>, Option<u32>),
    Http2(Box<Http2Client>),
}

/// Why a connection is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Closed by the server, or by the network.
    Closed,
    /// The server said what nobody may say.
    Malformed,
}

impl Connection {
    /// Begins to connect. The poll tells about the socket by `token`.
    pub(crate) fn open(
        address: SocketAddr,
        requests: &Requests,
        streams_max: u32,
        (registry, token): (&Registry, Token),
    ) -> io::Result<Self> {
        let mut socket = TcpStream::connect(address)?;
        // A request is one write; nothing would be gained by waiting for more. A socket without the option works too.
        let _refused = socket.set_nodelay(true);
        registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
        let mut output = Output::default();
        let framing = match requests.method() {
            None => Framing::Http1(Box::default(), None),
            Some(method) => Framing::Http2(Box::new(Http2Client::new(method.clone(), &mut output))),
        };
        Ok(Self { socket, framing, output, connected: false, streams_max: streams_max as usize })
    }

    /// Whether one more request can be sent.
    pub(crate) fn has_room(&self) -> bool {
        self.connected
            && match &self.framing {
                Framing::Http1(_, token) => token.is_none(),
                Framing::Http2(client) => client.greeted() && client.room() > 0 && client.open() < self.streams_max,
            }
    }

    /// Whether it ever was opened.
    pub(crate) fn is_connected(&self) -> bool {
        self.connected
    }

    /// Whether it is of no more use once what is on its way is answered.
    pub(crate) fn parting(&self) -> bool {
        match &self.framing {
            Framing::Http1(..) => false,
            Framing::Http2(client) => client.parting() && client.open() == 0,
        }
    }

    /// Writes a request, to be flushed; only where there is room.
    pub(crate) fn put(&mut self, requests: &Requests, choice: Choice, flight: u32, late_ns: u64) {
        match &mut self.framing {
            Framing::Http1(_, token) => {
                *token = Some(flight);
                requests.put_http(choice, late_ns, &mut self.output);
            }
            Framing::Http2(client) => {
                requests.put_grpc(choice, flight, late_ns, (client, &mut self.output));
            }
        }
    }

    /// Leaves a request. False: only closing the connection does that.
    pub(crate) fn cancel(&mut self, flight: u32) -> bool {
        match &mut self.framing {
            Framing::Http1(..) => false,
            Framing::Http2(client) => {
                client.cancel(flight, &mut self.output);
                // A write that fails is told by the poll as well.
                let _lost = self.flush();
                true
            }
        }
    }

    /// The socket can be written to.
    pub(crate) fn on_writable(&mut self) -> Result<(), Lost> {
        if !self.connected {
            if let Ok(Some(_)) | Err(_) = self.socket.take_error() {
                return Err(Lost::Closed);
            }
            self.connected = true;
        }
        self.flush()
    }

    /// Reads what has come, and hands over each answer with what a refusal says.
    pub(crate) fn on_readable(&mut self, buffer: &mut [u8], mut each: impl FnMut(Answer, &[u8])) -> Result<(), Lost> {
        loop {
            let bytes = match self.socket.read(buffer) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Err(Lost::Closed),
            };
            if bytes == 0 {
                self.end(&mut each);
                return Err(Lost::Closed);
            }
            self.take(&buffer[..bytes], &mut each)?;
            // A short read emptied the socket; what comes later is a new event.
            if bytes < buffer.len() {
                return Ok(());
            }
        }
    }

    fn take(&mut self, mut input: &[u8], each: &mut impl FnMut(Answer, &[u8])) -> Result<(), Lost> {
        let malformed = |_| Lost::Malformed;
        match &mut self.framing {
            Framing::Http1(client, token) => {
                while let Some(answer) = client.receive(&mut input).map_err(malformed)? {
                    // Bytes that nobody asked for end the connection, as a timeout's 408 does.
                    let flight = token.take().ok_or(Lost::Closed)?;
                    each(Answer { token: flight, ..answer }, client.excerpt());
                    if answer.closes {
                        return Err(Lost::Closed);
                    }
                }
                Ok(())
            }
            Framing::Http2(client) => {
                while let Some(answer) = client.receive(&mut input, &mut self.output).map_err(malformed)? {
                    each(answer, client.excerpt());
                }
                self.flush()
            }
        }
    }

    fn end(&mut self, each: &mut impl FnMut(Answer, &[u8])) {
        if let Framing::Http1(client, token) = &mut self.framing
            && let (Some(answer), Some(flight)) = (client.end(), token.take())
        {
            each(Answer { token: flight, ..answer }, client.excerpt());
        }
    }

    /// Writes as much as the socket takes; the rest goes when the poll says so.
    pub(crate) fn flush(&mut self) -> Result<(), Lost> {
        while self.connected && !self.output.is_empty() {
            let written = match self.output.sole_slice() {
                Some(bytes) => self.socket.write(bytes),
                None => {
                    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                    let count = self.output.slices(&mut slices);
                    self.socket.write_vectored(&slices[..count])
                }
            };
            match written {
                Ok(bytes) => self.output.consume(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Lost::Closed),
            }
        }
        Ok(())
    }
}
