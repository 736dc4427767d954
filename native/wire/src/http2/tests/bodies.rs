//! Bodies, messages, grants, and the windows they come through.

use super::*;

#[test]
fn a_call_is_a_head_and_its_message() {
    let mut peer = Peer::new();
    assert_eq!(peer.send(&call(1, b"hello")), ["head 1 POST /s/m #0", "body 1 hello"]);
    assert_eq!(peer.send(&call(3, b"")), ["head 3 POST /s/m #0", "body 3 "]);
    assert!(peer.said().is_empty());
}

#[test]
fn a_compressed_message_is_told_as_such() {
    let mut peer = Peer::new();
    let told = peer.send(&[headers(1, false, CALL), data(1, true, &[1, 0, 0, 0, 1, b'z'])].concat());
    assert_eq!(told[1], "body 1 z compressed");
}

#[test]
fn a_body_of_any_frames_is_one_body() {
    let message = message(b"hello");
    for (fields, bytes) in [(POST, &b"hello"[..]), (CALL, &message[..])] {
        let mut peer = Peer::new();
        let mut request = headers(1, false, fields);
        for byte in bytes {
            let padded = [2, *byte, 0, 0];
            request.extend(frame(kind::DATA, flag::PADDED, 1, &padded));
        }
        request.extend(data(1, true, b""));
        assert_eq!(peer.send(&request)[1], "body 1 hello");
    }
}

#[test]
fn a_broken_message_is_a_violation() {
    let whole = message(b"hello");
    let cases: [(&[u8], &str); 6] = [
        (b"", "no message"),
        (&whole[..3], "cut short"),
        (&whole[..5], "shorter than its prefix"),
        (&whole[..9], "shorter than its prefix"),
        (&[2, 0, 0, 0, 0], "compressed flag"),
        (&[&whole[..], &whole[..]].concat(), "data after the message"),
    ];
    for (bytes, what) in cases {
        let mut peer = Peer::new();
        let told = peer.send(&[headers(1, false, CALL), data(1, true, bytes)].concat());
        assert!(told[1].starts_with("violation 1 Framing") && told[1].contains(what), "{told:?}");
        assert_eq!(peer.http2.held_bytes(), 0);
        let status = GrpcStatus { code: 3, message: "broken", fields: &[] };
        peer.http2.reply_grpc(StreamId(1), None, &status, peer.now, &mut peer.output);
        let said = peer.said();
        let expected = "HEADERS 1 end :status=200 content-type=application/grpc grpc-status=3 grpc-message=broken";
        assert_eq!(said, [expected]);
    }
    let told = Peer::new().send(&headers(1, true, CALL));
    assert!(told[1].contains("no message"), "{told:?}");
}

#[test]
fn a_body_unlike_its_content_length_resets_the_stream() {
    for (bytes, end) in [(&b"abc"[..], true), (b"abcde", true), (b"abcde", false), (b"", true)] {
        let mut peer = Peer::new();
        let told =
            peer.send(&[headers(1, false, &with(POST, &[("content-length", "4")])), data(1, end, bytes)].concat());
        assert_eq!(told[1..], ["reset 1"]);
        assert_eq!(peer.said(), ["RST_STREAM 1 Protocol"]);
    }
    let fields = with(POST, &[("content-length", "4")]);
    let told = Peer::new().send(&[headers(1, false, &fields), data(1, false, b"ab"), data(1, true, b"cd")].concat());
    assert_eq!(told[1], "body 1 abcd");
}

