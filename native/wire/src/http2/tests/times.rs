//! Limits of time.

use super::*;

const MILLISECOND: Duration = Duration::from_millis(1);

#[test]
fn settings_come_in_time() {
    let mut peer = Peer::silent(Limits::default());
    assert!(peer.pass(seconds(10) - MILLISECOND).is_empty());
    assert_eq!(peer.pass(MILLISECOND), ["closing Handshake"]);
}

#[test]
fn a_head_comes_in_time() {
    let whole = get(1);
    for beginning in [&whole[..5], &whole[..20], &frame(kind::HEADERS, 0, 1, &[])] {
        let mut peer = Peer::new();
        peer.send(beginning);
        assert!(peer.pass(seconds(10) - MILLISECOND).is_empty());
        assert_eq!(peer.pass(MILLISECOND), ["closing Calm"]);
    }
}

#[test]
fn a_body_comes_at_a_rate() {
    let mut peer = Peer::new();
    peer.send(&[headers(1, false, &with(POST, &[("content-length", "9000")])), post(3)].concat());
    peer.send(&[data(1, false, &[0; 5_119]), data(3, false, &[0; 5_120])].concat());
    assert!(peer.pass(seconds(5) - MILLISECOND).is_empty());
    let told = peer.pass(MILLISECOND);
    assert_eq!(told, ["violation 1 ReadTimeout { found: 5119, expected: Some(9000), elapsed_ms: 5000 }"]);
    assert!(peer.pass(MILLISECOND).iter().all(|text| text.contains("violation 3")), "told once for each");
    peer.reply(1, 408, b"");
    assert_eq!(peer.said()[1..], ["RST_STREAM 1 None"]);
}

#[test]
fn a_body_comes_in_time() {
    let mut peer = Peer::with(Limits { body_bytes_per_second_min: 1, ..Limits::default() });
    peer.send(&[post(1), data(1, false, &[0; 10_000])].concat());
    for _ in 0..119 {
        assert!(peer.pass(seconds(1)).is_empty());
        peer.send(&ping_ack());
    }
    assert!(peer.pass(seconds(1))[0].starts_with("violation 1 ReadTimeout"));
}

fn ping_ack() -> Vec<u8> {
    frame(kind::PING, flag::ACK, 0, &[0; 8])
}

#[test]
fn a_stream_whose_window_stays_shut_is_reset() {
    let mut peer = Peer::new();
    peer.send(&[settings(&[(4, 0)]), get(1), get(3), get(5)].concat());
    peer.reply(1, 200, b"x");
    peer.reply(3, 200, b"xy");
    peer.said();
    peer.now += seconds(29);
    assert!(peer.send(&window_update(3, 1)).is_empty());
    assert_eq!(peer.pass(seconds(1)), ["reset 1", "dropped WriteTimeout"]);
    assert_eq!(peer.said(), ["DATA 3 1", "RST_STREAM 1 Cancel"]);
    assert_eq!(peer.http2.open_requests(), 2);
}

#[test]
fn output_that_nobody_takes_ends_the_connection() {
    let mut peer = Peer::new();
    peer.send(&[get(1), get(3)].concat());
    peer.reply(1, 200, b"x");
    assert!(peer.pass(seconds(0)).is_empty());
    assert!(peer.pass(seconds(15)).is_empty());
    peer.output.consume(1);
    peer.http2.wrote(peer.now, &mut peer.output);
    assert!(peer.pass(seconds(29)).is_empty());
    assert_eq!(peer.pass(seconds(1)), ["reset 3", "closing WriteTimeout"]);
    assert!(peer.http2.ended() && peer.output.is_empty());
}

#[test]
fn lingering_lasts_a_second_from_the_last_byte_written() {
    let mut peer = Peer::new();
    peer.send(&[get(1), frame(kind::GOAWAY, 0, 0, &[0; 8])].concat());
    peer.reply(1, 200, b"ok");
    peer.send(&[]);
    peer.pass(seconds(20));
    assert!(peer.http2.lingering(), "the answer is not written yet");
    peer.said();
    peer.http2.wrote(peer.now, &mut peer.output);
    peer.pass(seconds(1) - MILLISECOND);
    assert!(peer.http2.lingering());
    peer.pass(MILLISECOND);
    assert!(peer.http2.ended() && !peer.http2.lingering());
}

#[test]
fn last_answers_that_nobody_takes_are_dropped() {
    let mut peer = Peer::new();
    peer.send(&[get(1), frame(kind::GOAWAY, 0, 0, &[0; 8])].concat());
    peer.reply(1, 200, b"ok");
    peer.pass(seconds(0));
    peer.pass(seconds(30) - MILLISECOND);
    assert!(!peer.output.is_empty() && !peer.http2.ended());
    peer.pass(MILLISECOND);
    assert!(peer.output.is_empty() && peer.http2.ended());
}

#[test]
fn a_silent_peer_with_open_streams_is_asked_whether_it_lives() {
    let mut peer = Peer::new();
    peer.send(&get(1));
    assert!(peer.pass(seconds(30) - MILLISECOND).is_empty());
    assert!(peer.said().is_empty());
    peer.pass(MILLISECOND);
    assert_eq!(peer.said(), ["PING"]);
    peer.now += seconds(9);
    peer.send(&ping_ack());
    assert!(peer.pass(seconds(1)).is_empty());
    peer.pass(seconds(29));
    assert_eq!(peer.said(), ["PING"]);
    assert_eq!(peer.pass(seconds(10)), ["reset 1", "closing DeadPeer"]);
}

#[test]
fn an_idle_connection_is_asked_to_go() {
    let mut peer = Peer::new();
    peer.pass(seconds(0));
    peer.pass(seconds(74));
    peer.send(&get(1));
    peer.reply(1, 200, b"");
    peer.said();
    peer.pass(seconds(1));
    assert!(peer.pass(seconds(75) - MILLISECOND).is_empty());
    assert_eq!(peer.pass(MILLISECOND), ["closing Idle"]);
    assert_eq!(peer.said(), ["GOAWAY 1 None"]);
}

#[test]
fn an_old_connection_is_asked_to_go_and_has_its_grace() {
    let limits = Limits { connection_age_max: seconds(20), ..Limits::default() };
    let open = || {
        let mut peer = Peer::with(limits.clone());
        peer.pass(seconds(19));
        peer.send(&get(1));
        assert!(peer.pass(seconds(1)).is_empty());
        assert_eq!(peer.said(), [format!("GOAWAY {LARGEST} None"), "PING".into()]);
        peer.pass(seconds(1));
        assert_eq!(peer.said(), ["GOAWAY 1 None"]);
        peer
    };
    let mut answered = open();
    answered.reply(1, 200, b"");
    assert_eq!(answered.send(&[]), ["closing Age"]);
    let mut left = open();
    left.send(&ping_ack());
    assert!(left.pass(seconds(28)).is_empty());
    assert_eq!(left.pass(seconds(1)), ["reset 1", "closing Age"]);
}
