//! HTTP/2, in frames written by hand.

use super::*;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
pub(super) const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header block of literals that are not to be indexed.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(text.len() as u8);
            block.extend(text.bytes());
        }
    }
    block
}

pub(super) fn called(stream: u32, path: &str, fields: &[(&str, &str)], message: &[u8]) -> Vec<u8> {
    let mut all = vec![
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "a"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    all.extend(fields);
    let mut body = vec![0];
    body.extend((message.len() as u32).to_be_bytes());
    body.extend(message);
    [frame(HEADERS, END_HEADERS, stream, &block(&all)), frame(DATA, END_STREAM, stream, &body)].concat()
}

/// `ModelInfer` of one FP32 value for `ident`.
pub(super) fn infer_message(value: f32) -> Vec<u8> {
    let input = [&b"\x0a\x01x\x12\x04FP32\x1a\x02\x01\x01"[..]].concat();
    let mut message = b"\x0a\x05ident".to_vec();
    message.extend([0x2a, input.len() as u8]);
    message.extend(input);
    message.extend([0x3a, 4]);
    message.extend(value.to_le_bytes());
    message
}

pub(super) fn infer_on(stream: u32, value: f32, fields: &[(&str, &str)]) -> Vec<u8> {
    called(stream, "/inference.GRPCInferenceService/ModelInfer", fields, &infer_message(value))
}

/// Kind, stream and payload of what the server has sent since.
pub(super) fn frames(client: &Client) -> Vec<(u8, u32, Vec<u8>)> {
    let bytes = client.hear_bytes();
    let mut rest = &bytes[..];
    let mut frames = Vec::new();
    while let Some((head, behind)) = rest.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        frames.push((head[3], stream, behind[..length].to_vec()));
        rest = &behind[length..];
    }
    frames
}

/// Messages of one stream, without their prefixes.
pub(super) fn messages(frames: &[(u8, u32, Vec<u8>)], stream: u32) -> Vec<Vec<u8>> {
    let data = frames.iter().filter(|(kind, found, payload)| (*kind, *found) == (DATA, stream) && !payload.is_empty());
    data.map(|(_, _, payload)| payload[5..].to_vec()).collect()
}

#[test]
fn streams_of_one_connection_share_a_run() {
    let (mut bench, model) = Bench::serving(Placement::Inline, |_| {});
    let client = bench.connect();
    client.say([PREFACE.to_vec(), infer_on(1, 1.0, &[]), infer_on(3, 2.0, &[])].concat());
    bench.tick(&[&client]);
    let heard = frames(&client);
    for (stream, value) in [(1, 1.0_f32), (3, 2.0)] {
        let message = messages(&heard, stream).concat();
        assert!(message.ends_with(&value.to_le_bytes()), "{stream}: {message:?}");
    }
    assert_eq!(model.recorded().len(), 1);
    bench.assert_idle();
}

#[test]
fn no_more_is_open_on_a_connection_than_allowed() {
    let (mut bench, model) = Bench::serving(Placement::Pool, |limits| limits.connection_requests_in_flight_max = 2);
    let client = bench.connect();
    client.say([PREFACE.to_vec(), infer_on(1, 1.0, &[]), infer_on(3, 2.0, &[]), infer_on(5, 3.0, &[])].concat());
    bench.tick(&[&client]);
    assert_eq!(bench.counted().accepted, 2);
    let runner = bench.start_runner();
    while bench.counted().answered < 3 {
        bench.wait_woken();
        bench.tick(&[]);
    }
    let heard = frames(&client);
    for stream in [1, 3, 5] {
        assert_eq!(messages(&heard, stream).len(), 1);
    }
    assert_eq!(model.recorded().iter().map(|run| run.items).sum::<usize>(), 3);
    bench.shared.pool.stop(&crate::refusals::draining());
    runner.join().expect("a runner ends with its pool");
    bench.assert_idle();
}

