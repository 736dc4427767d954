use bytes::Bytes;

use super::*;

/// Sends a whole request, answers it with 200 and `ok`, and returns what was written.
fn answered(input: &str) -> (Talk, String) {
    let mut talk = Talk::new();
    talk.send(input);
    talk.reply(200, "ok");
    let written = talk.written();
    (talk, written)
}

#[test]
fn an_answer_has_its_type_its_length_its_fields_and_its_body() {
    let mut talk = Talk::new();
    talk.send(GET);
    let mut body = Payload::default();
    body.buffer().extend_from_slice(b"{\"a\":");
    body.share(Bytes::from(vec![b' '; 2_000]));
    body.buffer().extend_from_slice(b"1}");
    let fields: [(&str, &[u8]); 2] = [("retry-after", b"1"), ("x-evil", b"a\r\nset-cookie: b\0c")];
    let reply = Reply { status: 429, content_type: "application/json", fields: &fields, body: &body, close: false };
    talk.http1.reply(talk.stream, &reply, talk.now, &mut talk.output);
    let head = "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\ncontent-length: 2007\r\n\
                retry-after: 1\r\nx-evil: a  set-cookie: b c\r\n\r\n";
    assert_eq!(talk.written(), format!("{head}{{\"a\":{}1}}", " ".repeat(2_000)));
    assert_eq!(talk.http1.open_requests(), 0);
}

