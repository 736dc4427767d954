use std::io::IoSlice;
use std::time::Instant;

use proptest::prelude::*;

use super::super::{Answer, Status};
use super::*;
use crate::{Connection, Event, GrpcStatus, Limits, Payload};

/// A client and the server's side of its connection, bytes carried over in pieces of some size.
struct Pair {
    client: Http2Client,
    output: Output,
    server: Connection,
    piece: usize,
    now: Instant,
}

fn bytes_of(output: &mut Output) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !output.is_empty() {
        let mut slices = [IoSlice::new(&[]); 16];
        let count = output.slices(&mut slices);
        let part: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
        output.consume(part.len());
        bytes.extend(part);
    }
    bytes
}

fn message(bytes: usize) -> Bytes {
    let mut framed = vec![0];
    framed.extend_from_slice(&(bytes as u32).to_be_bytes());
    framed.extend((0..bytes).map(|at| at as u8));
    framed.into()
}

impl Pair {
    fn with(limits: Limits, piece: usize) -> Self {
        let now = Instant::now();
        let mut output = Output::default();
        let client = Http2Client::new(Arc::new(Method::new("localhost:1", "/a.B/C")), &mut output);
        let server = Connection::new(Arc::new(limits), now);
        let mut pair = Self { client, output, server, piece, now };
        assert!(!pair.client.greeted());
        assert!(pair.carry().1.is_empty());
        assert!(pair.client.greeted());
        pair
    }

    fn new() -> Self {
        Self::with(Limits::default(), 7)
    }

    fn call(&mut self, token: u32, message: &Bytes) -> bool {
        let fields = Fields::new(&[("x-request-priority", "2")]);
        let call = Call { token, fields: &fields, timeout_us: Some(1_500), message };
        self.client.send(&call, &mut self.output)
    }

    /// Carries bytes both ways until both are silent; what either side was told.
    fn carry(&mut self) -> (Vec<Event>, Vec<Answer>) {
        let (mut events, mut answers) = (Vec::new(), Vec::new());
        loop {
            let up = bytes_of(&mut self.output);
            for mut piece in up.chunks(self.piece) {
                while let Some(event) = self.server.advance(&mut piece, self.now) {
                    if let Event::Head { stream, .. } = &event {
                        self.server.accept(*stream, 1 << 24);
                    }
                    events.push(event);
                }
            }
            let down = bytes_of(self.server.output());
            for mut piece in down.chunks(self.piece) {
                while let Some(answer) = self.client.receive(&mut piece, &mut self.output).expect("a correct server") {
                    answers.push(answer);
                }
            }
            if down.is_empty() && self.output.is_empty() {
                return (events, answers);
            }
        }
    }
}

fn bodies(events: &[Event]) -> Vec<(u32, usize)> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Body { stream, body, .. } => Some((stream.0, body.len())),
            _ => None,
        })
        .collect()
}

#[test]
fn calls_arrive_whole_and_answers_find_their_calls() {
    for piece in [1, 7, 1_000, 1 << 20] {
        let mut pair = Pair::with(Limits::default(), piece);
        for (token, bytes) in [(10, 3), (11, 20_000), (12, 200_000)] {
            assert!(pair.call(token, &message(bytes)));
        }
        let (events, _) = pair.carry();
        let mut arrived = bodies(&events);
        arrived.sort_unstable();
        assert_eq!(arrived, [(1, 3), (3, 20_000), (5, 200_000)], "pieces of {piece}");
        let mut payload = Payload::default();
        payload.buffer().extend_from_slice(&[7; 40_000]);
        for stream in [5, 1, 3] {
            pair.server.reply_grpc(crate::StreamId(stream), Some(&payload), &GrpcStatus::OK, pair.now);
        }
        let (_, answers) = pair.carry();
        let tokens: Vec<_> = answers.iter().map(|answer| answer.token).collect();
        assert_eq!(tokens, [12, 10, 11]);
        let fine = |answer: &Answer| answer.status == Status::Grpc(0) && answer.body_bytes == 40_005;
        assert!(answers.iter().all(fine), "{answers:?}");
        assert_eq!(pair.client.open(), 0);
    }
}

