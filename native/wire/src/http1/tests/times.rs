use super::*;

const CLOSED: fn(CloseReason) -> Said = |reason| Said::Closing(Some(reason));

#[test]
fn a_head_has_its_time_from_its_first_byte() {
    let mut talk = Talk::new();
    assert_eq!(talk.pass(20_000), []);
    assert_eq!(talk.send("G"), []);
    for byte in GET.as_bytes()[1..10].iter() {
        assert_eq!(talk.pass(1_000), []);
        assert_eq!(talk.send([*byte]), []);
    }
    assert_eq!(talk.pass(999), []);
    let violation = Violation::ReadTimeout { found: 10, expected: None, elapsed_ms: 10_000 };
    assert_eq!(talk.pass(1), [Said::Violation(violation)]);
    talk.reply(408, "slow");
    let written = talk.written();
    assert!(written.starts_with("HTTP/1.1 408 Request Timeout\r\n") && written.contains("connection: close"));
    assert_eq!(talk.hear(), [Said::Closing(None)]);
}

#[test]
fn a_body_may_be_slow_for_its_grace_and_no_longer() {
    let late = |found, expected, elapsed_ms| Said::Violation(Violation::ReadTimeout { found, expected, elapsed_ms });
    let mut talk = Talk::new();
    talk.send(post("content-length: 80\r\n", "01234"));
    assert_eq!(talk.pass(4_999), []);
    assert_eq!(talk.pass(1), [late(5, Some(80), 5_000)]);

    let mut talk = Talk::new();
    talk.send(chunked("5\r\nhello\r\n0\r\n"));
    assert_eq!(talk.pass(5_000), [late(5, None, 5_000)]);

    let mut talk = Talk::new();
    talk.send(post("content-length: 100000\r\n", &"x".repeat(5_120)));
    assert_eq!(talk.pass(5_000), []);
    assert_eq!(talk.pass(1_000), [late(5_120, Some(100_000), 6_000)]);
}

#[test]
fn a_body_that_is_fast_enough_still_has_an_end() {
    let mut talk = Talk::new();
    talk.send(post("content-length: 1000000\r\n", &"x".repeat(500_000)));
    assert_eq!(talk.pass(119_999), []);
    let expected = Some(1_000_000);
    assert_eq!(
        talk.pass(1),
        [Said::Violation(Violation::ReadTimeout { found: 500_000, expected, elapsed_ms: 120_000 })]
    );
}

#[test]
fn a_peer_does_not_pay_for_the_time_of_the_owner() {
    let mut talk = Talk::new();
    let input = post("content-length: 5\r\n", "");
    let mut rest = input.as_bytes();
    talk.next(&mut rest);
    assert_eq!(talk.pass(500_000), [], "not accepted yet");
    let mut talk = Talk::new();
    talk.send(GET);
    assert_eq!(talk.pass(500_000), [], "not answered yet");
    let mut talk = Talk::new();
    let mut rest = input.as_bytes();
    talk.next(&mut rest);
    talk.accept(1);
    assert_eq!(talk.next(&mut rest), Some(Said::Grow { bytes: 5 }));
    talk.now += Duration::from_secs(500);
    talk.http1.on_time(talk.now, &mut talk.output);
    assert_eq!(talk.next(&mut rest), None, "not granted yet");
}

#[test]
fn a_late_violation_gives_way_to_an_answer_that_was_already_there() {
    let mut talk = Talk::new();
    talk.send(post("content-length: 80\r\n", "01234"));
    talk.now += Duration::from_secs(5);
    talk.http1.on_time(talk.now, &mut talk.output);
    talk.reply(504, "deadline");
    assert_eq!(talk.hear(), [Said::Closing(None)]);
    assert_eq!(answers(&talk.written()), 1);
}

