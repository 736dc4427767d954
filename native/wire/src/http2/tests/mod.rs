//! A client made of frames, and what the connection says to it.

mod answers;
mod bodies;
mod floods;
mod frames;
mod heads;
mod laws;
mod times;

use std::io::IoSlice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Http2;
use super::fault::ErrorCode;
use super::frame::{Frame, HEADER_BYTES, LARGEST, flag, kind, put_window_update};
use crate::event::{Event, StreamId};
use crate::hpack;
use crate::limits::Limits;
use crate::output::Output;
use crate::payload::Payload;
use crate::reply::{GrpcStatus, Reply};

/// The connection under test and its peer's view of it.
struct Peer {
    http2: Http2,
    output: Output,
    decoder: hpack::Decoder,
    now: Instant,
    /// What every head is granted; `None`: the test decides.
    grant: Option<usize>,
}

/// A frame that the connection wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sent {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Peer {
    /// A connection on which nothing was said.
    fn silent(limits: Limits) -> Self {
        let now = Instant::now();
        let mut output = Output::default();
        let http2 = Http2::new(Arc::new(limits), now, &mut output);
        Self { http2, output, decoder: hpack::Decoder::new(4_096), now, grant: Some(1 << 20) }
    }

    /// A connection on which both sides' settings are known.
    fn with(limits: Limits) -> Self {
        let mut peer = Self::silent(limits);
        assert!(peer.send(&[settings(&[]), frame(kind::SETTINGS, flag::ACK, 0, &[])].concat()).is_empty());
        peer.sent();
        peer
    }

    fn new() -> Self {
        Self::with(Limits::default())
    }

    /// Feeds bytes, accepting what comes as `grant` says; returns the events as text.
    fn send(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut input = bytes;
        let mut told = Vec::new();
        while let Some(event) = self.http2.advance(&mut input, self.now, &mut self.output) {
            told.push(text(&event));
            if let (Event::Head { stream, .. }, Some(grant)) = (&event, self.grant) {
                self.http2.accept(*stream, grant, &mut self.output);
            }
        }
        told
    }

    fn pass(&mut self, time: Duration) -> Vec<String> {
        self.now += time;
        self.http2.on_time(self.now, &mut self.output);
        self.send(&[])
    }

    fn bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !self.output.is_empty() {
            let mut slices = [IoSlice::new(&[]); 64];
            let count = self.output.slices(&mut slices);
            let part: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
            self.output.consume(part.len());
            bytes.extend(part);
        }
        self.http2.wrote(self.now, &mut self.output);
        bytes
    }

    /// The frames written since the last call.
    fn sent(&mut self) -> Vec<Sent> {
        let bytes = self.bytes();
        let mut rest = &bytes[..];
        let mut frames = Vec::new();
        while let Some((header, after)) = rest.split_first_chunk::<HEADER_BYTES>() {
            let Frame { length, kind, flags, stream } = Frame::parse(header);
            let (payload, after) = after.split_at(length);
            frames.push(Sent { kind, flags, stream, payload: payload.to_vec() });
            rest = after;
        }
        assert!(rest.is_empty());
        frames
    }

    /// As `sent`, as text: `HEADERS 1 end :status: 200 ...`, `DATA 1 end 5`, `RST_STREAM 1 Cancel`.
    fn said(&mut self) -> Vec<String> {
        self.sent().iter().map(|sent| self.describe(sent)).collect()
    }

    fn describe(&mut self, sent: &Sent) -> String {
        let Sent { kind, flags, stream, payload } = sent;
        let end = if flags & flag::END_STREAM != 0 { " end" } else { "" };
        match *kind {
            kind::DATA => format!("DATA {stream}{end} {}", payload.len()),
            kind::HEADERS => {
                let mut fields = String::new();
                let add = |name: &[u8], value: &[u8]| {
                    fields += &format!(" {}={}", String::from_utf8_lossy(name), String::from_utf8_lossy(value));
                };
                self.decoder.decode(payload, add).unwrap();
                format!("HEADERS {stream}{end}{fields}")
            }
            kind::RST_STREAM => format!("RST_STREAM {stream} {}", code(&payload[..])),
            kind::GOAWAY => {
                let last = u32::from_be_bytes(*payload.first_chunk().unwrap());
                format!("GOAWAY {last} {} {}", code(&payload[4..8]), String::from_utf8_lossy(&payload[8..]))
                    .trim()
                    .into()
            }
            kind::WINDOW_UPDATE => {
                format!("WINDOW_UPDATE {stream} {}", u32::from_be_bytes(*payload.first_chunk().unwrap()))
            }
            kind::PING => format!("PING{}", if *flags == flag::ACK { " ack" } else { "" }),
            kind::SETTINGS => format!("SETTINGS{}", if *flags == flag::ACK { " ack" } else { "" }),
            other => panic!("frame of kind {other}"),
        }
    }

    fn reply(&mut self, stream: u32, status: u16, body: &[u8]) {
        let body = payload(body);
        let reply = Reply { status, content_type: "text/plain", fields: &[], body: &body, close: false };
        self.http2.reply(StreamId(stream), &reply, self.now, &mut self.output);
    }

    fn reply_grpc(&mut self, stream: u32, message: &[u8]) {
        let message = payload(message);
        self.http2.reply_grpc(StreamId(stream), Some(&message), &GrpcStatus::OK, self.now, &mut self.output);
    }

    /// Sends `bytes` and expects the connection to end with this code and reason.
    #[track_caller]
    fn breaks(mut self, bytes: &[u8], code: ErrorCode, reason: &str) {
        let told = self.send(bytes);
        let said = self.said();
        let goaway = said.last().cloned().unwrap_or_default();
        assert!(goaway.starts_with("GOAWAY") && goaway.contains(&format!("{code:?}")), "{said:?}");
        assert_eq!(told.last(), Some(&format!("closing {reason}")), "{told:?}");
        assert!(self.http2.ended() && self.http2.open_requests() == 0);
        assert!(self.send(bytes).is_empty());
    }
}

