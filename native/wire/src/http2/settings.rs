//! SETTINGS of both sides (RFC 9113, section 6.5).

use super::fault::{ErrorCode, Fault};
use super::frame::{self, Frame, LARGEST, kind};
use crate::limits::Limits;

/// Every connection begins with these.
pub(super) const FRAME_BYTES_DEFAULT: u32 = 16_384;
pub(crate) const WINDOW_BYTES_DEFAULT: u32 = 65_535;
pub(super) const TABLE_BYTES_DEFAULT: usize = 4_096;

const FRAME_BYTES_MOST: u32 = (1 << 24) - 1;
pub(crate) const SETTING_BYTES: usize = 6;

pub(crate) mod setting {
    pub(super) const HEADER_TABLE_SIZE: u16 = 1;
    pub(crate) const ENABLE_PUSH: u16 = 2;
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(super) const MAX_FRAME_SIZE: u16 = 5;
    pub(super) const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// Largest frame that we take.
pub(super) fn frame_bytes_max(limits: &Limits) -> u32 {
    limits.frame_bytes_max.clamp(FRAME_BYTES_DEFAULT, FRAME_BYTES_MOST)
}

/// What we say first: our settings, and the connection's window raised to its limit.
pub(super) fn announce(limits: &Limits, buffer: &mut Vec<u8>) {
    let settings = [
        (setting::MAX_CONCURRENT_STREAMS, limits.connection_streams_max),
        (setting::INITIAL_WINDOW_SIZE, limits.stream_window_bytes_max.min(LARGEST)),
        (setting::MAX_FRAME_SIZE, frame_bytes_max(limits)),
        (setting::MAX_HEADER_LIST_SIZE, u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX)),
    ];
    Frame { length: settings.len() * SETTING_BYTES, kind: kind::SETTINGS, flags: 0, stream: 0 }.put(buffer);
    for (name, value) in settings {
        buffer.extend_from_slice(&name.to_be_bytes());
        buffer.extend_from_slice(&value.to_be_bytes());
    }
    let raise = limits.connection_window_bytes_max.min(LARGEST).saturating_sub(WINDOW_BYTES_DEFAULT);
    if raise > 0 {
        frame::put_window_update(buffer, 0, raise);
    }
}

/// The peer's settings, as far as they concern us.
#[derive(Debug)]
pub(crate) struct PeerSettings {
    /// Largest frame that the peer takes.
    pub(crate) frame_bytes_max: usize,
    /// What a stream's send window begins with.
    pub(crate) window_bytes: u32,
    /// The peer allowed less than the default table; our next header block must begin with its answer.
    pub(crate) table_shrunk: bool,
    /// Said once: a table of nothing cannot shrink again.
    table_closed: bool,
}

impl PeerSettings {
    pub(crate) fn new() -> Self {
        Self {
            frame_bytes_max: FRAME_BYTES_DEFAULT as usize,
            window_bytes: WINDOW_BYTES_DEFAULT,
            table_shrunk: false,
            table_closed: false,
        }
    }

    /// Takes the payload of a SETTINGS frame, in its order.
    pub(crate) fn apply(&mut self, payload: &[u8]) -> Result<(), Box<Fault>> {
        let (settings, rest) = payload.as_chunks::<SETTING_BYTES>();
        if !rest.is_empty() {
            return Err(Fault::breach(ErrorCode::FrameSize, "length of settings is no multiple of 6"));
        }
        for &[n0, n1, v0, v1, v2, v3] in settings {
            self.set(u16::from_be_bytes([n0, n1]), u32::from_be_bytes([v0, v1, v2, v3]))?;
        }
        Ok(())
    }

    fn set(&mut self, name: u16, value: u32) -> Result<(), Box<Fault>> {
        match name {
            setting::HEADER_TABLE_SIZE if (value as usize) < TABLE_BYTES_DEFAULT && !self.table_closed => {
                self.table_closed = true;
                self.table_shrunk = true;
            }
            setting::ENABLE_PUSH if value > 1 => {
                return Err(Fault::breach(ErrorCode::Protocol, "enable push is neither 0 nor 1"));
            }
            setting::INITIAL_WINDOW_SIZE => {
                if value > LARGEST {
                    return Err(Fault::breach(ErrorCode::FlowControl, "initial window is above 2147483647"));
                }
                self.window_bytes = value;
            }
            setting::MAX_FRAME_SIZE => {
                if !(FRAME_BYTES_DEFAULT..=FRAME_BYTES_MOST).contains(&value) {
                    return Err(Fault::breach(ErrorCode::Protocol, "max frame size is not within 16384 to 16777215"));
                }
                self.frame_bytes_max = value as usize;
            }
            _ => {}
        }
        Ok(())
    }
}
