//! Frames of the server.

use super::super::{Answer, Malformed, Status, keep_excerpt};
use super::{Http2Client, Stream};
use crate::decimal;
use crate::http2::fault::ErrorCode;
use crate::http2::frame::{self, Frame, HEADER_BYTES, flag, kind};
use crate::output::Output;

/// We never asked for larger frames than every connection begins with.
const FRAME_BYTES_MAX: usize = 16_384;
/// A header block larger than this says nothing that we want to know.
const BLOCK_BYTES_MAX: usize = 1 << 20;
const PRIORITY_BYTES: usize = 5;

/// What the head or the trailers of an answer said; zero and `None` where they did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    status: u16,
    grpc: Option<u8>,
}

/// The last header blocks and what they meant: most answers of a server begin and end with the same bytes.
#[derive(Debug, Default)]
pub(super) struct Memo {
    entries: [(Vec<u8>, Told); 2],
    turn: usize,
    /// Of the decoder's table that the entries belong to.
    generation: u64,
}

impl Memo {
    fn find(&self, block: &[u8], generation: u64) -> Option<Told> {
        let known = self.generation == generation && !block.is_empty();
        self.entries.iter().find(|(bytes, _)| known && bytes == block).map(|(_, told)| *told)
    }

    fn keep(&mut self, block: &[u8], told: Told, generation: u64) {
        if self.generation != generation {
            *self = Self { generation, ..Self::default() };
        }
        let (bytes, kept) = &mut self.entries[self.turn];
        bytes.clear();
        bytes.extend_from_slice(block);
        *kept = told;
        self.turn = 1 - self.turn;
    }
}

impl Http2Client {
    /// Takes bytes from the front of `input` up to the end of one answer; `None` when all are taken. What the protocol
    /// wants to be said in return goes to `output`.
    ///
    /// # Errors
    /// The server does not speak HTTP/2.
    pub fn receive(&mut self, input: &mut &[u8], output: &mut Output) -> Result<Option<Answer>, Malformed> {
        loop {
            if self.assembly.is_empty()
                && let Some(header) = input.first_chunk::<HEADER_BYTES>()
            {
                let frame = checked(Frame::parse(header))?;
                if let Some(payload) = input.get(HEADER_BYTES..HEADER_BYTES + frame.length) {
                    *input = &input[HEADER_BYTES + frame.length..];
                    if let Some(answer) = self.take(frame, payload, output)? {
                        return Ok(Some(answer));
                    }
                    continue;
                }
            }
            let Some((frame, whole)) = self.assemble(input)? else { return Ok(None) };
            let answer = self.take(frame, &whole[HEADER_BYTES..], output)?;
            // Its memory serves the next frame that comes in pieces.
            self.assembly = whole;
            self.assembly.clear();
            if answer.is_some() {
                return Ok(answer);
            }
        }
    }

    /// Puts a frame together; `None` while it is not whole, and all input is taken.
    fn assemble(&mut self, input: &mut &[u8]) -> Result<Option<(Frame, Vec<u8>)>, Malformed> {
        loop {
            let wanted = match self.assembly.first_chunk::<HEADER_BYTES>() {
                None => HEADER_BYTES,
                Some(header) => {
                    let frame = checked(Frame::parse(header))?;
                    if self.assembly.len() == HEADER_BYTES + frame.length {
                        return Ok(Some((frame, std::mem::take(&mut self.assembly))));
                    }
                    HEADER_BYTES + frame.length
                }
            };
            if input.is_empty() {
                return Ok(None);
            }
            let (bytes, rest) = input.split_at(input.len().min(wanted - self.assembly.len()));
            self.assembly.extend_from_slice(bytes);
            *input = rest;
        }
    }

    fn take(&mut self, frame: Frame, payload: &[u8], output: &mut Output) -> Result<Option<Answer>, Malformed> {
        if self.block.is_some() != (frame.kind == kind::CONTINUATION) {
            return Err(Malformed("header block is not contiguous"));
        }
        match frame.kind {
            kind::DATA => return self.take_data(frame, payload, output),
            kind::HEADERS | kind::CONTINUATION => return self.take_fragment(frame, payload, output),
            kind::RST_STREAM => return Ok(self.take_reset(frame, payload)),
            kind::SETTINGS if !frame.has(flag::ACK) => self.apply_settings(payload, output)?,
            kind::PING if !frame.has(flag::ACK) => {
                let payload = payload.first_chunk().ok_or(Malformed("ping has not 8 bytes"))?;
                frame::put_ping(output.buffer(), flag::ACK, payload);
            }
            kind::GOAWAY => self.parting = true,
            kind::WINDOW_UPDATE => self.take_window_update(frame, payload, output)?,
            kind::PUSH_PROMISE => return Err(Malformed("push was not allowed")),
            _ => {}
        }
        Ok(None)
    }

