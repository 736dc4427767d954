//! Frames (RFC 9113, section 4): their header, padding, and the small ones that we write.

use super::fault::{ErrorCode, Fault};

pub(crate) const HEADER_BYTES: usize = 9;

/// Highest stream number, and most that a window may hold.
pub(crate) const LARGEST: u32 = (1 << 31) - 1;

pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const PRIORITY: u8 = 2;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PUSH_PROMISE: u8 = 5;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

pub(crate) mod flag {
    pub(crate) const ACK: u8 = 0x1;
    pub(crate) const END_STREAM: u8 = 0x1;
    pub(crate) const END_HEADERS: u8 = 0x4;
    pub(crate) const PADDED: u8 = 0x8;
    pub(crate) const PRIORITY: u8 = 0x20;
}

/// The nine bytes in front of every frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    pub(crate) length: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl Frame {
    pub(crate) fn parse(bytes: &[u8; HEADER_BYTES]) -> Self {
        // Numbers that overlap: two loads instead of one for each byte.
        let [front @ .., _, _, _, _, _] = *bytes;
        let [_, _, _, kind, flags, stream @ ..] = *bytes;
        let stream = u32::from_be_bytes(stream) & LARGEST;
        Self { length: (u32::from_be_bytes(front) >> 8) as usize, kind, flags, stream }
    }

    pub(crate) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let [_, l0, l1, l2] = (self.length as u32).to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        [l0, l1, l2, self.kind, self.flags, s0, s1, s2, s3]
    }

    pub(crate) fn put(self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(&self.to_bytes());
    }

    pub(crate) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The payload of DATA or HEADERS without its padding.
    pub(crate) fn unpadded(self, payload: &[u8]) -> Result<&[u8], Box<Fault>> {
        if !self.has(flag::PADDED) {
            return Ok(payload);
        }
        let Some((&padding, rest)) = payload.split_first() else {
            return Err(Fault::breach(ErrorCode::FrameSize, "padded frame has no room for the length of its padding"));
        };
        let kept = rest.len().checked_sub(usize::from(padding));
        kept.map(|kept| &rest[..kept])
            .ok_or_else(|| Fault::breach(ErrorCode::Protocol, "padding is longer than its frame"))
    }
}

/// The 32 bits at the front of `payload`, whose length the caller has checked, without the highest.
pub(crate) fn number(payload: &[u8]) -> u32 {
    payload.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes) & LARGEST)
}

pub(crate) fn put_reset(buffer: &mut Vec<u8>, stream: u32, code: ErrorCode) {
    Frame { length: 4, kind: kind::RST_STREAM, flags: 0, stream }.put(buffer);
    buffer.extend_from_slice(&(code as u32).to_be_bytes());
}

pub(crate) fn put_window_update(buffer: &mut Vec<u8>, stream: u32, increment: u32) {
    Frame { length: 4, kind: kind::WINDOW_UPDATE, flags: 0, stream }.put(buffer);
    buffer.extend_from_slice(&increment.to_be_bytes());
}

pub(crate) fn put_ping(buffer: &mut Vec<u8>, flags: u8, payload: &[u8; 8]) {
    Frame { length: 8, kind: kind::PING, flags, stream: 0 }.put(buffer);
    buffer.extend_from_slice(payload);
}

pub(crate) fn put_goaway(buffer: &mut Vec<u8>, last_stream: u32, code: ErrorCode, debug: &str) {
    Frame { length: 8 + debug.len(), kind: kind::GOAWAY, flags: 0, stream: 0 }.put(buffer);
    buffer.extend_from_slice(&last_stream.to_be_bytes());
    buffer.extend_from_slice(&(code as u32).to_be_bytes());
    buffer.extend_from_slice(debug.as_bytes());
}
