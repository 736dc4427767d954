use super::*;

#[test]
fn a_malformed_head_is_refused_once_and_nothing_behind_it_is_read() {
    let cases = [
        ("GET / HTTP/1.1\nhost: a\r\n\r\n", "LF alone after the request line"),
        ("GET / HTTP/1.1\r\nhost: a\n\r\n", "LF alone after a field"),
        ("GET / HTTP/1.1\r\nhost: a\r\n\n", "LF alone at the end"),
        ("GET / HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n", "CR in a value"),
        ("GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n", "NUL in a value"),
        ("GET / HTTP/1.1\r\nhost: a\r\nx: a\x7fb\r\n\r\n", "DEL in a value"),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", "blank before the colon"),
        ("GET / HTTP/1.1\r\nhost: a\r\n: b\r\n\r\n", "no name"),
        ("GET / HTTP/1.1\r\nhost: a\r\nno colon\r\n\r\n", "no colon"),
        ("GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\n 2\r\n\r\n", "folded"),
        ("GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\n\t2\r\n\r\n", "folded by a tab"),
        ("GET / HTTP/1.1\r\n host: a\r\n\r\n", "blank before the first field"),
        ("GET  / HTTP/1.1\r\nhost: a\r\n\r\n", "two blanks"),
        ("GET /a b HTTP/1.1\r\nhost: a\r\n\r\n", "blank in the target"),
        ("GET /\r\nhost: a\r\n\r\n", "no version"),
        ("GET / HTTP/1.1 \r\nhost: a\r\n\r\n", "blank after the version"),
        ("G\0T / HTTP/1.1\r\nhost: a\r\n\r\n", "NUL in the method"),
        ("\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", "two empty lines"),
        ("\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", "LF first"),
        ("\rGET / HTTP/1.1\r\nhost: a\r\n\r\n", "CR first"),
        ("GET / HTTP/1.1\r\n\r\n", "no host"),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", "two hosts"),
    ];
    for (input, case) in cases {
        let mut talk = Talk::new();
        let said = talk.send(format!("{input}{GET}"));
        assert!(matches!(said[..], [Said::Violation(Violation::Framing(_))]), "{case}: {said:?}");
        assert_eq!(talk.http1.open_requests(), 1);
        assert!(!talk.http1.wants_input());
        assert_eq!(talk.send(GET), [], "{case}");
        talk.reply(400, "no");
        let written = talk.written();
        assert_eq!(answers(&written), 1, "{case}");
        assert!(written.contains("\r\nconnection: close\r\n"), "{case}");
        assert_eq!(talk.send(GET), [Said::Closing(None)], "{case}");
        assert!(talk.http1.lingering() && !talk.http1.ended(), "{case}");
        assert_eq!((talk.send(GET), talk.written().as_str()), (vec![], ""), "{case}");
        talk.http1.input_ended();
        assert!(talk.http1.ended(), "{case}");
    }
}

#[test]
fn a_request_whose_end_is_unclear_is_refused() {
    let cases = [
        "content-length: 6\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 6\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: \r\n chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding:\r\n",
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: 5, 5\r\n",
        "content-length: -1\r\n",
        "content-length: +5\r\n",
        "content-length: 0x5\r\n",
        "content-length: 5 5\r\n",
        "content-length:\r\n",
        "content-length: 18446744073709551616\r\n",
    ];
    for lines in cases {
        let said = Talk::new().send(post(lines, "0\r\n\r\nGET /v2 HTTP/1.1\r\nhost: a\r\n\r\n"));
        assert!(matches!(said[..], [Said::Violation(Violation::Framing(_))]), "{lines}: {said:?}");
    }
    let said = Talk::new().send("POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n");
    assert!(matches!(said[..], [Said::Violation(Violation::Framing(_))]), "{said:?}");
}

#[test]
fn well_formed_heads_are_read_as_they_are_meant() {
    let cases = [
        ("GET / HTTP/1.0\r\n\r\n", "/", true),
        ("GET /a?b HTTP/1.1\r\nHOST:a\r\n\r\n", "/a", true),
        ("\r\nGET /a HTTP/1.1\r\nhost: \t a \t \r\n\r\n", "/a", true),
        ("GET http://host/a HTTP/1.1\r\n\r\n", "/a", true),
        ("OPTIONS * HTTP/1.1\r\nhost:\r\n\r\n", "*", true),
        ("POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n", "/a", true),
        ("POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\n", "/a", false),
        ("POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: ChunKed\r\n\r\n", "/a", false),
        ("GET /a HTTP/1.1\r\nhost: a\r\nx: gr\u{f6}\u{df}e\r\nempty:\r\n\r\n", "/a", true),
    ];
    for (input, path, end) in cases {
        assert_eq!(Talk::new().send(input), [head(1, 0, path, end)], "{input}");
    }
}

