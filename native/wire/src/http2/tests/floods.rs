//! Floods: at each limit all is well, one past it the connection ends.

use super::*;

/// Feeds `frame` until the connection ends; returns how many it took.
#[track_caller]
fn frames_until_calm(peer: &mut Peer, frame: &[u8], debug: &str) -> usize {
    for count in 1..=200_000 {
        let told = peer.send(frame);
        let said = peer.said();
        if told.last().is_some_and(|text| text == "closing Calm") {
            assert!(said.last().unwrap().contains(&format!("EnhanceYourCalm {debug}")), "{said:?}");
            return count;
        }
    }
    panic!("never")
}

#[test]
fn frames_that_carry_nothing_are_counted() {
    let limits = || Limits { control_frames_max: 50, ping_strikes_max: 1_000, ..Limits::default() };
    let frames = [
        settings(&[]),
        frame(kind::SETTINGS, flag::ACK, 0, &[]),
        frame(kind::PRIORITY, 0, 1, &[0; 5]),
        data(1, false, b""),
        ping(),
        frame(kind::PING, flag::ACK, 0, &[0; 8]),
        frame(0x99, 0, 0, b"?"),
    ];
    for flood in frames {
        let mut peer = Peer::with(limits());
        peer.send(&post(1));
        // Two settings came before.
        assert_eq!(frames_until_calm(&mut peer, &flood, "too many frames"), 50 - 2 + 1);
    }
}

#[test]
fn frames_that_carry_nothing_may_go_with_answers_and_time() {
    let mut peer = Peer::with(Limits { control_frames_max: 10, ..Limits::default() });
    for number in 0..1_000 {
        let stream = 1 + 2 * number;
        assert_eq!(peer.send(&get(stream)).len(), 1);
        peer.reply(stream, 200, b"x");
        assert!(peer.send(&ping()).is_empty(), "a ping after each answer, as bandwidth is measured");
    }
    let mut patient = Peer::with(Limits { control_frames_max: 12, ..Limits::default() });
    for _ in 0..100 {
        patient.now += seconds(1);
        assert!(patient.send(&settings(&[])).is_empty());
    }
}

#[test]
fn pings_without_cause_are_struck() {
    let mut peer = Peer::new();
    assert_eq!(frames_until_calm(&mut peer, &ping(), "too_many_pings"), 4);
    let mut patient = Peer::new();
    for _ in 0..100 {
        patient.now += seconds(10);
        assert!(patient.send(&ping()).is_empty());
    }
}

#[test]
fn resets_before_the_answer_are_counted() {
    let limits = || Limits { stream_resets_max: 100, ..Limits::default() };
    let mut peer = Peer::with(limits());
    let mut count = 0;
    for stream in (1..).step_by(2) {
        let told = peer.send(&[call(stream, b"x"), reset(stream)].concat());
        count += 1;
        if told.last().unwrap() == "closing Calm" {
            break;
        }
    }
    assert_eq!(count, 101);
    // Fewer than half of what was opened, or after the answer, are no flood.
    let mut peer = Peer::with(limits());
    for round in 0..300 {
        let stream = 1 + 6 * round;
        let told = peer.send(&[get(stream), reset(stream), get(stream + 2), get(stream + 4)].concat());
        assert!(told.iter().all(|text| !text.contains("closing")), "{told:?}");
        for stream in [stream + 2, stream + 4] {
            peer.reply(stream, 200, b"");
            assert!(peer.send(&reset(stream)).is_empty());
        }
    }
}

#[test]
fn streams_with_errors_are_counted() {
    let mut peer = Peer::with(Limits { stream_errors_max: 5, ..Limits::default() });
    for number in 0..5 {
        assert!(peer.send(&headers(1 + 2 * number, true, &[("x", "y")])).is_empty());
    }
    peer.said();
    assert_eq!(peer.send(&headers(11, true, &[("x", "y")])), ["closing Calm"]);
}

#[test]
fn streams_beyond_the_limit_are_refused_alone() {
    let mut peer = Peer::with(Limits { connection_streams_max: 2, ..Limits::default() });
    assert_eq!(peer.send(&[get(1), get(3)].concat()).len(), 2);
    assert!(peer.said().is_empty());
    assert_eq!(peer.send(&[post(5), data(5, true, b"x")].concat()), ["dropped Streams"]);
    assert_eq!(peer.said(), ["RST_STREAM 5 RefusedStream"]);
    peer.reply(1, 200, b"");
    assert_eq!(peer.send(&get(7)).len(), 1);
}

#[test]
fn refused_streams_in_masses_are_a_flood() {
    let limits = Limits { connection_streams_max: 1, control_frames_max: 100, ..Limits::default() };
    let mut peer = Peer::with(limits);
    let bytes: Vec<u8> = (0..200).flat_map(|number| get(1 + 2 * number)).collect();
    assert_eq!(peer.send(&bytes).last().unwrap(), "closing Calm");
}
