use super::*;

#[test]
fn a_body_is_told_once_it_is_whole() {
    let mut talk = Talk::new();
    let said = talk.send(post("content-length: 5\r\n", "hello"));
    assert_eq!(said, [head(1, 0, "/p", false), Said::Body(b"hello".to_vec())]);
    talk.reply(200, "");
    assert_eq!(talk.send(post("content-length: 5\r\n", "he")), [head(2, 0, "/p", false)]);
    assert_eq!(talk.send("ll"), []);
    assert_eq!(talk.send("o"), [Said::Body(b"hello".to_vec())]);
}

#[test]
fn a_chunked_body_is_joined_and_its_trailers_are_dropped() {
    let cases = [
        ("0\r\n\r\n", ""),
        ("5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("1\r\nh\r\n4\r\nello\r\n0\r\n\r\n", "hello"),
        ("0000000000000005\r\nhello\r\n000\r\n\r\n", "hello"),
        ("a;b=c;d=\"e f\"\r\n0123456789\r\n0;x\r\n\r\n", "0123456789"),
        ("A\r\n0123456789\r\n0\r\nx: y\r\ncontent-length: 7\r\n\r\n", "0123456789"),
    ];
    for (body, expected) in cases {
        let mut talk = Talk::new();
        let said = talk.send(chunked(body) + GET);
        assert_eq!(said, [head(1, 0, "/p", false), Said::Body(expected.into())], "{body}");
        talk.reply(200, "");
        assert_eq!(talk.hear(), [head(2, 1, "/g", true)], "{body}");
    }
}

#[test]
fn a_malformed_chunk_is_refused() {
    let many = format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(65_536));
    let cases = [
        "-1\r\n",
        "+1\r\n",
        "0x10\r\n",
        "11111111111111111\r\n",
        "00000000000000001\r\n",
        "\r\n",
        ";x\r\n",
        "g\r\n",
        "5 \r\nhello\r\n",
        " 5\r\nhello\r\n",
        "5\nhello\r\n",
        "5\rhello\r\n",
        "5\r\nhelloX",
        "5\r\nhello\n",
        "5\r\nhello\rX",
        "5;\n",
        "5;\0\r\n",
        "5;a\rb\r\n",
        "0\r\nno colon\r\n\r\n",
        "0\r\nx : y\r\n\r\n",
        "0\r\nx: y\n\r\n",
        "0\r\n x: y\r\n\r\n",
        "0\r\nx: \0\r\n\r\n",
        &many,
    ];
    for body in cases {
        let said = Talk::new().send(chunked(body) + GET);
        let [Said::Head { .. }, Said::Violation(Violation::Framing(_))] = &said[..] else {
            panic!("{body:?}: {said:?}");
        };
    }
}

#[test]
fn a_chunked_body_too_large_is_refused_before_it_is_read() {
    let limits = Limits { request_body_bytes_max: 10, ..Limits::default() };
    let read = |body: &str| Talk::with(limits.clone()).send(chunked(body));
    assert_eq!(read("6\r\nabcdef\r\n4\r\nghij\r\n0\r\n\r\n").len(), 2);
    let mut talk = Talk::with(limits.clone());
    talk.grant = 5;
    let said = talk.send(chunked("6\r\nabcdef\r\n"));
    assert_eq!(said.last(), Some(&Said::Grow { bytes: 10 }), "no more is asked for than is allowed");
    let said = read("6\r\nabcdef\r\n5\r\n");
    assert_eq!(violation(&said), &Violation::BodyTooLarge { found: 11, allowed: 10 });
    let said = read("FFFFFFFFFFFFFFFF\r\n");
    assert_eq!(violation(&said), &Violation::BodyTooLarge { found: u64::MAX, allowed: 10 });
    let said = read("1\r\na\r\nFFFFFFFFFFFFFFFF\r\n");
    assert_eq!(violation(&said), &Violation::BodyTooLarge { found: u64::MAX, allowed: 10 });
}

