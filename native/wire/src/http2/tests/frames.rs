//! Frames, settings and the states of streams, against RFC 9113.

use super::*;

#[test]
fn the_first_words_are_our_settings_and_a_wider_window() {
    let mut peer = Peer::silent(Limits::default());
    let sent = peer.sent();
    let expected = settings(&[(3, 256), (4, 65_535), (5, 16_384), (6, 16_384)]);
    assert_eq!(sent[0].payload, expected[HEADER_BYTES..]);
    assert_eq!(peer.describe(&sent[1]), format!("WINDOW_UPDATE 0 {}", (1 << 20) - 65_535));
    assert_eq!(sent.len(), 2);
}

#[test]
fn settings_and_pings_are_acknowledged() {
    let mut peer = Peer::new();
    peer.send(&[settings(&[(0x99, 7)]), ping()].concat());
    let sent = peer.sent();
    assert_eq!((sent[0].kind, sent[0].flags), (kind::SETTINGS, flag::ACK));
    assert_eq!((sent[1].kind, sent[1].flags, &sent[1].payload[..]), (kind::PING, flag::ACK, &b"12345678"[..]));
}

#[test]
fn settings_come_first() {
    for bytes in [ping(), get(1), frame(kind::SETTINGS, flag::ACK, 0, &[]), b"GET / HTTP/1.1\r\n\r\n".to_vec()] {
        let mut peer = Peer::silent(Limits::default());
        assert_eq!(peer.send(&bytes), ["closing H2Protocol"]);
    }
}

#[test]
fn every_breach_ends_the_connection_with_its_code() {
    use ErrorCode::{Compression, FlowControl, FrameSize, Protocol, StreamClosed};
    let ended = || [get(1), get(3)].concat();
    let cases: Vec<(&str, Vec<u8>, ErrorCode)> = vec![
        ("settings of odd length", frame(kind::SETTINGS, 0, 0, &[0; 5]), FrameSize),
        ("settings acknowledged with a payload", frame(kind::SETTINGS, flag::ACK, 0, &[0; 6]), FrameSize),
        ("settings on a stream", frame(kind::SETTINGS, 0, 1, &[]), Protocol),
        ("enable push of 2", settings(&[(2, 2)]), Protocol),
        ("initial window of 2^31", settings(&[(4, 1 << 31)]), FlowControl),
        ("frames too small", settings(&[(5, 16_383)]), Protocol),
        ("frames too large", settings(&[(5, 1 << 24)]), Protocol),
        (
            "window beyond 2^31 by settings",
            [post(1), window_update(1, 1), settings(&[(4, LARGEST)])].concat(),
            FlowControl,
        ),
        ("ping on a stream", frame(kind::PING, 0, 1, &[0; 8]), Protocol),
        ("ping of 7", frame(kind::PING, 0, 0, &[0; 7]), FrameSize),
        ("goaway on a stream", frame(kind::GOAWAY, 0, 1, &[0; 8]), Protocol),
        ("goaway of 7", frame(kind::GOAWAY, 0, 0, &[0; 7]), FrameSize),
        ("push promise", frame(kind::PUSH_PROMISE, 0, 1, &[0; 8]), Protocol),
        ("priority on no stream", frame(kind::PRIORITY, 0, 0, &[0; 5]), Protocol),
        ("frame too large", frame(0x99, 0, 0, &[0; 16_385]), FrameSize),
        ("reset of 5", frame(kind::RST_STREAM, 0, 1, &[0; 5]), FrameSize),
        ("reset of no stream", reset(0), Protocol),
        ("reset of an idle stream", reset(1), Protocol),
        ("window update of 3", frame(kind::WINDOW_UPDATE, 0, 0, &[0; 3]), FrameSize),
        ("window update by 0", window_update(0, 0), Protocol),
        ("window update of an idle stream", window_update(1, 1), Protocol),
        ("window update of our streams", window_update(2, 1), Protocol),
        ("window beyond 2^31", window_update(0, LARGEST), FlowControl),
        ("data on no stream", data(0, true, b""), Protocol),
        ("data on an idle stream", data(1, true, b""), Protocol),
        ("data on a stream the peer reset", [post(1), reset(1), data(1, true, b"")].concat(), StreamClosed),
        ("data with too much padding", [post(1), frame(kind::DATA, flag::PADDED, 1, &[2, 0])].concat(), Protocol),
        ("data without its padding's length", [post(1), frame(kind::DATA, flag::PADDED, 1, &[])].concat(), FrameSize),
        ("headers on no stream", headers(0, true, GET), Protocol),
        ("headers on an even stream", headers(2, true, GET), Protocol),
        ("headers below the last stream", [get(5), get(3)].concat(), Protocol),
        ("headers on a stream the peer reset", [post(1), reset(1), get(1)].concat(), StreamClosed),
        ("headers without their priority", frame(kind::HEADERS, flag::PRIORITY | 4, 1, &[0; 4]), FrameSize),
        ("headers with too much padding", frame(kind::HEADERS, flag::PADDED | 4, 1, &[9, 0]), Protocol),
        ("undecodable headers", frame(kind::HEADERS, 4, 1, &[0x80]), Compression),
        ("undecodable trailers", [post(1), frame(kind::HEADERS, 5, 1, &[0x80])].concat(), Compression),
        ("undecodable headers of a dead stream", [bad(1), frame(kind::HEADERS, 5, 1, &[0x80])].concat(), Compression),
        ("continuation of nothing", frame(kind::CONTINUATION, 4, 1, &[]), Protocol),
        ("interrupted headers", [frame(kind::HEADERS, 0, 1, &[]), ping()].concat(), Protocol),
        (
            "continuation of others",
            [frame(kind::HEADERS, 0, 1, &[]), frame(kind::CONTINUATION, 4, 3, &[])].concat(),
            Protocol,
        ),
        ("priority of 4 on an idle stream", [ended(), frame(kind::PRIORITY, 0, 9, &[0; 4])].concat(), FrameSize),
    ];
    for (name, bytes, code) in cases {
        println!("{name}");
        Peer::new().breaks(&bytes, code, "H2Protocol");
    }
}