fn code(bytes: &[u8]) -> String {
    let code = u32::from_be_bytes(*bytes.first_chunk().unwrap());
    let names = [
        ErrorCode::None,
        ErrorCode::Protocol,
        ErrorCode::FlowControl,
        ErrorCode::StreamClosed,
        ErrorCode::FrameSize,
        ErrorCode::RefusedStream,
        ErrorCode::Cancel,
        ErrorCode::Compression,
        ErrorCode::EnhanceYourCalm,
    ];
    format!("{:?}", names.into_iter().find(|name| *name as u32 == code).unwrap())
}

fn text(event: &Event) -> String {
    match event {
        Event::Head { stream, head, end } => {
            let (method, path) = (String::from_utf8_lossy(head.method_text()), String::from_utf8_lossy(head.path()));
            format!("head {} {method} {path} #{}{}", stream.0, head.id, if *end { " end" } else { "" })
        }
        Event::Grow { stream, bytes } => format!("grow {} {bytes}", stream.0),
        Event::Body { stream, body, compressed } => {
            let shown = if body.len() > 16 { format!("[{}]", body.len()) } else { body.escape_ascii().to_string() };
            format!("body {} {shown}{}", stream.0, if *compressed { " compressed" } else { "" })
        }
        Event::Reset { stream } => format!("reset {}", stream.0),
        Event::Dropped { reason } => format!("dropped {reason:?}"),
        Event::Violation { stream, violation } => format!("violation {} {violation:?}", stream.0),
        Event::Closing { reason } => format!("closing {}", reason.map_or("-".into(), |reason| format!("{reason:?}"))),
    }
}

fn payload(bytes: &[u8]) -> Payload {
    let mut payload = Payload::default();
    payload.buffer().extend_from_slice(bytes);
    payload
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Frame { length: payload.len(), kind, flags, stream }.put(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        settings.iter().flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    frame(kind::SETTINGS, 0, 0, &payload)
}

fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_window_update(&mut bytes, stream, increment);
    bytes
}

fn ping() -> Vec<u8> {
    frame(kind::PING, 0, 0, b"12345678")
}

fn reset(stream: u32) -> Vec<u8> {
    frame(kind::RST_STREAM, 0, stream, &(ErrorCode::Cancel as u32).to_be_bytes())
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        hpack::field(&mut block, name, value.as_bytes());
    }
    block
}

/// HEADERS of one frame.
fn headers(stream: u32, end: bool, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_HEADERS | u8::from(end), stream, &block(fields))
}

const GET: &[(&str, &str)] = &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
const POST: &[(&str, &str)] = &[(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
const CALL: &[(&str, &str)] = &[
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/s/m"),
    (":authority", "a"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
];

fn with<'a>(fields: &[(&'a str, &'a str)], more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [fields, more].concat()
}

fn get(stream: u32) -> Vec<u8> {
    headers(stream, true, GET)
}

fn post(stream: u32) -> Vec<u8> {
    headers(stream, false, POST)
}

fn data(stream: u32, end: bool, bytes: &[u8]) -> Vec<u8> {
    frame(kind::DATA, u8::from(end), stream, bytes)
}

/// Prefix and message.
fn message(bytes: &[u8]) -> Vec<u8> {
    [&[0][..], &(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

/// A whole unary call.
fn call(stream: u32, bytes: &[u8]) -> Vec<u8> {
    [headers(stream, false, CALL), data(stream, true, &message(bytes))].concat()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
