//! A model whose requests are prepared, on runners, before its batches.

use super::*;
use crate::config::ServerTiming;
use crate::timing::Told;

#[test]
fn answers_come_from_what_was_prepared() {
    let (mut bench, model, preparing) = Bench::preparing(|_| {});
    let runners = [bench.start_runner(), bench.start_runner()];
    let clients: Vec<Client> = (0..20).map(|_| bench.connect()).collect();
    let all: Vec<&Client> = clients.iter().collect();
    clients.iter().zip(0_u8..).for_each(|(client, value)| client.say(infer(f32::from(value))));
    bench.tick(&all);
    let answers: Vec<f64> = bench.hear_all(&all, 1).iter().flat_map(|heard| values_of(heard)).collect();
    assert_eq!(answers, (0..20_u8).map(|value| 2.0 * f64::from(value)).collect::<Vec<_>>());
    assert_eq!(preparing.begun().len(), 20);
    assert!(preparing.preparers() <= 1 + 2, "one to tell that there is one, and no more than runners");
    bench.stop(runners);
    bench.assert_idle();
    assert_eq!(model.recorded().iter().map(|run| run.rows).sum::<u32>(), 20);
    assert!(bench.shared.pool.queued(bench.version().key).is_some_and(|(queued, _)| queued.requests == 0));
}

#[test]
fn one_whose_preparation_fails_harms_nobody() {
    let (mut bench, model, preparing) = Bench::preparing(|_| {});
    preparing.refuse(1.0);
    preparing.panic_at(2.0);
    model.refuse_row(6.0);
    let runner = bench.start_runner();
    let clients: Vec<Client> = (0..5).map(|_| bench.connect()).collect();
    let all: Vec<&Client> = clients.iter().collect();
    clients.iter().zip(0_u8..).for_each(|(client, value)| client.say(infer(f32::from(value))));
    bench.tick(&all);
    let heard: Vec<Heard> = bench.hear_all(&all, 1).into_iter().flatten().collect();
    assert_eq!(heard.iter().map(|heard| heard.status).collect::<Vec<_>>(), [200, 400, 500, 400, 200]);
    assert!(heard[1].body.contains("step 'decode' refuses row 0"), "{}", heard[1].body);
    assert!(heard[2].body.contains("internal error"), "{}", heard[2].body);
    assert!(heard[3].body.contains("refuses this request, step 'check': 6.0 found"), "{}", heard[3].body);
    assert_eq!((value_of(&heard[0]), value_of(&heard[4])), (0.0, 8.0));
    bench.stop([runner]);
    bench.assert_idle();
    let counted = crate::snapshot::counted(&bench.version());
    assert_eq!((counted.panics, counted.rows), (1, 2));
}

#[test]
fn who_leaves_is_not_prepared_and_frees_the_place() {
    let (mut bench, model, preparing) = Bench::preparing(|limits| limits.model_queue_requests_max = 2);
    preparing.hold();
    let runner = bench.start_runner();
    let [first, leaving, late, other] = std::array::from_fn(|_| bench.connect());
    first.say(infer(1.0));
    bench.tick(&[&first]);
    preparing.wait_running(1);
    leaving.say(infer(2.0));
    late.say(infer(3.0));
    bench.tick(&[&leaving, &late]);
    assert_eq!(late.hear_statuses(), [429], "one is prepared, one waits for it");
    leaving.close();
    bench.tick(&[&leaving]);
    other.say(infer(4.0));
    bench.tick(&[&other]);
    preparing.release();
    let heard = bench.hear_all(&[&first, &other], 1);
    assert_eq!(heard.iter().flat_map(|heard| values_of(heard)).collect::<Vec<_>>(), [2.0, 8.0]);
    assert_eq!(preparing.begun(), [1.0, 4.0]);
    bench.stop([runner]);
    bench.assert_idle();
    assert_eq!(model.recorded().iter().map(|run| run.rows).sum::<u32>(), 2);
}

#[test]
fn a_pool_that_stops_answers_what_waits_for_being_prepared() {
    let (mut bench, _model, preparing) = Bench::preparing(|_| {});
    preparing.hold();
    let runner = bench.start_runner();
    let [out, waiting] = [bench.connect(), bench.connect()];
    out.say(infer(1.0));
    bench.tick(&[&out]);
    preparing.wait_running(1);
    waiting.say(infer(2.0));
    bench.tick(&[&waiting]);
    bench.shared.pool.stop(&crate::refusals::draining());
    assert_eq!(bench.hear_all(&[&waiting], 1)[0][0].status, 503);
    preparing.release();
    assert_eq!(bench.hear_all(&[&out], 1)[0][0].status, 503);
    runner.join().expect("a runner ends with its pool");
    bench.assert_idle();
}

#[test]
fn a_model_goes_when_the_last_of_its_requests_was_prepared_and_run() {
    let (mut bench, _model, preparing) = Bench::preparing(|_| {});
    let version = bench.version();
    preparing.hold();
    let runner = bench.start_runner();
    let client = bench.connect();
    client.say(infer(1.0));
    bench.tick(&[&client]);
    preparing.wait_running(1);
    bench.change(|listing| listing.without("ident", "1"));
    bench.tick(&[]);
    bench.shared.pool.close(version.key);
    assert!(bench.shared.pool.queued(version.key).is_some(), "it waits");
    preparing.release();
    assert_eq!(values_of(&bench.hear_all(&[&client], 1)[0]), [2.0]);
    bench.stop([runner]);
    assert!(bench.shared.pool.queued(version.key).is_none(), "it is gone");
    bench.assert_idle();
}

