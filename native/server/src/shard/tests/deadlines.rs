use super::*;

#[test]
fn an_expired_request_is_never_run() {
    let (mut bench, model) = Bench::serving(Placement::Inline, |_| {});
    let client = bench.connect();
    client.say(infer_with(1.0, "x-request-timeout-ms: 0\r\n"));
    bench.tick(&[&client]);
    let heard = client.hear();
    assert_eq!(heard[0].status, 504);
    assert!(heard[0].body.contains("Request timeout expired"));
    assert!(model.recorded().is_empty());
    bench.assert_idle();
}

#[test]
fn a_deadline_is_told_while_the_batch_still_runs() {
    let (mut bench, model) = Bench::serving(Placement::Pool, |_| {});
    model.hold();
    let runner = bench.start_runner();
    let client = bench.connect();
    client.say(infer_with(1.0, "x-request-timeout-ms: 50\r\n"));
    bench.tick(&[&client]);
    model.wait_running(1);
    bench.clock.advance_ms(49);
    bench.tick(&[]);
    assert!(client.hear().is_empty());
    assert!(bench.shard.wait().is_some_and(|wait| wait <= Duration::from_millis(25)));
    bench.clock.advance_ms(26);
    bench.tick(&[]);
    assert_eq!(client.hear_statuses(), [504]);
    model.release();
    bench.wait_woken();
    bench.tick(&[]);
    assert!(client.hear().is_empty());
    client.say(infer(2.0));
    bench.tick(&[&client]);
    bench.wait_woken();
    bench.tick(&[]);
    assert_eq!(values_of(&client.hear()), [2.0]);
    bench.shared.pool.stop(&crate::refusals::draining());
    runner.join().expect("a runner ends with its pool");
    bench.assert_idle();
}

#[test]
fn a_caller_who_says_nothing_waits_as_long_as_the_server_says() {
    let (mut bench, _model) = Bench::serving(Placement::Pool, |limits| limits.queue_wait_ms_max = 200);
    let client = bench.connect();
    client.say(infer(1.0));
    bench.tick(&[&client]);
    bench.clock.advance_ms(199);
    bench.tick(&[]);
    assert!(client.hear().is_empty());
    bench.clock.advance_ms(1);
    bench.tick(&[]);
    assert_eq!(client.hear_statuses(), [504]);
    bench.assert_idle();
}

#[test]
fn a_latency_target_is_the_deadline_of_who_says_nothing() {
    let (mut bench, _model) = Bench::serving(Placement::Pool, |limits| limits.latency_target_ms = Some(100));
    let clients = [bench.connect(), bench.connect()];
    clients[0].say(infer(1.0));
    clients[1].say(infer_with(1.0, "x-request-timeout-ms: 1000\r\n"));
    bench.tick(&[&clients[0], &clients[1]]);
    bench.clock.advance_ms(100);
    bench.tick(&[]);
    assert_eq!(clients[0].hear_statuses(), [504]);
    assert!(clients[1].hear().is_empty());
}

#[test]
fn what_lay_unread_past_its_deadline_is_told_so_before_its_body() {
    let (mut bench, model) = Bench::serving(Placement::Inline, |limits| {
        (limits.latency_target_ms, limits.batch_rows_max) = (Some(100), 1);
    });
    model.take_time(&bench.clock, Duration::from_millis(30));
    let clients = [bench.connect(), bench.connect(), bench.connect(), bench.connect()];
    clients[2].say(infer(1.0));
    clients[3].say(infer(2.0));
    bench.tick(&[&clients[2], &clients[3]]);
    // These came during the run of the first, nobody knows when.
    let length = json(1.0).len();
    let head = format!("POST /v2/models/ident/infer HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n");
    clients[0].say(format!("{head}\r\n"));
    clients[1].say(format!("{head}x-request-timeout-ms: 1000\r\n\r\n"));
    bench.clock.advance_ms(70);
    bench.tick(&[&clients[0], &clients[1]]);
    let heard = clients[0].hear();
    assert_eq!(heard[0].status, 504);
    assert!(heard[0].body.contains("100 ms passed in the queue, the deadline allows 100 ms"), "{}", heard[0].body);
    clients[0].say(json(2.0) + &infer(3.0));
    clients[1].say(json(4.0));
    bench.tick(&[&clients[0], &clients[1]]);
    bench.tick(&[]);
    assert_eq!(values_of(&clients[0].hear()), [3.0], "the body that came nevertheless is dropped");
    assert_eq!(values_of(&clients[1].hear()), [4.0]);
    let counted = bench.version().counters[0].snapshot();
    assert_eq!(counted.shed["expired"], 2, "it, and the one that was queued behind the run");
    bench.assert_idle();
}

