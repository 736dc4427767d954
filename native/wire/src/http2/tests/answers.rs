//! Answers, whole and in pieces, through windows of all sizes.

use bytes::Bytes;

use super::*;

#[test]
fn a_call_is_answered_by_head_message_and_trailers() {
    let mut peer = Peer::new();
    peer.send(&call(1, b"hello"));
    peer.reply_grpc(1, b"world");
    let sent = peer.sent();
    assert_eq!(sent[1].payload, message(b"world"));
    let said: Vec<String> = sent.iter().map(|sent| peer.describe(sent)).collect();
    let expected = ["HEADERS 1 :status=200 content-type=application/grpc", "DATA 1 10", "HEADERS 1 end grpc-status=0"];
    assert_eq!(said, expected);
    assert_eq!(peer.http2.open_requests(), 0);
}

#[test]
fn a_status_carries_its_text_and_metadata() {
    let mut peer = Peer::new();
    peer.send(&call(1, b""));
    let status = GrpcStatus { code: 14, message: "caf\u{e9} 100%", fields: &[("grpc-retry-pushback-ms", b"20")] };
    peer.http2.reply_grpc(StreamId(1), None, &status, peer.now, &mut peer.output);
    let expected = "HEADERS 1 end :status=200 content-type=application/grpc grpc-status=14 \
                    grpc-message=caf%C3%A9 100%25 grpc-retry-pushback-ms=20";
    assert_eq!(peer.said(), [expected]);
}

#[test]
fn messages_are_sent_one_by_one() {
    let mut peer = Peer::new();
    peer.send(&call(1, b""));
    let (stream, now) = (StreamId(1), peer.now);
    peer.http2.send_grpc(stream, &payload(b"not opened"), now, &mut peer.output);
    peer.http2.open_grpc(stream, now, &mut peer.output);
    for part in [&b"one"[..], b"two!"] {
        peer.http2.send_grpc(stream, &payload(part), now, &mut peer.output);
    }
    peer.reply(1, 200, b"answered otherwise already");
    peer.http2.finish_grpc(stream, &GrpcStatus::OK, now, &mut peer.output);
    peer.http2.finish_grpc(stream, &GrpcStatus::OK, now, &mut peer.output);
    assert_eq!(peer.said()[1..], ["DATA 1 8", "DATA 1 9", "HEADERS 1 end grpc-status=0"]);
}

#[test]
fn a_plain_answer_has_its_length_and_fields() {
    let mut peer = Peer::new();
    peer.send(&get(1));
    let body = payload(b"busy");
    let reply = Reply { status: 429, content_type: "a/b", fields: &[("retry-after", b"1")], body: &body, close: true };
    peer.http2.reply(StreamId(1), &reply, peer.now, &mut peer.output);
    let expected = ["HEADERS 1 :status=429 content-type=a/b content-length=4 retry-after=1", "DATA 1 end 4"];
    assert_eq!(peer.said(), expected);
}

#[test]
fn what_has_no_body_ends_with_its_head() {
    let mut peer = Peer::new();
    peer.send(&headers(1, true, &with(&[(":method", "HEAD")], &GET[1..])));
    peer.reply(1, 200, b"told by its length");
    assert_eq!(peer.said(), ["HEADERS 1 end :status=200 content-type=text/plain content-length=18"]);
    peer.send(&get(3));
    peer.reply(3, 204, b"");
    assert_eq!(peer.said(), ["HEADERS 3 end :status=204 content-type=text/plain"]);
}

#[test]
fn an_answer_before_the_end_of_its_request_stops_the_peer() {
    let mut peer = Peer::new();
    peer.send(&[headers(1, false, CALL), data(1, false, b"part")].concat());
    peer.reply_grpc(1, b"early");
    assert_eq!(peer.said().last().unwrap(), "RST_STREAM 1 None");
    assert!(peer.send(&data(1, true, &message(b"late"))).is_empty());
}