#[test]
fn a_stream_that_is_reset_is_never_run() {
    let (mut bench, model) = Bench::serving(Placement::Pool, |_| {});
    let client = bench.connect();
    client.say([PREFACE.to_vec(), infer_on(1, 1.0, &[]), infer_on(3, 2.0, &[])].concat());
    bench.tick(&[&client]);
    client.say(frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes()));
    bench.tick(&[&client]);
    assert_eq!(bench.counted().cancelled, 1);
    let runner = bench.start_runner();
    bench.wait_woken();
    bench.tick(&[]);
    assert_eq!(model.recorded()[0].values, [2.0]);
    let heard = frames(&client);
    assert!(messages(&heard, 1).is_empty());
    assert_eq!(messages(&heard, 3).len(), 1);
    bench.shared.pool.stop(&crate::refusals::draining());
    runner.join().expect("a runner ends with its pool");
    bench.assert_idle();
}

#[test]
fn a_timeout_of_nothing_is_never_run() {
    let (mut bench, model) = Bench::serving(Placement::Inline, |_| {});
    let client = bench.connect();
    client.say([PREFACE.to_vec(), infer_on(1, 1.0, &[("grpc-timeout", "0n")])].concat());
    client.say(infer_on(3, 1.0, &[("grpc-timeout", "1x")]));
    client.say(infer_on(5, 1.0, &[("grpc-timeout", "99999999H")]));
    bench.tick(&[&client]);
    let refusals = bench.counted().refusals;
    assert_eq!((refusals["deadline"], refusals["field"]), (1, 1));
    assert_eq!(model.recorded().len(), 1);
    bench.assert_idle();
}

#[test]
fn who_watches_is_told_of_every_change() {
    let (mut bench, _model) = Bench::serving(Placement::Inline, |_| {});
    let client = bench.connect();
    let watch = |stream, service: &str| {
        let mut message = vec![0x0a, service.len() as u8];
        message.extend(service.bytes());
        called(stream, "/grpc.health.v1.Health/Watch", &[], &message)
    };
    client.say([PREFACE.to_vec(), watch(1, ""), watch(3, "ident"), watch(5, "nobody")].concat());
    bench.tick(&[&client]);
    let told = |client: &Client| {
        [1, 3, 5].map({
            let heard = frames(client);
            move |stream| messages(&heard, stream).concat()
        })
    };
    assert_eq!(told(&client), [vec![8, 1], vec![8, 1], vec![8, 3]]);
    bench.change(|listing| listing.without("ident", "1"));
    bench.tick(&[]);
    assert_eq!(told(&client), [vec![8, 2], vec![8, 3], vec![]]);
    bench.publish(Placement::Inline);
    bench.tick(&[]);
    assert_eq!(told(&client), [vec![8, 1], vec![8, 1], vec![]]);
    let leave_at = bench.clock.now() + Duration::from_secs(1);
    bench.change(|listing| listing.at(Phase::Draining { leave_at }));
    bench.tick(&[]);
    assert_eq!(told(&client), [vec![8, 2], vec![8, 2], vec![]]);
    bench.clock.advance_ms(1_000);
    bench.tick(&[]);
    let heard = frames(&client);
    assert!(heard.iter().any(|(kind, _, _)| *kind == GOAWAY));
    for stream in [1, 3, 5] {
        assert!(heard.iter().any(|(kind, found, _)| (*kind, *found) == (HEADERS, stream)), "{stream}");
    }
    // It is waited for no longer than a client has to say that it has heard.
    bench.clock.advance_ms(1_000);
    bench.tick(&[]);
    assert!(bench.shared.wait_idle(Duration::ZERO));
    bench.assert_idle();
}

#[test]
fn what_does_not_fit_its_grant_asks_for_more() {
    let (mut bench, _model) = Bench::serving(Placement::Inline, |limits| limits.in_flight_bytes_max = 40_000);
    let client = bench.connect();
    let fill = |stream, bytes: usize| {
        let mut body = vec![0];
        body.extend((bytes as u32).to_be_bytes());
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/inference.GRPCInferenceService/ModelInfer"),
            ("content-type", "application/grpc"),
        ];
        [frame(HEADERS, END_HEADERS, stream, &block(&fields)), frame(DATA, 0, stream, &body)].concat()
    };
    client.say([PREFACE.to_vec(), fill(1, 30_000), fill(3, 30_000)].concat());
    bench.tick(&[&client]);
    assert_eq!(bench.counted().refusals["memory"], 1);
    assert!(messages(&frames(&client), 1).is_empty());
    client.close();
    bench.tick(&[&client]);
    bench.assert_idle();
}
