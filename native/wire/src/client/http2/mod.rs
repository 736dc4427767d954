//! gRPC calls over HTTP/2: many streams of one connection.

mod call;
mod receive;

use std::sync::Arc;

use bytes::{Buf, Bytes};

pub use call::{Fields, Method};

use super::Malformed;
use crate::hpack::Decoder;
use crate::http2::PREFACE;
use crate::http2::fault::ErrorCode;
use crate::http2::flow::{ReceiveWindow, SendWindow};
use crate::http2::frame::{self, Frame, HEADER_BYTES, LARGEST, flag, kind};
use crate::http2::settings::{PeerSettings, SETTING_BYTES, WINDOW_BYTES_DEFAULT, setting};
use crate::output::Output;
use receive::{Memo, Told};

/// What a decoder may keep unless it says otherwise.
const TABLE_BYTES_MAX: usize = 4_096;

/// For a server that names no number: what the standard asks every one to grant.
const STREAMS_BEFORE_SETTINGS: u32 = 100;

/// One request to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Comes back with the answer.
    pub token: u32,
    /// Metadata beyond the method's.
    pub fields: &'a Fields,
    /// Sent as `grpc-timeout`.
    pub timeout_us: Option<u64>,
    /// The message behind its five-byte prefix.
    pub message: &'a Bytes,
}

/// A connection from its preface to its end.
#[derive(Debug)]
pub struct Http2Client {
    method: Arc<Method>,
    /// The peer's table holds the method's fields.
    remembered: bool,
    /// The peer remembers too little for them.
    forgetful: bool,
    decoder: Decoder,
    memo: Memo,
    /// The beginning of a frame that is not yet whole.
    assembly: Vec<u8>,
    /// A header block that is not yet whole, and the flags of its first frame.
    block: Option<(Frame, Vec<u8>)>,
    peer: PeerSettings,
    streams_max: u32,
    greeted: bool,
    parting: bool,
    /// Those without an answer, in the order of opening.
    streams: Vec<Stream>,
    stream_next: u32,
    send_window: SendWindow,
    receive_window: ReceiveWindow,
    /// Some stream has bytes that no window let through yet.
    held_back: bool,
    excerpt: Vec<u8>,
}

#[derive(Debug)]
struct Stream {
    id: u32,
    token: u32,
    window: SendWindow,
    /// Of the message, as far as no window let it through.
    unsent: Bytes,
    told: Told,
    body_bytes: u64,
}

impl Http2Client {
    /// Writes the preface and our settings. Nothing should be sent before the peer [`greeted`](Self::greeted).
    #[must_use]
    pub fn new(method: Arc<Method>, output: &mut Output) -> Self {
        let buffer = output.buffer();
        buffer.extend_from_slice(PREFACE);
        let settings = [(setting::ENABLE_PUSH, 0), (setting::INITIAL_WINDOW_SIZE, LARGEST)];
        Frame { length: settings.len() * SETTING_BYTES, kind: kind::SETTINGS, flags: 0, stream: 0 }.put(buffer);
        for (name, value) in settings {
            buffer.extend_from_slice(&name.to_be_bytes());
            buffer.extend_from_slice(&value.to_be_bytes());
        }
        frame::put_window_update(buffer, 0, LARGEST - WINDOW_BYTES_DEFAULT);
        Self {
            method,
            remembered: false,
            forgetful: false,
            decoder: Decoder::new(TABLE_BYTES_MAX),
            memo: Memo::default(),
            assembly: Vec::new(),
            block: None,
            peer: PeerSettings::new(),
            streams_max: STREAMS_BEFORE_SETTINGS,
            greeted: false,
            parting: false,
            streams: Vec::new(),
            stream_next: 1,
            send_window: SendWindow::new(WINDOW_BYTES_DEFAULT),
            receive_window: ReceiveWindow::new(LARGEST),
            held_back: false,
            excerpt: Vec::new(),
        }
    }

    /// Whether the peer's settings are known.
    #[must_use]
    pub fn greeted(&self) -> bool {
        self.greeted
    }