#[test]
fn every_head_says_the_same_whatever_the_peer_remembers() {
    let mut pair = Pair::new();
    for forgetful in [false, true] {
        pair.client.forgetful = forgetful;
        for token in 0..2 {
            assert!(pair.call(token, &message(1)));
            let (events, _) = pair.carry();
            let head = events.iter().find_map(|event| match event {
                Event::Head { head, .. } => Some(head),
                _ => None,
            });
            let head = head.expect("a head");
            assert_eq!((head.method_text(), head.path()), (&b"POST"[..], &b"/a.B/C"[..]));
            for (name, value) in [
                ("host", "localhost:1"),
                ("content-type", "application/grpc"),
                ("te", "trailers"),
                ("x-request-priority", "2"),
                ("grpc-timeout", "1500u"),
            ] {
                assert_eq!(head.field(name), Some(value.as_bytes()), "{name} of call {token}, {forgetful}");
            }
        }
    }
}

#[test]
fn a_refusal_comes_with_its_text() {
    let mut pair = Pair::new();
    for token in 0..3 {
        assert!(pair.call(token, &message(9)));
    }
    pair.carry();
    for (stream, message) in [(1, "queue is full"), (3, "queue is full"), (5, "gone")] {
        let status = GrpcStatus { code: 8, message, fields: &[] };
        pair.server.reply_grpc(crate::StreamId(stream), None, &status, pair.now);
    }
    let (_, answers) = pair.carry();
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [Status::Grpc(8); 3]);
    assert_eq!(pair.client.excerpt(), b"gone");
}

#[test]
fn an_answer_before_the_end_of_the_message_gives_up_the_rest() {
    let mut pair = Pair::new();
    assert!(pair.call(1, &message(1 << 20)));
    let up = bytes_of(&mut pair.output);
    let mut input = &up[..];
    while let Some(event) = pair.server.advance(&mut input, pair.now) {
        if let Event::Head { stream, .. } = event {
            let status = GrpcStatus { code: 14, message: "busy", fields: &[] };
            pair.server.reply_grpc(stream, None, &status, pair.now);
        }
    }
    let (_, answers) = pair.carry();
    assert!(matches!(answers[..], [Answer { token: 1, status: Status::Grpc(14), .. }]), "{answers:?}");
    assert!(pair.call(2, &message(5)), "and the connection goes on");
    assert_eq!(bodies(&pair.carry().0), [(3, 5)]);
}

#[test]
fn a_call_that_is_left_is_reset_once() {
    let mut pair = Pair::new();
    assert!(pair.call(5, &message(2)));
    pair.carry();
    assert!(pair.client.cancel(5, &mut pair.output));
    assert!(!pair.client.cancel(5, &mut pair.output));
    let (events, answers) = pair.carry();
    assert!(matches!(events[..], [Event::Reset { .. }]), "{events:?}");
    assert!(answers.is_empty());
}

#[test]
fn no_more_streams_are_opened_than_the_server_allows() {
    let mut pair = Pair::with(Limits { connection_streams_max: 3, ..Limits::default() }, 100);
    assert_eq!(pair.client.room(), 3);
    assert_eq!([1, 2, 3, 4].map(|token| pair.call(token, &message(1))), [true, true, true, false]);
}

#[test]
fn a_server_that_goes_gets_no_new_calls() {
    let mut pair = Pair::new();
    assert!(pair.call(1, &message(1)));
    pair.carry();
    pair.server.drain(pair.now);
    pair.carry();
    assert!(pair.client.parting());
    assert!(!pair.call(2, &message(1)));
}

#[test]
fn a_timeout_has_at_most_eight_digits() {
    for (timeout_us, expected) in
        [(0, "0u"), (99_999_999, "99999999u"), (100_000_000, "100000m"), (u64::MAX, "99999999m")]
    {
        let (mut block, mut wanted) = (Vec::new(), Vec::new());
        call::push_timeout(&mut block, timeout_us);
        crate::hpack::field(&mut wanted, "grpc-timeout", expected.as_bytes());
        assert_eq!(block, wanted);
    }
}

proptest! {
    #[test]
    fn hostile_bytes_end_in_an_error_or_in_nothing(bytes: Vec<u8>, kind in 0_u8..11, flags: u8, piece in 1_usize..40) {
        let mut output = Output::default();
        let mut client = Http2Client::new(Arc::new(Method::new("a", "/b")), &mut output);
        let call = Call { token: 1, fields: &Fields::default(), timeout_us: None, message: &message(70_000) };
        prop_assert!(client.send(&call, &mut output));
        let mut input = Vec::new();
        Frame { length: bytes.len(), kind, flags, stream: 1 }.put(&mut input);
        input.extend_from_slice(&bytes);
        input.extend_from_slice(&bytes);
        for mut part in input.chunks(piece) {
            loop {
                match client.receive(&mut part, &mut output) {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(Malformed(_)) => return Ok(()),
                }
            }
            prop_assert!(part.is_empty());
        }
    }
}