#[test]
fn chunks_their_extensions_and_trailers_are_bounded() {
    let limits = Limits {
        body_chunks_max: 3,
        chunk_extension_bytes_max: 4,
        headers_max: 2,
        header_bytes_max: 100,
        ..Limits::default()
    };
    let read = |body: &str| Talk::with(limits.clone()).send(chunked(body));
    let chunks = |count: usize| "1\r\nx\r\n".repeat(count) + "0\r\n\r\n";
    assert_eq!(read(&chunks(3))[1], Said::Body(b"xxx".to_vec()));
    assert_eq!(violation(&read(&chunks(4))), &Violation::Chunks { allowed: 3 });
    assert_eq!(read("1;a\r\nx\r\n0;b\r\n\r\n")[1], Said::Body(b"x".to_vec()));
    assert!(matches!(violation(&read("1;a\r\nx\r\n0;bc\r\n\r\n")), Violation::Framing(_)));
    assert_eq!(read("0\r\na: 1\r\nb: 2\r\n\r\n")[1], Said::Body(vec![]));
    let said = read("0\r\na: 1\r\nb: 2\r\nc: 3\r\n\r\n");
    assert_eq!(violation(&said), &Violation::Headers { found: 3, allowed: 2 });
    let trailer = |bytes: usize| format!("0\r\na: {}\r\n\r\n", "x".repeat(bytes - 33));
    assert_eq!(read(&trailer(100))[1], Said::Body(vec![]));
    assert_eq!(violation(&read(&trailer(101))), &Violation::HeaderBytes { found: 101, allowed: 100 });
    let said = read(&format!("0\r\na: {}", "x".repeat(98)));
    assert_eq!(violation(&said), &Violation::HeaderBytes { found: 101, allowed: 100 });
}

#[test]
fn as_many_chunks_as_are_allowed_are_read_and_one_more_is_not() {
    let chunks = |count: usize| chunked(&("1\r\n \r\n".repeat(count) + "0\r\n\r\n"));
    let mut talk = Talk::new();
    talk.grant = 0;
    let said = talk.send(chunks(65_536));
    assert!(matches!(said.last(), Some(Said::Body(body)) if body.len() == 65_536));
    let grown: Vec<_> = said.iter().filter(|said| matches!(said, Said::Grow { .. })).collect();
    assert_eq!(grown.len(), 5, "{grown:?}");
    let said = Talk::new().send(chunks(65_537));
    assert_eq!(violation(&said), &Violation::Chunks { allowed: 65_536 });
}

#[test]
fn no_byte_is_stored_beyond_the_grant() {
    let mut talk = Talk::new();
    let input = chunked(&format!("a\r\n0123456789\r\n1400\r\n{}\r\n0\r\n\r\n", "x".repeat(0x1400)));
    let mut rest = input.as_bytes();
    assert_eq!(talk.next(&mut rest), Some(head(1, 0, "/p", false)));
    assert_eq!(talk.next(&mut rest), None, "the owner has not accepted yet");
    talk.accept(9);
    assert_eq!(talk.next(&mut rest), Some(Said::Grow { bytes: 4_096 }));
    assert_eq!(talk.http1.held_bytes() - talk.http1.ahead.held_bytes() - talk.http1.heads.held_bytes(), 0);
    assert_eq!(talk.next(&mut rest), None, "the owner has not granted more yet");
    talk.accept(4_096);
    assert_eq!(talk.next(&mut rest), Some(Said::Grow { bytes: 8_192 }));
    talk.accept(0x1400 + 10);
    assert!(matches!(talk.next(&mut rest), Some(Said::Body(body)) if body.len() == 0x1400 + 10));
}

#[test]
fn a_body_longer_than_its_grant_asks_for_all_of_its_length() {
    let mut talk = Talk::new();
    let input = post("content-length: 10\r\n", "0123456789");
    let mut rest = input.as_bytes();
    assert_eq!(talk.next(&mut rest), Some(head(1, 0, "/p", false)));
    talk.accept(9);
    assert_eq!(talk.next(&mut rest), Some(Said::Grow { bytes: 10 }));
    assert_eq!(talk.next(&mut rest), None);
    talk.accept(10);
    assert_eq!(talk.next(&mut rest), Some(Said::Body(b"0123456789".to_vec())));
}

#[test]
fn a_growth_that_is_refused_is_answered_and_the_connection_closes_unless_the_rest_is_small() {
    let mut talk = Talk::new();
    let input = chunked("5\r\nhello\r\n0\r\n\r\n");
    let mut rest = input.as_bytes();
    talk.next(&mut rest);
    talk.accept(4);
    assert_eq!(talk.next(&mut rest), Some(Said::Grow { bytes: 4_096 }));
    talk.reply(503, "full");
    assert!(talk.written().contains("connection: close"));
    assert_eq!(talk.next(&mut rest), Some(Said::Closing(None)));
    assert!(talk.http1.lingering());
}