    /// How many more streams the peer would let us open now.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.parting || self.stream_next > LARGEST {
            return 0;
        }
        (self.streams_max as usize).saturating_sub(self.streams.len())
    }

    /// Whether the peer lets no stream be opened any more.
    #[must_use]
    pub fn parting(&self) -> bool {
        self.parting || self.stream_next > LARGEST
    }

    /// Streams without an answer.
    #[must_use]
    pub fn open(&self) -> usize {
        self.streams.len()
    }

    /// Text of the last status that was not OK.
    #[must_use]
    pub fn excerpt(&self) -> &[u8] {
        &self.excerpt
    }

    /// Sends a call; false, and nothing is written, where there is no [`room`](Self::room).
    pub fn send(&mut self, call: &Call<'_>, output: &mut Output) -> bool {
        if self.room() == 0 {
            return false;
        }
        let id = self.stream_next;
        self.stream_next += 2;
        self.put_head(id, call, output.buffer());
        self.streams.push(Stream {
            id,
            token: call.token,
            window: SendWindow::new(self.peer.window_bytes),
            unsent: call.message.clone(),
            told: Told::default(),
            body_bytes: 0,
        });
        self.send_data(self.streams.len() - 1, output);
        true
    }

    /// Leaves a call; false where it was answered already.
    pub fn cancel(&mut self, token: u32, output: &mut Output) -> bool {
        let Some(at) = self.streams.iter().position(|stream| stream.token == token) else { return false };
        let stream = self.streams.remove(at);
        frame::put_reset(output.buffer(), stream.id, ErrorCode::Cancel);
        true
    }

    fn put_head(&mut self, stream: u32, call: &Call<'_>, buffer: &mut Vec<u8>) {
        let at = buffer.len();
        Frame { length: 0, kind: kind::HEADERS, flags: flag::END_HEADERS, stream }.put(buffer);
        buffer.extend_from_slice(match (self.forgetful, self.remembered) {
            (true, _) => &self.method.plain,
            (false, true) => &self.method.repeated,
            (false, false) => &self.method.opening,
        });
        self.remembered = !self.forgetful;
        buffer.extend_from_slice(&call.fields.0);
        if let Some(timeout_us) = call.timeout_us {
            call::push_timeout(buffer, timeout_us);
        }
        let length = buffer.len() - at - HEADER_BYTES;
        let head = Frame { length, kind: kind::HEADERS, flags: flag::END_HEADERS, stream };
        buffer[at..at + HEADER_BYTES].copy_from_slice(&head.to_bytes());
    }

    /// Sends what the windows let through of a stream's message.
    fn send_data(&mut self, at: usize, output: &mut Output) {
        let stream = &mut self.streams[at];
        loop {
            let bytes = stream.unsent.len();
            let length = bytes.min(self.peer.frame_bytes_max).min(stream.window.open()).min(self.send_window.open());
            if length == 0 && bytes > 0 {
                self.held_back = true;
                return;
            }
            let flags = if length == bytes { flag::END_STREAM } else { 0 };
            Frame { length, kind: kind::DATA, flags, stream: stream.id }.put(output.buffer());
            stream.window.fill(length);
            self.send_window.fill(length);
            output.share(stream.unsent.slice(..length));
            stream.unsent.advance(length);
            if flags == flag::END_STREAM {
                return;
            }
        }
    }

    /// Sends what waited for a window.
    fn send_held_back(&mut self, output: &mut Output) {
        if !std::mem::take(&mut self.held_back) {
            return;
        }
        for at in 0..self.streams.len() {
            if !self.streams[at].unsent.is_empty() {
                self.send_data(at, output);
            }
        }
    }

    fn apply_settings(&mut self, payload: &[u8], output: &mut Output) -> Result<(), Malformed> {
        let window_before = i64::from(self.peer.window_bytes);
        self.peer.apply(payload).map_err(|fault| Malformed(fault.debug))?;
        for &[n0, n1, v0, v1, v2, v3] in payload.as_chunks::<SETTING_BYTES>().0 {
            if u16::from_be_bytes([n0, n1]) == setting::MAX_CONCURRENT_STREAMS {
                self.streams_max = u32::from_be_bytes([v0, v1, v2, v3]);
            }
        }
        self.forgetful |= self.peer.table_shrunk;
        let change = i64::from(self.peer.window_bytes) - window_before;
        if !self.streams.iter_mut().all(|stream| stream.window.widen(change)) {
            return Err(Malformed("initial window makes a window overflow"));
        }
        self.greeted = true;
        Frame { length: 0, kind: kind::SETTINGS, flags: flag::ACK, stream: 0 }.put(output.buffer());
        self.send_held_back(output);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