#[test]
fn a_long_deadline_is_cut() {
    let (mut bench, _model) = Bench::serving(Placement::Pool, |limits| limits.deadline_ms_max = 300);
    let client = bench.connect();
    client.say(infer_with(1.0, "x-request-timeout-ms: 99999999\r\n"));
    bench.tick(&[&client]);
    bench.clock.advance_ms(300);
    bench.tick(&[]);
    assert_eq!(client.hear_statuses(), [504]);
    bench.assert_idle();
}

#[test]
fn triton_clients_say_it_in_the_request() {
    let (mut bench, _model) = Bench::serving(Placement::Pool, |_| {});
    let client = bench.connect();
    client.say(post(&json(1.0).replacen('{', r#"{"parameters":{"timeout":40000},"#, 1), ""));
    bench.tick(&[&client]);
    bench.clock.advance_ms(39);
    bench.tick(&[]);
    assert!(client.hear().is_empty());
    bench.clock.advance_ms(1);
    bench.tick(&[]);
    assert_eq!(client.hear_statuses(), [504]);
}

#[test]
fn time_runs_while_a_request_lies_unread_behind_a_long_run() {
    let (mut bench, model) = Bench::serving(Placement::Inline, |limits| limits.batch_rows_max = 1);
    model.take_time(&bench.clock, Duration::from_millis(30));
    let clients = [bench.connect(), bench.connect(), bench.connect()];
    clients[0].say(infer(1.0));
    clients[1].say(infer(2.0));
    bench.tick(&[&clients[0], &clients[1]]);
    // It came during the run of the first, nobody knows when, and the second has yet to run.
    clients[2].say(infer_with(3.0, "x-request-timeout-ms: 59\r\n"));
    bench.tick(&[&clients[2]]);
    bench.tick(&[]);
    let statuses: Vec<u16> = clients.iter().flat_map(Client::hear_statuses).collect();
    assert_eq!(statuses, [200, 200, 504]);
    bench.assert_idle();
}

#[test]
fn nobody_waits_until_a_flood_is_read_and_what_lay_unread_grows_old() {
    let (mut bench, _model) = Bench::serving(Placement::Inline, |_| {});
    let flood: Vec<Client> = (0..40).map(|_| bench.connect()).collect();
    bench.tick(&[]);
    for client in &flood {
        client.ends.borrow_mut().reading = Some((bench.clock.clone(), Duration::from_millis(2)));
        client.say(infer_with(1.0, "x-request-timeout-ms: 60\r\n"));
    }
    bench.tick(&flood.iter().collect::<Vec<_>>());
    let answered = |clients: &[Client]| clients.iter().flat_map(Client::hear_statuses).collect::<Vec<u16>>();
    assert_eq!(answered(&flood), [200; 17], "the clock is looked at after 16; one of those left over has its turn");
    // Whoever comes now goes before those left over.
    let newcomer = bench.connect();
    newcomer.say(infer_with(2.0, "x-request-timeout-ms: 90\r\n"));
    bench.tick(&[&newcomer]);
    assert_eq!(newcomer.hear_statuses(), [200]);
    assert_eq!(answered(&flood), [504; 16], "68 ms have passed since they could be heard");
    assert_eq!(bench.shard.wait(), Some(Duration::ZERO), "there is more to read");
    bench.tick(&[]);
    assert_eq!(answered(&flood), [504; 7]);
    bench.assert_idle();
}

#[test]
fn a_shard_that_was_stopped_counts_from_when_it_was_to_wake() {
    let (mut bench, _model) = Bench::serving(Placement::Inline, |_| {});
    let clients = [bench.connect(), bench.connect()];
    bench.tick(&[]);
    let asleep = bench.shard.wait().expect("connections are looked after");
    bench.clock.advance(asleep + Duration::from_secs(3));
    clients[0].say(infer_with(1.0, "x-request-timeout-ms: 3000\r\n"));
    clients[1].say(infer_with(2.0, "x-request-timeout-ms: 3001\r\n"));
    bench.tick(&[&clients[0], &clients[1]]);
    assert_eq!(clients[0].hear_statuses(), [504]);
    assert_eq!(values_of(&clients[1].hear()), [2.0]);
}

#[test]
fn a_shard_that_has_slept_counts_from_when_it_woke() {
    let (mut bench, model) = Bench::serving(Placement::Inline, |limits| limits.batch_rows_max = 1);
    model.take_time(&bench.clock, Duration::from_millis(30));
    let client = bench.connect();
    bench.tick(&[]);
    bench.clock.advance_ms(500);
    client.say(infer_with(3.0, "x-request-timeout-ms: 40\r\n"));
    bench.tick(&[&client]);
    assert_eq!(client.hear_statuses(), [200]);
}