#[test]
fn other_versions_are_told_from_garbage() {
    for version in ["HTTP/3.0", "HTTP/2.0", "HTTP/1.2", "HTTP/0.9"] {
        let said = Talk::new().send(format!("GET / {version}\r\nhost: a\r\n\r\n"));
        assert_eq!(said, [Said::Violation(Violation::Version)], "{version}");
    }
    for version in ["HTTP/11", "http/1.1", "HTTP/1.1.1", "XTTP/3.0", "HTTP/x.0"] {
        let said = Talk::new().send(format!("GET / {version}\r\nhost: a\r\n\r\n"));
        assert!(matches!(violation(&said), Violation::Framing(_)), "{version}: {said:?}");
    }
}

#[test]
fn a_request_line_is_bounded() {
    let limits = Limits { request_line_bytes_max: 40, ..Limits::default() };
    let line = |bytes: usize| format!("GET /{} HTTP/1.1\r\n", "x".repeat(bytes - 16));
    assert_eq!(line(40).len(), 40);
    let said = Talk::with(limits.clone()).send(line(40) + "host: a\r\n\r\n");
    assert!(matches!(said[..], [Said::Head { .. }]), "{said:?}");
    let said = Talk::with(limits.clone()).send(line(41) + "host: a\r\n\r\n");
    assert_eq!(said, [Said::Violation(Violation::UriTooLong { found: 41, allowed: 40 })]);
    let mut talk = Talk::with(limits);
    assert_eq!(talk.send("x".repeat(40)), []);
    assert_eq!(talk.send("x"), [Said::Violation(Violation::UriTooLong { found: 41, allowed: 40 })]);
}

#[test]
fn the_fields_of_a_head_are_bounded_in_number_and_in_size() {
    let limits = Limits { headers_max: 3, header_bytes_max: 200, ..Limits::default() };
    let read = |lines: &str| Talk::with(limits.clone()).send(format!("GET / HTTP/1.0\r\n{lines}\r\n"));
    assert!(matches!(read("a: 1\r\nb: 2\r\nc: 3\r\n")[..], [Said::Head { .. }]));
    let said = read("a: 1\r\nb: 2\r\nc: 3\r\nd: 4\r\n");
    assert_eq!(said, [Said::Violation(Violation::Headers { found: 4, allowed: 3 })]);
    // Name, value and 32 for each of two fields.
    let value = "v".repeat(200 - 64 - 4);
    assert!(matches!(read(&format!("aa: {value}\r\nb: 1\r\n"))[..], [Said::Head { .. }]));
    let said = read(&format!("aa: {value}\r\nb: 12\r\n"));
    assert_eq!(said, [Said::Violation(Violation::HeaderBytes { found: 201, allowed: 200 })]);
    let said = read(&format!("a:{}b\r\n", " ".repeat(200)));
    assert!(matches!(violation(&said), Violation::HeaderBytes { allowed: 200, .. }), "blanks are bytes too");
}

#[test]
fn a_head_without_end_is_never_stored_beyond_its_limits() {
    let limits = Limits::default();
    let bytes_max = limits.request_line_bytes_max + limits.header_bytes_max;
    for endless in ["x", "GET / HTTP/1.1\r\nx: ", "GET / HTTP/1.1\r\nx: y\r\n"] {
        let mut talk = Talk::with(limits.clone());
        let mut said = talk.send(endless);
        while said.is_empty() {
            said = talk.send("y".repeat(100));
            assert!(talk.http1.ahead.bytes().len() <= bytes_max + 1);
        }
        assert!(matches!(violation(&said), Violation::UriTooLong { .. } | Violation::HeaderBytes { .. }));
        assert!(talk.http1.ahead.is_empty());
    }
}