#[test]
fn a_body_at_the_limit_passes_and_one_past_it_does_not() {
    let limits = || Limits { request_body_bytes_max: 10, ..Limits::default() };
    let past = "violation 1 BodyTooLarge { found: 11, allowed: 10 }";
    let announced = |length| headers(1, false, &with(POST, &[("content-length", length)]));
    assert_eq!(
        Peer::with(limits()).send(&[announced("10"), data(1, true, &[b'x'; 10])].concat())[1],
        "body 1 xxxxxxxxxx"
    );
    assert_eq!(Peer::with(limits()).send(&announced("11"))[1], past);
    assert_eq!(Peer::with(limits()).send(&[post(1), data(1, true, &[b'x'; 10])].concat())[1], "body 1 xxxxxxxxxx");
    assert_eq!(Peer::with(limits()).send(&[post(1), data(1, false, &[b'x'; 11])].concat())[1], past);
    assert_eq!(Peer::with(limits()).send(&call(1, &[b'x'; 10]))[1], "body 1 xxxxxxxxxx");
    let prefix_alone = [headers(1, false, CALL), data(1, false, &[0, 0, 0, 0, 11])].concat();
    assert_eq!(Peer::with(limits()).send(&prefix_alone)[1], past);
    let most = [headers(1, false, CALL), data(1, false, &[0, 0xff, 0xff, 0xff, 0xff])].concat();
    let told = Peer::with(limits()).send(&most);
    assert_eq!(told[1], "violation 1 BodyTooLarge { found: 4294967295, allowed: 10 }");
}

#[test]
fn nothing_beyond_the_grant_is_stored_or_credited() {
    let message = message(&[b'x'; 20_000]);
    let request = [headers(1, false, CALL), data(1, false, &message[..12_000]), data(1, true, &message[12_000..])];
    let request = request.concat();
    let mut peer = Peer::with(Limits { stream_window_bytes_max: 20_005, ..Limits::default() });
    peer.grant = Some(19_999);
    let mut input = &request[..];
    let mut told = Vec::new();
    while let Some(event) = peer.http2.advance(&mut input, peer.now, &mut peer.output) {
        told.push(text(&event));
        match event {
            Event::Head { stream, .. } => peer.http2.accept(stream, 19_999, &mut peer.output),
            Event::Grow { stream, .. } => {
                assert!(!peer.http2.wants_input());
                assert!(peer.http2.advance(&mut input, peer.now, &mut peer.output).is_none());
                assert_eq!((peer.http2.held_bytes(), peer.output.len()), (0, 0));
                peer.http2.accept(stream, 20_000, &mut peer.output);
                assert!(peer.http2.wants_input());
            }
            _ => {}
        }
    }
    assert_eq!(told, ["head 1 POST /s/m #0", "grow 1 20000", "body 1 [20000]"]);
}

#[test]
fn a_body_of_unknown_length_asks_for_room() {
    let mut peer = Peer::new();
    peer.grant = None;
    let request = [post(1), data(1, false, b"abc")].concat();
    let mut input = &request[..];
    let next = |peer: &mut Peer, input: &mut &[u8]| {
        peer.http2.advance(input, peer.now, &mut peer.output).map(|event| text(&event))
    };
    assert_eq!(next(&mut peer, &mut input).unwrap(), "head 1 POST / #0");
    assert_eq!(next(&mut peer, &mut input), None, "not accepted yet");
    assert!(!peer.http2.wants_input() && !input.is_empty());
    peer.http2.accept(StreamId(1), 0, &mut peer.output);
    assert_eq!(next(&mut peer, &mut input).unwrap(), "grow 1 65536");
    peer.reply(1, 413, b"no");
    assert_eq!(next(&mut peer, &mut input), None);
    assert!(input.is_empty() && peer.http2.wants_input());
    assert_eq!(peer.said()[1..], ["DATA 1 end 2", "RST_STREAM 1 None"]);
}

#[test]
fn windows_are_widened_by_halves() {
    let mut peer = Peer::with(Limits { connection_window_bytes_max: 100_000, ..Limits::default() });
    peer.send(&post(1));
    let chunk = data(1, false, &[0; 16_000]);
    let said: Vec<_> = (0..7).map(|_| (peer.send(&chunk), peer.said()).1.join(", ")).collect();
    let expected = [
        "",
        "",
        "WINDOW_UPDATE 1 48000",
        "WINDOW_UPDATE 0 64000",
        "WINDOW_UPDATE 1 66465",
        "",
        "WINDOW_UPDATE 1 48000",
    ];
    // Beyond a stream's window, the body is large and its window becomes that of the connection.
    assert_eq!(said[..4], expected[..4]);
    assert!(said[4].starts_with("WINDOW_UPDATE 1 "), "{said:?}");
}