#[test]
fn a_peer_that_has_sent_no_body_yet_is_stopped_only_if_it_goes_on() {
    let mut peer = Peer::new();
    for (stream, frames, said) in [
        (1, data(1, true, b"all of it"), &[][..]),
        (3, [data(3, false, b"a"), data(3, false, b"b"), data(3, true, b"c")].concat(), &["RST_STREAM 3 None"]),
        (5, reset(5), &[]),
    ] {
        peer.send(&post(stream));
        peer.reply(stream, 404, b"no");
        assert_eq!(peer.said().last().unwrap(), &format!("DATA {stream} end 2"));
        assert!(peer.send(&frames).is_empty());
        assert_eq!(peer.said(), said);
    }
}

#[test]
fn a_large_answer_is_cut_to_the_peers_frames() {
    let mut peer = Peer::new();
    peer.send(&[settings(&[(4, LARGEST)]), window_update(0, 1 << 20), get(1)].concat());
    peer.said();
    let mut body = Payload::default();
    body.buffer().extend_from_slice(&[1; 10]);
    body.share(Bytes::from(vec![2; 40_000]));
    body.buffer().extend_from_slice(&[3; 20]);
    let reply = Reply { status: 200, content_type: "", fields: &[], body: &body, close: false };
    peer.http2.reply(StreamId(1), &reply, peer.now, &mut peer.output);
    let sent = peer.sent();
    let data: Vec<u8> = sent[1..].iter().flat_map(|sent| sent.payload.clone()).collect();
    assert_eq!(data, [&[1; 10][..], &[2; 40_000], &[3; 20]].concat());
    let said: Vec<String> = sent[1..].iter().map(|sent| peer.describe(sent)).collect();
    assert_eq!(said, ["DATA 1 16384", "DATA 1 16384", "DATA 1 end 7262"]);
}

#[test]
fn a_large_head_goes_on_in_continuations() {
    let mut peer = Peer::new();
    peer.send(&call(1, b""));
    let long = "x".repeat(40_000);
    let status = GrpcStatus { code: 2, message: &long, fields: &[] };
    peer.http2.reply_grpc(StreamId(1), None, &status, peer.now, &mut peer.output);
    let sent = peer.sent();
    let shape: Vec<(u8, u8)> = sent.iter().map(|sent| (sent.kind, sent.flags)).collect();
    assert_eq!(shape, [(kind::HEADERS, 1), (kind::CONTINUATION, 0), (kind::CONTINUATION, 4)]);
    let block: Vec<u8> = sent.into_iter().flat_map(|sent| sent.payload).collect();
    let mut bytes = 0;
    peer.decoder.decode(&block, |_, value| bytes = value.len()).unwrap();
    assert_eq!(bytes, 40_000);
}

#[test]
fn a_shrunk_table_is_answered_once() {
    let mut peer = Peer::new();
    peer.send(&[settings(&[(1, 100)]), get(1), get(3)].concat());
    peer.reply(1, 200, b"");
    peer.reply(3, 200, b"");
    peer.send(&[settings(&[(1, 0)]), get(5)].concat());
    peer.reply(5, 200, b"");
    let first_bytes: Vec<u8> =
        peer.sent().iter().filter(|sent| sent.kind == kind::HEADERS).map(|sent| sent.payload[0]).collect();
    assert_eq!(first_bytes, [0x20, 0x88, 0x88]);
}

