//! Tests of the whole HTTP/1 state machine: bytes in, events and bytes out.

mod answers;
mod bodies;
mod heads;
mod laws;
mod times;

use std::io::IoSlice;
use std::time::Duration;

use super::*;
use crate::Payload;

/// An event in a form that compares.
#[derive(Clone, Debug, PartialEq)]
enum Said {
    Head { stream: u32, id: u32, path: String, end: bool },
    Grow { bytes: usize },
    Body(Vec<u8>),
    Reset(u32),
    Violation(Violation),
    Closing(Option<CloseReason>),
}

/// A connection with its owner and its clock. The owner accepts every head with `grant` and every growth.
struct Talk {
    http1: Http1,
    output: Output,
    now: Instant,
    grant: usize,
    stream: StreamId,
    /// Of the request in hand, for answers that name it.
    path: String,
}

impl Talk {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let now = Instant::now();
        let http1 = Http1::new(Arc::new(limits), b"", now);
        Self { http1, output: Output::default(), now, grant: 1 << 20, stream: StreamId(0), path: String::new() }
    }

    /// The next event; nothing is accepted or answered.
    fn next(&mut self, input: &mut &[u8]) -> Option<Said> {
        let said = match self.http1.advance(input, self.now, &self.output)? {
            Event::Head { stream, head, end } => {
                self.stream = stream;
                self.path = String::from_utf8_lossy(head.path()).into_owned();
                Said::Head { stream: stream.0, id: head.id, path: self.path.clone(), end }
            }
            Event::Grow { stream, bytes } => {
                assert_eq!(stream, self.stream);
                Said::Grow { bytes }
            }
            Event::Body { stream, body, compressed } => {
                assert_eq!((stream, compressed), (self.stream, false));
                assert!(body.is_empty() || body.is_unique(), "a body pins memory of others");
                Said::Body(body.to_vec())
            }
            Event::Reset { stream } => Said::Reset(stream.0),
            Event::Violation { stream, violation } => {
                self.stream = stream;
                Said::Violation(violation)
            }
            Event::Dropped { reason } => panic!("HTTP/1 has no streams to drop for {reason:?}"),
            Event::Closing { reason } => Said::Closing(reason),
        };
        Some(said)
    }

    fn accept(&mut self, grant: usize) {
        self.http1.accept(self.stream, grant, &mut self.output);
    }

    /// Sends bytes and returns what is said of them; nothing is answered. All bytes have to be taken.
    fn send(&mut self, input: impl AsRef<[u8]>) -> Vec<Said> {
        let (mut rest, mut said) = (input.as_ref(), Vec::new());
        while let Some(next) = self.next(&mut rest) {
            match next {
                Said::Head { end: false, .. } => self.accept(self.grant),
                Said::Grow { bytes } => self.accept(bytes),
                _ => {}
            }
            said.push(next);
        }
        assert!(rest.is_empty(), "{} bytes were left", rest.len());
        said
    }

    /// What is said without a byte.
    fn hear(&mut self) -> Vec<Said> {
        self.send("")
    }

    fn reply(&mut self, status: u16, body: &str) {
        self.answer(status, body, false);
    }

    fn answer(&mut self, status: u16, body: &str, close: bool) {
        let mut payload = Payload::default();
        payload.buffer().extend_from_slice(body.as_bytes());
        let reply = Reply { status, content_type: "text/plain", fields: &[], body: &payload, close };
        self.http1.reply(self.stream, &reply, self.now, &mut self.output);
    }

    /// Sends bytes and answers every request: 200 with path and body, or 400. Returns what was said.
    fn serve(&mut self, input: &[u8]) -> Vec<Said> {
        let (mut rest, mut said) = (input, Vec::new());
        while let Some(next) = self.next(&mut rest) {
            match &next {
                Said::Head { end: true, path, .. } => self.reply(200, path),
                Said::Head { .. } => self.accept(self.grant),
                Said::Grow { bytes } => self.accept(*bytes),
                Said::Body(body) => self.reply(200, &format!("{} {}", self.path, body.len())),
                Said::Violation(_) => self.reply(400, "no"),
                Said::Reset(_) | Said::Closing(_) => {}
            }
            said.push(next);
        }
        said
    }

    /// Takes what waits for the socket.
    fn written(&mut self) -> String {
        let mut slices: [IoSlice<'_>; 64] = std::array::from_fn(|_| IoSlice::new(&[]));
        let count = self.output.slices(&mut slices);
        let all = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
        self.output.clear();
        self.http1.wrote(self.now, &self.output);
        String::from_utf8(all).expect("tests write text")
    }

    /// Lets time pass and the limits of time be checked.
    fn pass(&mut self, ms: u64) -> Vec<Said> {
        self.now += Duration::from_millis(ms);
        self.http1.on_time(self.now, &mut self.output);
        self.hear()
    }
}

/// A POST of this body with these further header lines.
fn post(lines: &str, body: &str) -> String {
    format!("POST /p HTTP/1.1\r\nhost: a\r\n{lines}\r\n{body}")
}

fn chunked(body: &str) -> String {
    post("transfer-encoding: chunked\r\n", body)
}

const GET: &str = "GET /g HTTP/1.1\r\nhost: a\r\n\r\n";

fn head(stream: u32, id: u32, path: &str, end: bool) -> Said {
    Said::Head { stream, id, path: path.into(), end }
}

/// The violation that is all that is said after an optional head.
fn violation(said: &[Said]) -> &Violation {
    match said {
        [Said::Violation(violation)] | [Said::Head { .. }, Said::Violation(violation)] => violation,
        [Said::Head { .. }, Said::Grow { .. }, Said::Violation(violation)] => violation,
        other => panic!("no violation alone: {other:?}"),
    }
}

fn answers(written: &str) -> usize {
    written.matches("HTTP/1.1 ").count()
}