/// A malformed request: answered by a reset.
fn bad(stream: u32) -> Vec<u8> {
    headers(stream, false, &[("x", "y")])
}

#[test]
fn every_breach_of_a_stream_resets_it_alone() {
    use ErrorCode::{FlowControl, FrameSize, Protocol, StreamClosed};
    let cases: Vec<(&str, Vec<u8>, ErrorCode)> = vec![
        ("window update by 0", [post(1), window_update(1, 0)].concat(), Protocol),
        ("window beyond 2^31", [post(1), window_update(1, LARGEST)].concat(), FlowControl),
        ("data after the end", [get(1), data(1, true, b"x")].concat(), StreamClosed),
        ("headers after the end", [get(1), get(1)].concat(), StreamClosed),
        ("trailers that end nothing", [post(1), headers(1, false, &[("a", "b")])].concat(), Protocol),
        ("pseudo field in trailers", [post(1), headers(1, true, &[(":path", "/")])].concat(), Protocol),
        ("priority of 4", [post(1), frame(kind::PRIORITY, 0, 1, &[0; 4])].concat(), FrameSize),
    ];
    for (name, bytes, code) in cases {
        let mut peer = Peer::new();
        let told = peer.send(&bytes);
        assert_eq!(told.last().unwrap(), "reset 1", "{name}: {told:?}");
        assert_eq!(peer.said(), [format!("RST_STREAM 1 {code:?}")], "{name}");
        assert_eq!(peer.send(&get(3)), ["head 3 GET / #1 end"].map(|t| t.replace("#1", &format!("#{}", id(&told)))));
    }
}

/// The number that the next head gets: equal heads share one.
fn id(told: &[String]) -> usize {
    usize::from(!told[0].contains("GET"))
}

#[test]
fn late_frames_of_a_stream_that_we_reset_are_dropped() {
    let mut peer = Peer::new();
    peer.send(&post(1));
    peer.reply(1, 503, b"no");
    let said = peer.said();
    assert_eq!(said[1..], ["DATA 1 end 2"]);
    let late = [data(1, false, b"late"), window_update(1, 9), headers(1, true, &[("a", "b")]), reset(1)].concat();
    assert!(peer.send(&late).is_empty());
    assert_eq!(peer.send(&get(3)).len(), 1);
    assert_eq!(peer.said(), ["RST_STREAM 1 None"]);
}