/// Sends a body of `length` through windows of `step` bytes and returns the frames that came.
fn trickle(length: usize, step: u32, connection: bool) -> usize {
    let mut peer = Peer::new();
    // The connection's window begins with 65,535 bytes, which another stream uses up.
    let initial = if connection { LARGEST } else { 0 };
    peer.send(&[settings(&[(4, initial)]), get(1)].concat());
    if connection {
        peer.reply(1, 200, &vec![0; 65_535]);
        peer.send(&get(3));
    } else {
        peer.send(&[reset(1), get(3), window_update(0, length as u32)].concat());
    }
    peer.said();
    let expected: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
    let mut body = Payload::default();
    body.share(Bytes::from(expected.clone()));
    peer.http2.reply_grpc(StreamId(3), Some(&body), &GrpcStatus::OK, peer.now, &mut peer.output);
    peer.http2.detach();
    assert_eq!(peer.said().len(), 1, "the head alone");
    let mut came = Vec::new();
    let mut frames = 0;
    while peer.http2.open_requests() > 0 {
        peer.send(&window_update(if connection { 0 } else { 3 }, step));
        for sent in peer.sent() {
            frames += 1;
            assert!(sent.payload.len() <= step as usize + 16);
            if sent.kind == kind::DATA {
                came.extend(sent.payload);
            } else {
                assert_eq!(peer.describe(&sent), "HEADERS 3 end grpc-status=0");
            }
        }
    }
    assert_eq!(came[5..], expected);
    frames
}

#[test]
fn an_answer_passes_through_windows_of_any_size() {
    for connection in [false, true] {
        assert_eq!(trickle(20_000, 1, connection), 20_000 + 5 + 1);
        assert_eq!(trickle(1 << 20, 9_999, connection), (1_usize << 20).div_ceil(9_999) + 1);
    }
}

#[test]
fn streams_take_turns_at_a_narrow_window() {
    let mut peer = Peer::new();
    peer.send(&[settings(&[(4, LARGEST)]), get(1)].concat());
    peer.reply(1, 200, &vec![0; 65_535]);
    peer.send(&[get(3), get(5), get(7)].concat());
    for stream in [3, 5, 7] {
        peer.reply(stream, 200, &[b'x'; 30]);
    }
    peer.said();
    for _ in 0..9 {
        peer.send(&window_update(0, 10));
    }
    let said = peer.said();
    assert_eq!(said.iter().filter(|frame| frame.contains("end")).count(), 3, "{said:?}");
    let first: std::collections::BTreeSet<&str> = said[..3].iter().map(|frame| &frame[..6]).collect();
    assert_eq!(first.len(), 3, "each once before any twice: {said:?}");
}

#[test]
fn a_window_may_become_negative_and_recover() {
    let mut peer = Peer::new();
    peer.send(&[settings(&[(4, 100)]), get(1)].concat());
    peer.reply(1, 200, &[b'x'; 150]);
    assert_eq!(peer.said().last().unwrap(), "DATA 1 100");
    peer.send(&[settings(&[(4, 20)]), window_update(1, 80)].concat());
    assert_eq!(peer.said(), ["SETTINGS ack"], "it is 0 now");
    peer.send(&settings(&[(4, 30)]));
    assert_eq!(peer.said(), ["SETTINGS ack", "DATA 1 10"]);
    peer.send(&window_update(1, 1_000));
    assert_eq!(peer.said(), ["DATA 1 end 40"]);
}

#[test]
fn what_waits_counts_as_held_until_it_is_out() {
    let mut peer = Peer::new();
    peer.send(&[settings(&[(4, 10)]), get(1), call(3, b"")].concat());
    peer.reply(1, 200, &[b'x'; 50]);
    peer.reply_grpc(3, &[b'y'; 50]);
    assert_eq!(peer.http2.held_bytes(), 40 + 45);
    assert_eq!(peer.http2.open_requests(), 2);
    peer.send(&reset(1));
    peer.said();
    peer.send(&window_update(3, 100));
    assert_eq!(peer.said(), ["DATA 3 45", "HEADERS 3 end grpc-status=0"]);
    assert_eq!((peer.http2.held_bytes(), peer.http2.open_requests()), (0, 0));
}

#[test]
fn a_peer_that_sends_on_while_its_answer_waits_is_stopped_after_it() {
    let mut peer = Peer::new();
    peer.send(&[settings(&[(4, 10)]), post(1)].concat());
    peer.reply(1, 413, &[b'x'; 15]);
    assert!(peer.send(&data(1, false, b"more")).is_empty());
    peer.said();
    peer.send(&window_update(1, 5));
    assert_eq!(peer.said(), ["DATA 1 end 5", "RST_STREAM 1 None"]);
}
