//! A model from which requests go on to others, each with a queue of its own.

use super::*;

fn leg() -> FakeModel {
    FakeModel::new(fixtures::ident())
}

impl Bench {
    /// Whether the queue of this leg, counted from 0, is open, and how many requests wait there.
    fn waiting_in(&self, leg: usize) -> Option<usize> {
        let version = self.version();
        let key = version.journey.as_ref().expect("it has legs").keys[leg];
        self.shared.pool.queued(key).map(|(queued, _)| queued.requests)
    }
}

#[test]
fn requests_go_through_all_legs_in_batches() {
    let legs = [leg(), leg()];
    let (mut bench, model, _chain) = Bench::leading(&legs, 1, |_| {});
    let clients: Vec<Client> = (0..20).map(|_| bench.connect()).collect();
    let all: Vec<&Client> = clients.iter().collect();
    clients.iter().zip(0_u8..).for_each(|(client, value)| client.say(infer(f32::from(value))));
    // All wait when the runner begins, so all run together.
    bench.tick(&all);
    let runner = bench.start_runner();
    let answers: Vec<f64> = bench.hear_all(&all, 1).iter().flat_map(|heard| values_of(heard)).collect();
    assert_eq!(answers, (0..20_u8).map(f64::from).collect::<Vec<_>>());
    bench.stop([runner]);
    bench.assert_idle();
    for model in [&model, &legs[0], &legs[1]] {
        assert_eq!(model.recorded().iter().map(|run| run.rows).collect::<Vec<_>>(), [20]);
    }
    bench.settle();
    assert_eq!(bench.model_bytes_free(), bench.shared.limits.model_in_flight_bytes_max);
    let told = crate::snapshot::take(&bench.shared, std::time::SystemTime::now()).models.remove(0);
    assert_eq!(
        (&told["rows"], &told["legs"][0]["rows"], &told["legs"][1]["runs"]),
        (&20.into(), &20.into(), &1.into())
    );
    assert_eq!(told["legs"][1]["name"], "ident/2");
    let why = crate::why::why(&bench.shared, &bench.version());
    assert_eq!(why["legs"][0]["figures"]["batches"]["rows_mean"], 20.0);
    assert_eq!(
        why["legs"][1]["sentences"][0],
        "Batches had 20 rows on average, of at most 64; they left the queue because a lane was free (100 %)."
    );
    let waits = |counted: &serde_json::Value| {
        let counts = counted["queue"]["counts"].as_array().expect("counts");
        counts.iter().filter_map(serde_json::Value::as_u64).sum::<u64>()
    };
    assert_eq!([&told, &told["legs"][0], &told["legs"][1]].map(waits), [20; 3]);
}

#[test]
fn a_leg_may_have_more_rows_than_the_request_and_runs_them_in_parts() {
    let legs = [leg()];
    let (mut bench, _model, _chain) = Bench::leading(&legs, 7, |limits| limits.batch_rows_max = 4);
    let client = bench.connect();
    client.say(infer(3.0));
    bench.tick(&[&client]);
    let runner = bench.start_runner();
    assert_eq!(values_of(&bench.hear_all(&[&client], 1)[0]), [3.0]);
    bench.stop([runner]);
    bench.assert_idle();
    assert_eq!(legs[0].recorded().iter().map(|run| run.rows).collect::<Vec<_>>(), [4, 3]);
}

#[test]
fn one_who_fails_in_a_leg_or_between_legs_harms_nobody() {
    let legs = [leg()];
    let (mut bench, model, chain) = Bench::leading(&legs, 2, |_| {});
    model.refuse_row(1.0);
    chain.refuse(2.0);
    legs[0].refuse_row(3.0);
    legs[0].panic_at(4.0);
    let clients: Vec<Client> = (0..6).map(|_| bench.connect()).collect();
    let all: Vec<&Client> = clients.iter().collect();
    clients.iter().zip(0_u8..).for_each(|(client, value)| client.say(infer(f32::from(value))));
    bench.tick(&all);
    let runner = bench.start_runner();
    let heard: Vec<Heard> = bench.hear_all(&all, 1).into_iter().flatten().collect();
    assert_eq!(heard.iter().map(|heard| heard.status).collect::<Vec<_>>(), [200, 400, 400, 400, 500, 200]);
    assert!(heard[2].body.contains("nothing leads on from here"), "{}", heard[2].body);
    // The request has one row, whatever the leg makes of it.
    assert!(heard[3].body.contains("refuses this request, step 'check': 3.0 found"), "{}", heard[3].body);
    assert_eq!((value_of(&heard[0]), value_of(&heard[5])), (0.0, 5.0));
    bench.stop([runner]);
    bench.assert_idle();
    bench.settle();
    assert_eq!(bench.model_bytes_free(), bench.shared.limits.model_in_flight_bytes_max);
}

#[test]
fn who_leaves_between_legs_goes_no_further() {
    let legs = [leg()];
    let (mut bench, model, _chain) = Bench::leading(&legs, 1, |_| {});
    model.hold();
    let [leaving, staying] = [bench.connect(), bench.connect()];
    leaving.say(infer(1.0));
    staying.say(infer(2.0));
    bench.tick(&[&leaving, &staying]);
    let runner = bench.start_runner();
    model.wait_running(1);
    leaving.close();
    bench.tick(&[&leaving]);
    model.release();
    assert_eq!(values_of(&bench.hear_all(&[&staying], 1)[0]), [2.0]);
    bench.stop([runner]);
    bench.assert_idle();
    assert_eq!(legs[0].recorded().iter().map(|run| run.values.clone()).collect::<Vec<_>>(), [[2.0]]);
}

