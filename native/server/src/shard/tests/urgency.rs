//! Who goes first, and who is told at the door that it is too late.

use super::streams::{PREFACE, called, frames, infer_message, infer_on};
use super::*;

fn prior(level: &str) -> String {
    format!("x-request-priority: {level}\r\n")
}

fn with_parameters(parameters: &str) -> String {
    json(1.0).replacen('{', &format!(r#"{{"parameters":{{{parameters}}},"#), 1)
}

#[test]
fn each_level_has_its_own_target() {
    let (mut bench, _model) = Bench::serving(Placement::Pool, |limits| limits.latency_target_ms = Some(100));
    let requests = [
        (infer(1.0), 100),
        (infer_with(1.0, &prior("0")), 100),
        (infer_with(1.0, &prior("2")), 200),
        (post(&with_parameters(r#""priority":3"#), ""), 300),
        (post(&with_parameters(r#""priority":4"#), &prior("1")), 400),
        (post(&with_parameters(r#""priority":0"#), &prior("5")), 500),
        (post(&with_parameters(r#""priority":6,"timeout":50000"#), ""), 50),
    ];
    for (request, target_ms) in requests {
        let client = bench.connect();
        client.say(&request);
        bench.tick(&[&client]);
        bench.clock.advance_ms(target_ms - 1);
        bench.tick(&[]);
        assert!(client.hear().is_empty(), "{request}");
        // Deadlines are looked at once in a while.
        bench.clock.advance_ms(26);
        bench.tick(&[]);
        assert_eq!(client.hear_statuses(), [504], "{request}");
    }
    bench.assert_idle();
}

#[test]
fn a_level_beyond_the_last_is_refused() {
    let (mut bench, _model) = Bench::serving(Placement::Inline, |limits| limits.priority_levels_max = 3);
    let cases = [
        (infer_with(1.0, &prior("3")), 200),
        (infer_with(1.0, &prior("4")), 400),
        (post(&with_parameters(r#""priority":3"#), ""), 200),
        (post(&with_parameters(r#""priority":4"#), ""), 400),
    ];
    for (request, status) in cases {
        let client = bench.connect();
        client.say(&request);
        bench.tick(&[&client]);
        let heard = client.hear();
        assert_eq!(heard[0].status, status, "{request}");
        if status == 400 {
            assert_eq!(field(&heard[0].head, "servekit-refusal"), Some("field"));
            assert!(heard[0].body.contains("levels from 0 to 3"), "{}", heard[0].body);
        }
    }
    bench.assert_idle();
}

/// The pool would answer a newcomer of the highest class after this long.
fn foresee(bench: &Bench, wait_ms: u64) {
    let answered_at = bench.clock.now() + Duration::from_millis(wait_ms);
    bench.version().outlook.publish(0, Some(answered_at));
}

#[test]
fn who_would_be_late_is_told_before_its_body_is_read() {
    let (mut bench, _model) = Bench::serving(Placement::Pool, |limits| limits.latency_target_ms = Some(100));
    foresee(&bench, 2_180);
    let client = bench.connect();
    let length = json(1.0).len();
    client.say(format!("POST /v2/models/ident/infer HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n"));
    bench.tick(&[&client]);
    let heard = client.hear();
    assert_eq!(heard[0].status, 503);
    assert_eq!(field(&heard[0].head, "servekit-refusal"), Some("overloaded"));
    let wait_ms: u64 = field(&heard[0].head, "retry-after-ms").and_then(|ms| ms.parse().ok()).expect("a number");
    let wait_s: u64 = field(&heard[0].head, "retry-after").and_then(|s| s.parse().ok()).expect("a number");
    assert!((2_180..=3_270).contains(&wait_ms), "the predicted wait times 1 to 1.5: {wait_ms}");
    assert_eq!(wait_s, wait_ms.div_ceil(1_000), "the same wait, rounded up");
    assert!(heard[0].body.contains("'ident' would answer in 2180 ms, the deadline allows 100 ms"), "{}", heard[0].body);
    let model = bench.version().counters[0].snapshot();
    assert_eq!((model.requests[0].outcome, model.in_flight_requests), ("overloaded", 0));
    assert_eq!(bench.counted().refusals["overloaded"], 1);
    // The body that comes nevertheless is dropped, and the connection goes on.
    client.say(json(1.0) + &get("/v2/health/live"));
    bench.tick(&[&client]);
    assert_eq!(client.hear_statuses(), [200]);
    bench.assert_idle();
}

#[test]
fn who_can_wait_or_is_of_another_class_comes_in() {
    let (mut bench, _model) = Bench::serving(Placement::Pool, |limits| limits.latency_target_ms = Some(100));
    foresee(&bench, 180);
    let clients = [bench.connect(), bench.connect(), bench.connect()];
    clients[0].say(infer_with(1.0, "x-request-timeout-ms: 180\r\n"));
    clients[1].say(infer_with(1.0, &prior("2")));
    clients[2].say(infer_with(1.0, "x-request-timeout-ms: 179\r\n"));
    bench.tick(&clients.iter().collect::<Vec<_>>());
    assert_eq!(bench.counted().accepted, 2);
    assert_eq!(clients[2].hear_statuses(), [503]);
}

#[test]
fn what_a_shard_runs_itself_does_not_wait_for_runners() {
    let (mut bench, _model) = Bench::serving(Placement::Inline, |limits| limits.latency_target_ms = Some(100));
    foresee(&bench, 1_000);
    let client = bench.connect();
    client.say(infer(1.0));
    bench.tick(&[&client]);
    assert_eq!(values_of(&client.hear()), [1.0]);
}

#[test]
fn a_message_is_judged_by_its_own_terms_before_its_tensors() {
    let (mut bench, _model) = Bench::serving(Placement::Pool, |limits| limits.latency_target_ms = Some(100));
    foresee(&bench, 180);
    let client = bench.connect();
    client.say(PREFACE);
    let infer = "/inference.GRPCInferenceService/ModelInfer";
    let parameter = |name: &str, value: &[u8]| {
        let value = [&[0x12, value.len() as u8][..], value].concat();
        let entry = [&[0x0a, name.len() as u8][..], name.as_bytes(), &value].concat();
        [&[0x22, entry.len() as u8][..], &entry].concat()
    };
    let patient = [infer_message(1.0), parameter("timeout", &[0x10, 0x90, 0xa1, 0x0f])].concat();
    let other_class = [infer_message(1.0), parameter("priority", &[0x28, 2])].concat();
    client.say(called(1, infer, &[], &patient));
    client.say(called(3, infer, &[], &other_class));
    client.say(infer_on(5, 1.0, &[("x-request-priority", "2")]));
    bench.tick(&[&client]);
    assert_eq!(bench.counted().accepted, 3, "250 ms, and a class that nobody waits in, twice");
    assert!(frames(&client).iter().all(|(_, stream, _)| *stream == 0));
    // Its tensors are wrong, but nobody looks at them.
    let broken = [infer_message(1.0), vec![0x3a, 1, 0]].concat();
    client.say(called(7, infer, &[], &broken));
    // The pool itself has told since that it is idle.
    foresee(&bench, 180);
    bench.tick(&[&client]);
    let told = frames(&client).into_iter().find(|(_, stream, _)| *stream == 7).expect("an answer").2;
    let told = String::from_utf8_lossy(&told).into_owned();
    for part in ["grpc-status\u{2}14", "overloaded", "grpc-retry-pushback-ms"] {
        assert!(told.contains(part), "{told:?}");
    }
    assert_eq!(bench.version().counters[0].snapshot().requests[0].outcome, "overloaded");
}

#[test]
fn a_class_beyond_those_with_a_target_has_the_last_ones() {
    let (bench, _model) = Bench::serving(Placement::Pool, |limits| limits.latency_target_ms = Some(100));
    let version = bench.version();
    let targets = [0, 7, 8, 255].map(|priority| version.served.target(priority));
    assert_eq!(targets, [100, 800, 800, 800].map(Duration::from_millis));
}
