//! Where the time went, told to callers.

use super::streams::{PREFACE, frames, infer_on, messages};
use super::*;
use crate::config::ServerTiming;
use crate::timing::Told;

const FIELD: &str = "server-timing";

fn serving(mode: ServerTiming) -> Bench {
    let (mut bench, model) = Bench::serving(Placement::Inline, |_| {});
    model.take_time(&bench.clock, Duration::from_micros(2_500));
    bench.shard.desk.told = Told::new(mode);
    bench
}

#[test]
fn answers_tell_where_their_time_went() {
    let mut bench = serving(ServerTiming::Always);
    let clients = [bench.connect(), bench.connect()];
    let binary = json(1.0).replacen('{', r#"{"parameters":{"binary_data_output":true},"#, 1);
    clients[0].say(infer(1.0));
    clients[1].say(post(&binary, ""));
    bench.tick(&[&clients[0], &clients[1]]);
    let expected = concat!(
        r#"queue;dur=0.000, batch;desc="rows=2 reason=idle", input;dur=0.000, run;dur=2.500, output;dur=0.000, "#,
        "total;dur=2.500"
    );
    let heard = &clients[0].hear()[0];
    assert_eq!(field(&heard.head, FIELD), Some(expected));
    let heard = clients[1].hear_bytes();
    let head = String::from_utf8_lossy(&heard[..heard.len() - 4]).into_owned();
    assert_eq!(field(&head, FIELD), Some(expected));
    assert!(field(&head, "inference-header-content-length").is_some());
    bench.assert_idle();
}

#[test]
fn answers_say_nothing_unless_they_are_told_to() {
    let mut bench = serving(ServerTiming::Off);
    let client = bench.connect();
    client.say(infer_with(1.0, "x-request-timing: 1\r\n"));
    bench.tick(&[&client]);
    assert_eq!(field(&client.hear()[0].head, FIELD), None);
}

#[test]
fn who_asks_is_told_where_some_are() {
    let mut bench = serving(ServerTiming::Sampled);
    let client = bench.connect();
    client.say(infer(1.0) + &infer_with(1.0, "x-request-timing: 1\r\n") + &infer(1.0));
    bench.tick(&[&client]);
    let told: Vec<bool> = client.hear().iter().map(|heard| field(&heard.head, FIELD).is_some()).collect();
    assert_eq!(told, [false, true, false]);
}

#[test]
fn a_call_is_told_behind_its_answer() {
    let mut bench = serving(ServerTiming::Always);
    let client = bench.connect();
    client.say([PREFACE.to_vec(), infer_on(1, 1.0, &[])].concat());
    bench.tick(&[&client]);
    let heard = frames(&client);
    assert_eq!(messages(&heard, 1).len(), 1);
    let (_, _, trailers) = heard.iter().rfind(|(_, stream, _)| *stream == 1).expect("an answer");
    let trailers = String::from_utf8_lossy(trailers).into_owned();
    assert!(trailers.contains("grpc-status\u{1}0") && trailers.contains("run;dur=2.500"), "{trailers:?}");
}
