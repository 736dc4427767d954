//! Requests' heads, against RFC 9113, section 8, and the limits on them.

use super::*;

#[test]
fn a_malformed_head_resets_its_stream() {
    let cases: Vec<(&str, Vec<(&str, &str)>)> = vec![
        ("no method", GET[1..].to_vec()),
        ("no scheme", with(&GET[..1], &GET[2..])),
        ("no path", with(&GET[..2], &GET[3..])),
        ("empty path", with(&GET[..2], &[(":path", "")])),
        ("path without a slash", with(&GET[..2], &[(":path", "x")])),
        ("path with a blank", with(&GET[..2], &[(":path", "/a b")])),
        ("method twice", with(GET, &GET[..1])),
        ("path twice", with(GET, &GET[2..3])),
        ("scheme twice", with(GET, &GET[1..2])),
        ("authority twice", with(GET, &GET[3..])),
        ("method that is no token", with(&GET[1..], &[(":method", "G T")])),
        ("unknown pseudo field", with(GET, &[(":protocol", "x")])),
        ("pseudo field of answers", with(GET, &[(":status", "200")])),
        ("pseudo field after a field", with(&GET[..3], &[("a", "b"), (":authority", "a")])),
        ("upper case", with(GET, &[("A", "b")])),
        ("empty name", with(GET, &[("", "b")])),
        ("blank in a name", with(GET, &[("a b", "b")])),
        ("line feed in a value", with(GET, &[("a", "b\nc")])),
        ("carriage return in a value", with(GET, &[("a", "b\rc")])),
        ("nul in a value", with(GET, &[("a", "b\0c")])),
        ("blank at the end of a value", with(GET, &[("a", "b ")])),
        ("blank at the beginning of a value", with(GET, &[("a", "\tb")])),
        ("connection", with(GET, &[("connection", "close")])),
        ("keep-alive", with(GET, &[("keep-alive", "1")])),
        ("proxy-connection", with(GET, &[("proxy-connection", "close")])),
        ("transfer-encoding", with(GET, &[("transfer-encoding", "chunked")])),
        ("upgrade", with(GET, &[("upgrade", "x")])),
        ("te other than trailers", with(GET, &[("te", "gzip")])),
        ("host against authority", with(GET, &[("host", "b")])),
        ("content-length with a sign", with(GET, &[("content-length", "+0")])),
        ("content-length beyond 64 bits", with(GET, &[("content-length", "18446744073709551616")])),
        ("content-lengths that differ", with(GET, &[("content-length", "0"), ("content-length", "1")])),
        ("content-length of a body that cannot come", with(GET, &[("content-length", "1")])),
        ("connect with a path", with(&GET[1..], &[(":method", "CONNECT")])),
    ];
    for (name, fields) in cases {
        let mut fields = fields;
        // Pseudo fields first, where the case is not about that.
        if name != "pseudo field after a field" {
            fields.sort_by_key(|(name, _)| !name.starts_with(':'));
        }
        let mut peer = Peer::new();
        assert!(peer.send(&headers(1, true, &fields)).is_empty(), "{name}");
        assert_eq!(peer.said(), ["RST_STREAM 1 Protocol"], "{name}");
        assert_eq!(peer.http2.open_requests(), 0);
    }
}

#[test]
fn a_valid_head_is_told_with_its_fields() {
    let mut peer = Peer::new();
    let fields = with(GET, &[("host", "a"), ("te", "Trailers"), ("content-length", "0"), ("x", "y z")]);
    let mut input = &headers(1, true, &fields)[..];
    let Some(Event::Head { head, end: true, .. }) = peer.http2.advance(&mut input, peer.now, &mut peer.output) else {
        panic!("no head")
    };
    let told: Vec<(&[u8], &[u8])> = head.fields().collect();
    let expected: [(&[u8], &[u8]); 4] =
        [(b"host", b"a"), (b"te", b"Trailers"), (b"content-length", b"0"), (b"x", b"y z")];
    assert_eq!(told, expected);
    assert!(!head.grpc && head.content_length == Some(0));
}

#[test]
fn connect_has_an_authority_alone() {
    let mut peer = Peer::new();
    let told = peer.send(&headers(1, true, &[(":method", "CONNECT"), (":authority", "a:1")]));
    assert_eq!(told, ["head 1 CONNECT  #0 end"]);
}

#[test]
fn a_head_of_several_frames_is_one_head() {
    let whole = block(CALL);
    let mut peer = Peer::new();
    let bytes = [
        frame(kind::HEADERS, 1, 1, &whole[..3]),
        frame(kind::CONTINUATION, 0, 1, &[]),
        frame(kind::CONTINUATION, flag::END_HEADERS, 1, &whole[3..]),
    ];
    assert_eq!(peer.send(&bytes.concat())[0], "head 1 POST /s/m #0 end");
}

#[test]
fn a_head_seen_before_is_the_same_head() {
    let mut peer = Peer::new();
    assert_eq!(
        peer.send(&[get(1), post(3), get(5), post(7)].concat()),
        ["head 1 GET / #0 end", "head 3 POST / #1", "head 5 GET / #0 end", "head 7 POST / #1",]
    );
}

#[test]
fn a_head_is_only_the_same_while_the_table_is() {
    let mut peer = Peer::new();
    let indexed = |stream, value: &[u8]| {
        let insert = [&block(GET)[..], &[0x40, 1, b'x', value.len() as u8], value].concat();
        frame(kind::HEADERS, 5, stream, &insert)
    };
    // 62 is the newest entry of the dynamic table.
    let newest = |stream| frame(kind::HEADERS, 5, stream, &[&block(GET)[..], &[0xbe]].concat());
    let told = peer.send(&[indexed(1, b"a"), newest(3), newest(5), indexed(7, b"b"), newest(9)].concat());
    let ids: Vec<&str> = told.iter().map(|text| text.split(' ').nth(4).unwrap()).collect();
    assert_eq!(ids, ["#0", "#1", "#1", "#2", "#3"]);
    // The same bytes that change the table are never remembered.
    assert_eq!(peer.send(&[indexed(11, b"b"), indexed(13, b"b")].concat()).len(), 2);
}