#[test]
fn what_preparing_adds_is_taken_from_the_models_memory_until_the_answer() {
    let (mut bench, model, preparing) = Bench::preparing(|limits| limits.model_in_flight_bytes_max = 64);
    preparing.widen(8);
    model.hold();
    let runner = bench.start_runner();
    let [fits, large] = [bench.connect(), bench.connect()];
    // A shard takes what it needs where a whole block is not to be had; 4 bytes become 32.
    fits.say(infer(1.0));
    bench.tick(&[&fits]);
    model.wait_running(1);
    assert_eq!(bench.model_bytes_free(), 64 - 32);
    model.release();
    assert_eq!(bench.hear_all(&[&fits], 1)[0][0].status, 200);
    preparing.widen(17);
    large.say(infer(1.0));
    bench.tick(&[&large]);
    let heard = bench.hear_all(&[&large], 1);
    assert_eq!(heard[0][0].status, 503);
    assert!(heard[0][0].body.contains("request needs 64 bytes, 60 are free for 'ident'"), "{}", heard[0][0].body);
    bench.stop([runner]);
    bench.assert_idle();
    bench.settle();
    assert_eq!(bench.model_bytes_free(), 64);
}

#[test]
fn a_row_that_becomes_larger_than_a_batch_is_refused() {
    let (mut bench, _model, preparing) = Bench::preparing(|limits| limits.batch_bytes_max = 16);
    let runner = bench.start_runner();
    let client = bench.connect();
    for (widening, status) in [(4, 200), (5, 400)] {
        preparing.widen(widening);
        client.say(infer(1.0));
        bench.tick(&[&client]);
        let heard = bench.hear_all(&[&client], 1).remove(0);
        assert_eq!(heard[0].status, status);
        assert_eq!(status == 400, heard[0].body.contains("one prepared row has 20 bytes, at most 16 are allowed"));
    }
    bench.stop([runner]);
    bench.assert_idle();
}

#[test]
fn steps_are_counted_and_told() {
    let (mut bench, _model, _preparing) = Bench::preparing(|_| {});
    bench.shard.desk.told = Told::new(ServerTiming::Always);
    let runner = bench.start_runner();
    let client = bench.connect();
    client.say(infer(1.0) + &get("/v2/models/ident/config"));
    bench.tick(&[&client]);
    let heard = bench.hear_all(&[&client], 2).remove(0);
    let timing = field(&heard[0].head, "server-timing").expect("it is told always");
    assert!(
        timing.contains("output;dur=0.000, decode;dur=1.000, scale_by_2;dur=2.000, model;dur=4.000, total;"),
        "{timing}"
    );
    let config: serde_json::Value = serde_json::from_str(&heard[1].body).expect("JSON");
    assert_eq!(config["servekit"]["steps"][0], serde_json::json!({"name": "decode", "place": "row"}));
    assert_eq!(config["servekit"]["execution"], "pool");
    bench.stop([runner]);
    let counted = crate::snapshot::counted(&bench.version());
    let counts = |step: &servekit_core::StepSnapshot| (step.place, step.seconds.counts.iter().sum::<u64>());
    assert_eq!(counted.steps.iter().map(counts).collect::<Vec<_>>(), [("row", 1), ("batch", 1), ("model", 1)]);
}

#[test]
fn a_request_of_a_model_with_steps_has_its_own_longest_deadline() {
    let change = |limits: &mut Limits| limits.pipeline_ms_max = 50;
    let (mut bench, _model, _preparing) = Bench::preparing(change);
    let client = bench.connect();
    client.say(infer(1.0));
    bench.tick(&[&client]);
    bench.clock.advance_ms(49);
    bench.tick(&[]);
    assert!(client.hear().is_empty());
    // Deadlines are looked at once in a while.
    bench.clock.advance_ms(26);
    bench.tick(&[]);
    assert_eq!(client.hear_statuses(), [504]);
    let (mut bench, _model) = Bench::serving(Placement::Pool, change);
    let client = bench.connect();
    client.say(infer(1.0));
    bench.tick(&[&client]);
    bench.clock.advance_ms(75);
    bench.tick(&[]);
    assert!(client.hear().is_empty(), "others have all of their time");
}

#[test]
fn a_drain_waits_for_what_is_being_prepared() {
    let (mut bench, _model, preparing) = Bench::preparing(|_| {});
    preparing.hold();
    let runner = bench.start_runner();
    let client = bench.connect();
    client.say(infer(1.0));
    bench.tick(&[&client]);
    preparing.wait_running(1);
    let leave_at = bench.clock.now();
    bench.change(|listing| listing.at(Phase::Draining { leave_at }));
    bench.tick(&[]);
    assert!(!bench.shared.wait_idle(Duration::ZERO));
    preparing.release();
    assert_eq!(values_of(&bench.hear_all(&[&client], 1)[0]), [2.0]);
    bench.tick(&[]);
    assert!(bench.shared.wait_idle(Duration::ZERO));
    bench.stop([runner]);
    bench.assert_idle();
}