#[test]
fn head_is_told_the_length_and_no_body() {
    let (mut talk, written) = answered("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(written, "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\n");
    assert_eq!(talk.send(GET), [head(2, 1, "/g", true)]);
    talk.reply(204, "dropped");
    assert_eq!(talk.written(), "HTTP/1.1 204 No Content\r\ncontent-type: text/plain\r\n\r\n");
}

#[test]
fn a_refused_stranger_has_a_body_even_after_a_head_request() {
    let (mut talk, _) = answered("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n");
    talk.send("nonsense\r\n\r\n");
    talk.reply(400, "no");
    assert!(talk.written().ends_with("\r\n\r\nno"));
}

#[test]
fn a_connection_stays_open_as_its_version_and_its_peer_have_it() {
    let (closes, keeps, silent) = ("\r\nconnection: close\r\n", "\r\nconnection: keep-alive\r\n", "");
    let cases = [
        ("HTTP/1.1", "", silent),
        ("HTTP/1.1", "connection: keep-alive\r\n", silent),
        ("HTTP/1.1", "connection: close\r\n", closes),
        ("HTTP/1.1", "Connection: TE , CLOSE\r\n", closes),
        ("HTTP/1.1", "connection: te\r\nconnection: close\r\n", closes),
        ("HTTP/1.1", "connection: closed, x-close\r\n", silent),
        ("HTTP/1.0", "", closes),
        ("HTTP/1.0", "connection: Keep-Alive\r\n", keeps),
        ("HTTP/1.0", "connection: keep-alive, close\r\n", closes),
    ];
    for (version, lines, expected) in cases {
        let (mut talk, written) = answered(&format!("GET / {version}\r\nhost: a\r\n{lines}\r\n"));
        assert!(written.contains(expected), "{version} {lines} {written}");
        assert_eq!(written.contains("connection:"), !expected.is_empty(), "{version} {lines}");
        let closing = if expected == closes { vec![Said::Closing(None)] } else { vec![] };
        assert_eq!(talk.hear(), closing, "{version} {lines}");
        assert_eq!(talk.http1.ended(), expected == closes, "{version} {lines}");
    }
}

#[test]
fn the_owner_may_close_with_an_answer() {
    let mut talk = Talk::new();
    talk.send(GET);
    talk.answer(200, "bye", true);
    assert!(talk.written().contains("connection: close"));
    assert_eq!(talk.hear(), [Said::Closing(None)]);
    assert!(talk.http1.ended() && !talk.http1.wants_input());
}

#[test]
fn an_answer_to_a_request_that_is_gone_is_dropped() {
    let (mut talk, _) = answered(GET);
    talk.reply(200, "again");
    assert_eq!(talk.written(), "");
    talk.send(GET);
    talk.stream = StreamId(1);
    talk.reply(200, "late");
    talk.accept(7);
    assert_eq!((talk.written().as_str(), talk.http1.open_requests()), ("", 1));
}

#[test]
fn who_waits_for_it_is_told_to_continue_upon_acceptance_alone() {
    let expecting = post("content-length: 2\r\nExpect: 100-Continue\r\n", "");
    let mut talk = Talk::new();
    assert_eq!(talk.send(&expecting), [head(1, 0, "/p", false)]);
    assert_eq!(talk.written(), "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(talk.send("ab"), [Said::Body(b"ab".to_vec())]);
    talk.reply(200, "ok");
    assert_eq!(answers(&talk.written()), 1);

    let silent = [
        expecting.clone() + "ab",
        expecting.clone() + "a",
        post("content-length: 2\r\nexpect: tea\r\n", ""),
        post("content-length: 0\r\nexpect: 100-continue\r\n", ""),
        "POST / HTTP/1.0\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n".into(),
    ];
    for input in silent {
        let mut talk = Talk::new();
        talk.send(&input);
        assert_eq!(talk.written(), "", "{input}");
    }

    let mut talk = Talk::new();
    talk.send(&expecting[..10]);
    talk.send(format!("{}ab", &expecting[10..]));
    assert_eq!(talk.written(), "", "the body came with the rest of its head");

    let mut talk = Talk::new();
    let mut rest = expecting.as_bytes();
    talk.next(&mut rest);
    talk.reply(503, "no");
    let written = talk.written();
    assert!(written.starts_with("HTTP/1.1 503 ") && written.contains("connection: close"), "{written}");
    assert!(talk.http1.lingering(), "whether the body comes cannot be known");
}

#[test]
fn a_small_body_that_nobody_wants_is_dropped_and_the_connection_stays() {
    let limits = Limits { discard_bytes_max: 10, ..Limits::default() };
    for (bytes, stays) in [(1, true), (10, true), (11, false)] {
        let mut talk = Talk::with(limits.clone());
        let input = post(&format!("content-length: {bytes}\r\n"), &"x".repeat(bytes)) + GET;
        let mut rest = input.as_bytes();
        talk.next(&mut rest);
        talk.reply(429, "no");
        assert_eq!((talk.http1.open_requests(), talk.http1.lingering()), (0, !stays));
        let said = talk.send(rest);
        let expected = if stays { head(2, 1, "/g", true) } else { Said::Closing(None) };
        assert_eq!(said, [expected], "{bytes}");
        assert_eq!(talk.written().contains("connection: close"), !stays);
    }
}

#[test]
fn what_came_of_a_refused_body_does_not_count_against_the_rest() {
    let limits = Limits { discard_bytes_max: 10, ..Limits::default() };
    let mut talk = Talk::with(limits);
    talk.send(post("content-length: 20\r\n", "0123456789"));
    talk.reply(504, "late");
    assert!(!talk.http1.lingering());
    assert_eq!(talk.send("01234"), []);
    assert_eq!(talk.send("56789"), []);
    assert_eq!(talk.send(GET), [head(2, 1, "/g", true)]);
}

#[test]
fn pipelined_requests_are_answered_in_order_within_the_read_ahead() {
    let body = "x".repeat(80);
    let mut input = String::new();
    for _ in 0..500 {
        input += GET;
        input += &post("content-length: 80\r\n", &body);
    }
    let mut talk = Talk::new();
    let (mut rest, mut written, mut heads) = (input.as_bytes(), String::new(), 0);
    // The owner answers only after it has asked for more, as it does when it batches.
    loop {
        let before = rest.len();
        match talk.next(&mut rest) {
            Some(Said::Head { stream, path, end, .. }) => {
                heads += 1;
                assert_eq!((stream, path.as_str()), (heads, if heads % 2 == 1 { "/g" } else { "/p" }));
                talk.accept(if end { 0 } else { 80 });
            }
            Some(Said::Body(found)) => assert_eq!(found, body.as_bytes()),
            Some(other) => panic!("{other:?}"),
            None if talk.http1.open_requests() == 1 => {
                assert!(talk.http1.ahead.bytes().len() <= 32_768);
                assert!(rest.is_empty() || !talk.http1.wants_input());
                talk.reply(200, &heads.to_string());
                written += &talk.written();
            }
            None => break,
        }
        assert!(rest.len() <= before);
    }
    assert_eq!((heads, rest.len(), answers(&written)), (1_000, 0, 1_000));
    let numbers: Vec<u32> =
        written.split("\r\n\r\n").skip(1).map(|text| text.split('H').next().unwrap().parse().unwrap()).collect();
    assert_eq!(numbers, (1..=1_000).collect::<Vec<_>>());
    assert_eq!(talk.http1.ahead.held_bytes(), 0, "the idle connection gave its buffer back");
}

#[test]
fn a_full_read_ahead_wants_no_more_and_loses_nothing() {
    let limits = Limits { connection_read_bytes_max: 50, ..Limits::default() };
    let mut talk = Talk::with(limits);
    let input = GET.repeat(5);
    let mut rest = input.as_bytes();
    assert_eq!(talk.next(&mut rest), Some(head(1, 0, "/g", true)));
    assert!(talk.http1.wants_input());
    assert_eq!(talk.next(&mut rest), None);
    assert_eq!(rest.len(), GET.len() * 4 - 50);
    assert!(!talk.http1.wants_input());
    let mut told = 1;
    loop {
        talk.reply(200, "");
        let Some(Said::Head { stream, .. }) = talk.next(&mut rest) else { break };
        told += 1;
        assert_eq!(stream, told);
    }
    assert_eq!((told, rest.len()), (5, 0));
}

#[test]
fn a_head_behind_answered_requests_has_all_the_room_that_a_head_has() {
    let limits = Limits {
        request_line_bytes_max: 60,
        header_bytes_max: 240,
        connection_read_bytes_max: 300,
        ..Limits::default()
    };
    let long = format!("GET /{} HTTP/1.1\r\nhost: {}\r\n\r\n", "l".repeat(40), "h".repeat(200));
    let mut talk = Talk::with(limits);
    talk.send(GET.repeat(3) + &long[..200]);
    for _ in 0..2 {
        talk.reply(200, "");
        talk.hear();
    }
    talk.reply(200, "");
    assert_eq!(talk.hear(), []);
    assert!(matches!(talk.send(&long[200..])[..], [Said::Head { stream: 4, .. }]));
}

#[test]
fn room_in_the_read_ahead_comes_back_once_moving_is_cheap() {
    let mut ahead = ReadAhead::of(b"0123456789");
    assert_eq!(ahead.room(10), 0);
    ahead.consume(4);
    assert_eq!(ahead.room(10), 0, "six bytes would have to move for the sake of four");
    ahead.consume(1);
    let mut input = &b"abcdefg"[..];
    ahead.fill(&mut input, 10);
    assert_eq!((ahead.bytes(), input), (&b"56789abcde"[..], &b"fg"[..]));
    ahead.consume(10);
    assert!(ahead.is_empty());
    assert_eq!(ahead.room(10), 10);
}

#[test]
fn an_idle_connection_drains_at_once_and_a_busy_one_with_its_answer() {
    let mut talk = Talk::new();
    talk.http1.drain(talk.now);
    assert!(talk.http1.ended());
    assert_eq!(talk.hear(), [Said::Closing(None)]);
    assert_eq!(talk.hear(), []);

    let (mut talk, _) = answered(GET);
    talk.http1.drain(talk.now);
    assert!(talk.http1.ended());

    let mut talk = Talk::new();
    talk.send(GET);
    talk.http1.drain(talk.now);
    assert_eq!((talk.http1.ended(), talk.hear()), (false, vec![]));
    talk.reply(200, "ok");
    assert!(talk.written().contains("connection: close"));
    assert_eq!(talk.hear(), [Said::Closing(None)]);
    assert!(talk.http1.ended());

    let mut talk = Talk::new();
    talk.send(&GET[..10]);
    talk.http1.drain(talk.now);
    assert_eq!(talk.send(&GET[10..]), [head(1, 0, "/g", true)], "a request on its way is still answered");
    talk.reply(200, "ok");
    assert!(talk.http1.ended() && talk.written().contains("connection: close"));
}

#[test]
fn requests_that_came_whole_before_the_end_of_input_are_answered() {
    let mut talk = Talk::new();
    talk.send(GET.repeat(2) + &GET[..9]);
    talk.http1.input_ended();
    talk.reply(200, "1");
    assert_eq!(talk.hear(), [head(2, 0, "/g", true)]);
    talk.reply(200, "2");
    assert_eq!(talk.hear(), [Said::Closing(None)]);
    assert_eq!((answers(&talk.written()), talk.http1.ended()), (2, true));

    let mut talk = Talk::new();
    talk.send(GET);
    talk.http1.input_ended();
    talk.reply(200, "1");
    assert!(talk.written().contains("connection: close"));
    assert!(talk.http1.ended());

    let mut talk = Talk::new();
    talk.http1.input_ended();
    assert_eq!((talk.hear(), talk.http1.ended()), (vec![Said::Closing(None)], true));
}

#[test]
fn a_request_cut_short_is_reset() {
    for input in [post("content-length: 5\r\n", "hell"), chunked("5\r\nhello\r\n"), chunked("5\r\nhello\r\n0\r\n")] {
        let mut talk = Talk::new();
        talk.send(&input);
        talk.http1.input_ended();
        assert_eq!(talk.hear(), [Said::Reset(1), Said::Closing(None)], "{input}");
        assert!(talk.http1.ended());
        talk.reply(200, "nobody");
        assert_eq!(talk.written(), "");
    }
}
