use super::streams::{DATA, PREFACE, frame, frames, infer_on};
use super::*;

const PING: u8 = 6;
const ACK: u8 = 1;

fn begin(bench: &Bench, delay_ms: u64) {
    let leave_at = bench.clock.now() + Duration::from_millis(delay_ms);
    bench.change(|listing| listing.at(Phase::Draining { leave_at }));
}

#[test]
fn readiness_turns_at_once_and_service_goes_on() {
    let (mut bench, _model) = Bench::serving(Placement::Inline, |_| {});
    let client = bench.connect();
    begin(&bench, 5_000);
    client.say(get("/v2/health/ready") + &get("/v2/health/live") + &infer(1.0));
    bench.tick(&[&client]);
    let heard = client.hear();
    assert_eq!(heard[0].body, "{\"ready\":false}");
    assert_eq!(heard.iter().map(|heard| heard.status).collect::<Vec<_>>(), [503, 200, 200]);
    assert!(heard.iter().all(|heard| !heard.head.contains("connection: close")));
    assert!(!bench.shard.has_left());
    assert!(bench.shard.wait().is_some_and(|wait| wait <= Duration::from_secs(5)));
}

#[test]
fn clients_are_asked_to_go_and_every_accepted_request_is_answered() {
    let (mut bench, model) = Bench::serving(Placement::Pool, |_| {});
    model.hold();
    let runner = bench.start_runner();
    let [busy, idle] = [bench.connect(), bench.connect()];
    busy.say(infer(1.0));
    bench.tick(&[&busy, &idle]);
    model.wait_running(1);
    begin(&bench, 5_000);
    bench.clock.advance_ms(5_000);
    bench.tick(&[]);
    assert!(bench.shard.has_left());
    assert!(idle.is_closed() && !busy.is_closed());
    assert!(!bench.shared.wait_idle(Duration::ZERO));
    model.release();
    bench.wait_woken();
    bench.tick(&[]);
    let heard = busy.hear();
    assert_eq!(values_of(&heard), [1.0]);
    assert!(heard[0].head.contains("connection: close"));
    bench.tick(&[]);
    assert!(busy.is_closed());
    assert!(bench.shared.wait_idle(Duration::ZERO));
    bench.shared.pool.stop(&crate::refusals::draining());
    runner.join().expect("a runner ends with its pool");
    bench.assert_idle();
}

#[test]
fn a_request_that_was_on_its_way_is_answered_with_the_farewell() {
    let (mut bench, _model) = Bench::serving(Placement::Inline, |_| {});
    let [eager, silent] = [bench.connect(), bench.connect()];
    for client in [&eager, &silent] {
        client.say(infer(1.0));
        bench.tick(&[client]);
        assert_eq!(client.hear_statuses(), [200]);
    }
    begin(&bench, 0);
    bench.tick(&[]);
    assert!(!eager.is_closed() && !silent.is_closed());
    assert!(!bench.shared.wait_idle(Duration::ZERO));
    assert!(bench.shard.wait().is_some_and(|wait| wait <= Duration::from_millis(200)));
    eager.say(infer(2.0));
    bench.tick(&[&eager]);
    let heard = eager.hear();
    assert_eq!(values_of(&heard), [2.0]);
    assert!(heard[0].head.contains("connection: close"));
    bench.clock.advance_ms(200);
    bench.tick(&[]);
    bench.tick(&[]);
    assert!(eager.is_closed() && silent.is_closed());
    assert!(bench.shared.wait_idle(Duration::ZERO));
    bench.assert_idle();
}

#[test]
fn a_call_that_was_sent_before_its_sender_heard_is_answered() {
    let (mut bench, _model) = Bench::serving(Placement::Inline, |_| {});
    let client = bench.connect();
    client.say(PREFACE);
    client.say(infer_on(1, 1.0, &[]));
    bench.tick(&[&client]);
    assert!(frames(&client).iter().any(|(_, stream, _)| *stream == 1));
    begin(&bench, 0);
    bench.tick(&[]);
    let asked = frames(&client).into_iter().find(|(kind, ..)| *kind == PING).expect("whether it has heard").2;
    bench.tick(&[]);
    assert!(!bench.shared.wait_idle(Duration::ZERO), "a call may be on its way");
    client.say(infer_on(3, 2.0, &[]));
    client.say(frame(PING, ACK, 0, &asked));
    bench.tick(&[&client]);
    assert!(frames(&client).iter().any(|(kind, stream, _)| (*kind, *stream) == (DATA, 3)), "a message");
    bench.tick(&[]);
    assert!(!bench.shared.wait_idle(Duration::ZERO) && !client.is_closed(), "it may not have read its answer");
    client.close();
    bench.tick(&[&client]);
    assert!(bench.shared.wait_idle(Duration::ZERO) && client.is_closed());
}

#[test]
fn whoever_does_not_close_after_its_last_answer_is_waited_for_a_second() {
    let (mut bench, _model) = Bench::serving(Placement::Inline, |_| {});
    let client = bench.connect();
    client.say(PREFACE);
    bench.tick(&[&client]);
    begin(&bench, 0);
    bench.tick(&[]);
    client.say(infer_on(1, 1.0, &[]));
    bench.tick(&[&client]);
    let asked = frames(&client).into_iter().find(|(kind, ..)| *kind == PING).expect("whether it has heard").2;
    client.say(frame(PING, ACK, 0, &asked));
    bench.tick(&[&client]);
    bench.clock.advance_ms(999);
    bench.tick(&[]);
    assert!(!bench.shared.wait_idle(Duration::ZERO) && !client.is_closed());
    bench.clock.advance_ms(501);
    bench.tick(&[]);
    bench.tick(&[]);
    assert!(bench.shared.wait_idle(Duration::ZERO) && client.is_closed());
}

#[test]
fn whoever_has_no_answer_in_time_is_told_and_counted() {
    let (mut bench, _model) = Bench::serving(Placement::Pool, |_| {});
    let client = bench.connect();
    client.say(infer(1.0));
    bench.tick(&[&client]);
    begin(&bench, 0);
    bench.tick(&[]);
    assert!(client.hear().is_empty());
    bench.change(|listing| listing.at(Phase::Ending));
    bench.tick(&[]);
    let heard = client.hear();
    assert_eq!(heard[0].status, 503);
    assert!(heard[0].head.contains("servekit-refusal: draining"));
    assert_eq!(bench.shared.unanswered.load(Ordering::Relaxed), 1);
    assert!(bench.shared.wait_idle(Duration::ZERO));
    bench.assert_idle();
}

#[test]
fn an_answer_that_is_not_written_yet_is_waited_for() {
    let (mut bench, _model) = Bench::serving(Placement::Inline, |_| {});
    let client = bench.connect();
    client.set_room(10);
    client.say(infer(1.0));
    bench.tick(&[&client]);
    begin(&bench, 0);
    bench.tick(&[]);
    assert!(!bench.shared.wait_idle(Duration::ZERO));
    client.set_room(usize::MAX);
    bench.tick(&[&client]);
    assert!(bench.shared.wait_idle(Duration::ZERO));
}
