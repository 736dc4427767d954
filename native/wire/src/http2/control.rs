//! Frames that carry nothing of a request: SETTINGS, PING, GOAWAY, PRIORITY, RST_STREAM, WINDOW_UPDATE.

use std::time::Instant;

use super::fault::{ErrorCode, Fault};
use super::frame::{self, Frame, flag, kind};
use super::stream::Answer;
use super::{Http2, Parting, time};
use crate::event::{Event, StreamId};
use crate::output::Output;

impl Http2 {
    pub(super) fn on_settings(
        &mut self,
        frame: Frame,
        payload: &[u8],
        now: Instant,
        output: &mut Output,
    ) -> Result<(), Box<Fault>> {
        if frame.stream != 0 {
            return Err(Fault::breach(ErrorCode::Protocol, "settings are on a stream"));
        }
        self.calm.control(&self.limits, now)?;
        if frame.has(flag::ACK) {
            if !payload.is_empty() {
                return Err(Fault::breach(ErrorCode::FrameSize, "acknowledged settings are not empty"));
            }
            self.acknowledged = true;
            return Ok(());
        }
        let window_before = self.peer.window_bytes;
        self.peer.apply(payload)?;
        self.greeted = true;
        Frame { length: 0, kind: kind::SETTINGS, flags: flag::ACK, stream: 0 }.put(output.buffer());
        let change = i64::from(self.peer.window_bytes) - i64::from(window_before);
        if change != 0 {
            if !self.streams.iter_mut().all(|stream| stream.send_window.widen(change)) {
                return Err(Fault::breach(ErrorCode::FlowControl, "initial window takes a window above 2147483647"));
            }
            self.send_queued(now, output);
        }
        Ok(())
    }

    pub(super) fn on_ping(
        &mut self,
        frame: Frame,
        payload: &[u8],
        now: Instant,
        output: &mut Output,
    ) -> Result<(), Box<Fault>> {
        if frame.stream != 0 {
            return Err(Fault::breach(ErrorCode::Protocol, "ping is on a stream"));
        }
        let payload: &[u8; 8] =
            payload.try_into().map_err(|_| Fault::breach(ErrorCode::FrameSize, "length of ping is not 8"))?;
        self.calm.control(&self.limits, now)?;
        if !frame.has(flag::ACK) {
            self.calm.ping(&self.limits, now)?;
            frame::put_ping(output.buffer(), flag::ACK, payload);
        } else if payload == time::PARTING_PING
            && let Parting::Announced { at } = self.parting
        {
            self.part(at, output);
        }
        Ok(())
    }

    /// The peer opens no more streams; what is open is answered.
    pub(super) fn on_goaway(&mut self, frame: Frame) -> Result<(), Box<Fault>> {
        if frame.stream != 0 {
            return Err(Fault::breach(ErrorCode::Protocol, "goaway is on a stream"));
        }
        if frame.length < 8 {
            return Err(Fault::breach(ErrorCode::FrameSize, "length of goaway is below 8"));
        }
        self.peer_parts = true;
        self.settle();
        Ok(())
    }

    /// Priorities are left to the order of arrival.
    pub(super) fn on_priority(&mut self, frame: Frame, now: Instant, output: &mut Output) -> Result<(), Box<Fault>> {
        if frame.stream == 0 {
            return Err(Fault::breach(ErrorCode::Protocol, "priority is on no stream"));
        }
        self.calm.control(&self.limits, now)?;
        if frame.length == 5 {
            return Ok(());
        }
        match self.streams.find(frame.stream) {
            Some(at) => self.break_stream(at, ErrorCode::FrameSize, output),
            None => Err(Fault::breach(ErrorCode::FrameSize, "length of priority is not 5")),
        }
    }

    pub(super) fn on_reset(&mut self, frame: Frame, payload: &[u8], now: Instant) -> Result<(), Box<Fault>> {
        if payload.len() != 4 {
            return Err(Fault::breach(ErrorCode::FrameSize, "length of rst_stream is not 4"));
        }
        let Some(at) = self.streams.find(frame.stream) else { return self.check_known(frame) };
        if self.streams[at].answer != Answer::Given {
            self.calm.reset(&self.limits, now)?;
        }
        self.events.push_back(Event::Reset { stream: StreamId(frame.stream) });
        self.remove(at, false);
        Ok(())
    }

    pub(super) fn on_window_update(
        &mut self,
        frame: Frame,
        payload: &[u8],
        now: Instant,
        output: &mut Output,
    ) -> Result<(), Box<Fault>> {
        if payload.len() != 4 {
            return Err(Fault::breach(ErrorCode::FrameSize, "length of window_update is not 4"));
        }
        let increment = i64::from(frame::number(payload));
        if frame.stream == 0 {
            if increment == 0 {
                return Err(Fault::breach(ErrorCode::Protocol, "window grows by nothing"));
            }
            if !self.send_window.widen(increment) {
                return Err(Fault::breach(ErrorCode::FlowControl, "window of the connection is above 2147483647"));
            }
            self.send_queued(now, output);
            return Ok(());
        }
        let Some(at) = self.streams.find(frame.stream) else { return self.check_known(frame) };
        if increment == 0 {
            return self.break_stream(at, ErrorCode::Protocol, output);
        }
        if !self.streams[at].send_window.widen(increment) {
            return self.break_stream(at, ErrorCode::FlowControl, output);
        }
        self.send_queued_of(at, now, output);
        Ok(())
    }

    /// Frames may come late for a stream that is closed, but not for one that was never opened.
    fn check_known(&self, frame: Frame) -> Result<(), Box<Fault>> {
        if frame.stream.is_multiple_of(2) || frame.stream > self.last_stream {
            return Err(Fault::breach(ErrorCode::Protocol, "frame is on a stream that was not opened"));
        }
        Ok(())
    }
}