#[test]
fn an_idle_connection_is_closed() {
    let mut talk = Talk::new();
    assert_eq!(talk.pass(74_999), []);
    talk.send(GET);
    talk.reply(200, "ok");
    assert_eq!(talk.pass(10_000), []);
    talk.written();
    assert_eq!(talk.pass(74_999), [], "idle once the answer is written");
    assert_eq!(talk.pass(1), [CLOSED(CloseReason::Idle)]);
    assert!(talk.http1.ended());
    assert_eq!(talk.pass(100_000), []);
}

#[test]
fn an_old_connection_goes_at_once_when_idle_and_else_with_its_answer() {
    let limits = Limits { connection_idle_max: Duration::from_secs(10_000), ..Limits::default() };
    let mut talk = Talk::with(limits.clone());
    assert_eq!(talk.pass(1_799_999), []);
    assert_eq!(talk.pass(1), [CLOSED(CloseReason::Age)]);
    assert!(talk.http1.ended());

    let mut talk = Talk::with(limits.clone());
    talk.send(GET);
    assert_eq!(talk.pass(1_800_000), []);
    talk.reply(200, "ok");
    assert!(talk.written().contains("connection: close"));
    assert_eq!(talk.hear(), [CLOSED(CloseReason::Age)]);

    let mut talk = Talk::with(limits.clone());
    talk.send(GET);
    assert_eq!(talk.pass(1_800_000), []);
    assert_eq!(talk.pass(29_999), []);
    assert_eq!(talk.pass(1), [Said::Reset(1), CLOSED(CloseReason::Age)], "the grace has an end");

    let mut talk = Talk::with(Limits { connection_age_max: Duration::ZERO, ..limits });
    assert_eq!(talk.pass(9_999_999), [], "zero is never");
}

#[test]
fn a_peer_that_takes_nothing_is_given_up_and_its_bytes_given_back() {
    let mut talk = Talk::new();
    talk.send(GET);
    talk.now += Duration::from_secs(60);
    talk.reply(200, &"x".repeat(100_000));
    assert_eq!(talk.pass(29_999), []);
    talk.output.consume(1_000);
    talk.http1.wrote(talk.now, &talk.output);
    talk.send(GET);
    assert_eq!(talk.pass(29_999), []);
    assert_eq!(talk.pass(1), [Said::Reset(2), CLOSED(CloseReason::WriteTimeout)]);
    assert!(talk.http1.ended() && talk.output.is_empty());
    assert_eq!(talk.output.held_bytes(), 0);
}

#[test]
fn a_closing_connection_that_cannot_write_is_given_up_too() {
    let mut talk = Talk::new();
    talk.send("GET / HTTP/1.0\r\n\r\n");
    talk.reply(200, "ok");
    assert_eq!(talk.hear(), [Said::Closing(None)]);
    assert_eq!(talk.pass(30_000), [CLOSED(CloseReason::WriteTimeout)]);
    assert!(talk.http1.ended() && talk.output.is_empty());
    assert_eq!(talk.pass(30_000), []);
}

#[test]
fn lingering_lasts_a_second_from_the_last_byte_written() {
    let mut talk = Talk::new();
    talk.send("nonsense\r\n\r\n");
    talk.reply(400, "no");
    assert_eq!(talk.hear(), [Said::Closing(None)]);
    assert_eq!(talk.pass(5_000), []);
    assert!(talk.http1.lingering(), "the answer is not written yet");
    talk.written();
    talk.pass(999);
    assert!(talk.http1.lingering() && talk.http1.wants_input());
    talk.pass(1);
    assert!(talk.http1.ended() && !talk.http1.lingering());
}

#[test]
fn a_body_that_nobody_wants_does_not_hold_the_connection_for_long() {
    let mut talk = Talk::new();
    let input = post("content-length: 80\r\n", "");
    let mut rest = input.as_bytes();
    talk.next(&mut rest);
    talk.reply(429, "no");
    talk.written();
    assert_eq!(talk.pass(4_999), []);
    assert_eq!(talk.pass(1), [Said::Closing(None)]);
    assert!(talk.http1.ended());
}
