//! Counters that tell a flood from use.

use std::time::{Duration, Instant};

use super::fault::{ErrorCode, Fault};
use crate::event::CloseReason;
use crate::limits::Limits;

/// Frames are counted over this long.
const SPAN: Duration = Duration::from_secs(10);

/// What one connection's peer did lately.
#[derive(Debug)]
pub(super) struct Calm {
    /// When the counters of the span began at 0.
    span_began_at: Instant,
    /// Frames of the peer that carry nothing of a request.
    control_frames: u32,
    /// HEADERS and DATA that we sent.
    frames_sent: u32,
    streams_opened: u32,
    /// By the peer, before the answer.
    streams_reset: u32,
    /// Streams that we reset for the peer's fault, since the connection began.
    stream_errors: u32,
    pinged_at: Option<Instant>,
    /// Whether HEADERS or DATA were sent since the last ping: then the next may come at once, which it does when the
    /// peer measures bandwidth.
    sent_since_ping: bool,
    ping_strikes: u32,
}

impl Calm {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            span_began_at: now,
            control_frames: 0,
            frames_sent: 0,
            streams_opened: 0,
            streams_reset: 0,
            stream_errors: 0,
            pinged_at: None,
            sent_since_ping: false,
            ping_strikes: 0,
        }
    }

    /// So many frames of HEADERS or DATA went out.
    pub(super) fn sent(&mut self, frames: u32) {
        self.frames_sent = self.frames_sent.saturating_add(frames);
        self.sent_since_ping = true;
    }

    pub(super) fn opened(&mut self) {
        self.streams_opened = self.streams_opened.saturating_add(1);
    }

    /// The peer sent a frame that carries nothing of a request.
    pub(super) fn control(&mut self, limits: &Limits, now: Instant) -> Result<(), Box<Fault>> {
        self.roll(now);
        self.control_frames = self.control_frames.saturating_add(1);
        if self.control_frames > limits.control_frames_max.saturating_add(self.frames_sent) {
            return Err(Fault::flood("too many frames that carry nothing"));
        }
        Ok(())
    }

    /// The peer reset a stream before its answer.
    pub(super) fn reset(&mut self, limits: &Limits, now: Instant) -> Result<(), Box<Fault>> {
        self.roll(now);
        self.streams_reset = self.streams_reset.saturating_add(1);
        if self.streams_reset > limits.stream_resets_max && self.streams_reset > self.streams_opened / 2 {
            return Err(Fault::flood("too many streams reset before their answer"));
        }
        Ok(())
    }

    /// We reset a stream for the peer's fault.
    pub(super) fn stream_error(&mut self, limits: &Limits) -> Result<(), Box<Fault>> {
        self.stream_errors = self.stream_errors.saturating_add(1);
        if self.stream_errors > limits.stream_errors_max {
            return Err(Fault::flood("too many streams with errors"));
        }
        Ok(())
    }

    /// The peer sent a PING that is no answer.
    pub(super) fn ping(&mut self, limits: &Limits, now: Instant) -> Result<(), Box<Fault>> {
        let last = self.pinged_at.replace(now);
        let sent = std::mem::take(&mut self.sent_since_ping);
        let soon = last.is_some_and(|last| now.saturating_duration_since(last) < limits.ping_interval_min);
        self.ping_strikes = if soon && !sent { self.ping_strikes + 1 } else { 0 };
        if self.ping_strikes > limits.ping_strikes_max {
            // gRPC clients know this text and ping less often from then on.
            let (code, reason) = (ErrorCode::EnhanceYourCalm, CloseReason::Calm);
            return Err(Box::new(Fault { code, reason, debug: "too_many_pings" }));
        }
        Ok(())
    }

    fn roll(&mut self, now: Instant) {
        if now.saturating_duration_since(self.span_began_at) >= SPAN {
            self.span_began_at = now;
            self.control_frames = 0;
            self.frames_sent = 0;
            self.streams_opened = 0;
            self.streams_reset = 0;
        }
    }
}