#[test]
fn a_body_too_large_is_refused_by_its_length_alone() {
    let limits = Limits { request_body_bytes_max: 1_000, ..Limits::default() };
    let said = Talk::with(limits.clone()).send(post("content-length: 1000\r\n", ""));
    assert_eq!(said, [head(1, 0, "/p", false)]);
    for found in [1_001, 9_223_372_036_854_775_808, 1_152_921_504_606_846_976, u64::MAX] {
        let said = Talk::with(limits.clone()).send(post(&format!("content-length: {found}\r\n"), "0123456789"));
        assert_eq!(said, [Said::Violation(Violation::BodyTooLarge { found, allowed: 1_000 })]);
    }
}

#[test]
fn the_same_head_has_the_same_id_and_another_head_another() {
    let mut talk = Talk::new();
    let other = GET.replace("/g", "/h");
    for (stream, (input, id, path)) in
        (1..).zip([(GET, 0, "/g"), (GET, 0, "/g"), (&other, 1, "/h"), (GET, 2, "/g"), (GET, 2, "/g")])
    {
        assert_eq!(talk.send(input), [head(stream, id, path, true)]);
        talk.reply(200, "");
    }
    // Also when it comes in pieces.
    assert_eq!(talk.send(&GET[..20]), []);
    assert_eq!(talk.send(&GET[20..]), [head(6, 2, "/g", true)]);
}

#[test]
fn heads_that_differ_only_in_their_length_are_each_read_right() {
    let mut talk = Talk::new();
    let lengths = ["5", "7", "7", "12", "34", "0", "9", "05", "10", "007", "x7", "77"];
    let mut kept = Vec::new();
    for length in lengths {
        let body = "x".repeat(length.parse().unwrap_or(0));
        let input = post(&format!("content-length: {length}\r\ny: z\r\n"), &body);
        let mut rest = input.as_bytes();
        match talk.http1.advance(&mut rest, talk.now, &talk.output) {
            Some(Event::Head { stream, head, .. }) => {
                talk.stream = stream;
                assert_eq!(head.content_length, length.parse().ok(), "{length}");
                assert_eq!(head.field("content-length"), Some(length.as_bytes()));
                assert_eq!(head.field("y"), Some(&b"z"[..]));
                kept.push((head, length));
            }
            Some(Event::Violation { .. }) => {
                assert_eq!(length, "x7");
                break;
            }
            other => panic!("{length}: {other:?}"),
        }
        talk.accept(100);
        if !body.is_empty() {
            assert_eq!(talk.next(&mut rest), Some(Said::Body(body.into_bytes())));
        }
        talk.reply(200, "");
    }
    let ids: Vec<u32> = kept.iter().map(|(head, _)| head.id).collect();
    assert_eq!(ids, [0, 1, 1, 2, 3, 4, 5, 6, 7, 8], "the same head has the same id and no other has it");
    for (head, length) in kept {
        assert_eq!(head.field("content-length"), Some(length.as_bytes()), "a head that was told never changes");
    }
}

#[test]
fn a_length_beyond_its_limits_is_refused_after_a_good_one_too() {
    let mut talk = Talk::with(Limits { request_body_bytes_max: 50, ..Limits::default() });
    talk.send(post("content-length: 10\r\n", "0123456789"));
    talk.reply(200, "");
    let said = talk.send(post("content-length: 99\r\n", ""));
    assert_eq!(said, [Said::Violation(Violation::BodyTooLarge { found: 99, allowed: 50 })]);
    let digits = |digits: &str| post(&format!("content-length: {digits}\r\n"), "");
    let mut talk = Talk::new();
    talk.send(digits("00000000000000000001") + "x");
    talk.reply(200, "");
    assert!(matches!(talk.send(digits("18446744073709551616"))[..], [Said::Violation(Violation::Framing(_))]));
}

#[test]
fn a_long_head_is_not_remembered() {
    let mut talk = Talk::new();
    let long = format!("GET /l HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(5_000));
    for (input, id) in [(GET, 0), (&long, 1), (&long, 2), (GET, 3)] {
        assert!(matches!(talk.send(input)[..], [Said::Head { id: found, .. }] if found == id));
        talk.reply(200, "");
    }
    assert!(talk.http1.held_bytes() < 8_192, "{} bytes held", talk.http1.held_bytes());
}

#[test]
fn the_bytes_that_chose_the_protocol_begin_the_first_head() {
    let mut talk = Talk::new();
    talk.http1 = Http1::new(Arc::new(Limits::default()), b"P", talk.now);
    assert_eq!(talk.send("UT /p HTTP/1.1\r\nhost: a\r\n\r\n"), [head(1, 0, "/p", true)]);
}