#[test]
fn a_full_queue_of_a_leg_refuses_who_comes_there() {
    let legs = [leg()];
    let (mut bench, model, _chain) = Bench::leading_into(&legs, 1, |_| {}, |policy| policy.requests_max = 4);
    let clients: Vec<Client> = (0..6).map(|_| bench.connect()).collect();
    let all: Vec<&Client> = clients.iter().collect();
    clients.iter().zip(0_u8..).for_each(|(client, value)| client.say(infer(f32::from(value))));
    bench.tick(&all);
    let runner = bench.start_runner();
    let heard: Vec<Heard> = bench.hear_all(&all, 1).into_iter().flatten().collect();
    assert_eq!(heard.iter().map(|heard| heard.status).collect::<Vec<_>>(), [200, 200, 200, 200, 429, 429]);
    assert!(heard[4].body.contains("queue of 'ident/1' holds 4 of 4 requests"), "{}", heard[4].body);
    bench.stop([runner]);
    bench.assert_idle();
    assert_eq!(model.recorded().iter().map(|run| run.rows).collect::<Vec<_>>(), [6]);
    bench.settle();
    assert_eq!(bench.model_bytes_free(), bench.shared.limits.model_in_flight_bytes_max);
}

#[test]
fn a_row_that_is_too_large_for_a_leg_is_refused() {
    let (mut bench, _model, _chain) = Bench::leading_into(&[leg()], 1, |_| {}, |policy| policy.bytes_max = 3);
    let client = bench.connect();
    client.say(infer(1.0));
    bench.tick(&[&client]);
    let runner = bench.start_runner();
    let heard = bench.hear_all(&[&client], 1).remove(0);
    assert_eq!(heard[0].status, 400);
    assert!(heard[0].body.contains("one prepared row has 4 bytes, at most 3 are allowed"), "{}", heard[0].body);
    bench.stop([runner]);
    bench.assert_idle();
}

#[test]
fn legs_go_one_after_the_other_when_the_last_request_has_left_them() {
    let legs = [leg()];
    let (mut bench, _model, _chain) = Bench::leading(&legs, 1, |_| {});
    let version = bench.version();
    legs[0].hold();
    let client = bench.connect();
    client.say(infer(1.0));
    bench.tick(&[&client]);
    let runner = bench.start_runner();
    legs[0].wait_running(1);
    bench.change(|listing| listing.without("ident", "1"));
    bench.tick(&[]);
    bench.shared.pool.close(version.key);
    let keys = &version.journey.as_ref().expect("it has legs").keys;
    let is_open = |bench: &Bench| [0, 1].map(|leg: usize| bench.shared.pool.queued(keys[leg]).is_some());
    assert_eq!(is_open(&bench), [false, true], "the second still has somebody");
    legs[0].release();
    assert_eq!(values_of(&bench.hear_all(&[&client], 1)[0]), [1.0]);
    bench.stop([runner]);
    assert_eq!(is_open(&bench), [false, false]);
    bench.assert_idle();
}

#[test]
fn a_pool_that_stops_answers_who_is_between_legs() {
    let legs = [leg()];
    let (mut bench, model, _chain) = Bench::leading(&legs, 1, |_| {});
    model.hold();
    let client = bench.connect();
    client.say(infer(1.0));
    bench.tick(&[&client]);
    let runner = bench.start_runner();
    model.wait_running(1);
    bench.shared.pool.stop(&crate::refusals::draining());
    model.release();
    assert_eq!(bench.hear_all(&[&client], 1)[0][0].status, 503);
    runner.join().expect("a runner ends with its pool");
    assert_eq!(bench.waiting_in(1), Some(0));
    bench.assert_idle();
}

#[test]
fn what_goes_on_is_taken_from_the_models_memory_until_the_answer() {
    let legs = [leg()];
    let change = |limits: &mut Limits| limits.model_in_flight_bytes_max = 64;
    let (mut bench, _model, _chain) = Bench::leading(&legs, 3, change);
    legs[0].hold();
    let client = bench.connect();
    client.say(infer(1.0));
    bench.tick(&[&client]);
    let runner = bench.start_runner();
    legs[0].wait_running(1);
    // What was sent, what was carried, and three copies of it.
    assert_eq!(bench.model_bytes_free(), 64 - 4 - 4 - 3 * 4);
    legs[0].release();
    assert_eq!(bench.hear_all(&[&client], 1)[0][0].status, 200);
    bench.stop([runner]);
    let (mut bench, _model, _chain) = Bench::leading(&legs, 20, change);
    let client = bench.connect();
    client.say(infer(1.0));
    bench.tick(&[&client]);
    let runner = bench.start_runner();
    let heard = bench.hear_all(&[&client], 1);
    assert_eq!(heard[0][0].status, 503);
    assert!(heard[0][0].body.contains("request needs 84 bytes, 60 are free for 'ident'"), "{}", heard[0][0].body);
    bench.stop([runner]);
    bench.assert_idle();
}