#[test]
fn priorities_and_unknown_frames_mean_nothing() {
    let mut peer = Peer::new();
    let bytes = [
        frame(kind::PRIORITY, 0, 9, &[0; 5]),
        frame(0x0a, 0xff, 3, b"whatever"),
        frame(kind::HEADERS, flag::PRIORITY | flag::END_HEADERS | 1, 1, &[&[0, 0, 0, 0, 9][..], &block(GET)].concat()),
    ];
    assert_eq!(peer.send(&bytes.concat()), ["head 1 GET / #0 end"]);
    assert!(peer.said().is_empty());
}

#[test]
fn a_goaway_of_the_peer_lets_what_is_open_finish() {
    let mut peer = Peer::new();
    assert_eq!(peer.send(&[get(1), frame(kind::GOAWAY, 0, 0, &[0; 8])].concat()), ["head 1 GET / #0 end"]);
    assert!(!peer.http2.ended());
    peer.reply(1, 200, b"ok");
    assert_eq!(peer.send(&[]), ["closing -"]);
    assert!(peer.http2.lingering());
    assert_eq!(peer.said()[1..], ["DATA 1 end 2"]);
    peer.http2.input_ended(peer.now);
    assert!(peer.http2.ended());
}

#[test]
fn a_drain_takes_what_is_on_its_way_and_refuses_the_rest() {
    let mut peer = Peer::new();
    peer.send(&get(1));
    peer.http2.drain(peer.now, &mut peer.output);
    let sent = peer.sent();
    assert_eq!(peer.describe(&sent[0]), format!("GOAWAY {LARGEST} None"));
    assert_eq!(sent[1].kind, kind::PING);
    assert_eq!(peer.send(&get(3)).len(), 1);
    peer.send(&frame(kind::PING, flag::ACK, 0, &sent[1].payload));
    assert_eq!(peer.said(), ["GOAWAY 3 None"]);
    assert!(peer.send(&get(5)).is_empty());
    assert_eq!(peer.said(), ["RST_STREAM 5 RefusedStream"]);
    peer.reply(1, 200, b"");
    assert!(!peer.http2.ended());
    peer.reply(3, 200, b"");
    assert_eq!(peer.send(&[]), ["closing -"]);
    assert!(peer.http2.lingering() && peer.http2.wants_input(), "the peer may not have read its answers");
    peer.said();
    assert!(peer.send(&[&get(7)[..], &ping()].concat()).is_empty() && peer.said().is_empty());
    peer.http2.input_ended(peer.now);
    assert!(peer.http2.ended() && !peer.http2.lingering());
}

#[test]
fn whoever_has_shown_to_have_read_everything_is_not_waited_for() {
    let mut peer = Peer::new();
    peer.send(&get(1));
    peer.reply(1, 200, b"ok");
    peer.http2.drain(peer.now, &mut peer.output);
    let asked = peer.sent().pop().expect("a question");
    assert_eq!(peer.send(&frame(kind::PING, flag::ACK, 0, &asked.payload)), ["closing -"]);
    assert!(peer.http2.ended());
}

#[test]
fn the_end_of_the_input_resets_what_is_incomplete() {
    let mut peer = Peer::new();
    peer.send(&[post(1), get(3)].concat());
    peer.http2.input_ended(peer.now);
    assert_eq!(peer.send(&[]), ["reset 1"]);
    peer.reply(3, 200, b"ok");
    assert_eq!(peer.send(&[]), ["closing -"]);
}

#[test]
fn a_fault_resets_every_open_stream_and_is_told_once() {
    let mut peer = Peer::new();
    peer.send(&[get(1), get(3)].concat());
    assert_eq!(peer.send(&data(0, true, b"")), ["reset 1", "reset 3", "closing H2Protocol"]);
    peer.reply(1, 200, b"too late");
    assert_eq!(peer.said(), ["GOAWAY 3 Protocol data is on a stream that was not opened"]);
}