#[test]
fn a_large_body_has_the_connections_window() {
    let mut peer = Peer::new();
    peer.send(&headers(1, false, &with(POST, &[("content-length", "700000")])));
    assert_eq!(peer.said(), [format!("WINDOW_UPDATE 1 {}", (1 << 20) - 65_535)]);
    let mut told = Vec::new();
    for at in (0..700_000).step_by(16_000) {
        let bytes = 16_000.min(700_000 - at);
        told.extend(peer.send(&data(1, at + bytes == 700_000, &vec![7; bytes])));
    }
    assert_eq!(told, ["body 1 [700000]"]);
    assert_eq!(peer.said().len(), 2, "half of each window was used once");
}

#[test]
fn a_stream_that_ends_gets_no_more_window() {
    let mut peer = Peer::new();
    let mut bytes = post(1);
    bytes.extend([0; 3].map(|_| data(1, false, &[0; 10_000])).concat());
    bytes.extend(data(1, true, &[0; 10_000]));
    assert_eq!(peer.send(&bytes)[1], "body 1 [40000]");
    assert!(peer.said().is_empty());
}

#[test]
fn data_beyond_a_window_ends_the_connection() {
    let small = || Limits { stream_window_bytes_max: 100, ..Limits::default() };
    let mut at_limit = Peer::with(small());
    assert_eq!(at_limit.send(&[post(1), data(1, true, &[0; 100])].concat()).len(), 2);
    Peer::with(small()).breaks(&[post(1), data(1, true, &[0; 101])].concat(), ErrorCode::FlowControl, "H2Protocol");
    // Padding counts.
    let padded = frame(kind::DATA, flag::PADDED | 1, 1, &[&[60][..], &[0; 100]].concat());
    Peer::with(small()).breaks(&[post(1), padded].concat(), ErrorCode::FlowControl, "H2Protocol");
}

#[test]
fn dropped_data_is_credited_to_the_connection_alone() {
    let mut peer = Peer::with(Limits { connection_window_bytes_max: 65_535, ..Limits::default() });
    peer.send(&post(1));
    peer.reply(1, 403, b"");
    peer.said();
    for _ in 0..20 {
        assert!(peer.send(&data(1, false, &[0; 16_000])).is_empty());
    }
    let said = peer.said();
    assert_eq!(said[0], "RST_STREAM 1 None");
    assert!(said.len() >= 5 && said[1..].iter().all(|update| update.starts_with("WINDOW_UPDATE 0 ")), "{said:?}");
}

#[test]
fn before_our_settings_are_known_the_default_window_holds() {
    let mut peer = Peer::silent(Limits { stream_window_bytes_max: 100, ..Limits::default() });
    let told = peer.send(&[settings(&[]), post(1), data(1, true, &[0; 10_000])].concat());
    assert_eq!(told[1], "body 1 [10000]");
}

#[test]
fn who_waits_for_100_gets_it_on_acceptance() {
    let mut peer = Peer::new();
    peer.send(&headers(1, false, &with(POST, &[("expect", "100-Continue")])));
    assert_eq!(peer.said(), ["HEADERS 1 :status=100"]);
    peer.grant = None;
    peer.send(&headers(3, false, &with(POST, &[("expect", "100-continue")])));
    peer.reply(3, 417, b"");
    assert!(peer.said()[0].starts_with("HEADERS 3 end :status=417"));
}

#[test]
fn a_reset_is_told_and_what_it_held_is_free() {
    let mut peer = Peer::new();
    peer.send(&[post(1), data(1, false, b"abc")].concat());
    assert_eq!(peer.http2.held_bytes(), 3);
    assert_eq!(peer.send(&reset(1)), ["reset 1"]);
    assert_eq!((peer.http2.held_bytes(), peer.http2.open_requests()), (0, 0));
    peer.reply(1, 200, b"nobody listens");
    assert!(peer.said().is_empty());
}
