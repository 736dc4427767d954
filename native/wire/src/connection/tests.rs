use std::time::Duration;

use super::*;
use crate::Violation;

struct Talk {
    connection: Connection,
    now: Instant,
}

impl Talk {
    fn new() -> Self {
        let now = Instant::now();
        Self { connection: Connection::new(Arc::new(Limits::default()), now), now }
    }

    /// The events of some bytes, none of them answered.
    fn send(&mut self, input: &[u8]) -> Vec<Event> {
        let mut rest = input;
        let events = std::iter::from_fn(|| self.connection.advance(&mut rest, self.now)).collect();
        assert!(rest.is_empty(), "{} bytes were left", rest.len());
        events
    }

    fn pass(&mut self, ms: u64) -> Vec<Event> {
        self.now += Duration::from_millis(ms);
        self.connection.on_time(self.now);
        self.send(b"")
    }
}

fn is_closing(events: &[Event], expected: Option<CloseReason>) -> bool {
    matches!(events, [Event::Closing { reason }] if *reason == expected)
}

#[test]
fn a_method_that_begins_like_the_preface_is_a_method() {
    for method in ["P", "PR", "PRI", "PUT", "POST", "PATCH", "PROPFIND", "PRINT", "GET"] {
        let input = format!("{method} /a HTTP/1.1\r\nhost: a\r\n\r\n");
        let pieces: [Vec<&[u8]>; 2] = [vec![input.as_bytes()], input.as_bytes().chunks(1).collect()];
        for pieces in pieces {
            let mut talk = Talk::new();
            let events: Vec<_> = pieces.into_iter().flat_map(|piece| talk.send(piece)).collect();
            let [Event::Head { head, end: true, .. }] = &events[..] else { panic!("{method}: {events:?}") };
            assert_eq!((head.method_text(), head.path()), (method.as_bytes(), &b"/a"[..]));
            assert_eq!(talk.connection.open_requests(), 1);
        }
    }
}

#[test]
fn the_preface_is_known_however_it_is_cut() {
    for at in 0..=PREFACE.len() {
        let mut talk = Talk::new();
        talk.send(&PREFACE[..at]);
        assert_eq!(matches!(talk.connection.protocol, Protocol::Http2(_)), at == PREFACE.len());
        talk.send(&PREFACE[at..]);
        assert!(matches!(talk.connection.protocol, Protocol::Http2(_)), "cut at {at}");
    }
}

#[test]
fn a_preface_gone_wrong_is_a_request_of_an_unknown_version() {
    let events = Talk::new().send(b"PRI * HTTP/2.0\r\n\r\nXX");
    assert!(matches!(events[..], [Event::Violation { violation: Violation::Version, .. }]), "{events:?}");
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    let mut talk = Talk::new();
    assert!(talk.pass(9_999).is_empty());
    assert!(!talk.connection.ended());
    assert!(is_closing(&talk.pass(1), Some(CloseReason::Handshake)));
    assert!(talk.connection.ended() && !talk.connection.wants_input());
    assert!(talk.pass(1).is_empty(), "told once");
}

#[test]
fn a_preface_that_stops_is_a_handshake_and_a_method_that_stops_is_a_slow_head() {
    let mut talk = Talk::new();
    talk.pass(5_000);
    talk.send(b"PRI *");
    assert!(talk.pass(9_999).is_empty());
    assert!(is_closing(&talk.pass(1), Some(CloseReason::Handshake)));

    let mut talk = Talk::new();
    talk.pass(5_000);
    talk.send(b"P");
    assert!(talk.pass(9_999).is_empty());
    let events = talk.pass(1);
    let [Event::Violation { violation: Violation::ReadTimeout { found, elapsed_ms, .. }, .. }] = events[..] else {
        panic!("{events:?}");
    };
    assert_eq!((found, elapsed_ms), (1, 10_000));

    let mut talk = Talk::new();
    talk.send(b"P");
    talk.pass(6_000);
    talk.send(b"OST / HTTP/1.1\r\n");
    assert!(talk.pass(3_999).is_empty());
    assert!(matches!(talk.pass(1)[..], [Event::Violation { .. }]), "the first byte counts");
}

#[test]
fn a_connection_without_a_request_drains_at_once() {
    for input in ["", "P", "PRI"] {
        let mut talk = Talk::new();
        talk.send(input.as_bytes());
        talk.connection.drain(talk.now);
        assert!(talk.connection.ended());
        assert!(is_closing(&talk.send(b""), None));
        assert!(talk.send(b"").is_empty());
    }
}

#[test]
fn a_peer_that_leaves_before_it_said_enough_is_gone() {
    let mut talk = Talk::new();
    talk.send(b"PR");
    talk.connection.input_ended(talk.now);
    assert!(is_closing(&talk.send(b""), None));
    assert!(talk.connection.ended());
}

#[test]
fn an_answer_goes_through_the_surface() {
    let mut talk = Talk::new();
    let events = talk.send(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n");
    let [Event::Head { stream, .. }] = events[..] else { panic!("{events:?}") };
    let body = Payload::default();
    let reply = Reply { status: 404, content_type: "", fields: &[], body: &body, close: false };
    talk.connection.reply(stream, &reply, talk.now);
    let output = talk.connection.output();
    assert_eq!(output.buffer(), b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
    assert!(talk.connection.held_bytes() > 0);
    talk.connection.output().clear();
    talk.connection.wrote(talk.now);
    talk.connection.detach();
    assert!(!talk.connection.ended() && talk.connection.wants_input());
}