    fn take_data(&mut self, frame: Frame, payload: &[u8], output: &mut Output) -> Result<Option<Answer>, Malformed> {
        if !self.receive_window.take(payload.len()) {
            return Err(Malformed("more data than the window of the connection"));
        }
        if let Some(increment) = self.receive_window.give_back(payload.len()) {
            frame::put_window_update(output.buffer(), 0, increment);
        }
        let bytes = frame.unpadded(payload).map_err(|fault| Malformed(fault.debug))?;
        // Of a call that was cancelled.
        let Some(at) = self.position(frame.stream) else { return Ok(None) };
        self.streams[at].body_bytes += bytes.len() as u64;
        Ok(frame.has(flag::END_STREAM).then(|| self.answer(at, output)))
    }

    fn take_fragment(
        &mut self,
        frame: Frame,
        payload: &[u8],
        output: &mut Output,
    ) -> Result<Option<Answer>, Malformed> {
        let fragment = if frame.kind == kind::HEADERS {
            frame.unpadded(payload).map_err(|fault| Malformed(fault.debug))?
        } else {
            payload
        };
        let skipped = if frame.kind == kind::HEADERS && frame.has(flag::PRIORITY) { PRIORITY_BYTES } else { 0 };
        let fragment = fragment.get(skipped..).ok_or(Malformed("headers are shorter than their priority"))?;
        let whole = frame.has(flag::END_HEADERS);
        match self.block.take() {
            None if whole => self.take_block(frame, fragment, output),
            None => {
                self.block = Some((frame, fragment.to_vec()));
                Ok(None)
            }
            Some((first, _)) if first.stream != frame.stream => Err(Malformed("header block is not contiguous")),
            Some((first, mut block)) => {
                block.extend_from_slice(fragment);
                if block.len() > BLOCK_BYTES_MAX {
                    return Err(Malformed("header block is above 1 MiB"));
                }
                if whole {
                    return self.take_block(first, &block, output);
                }
                self.block = Some((first, block));
                Ok(None)
            }
        }
    }

    fn take_block(&mut self, first: Frame, block: &[u8], output: &mut Output) -> Result<Option<Answer>, Malformed> {
        let told = match self.memo.find(block, self.decoder.generation()) {
            Some(told) => told,
            None => self.decode(block)?,
        };
        let Some(at) = self.position(first.stream) else { return Ok(None) };
        let stream = &mut self.streams[at];
        if told.status != 0 {
            stream.told.status = told.status;
        }
        stream.told.grpc = told.grpc.or(stream.told.grpc);
        Ok(first.has(flag::END_STREAM).then(|| self.answer(at, output)))
    }

    fn decode(&mut self, block: &[u8]) -> Result<Told, Malformed> {
        let before = self.decoder.generation();
        let (mut told, mut readable) = (Told::default(), true);
        let excerpt = &mut self.excerpt;
        let decoded = self.decoder.decode(block, |name, value| match name {
            b":status" => match decimal::parse(value).and_then(|status| u16::try_from(status).ok()) {
                Some(status) => told.status = status,
                None => readable = false,
            },
            b"grpc-status" => match decimal::parse(value).and_then(|code| u8::try_from(code).ok()) {
                Some(code) => told.grpc = Some(code),
                None => readable = false,
            },
            b"grpc-message" => {
                excerpt.clear();
                keep_excerpt(excerpt, value);
            }
            _ => {}
        });
        decoded.map_err(|undecodable| Malformed(undecodable.0))?;
        if !readable {
            return Err(Malformed("status of an answer is no number"));
        }
        let after = self.decoder.generation();
        if before == after {
            self.memo.keep(block, told, after);
        }
        Ok(told)
    }

    fn take_reset(&mut self, frame: Frame, payload: &[u8]) -> Option<Answer> {
        let at = self.position(frame.stream)?;
        let code = payload.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        let stream = self.streams.remove(at);
        Some(self.ended(&stream, Status::Reset(code)))
    }

    fn take_window_update(&mut self, frame: Frame, payload: &[u8], output: &mut Output) -> Result<(), Malformed> {
        let increment = i64::from(frame::number(payload));
        let widened = if frame.stream == 0 {
            self.send_window.widen(increment)
        } else {
            self.position(frame.stream).is_none_or(|at| self.streams[at].window.widen(increment))
        };
        if !widened {
            return Err(Malformed("window grows beyond 2147483647"));
        }
        self.send_held_back(output);
        Ok(())
    }

    /// Most answers come in the order of the calls, so the search begins with the oldest.
    fn position(&self, id: u32) -> Option<usize> {
        self.streams.iter().position(|stream| stream.id == id)
    }

    fn answer(&mut self, at: usize, output: &mut Output) -> Answer {
        let stream = self.streams.remove(at);
        if !stream.unsent.is_empty() {
            // Refused before its end: the rest is not wanted, and the stream would stay half open.
            frame::put_reset(output.buffer(), stream.id, ErrorCode::Cancel);
        }
        let Told { status, grpc } = stream.told;
        let status = grpc.map_or(Status::Http(status), Status::Grpc);
        self.ended(&stream, status)
    }

    fn ended(&self, stream: &Stream, status: Status) -> Answer {
        Answer { token: stream.token, status, body_bytes: stream.body_bytes, closes: self.parting }
    }
}

/// No frame may be larger than we said.
fn checked(frame: Frame) -> Result<Frame, Malformed> {
    if frame.length <= FRAME_BYTES_MAX { Ok(frame) } else { Err(Malformed("frame is above 16384 bytes")) }
}