#[test]
fn more_kinds_of_heads_than_are_remembered_are_told_right() {
    let mut peer = Peer::new();
    for round in 0..3_u32 {
        for number in 0..20_u32 {
            let path = format!("/{number}");
            let fields = [(":method", "GET"), (":scheme", "http"), (":path", &path)];
            let stream = 1 + 2 * (round * 20 + number);
            let told = peer.send(&headers(stream, true, &fields));
            assert!(told[0].starts_with(&format!("head {stream} GET {path} #")), "{told:?}");
            peer.reply(stream, 200, b"");
        }
    }
}

#[test]
fn a_head_beyond_the_limits_is_a_violation_and_the_connection_goes_on() {
    let limits = Limits { headers_max: 4, header_bytes_max: 400, request_line_bytes_max: 20, ..Limits::default() };
    let path_20 = format!("/{}", "p".repeat(19));
    let path_21 = format!("/{}", "p".repeat(20));
    // The pseudo fields take 166 bytes; a field of one letter takes 33 and its value.
    let value_201 = "v".repeat(201);
    let value_202 = "v".repeat(202);
    let letters = [("b", "1"), ("c", "1"), ("d", "1"), ("e", "1")];
    let cases = [
        (with(&GET[..2], &[(":path", &path_20)]), None),
        (with(&GET[..2], &[(":path", &path_21)]), Some("UriTooLong { found: 21, allowed: 20 }")),
        (with(&GET[..3], &letters), None),
        (with(&with(&GET[..3], &letters), &[("f", "1")]), Some("Headers { found: 5, allowed: 4 }")),
        (with(GET, &[("x", &value_201)]), None),
        (with(GET, &[("x", &value_202)]), Some("HeaderBytes { found: 401, allowed: 400 }")),
    ];
    let mut peer = Peer::with(limits);
    for (number, (fields, violation)) in cases.iter().enumerate() {
        let stream = 1 + 2 * number as u32;
        let told = peer.send(&headers(stream, false, fields));
        match violation {
            None => assert!(told[0].starts_with("head"), "{told:?}"),
            Some(violation) => assert_eq!(told, [format!("violation {stream} {violation}")]),
        }
        assert!(!peer.http2.is_grpc(StreamId(stream)));
        peer.reply(stream, 431, b"no");
        assert!(peer.said()[0].contains(":status=431"));
    }
}

#[test]
fn a_call_beyond_the_limits_is_known_as_a_call() {
    let mut peer = Peer::with(Limits { headers_max: 2, ..Limits::default() });
    let told = peer.send(&headers(1, true, &with(CALL, &[("x", "y")])));
    assert_eq!(told, ["violation 1 Headers { found: 3, allowed: 2 }"]);
    assert!(peer.http2.is_grpc(StreamId(1)));
}

#[test]
fn a_small_block_for_many_bytes_costs_little_and_is_refused() {
    let mut peer = Peer::new();
    let insert = [&[0x40, 1, b'x', 0x7f, 0x80, 0x1e][..], &[b'v'; 127 + 30 * 128]].concat();
    let bomb = [&block(GET)[..], &insert, &[0xbe; 10_000]].concat();
    let told = peer.send(&frame(kind::HEADERS, 5, 1, &bomb));
    assert!(told[0].starts_with("violation 1 Headers"), "{told:?}");
    // The table holds what the block put into it.
    assert!(peer.send(&frame(kind::HEADERS, 5, 3, &[&block(GET)[..], &[0xbe]].concat()))[0].starts_with("head 3"));
}

#[test]
fn a_header_block_grows_to_its_limits_and_no_further() {
    let limits = || Limits { continuation_frames_max: 3, header_bytes_max: 1_000, ..Limits::default() };
    let whole = block(GET);
    let open = frame(kind::HEADERS, 1, 1, &whole);
    let more = |bytes: usize| frame(kind::CONTINUATION, 0, 1, &vec![0x20; bytes]);
    let last = frame(kind::CONTINUATION, flag::END_HEADERS, 1, &[]);
    let told = Peer::with(limits()).send(&[open.clone(), more(0), more(0), last.clone()].concat());
    assert_eq!(told.len(), 1);
    let too_many = [open.clone(), more(0), more(0), more(0), last].concat();
    Peer::with(limits()).breaks(&too_many, ErrorCode::EnhanceYourCalm, "Calm");
    let room = 1_000 - whole.len();
    assert!(Peer::with(limits()).send(&[open.clone(), more(room)].concat()).is_empty());
    Peer::with(limits()).breaks(&[open, more(room + 1)].concat(), ErrorCode::EnhanceYourCalm, "Calm");
}

#[test]
fn trailers_are_checked_and_dropped() {
    let trailers = |fields: &[(&str, &str)]| [post(1), data(1, false, b"abc"), headers(1, true, fields)].concat();
    assert_eq!(Peer::new().send(&trailers(&[("a", "b")])), ["head 1 POST / #0", "body 1 abc"]);
    let mut peer = Peer::with(Limits { headers_max: 1, ..Limits::default() });
    let told = peer.send(&trailers(&[("a", "b"), ("c", "d")]));
    assert_eq!(told[1], "violation 1 Headers { found: 2, allowed: 1 }");
    peer.reply(1, 431, b"");
    assert_eq!(peer.said().len(), 1, "the peer had ended the stream: no reset");
}
