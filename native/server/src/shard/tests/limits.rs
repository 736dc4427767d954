use super::*;

#[test]
fn bytes_in_flight_end_at_their_limit() {
    let (mut bench, _model) = Bench::serving(Placement::Pool, |limits| limits.in_flight_bytes_max = 1_000);
    let client = |bench: &mut Bench, length: usize| {
        let client = bench.connect();
        client.say(format!("POST /v2/models/ident/infer HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n"));
        bench.tick(&[&client]);
        client
    };
    let fits = client(&mut bench, 1_000);
    assert!(fits.hear().is_empty());
    let heard = client(&mut bench, 1).hear();
    assert_eq!(heard[0].status, 503);
    assert!(heard[0].head.contains("servekit-refusal: memory"));
    fits.close();
    bench.tick(&[&fits]);
    bench.assert_idle();
    assert!(client(&mut bench, 1_000).hear().is_empty());
}

#[test]
fn a_models_bytes_end_at_their_limit() {
    let (mut bench, _model) = Bench::serving(Placement::Pool, |limits| limits.model_in_flight_bytes_max = 8);
    let clients: Vec<Client> = (0..3).map(|_| bench.connect()).collect();
    clients.iter().for_each(|client| client.say(infer(1.0)));
    bench.tick(&clients.iter().collect::<Vec<_>>());
    assert!(clients[0].hear().is_empty() && clients[1].hear().is_empty());
    let heard = clients[2].hear();
    assert_eq!(heard[0].status, 503);
    assert!(heard[0].body.contains("0 are free for 'ident'"), "{}", heard[0].body);
}

#[test]
fn a_queue_ends_at_its_limit() {
    let (mut bench, _model) = Bench::serving(Placement::Pool, |limits| limits.model_queue_requests_max = 2);
    let clients: Vec<Client> = (0..3).map(|_| bench.connect()).collect();
    clients.iter().for_each(|client| client.say(infer(1.0)));
    bench.tick(&clients.iter().collect::<Vec<_>>());
    assert!(clients[0].hear().is_empty() && clients[1].hear().is_empty());
    assert_eq!(clients[2].hear_statuses(), [429]);
    // Known to be full now: the head alone is refused.
    let head = infer(1.0);
    let late = bench.connect();
    late.say(head.split_once("\r\n\r\n").map(|(head, _)| format!("{head}\r\n\r\n")).expect("a head"));
    bench.tick(&[&late]);
    let heard = late.hear();
    assert_eq!(heard[0].status, 429);
    assert!(heard[0].body.contains("holds 2 of 2 requests: Exceeds maximum queue size"), "{}", heard[0].body);
    assert_eq!(bench.counted().refusals["queue_full"], 2);
}

#[test]
fn requests_of_the_process_end_at_their_limit() {
    let (mut bench, _model) = Bench::serving(Placement::Pool, |limits| limits.queue_requests_max = 2);
    let clients: Vec<Client> = (0..3).map(|_| bench.connect()).collect();
    clients.iter().for_each(|client| client.say(infer(1.0)));
    bench.tick(&clients.iter().collect::<Vec<_>>());
    assert_eq!(clients.iter().map(|client| client.hear_statuses().len()).collect::<Vec<_>>(), [0, 0, 1]);
}

#[test]
fn memory_in_use_refuses_large_bodies_first() {
    let (mut bench, _model) = Bench::serving(Placement::Inline, |_| {});
    let client = bench.connect();
    let large = format!("POST /v2/models/ident/infer HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", (1 << 20) + 1);
    bench.shared.pressure.note(90, 100);
    client.say(infer(1.0));
    bench.tick(&[&client]);
    assert_eq!(client.hear_statuses(), [200]);
    client.say(large);
    bench.tick(&[&client]);
    assert_eq!(client.hear_statuses(), [503]);
    bench.shared.pressure.note(95, 100);
    let client = bench.connect();
    client.say(infer(1.0) + &get("/v2/health/live"));
    bench.tick(&[&client]);
    assert_eq!(client.hear_statuses(), [503, 200]);
}

#[test]
fn memory_of_large_requests_is_given_back_once_the_shard_is_quiet() {
    let (mut bench, _model) = Bench::serving(Placement::Inline, |_| {});
    let client = bench.connect();
    let given_back = |bench: &Bench| bench.given_back.load(Ordering::Relaxed);
    for (padding, expected) in [(0, 0), (5 << 20, 1), (5 << 20, 2)] {
        client.say(post(&(json(1.0) + &" ".repeat(padding)), ""));
        while client.hear_statuses().is_empty() {
            bench.tick(&[&client]);
        }
        bench.clock.advance(QUIET_MIN - Duration::from_millis(1));
        bench.tick(&[]);
        assert_eq!(given_back(&bench), expected.max(1) - 1);
        assert!(expected == 0 || bench.shard.wait() == Some(Duration::from_millis(1)));
        bench.clock.advance_ms(1);
        bench.tick(&[]);
        assert_eq!((given_back(&bench), bench.shard.owes_memory()), (expected, false));
    }
}

#[test]
fn a_connection_of_failing_rows_runs_alone_for_a_while() {
    let (mut bench, model) = Bench::serving(Placement::Inline, |_| {});
    model.reject(9.0);
    let [failing, other] = [bench.connect(), bench.connect()];
    let batch_of = |bench: &mut Bench| {
        failing.say(infer(1.0));
        other.say(infer(2.0));
        bench.tick(&[&failing, &other]);
        assert_eq!((failing.hear_statuses(), other.hear_statuses()), (vec![200], vec![200]));
        model.recorded().len()
    };
    for failures in 1..=3 {
        failing.say(infer(9.0));
        bench.tick(&[&failing]);
        assert_eq!(failing.hear_statuses(), [400]);
        let _failed = model.recorded();
        assert_eq!(batch_of(&mut bench), if failures < 3 { 1 } else { 2 });
    }
    bench.clock.advance_ms(10_000);
    assert_eq!(batch_of(&mut bench), 1);
}

#[test]
fn an_answer_ends_at_its_limit() {
    let (mut bench, _model) = Bench::serving(Placement::Inline, |limits| limits.response_body_bytes_max = 10);
    let client = bench.connect();
    client.say(infer(1.0));
    bench.tick(&[&client]);
    let heard = client.hear();
    assert_eq!(heard[0].status, 413);
    assert!(heard[0].head.contains("servekit-refusal: response"));
    bench.assert_idle();
}
