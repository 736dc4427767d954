use super::*;

#[test]
fn a_request_gets_one_answer() {
    let (mut bench, model) = Bench::serving(Placement::Inline, |_| {});
    let client = bench.connect();
    client.say(infer(1.5));
    bench.tick(&[&client]);
    assert_eq!(values_of(&client.hear()), [1.5]);
    assert_eq!(model.recorded().len(), 1);
    let counted = bench.counted();
    assert_eq!((counted.accepted, counted.answered, counted.connections), (1, 1, 1));
    bench.assert_idle();
}

#[test]
fn what_is_ready_in_one_tick_shares_a_run() {
    let (mut bench, model) = Bench::serving(Placement::Inline, |_| {});
    let clients = [bench.connect(), bench.connect(), bench.connect()];
    clients.iter().zip([1.0, 2.0, 3.0]).for_each(|(client, value)| client.say(infer(value)));
    bench.tick(&clients.iter().collect::<Vec<_>>());
    let answers: Vec<f64> = clients.iter().flat_map(|client| values_of(&client.hear())).collect();
    assert_eq!(answers, [1.0, 2.0, 3.0]);
    let runs = model.recorded();
    assert_eq!(runs.iter().map(|run| (run.rows, run.items)).collect::<Vec<_>>(), [(3, 3)]);
    bench.assert_idle();
}

#[test]
fn a_shard_hears_who_asks_while_its_long_runs_go_on() {
    let (mut bench, model) = Bench::serving(Placement::Inline, |limits| limits.batch_rows_max = 1);
    model.take_time(&bench.clock, Duration::from_millis(1));
    let clients = [bench.connect(), bench.connect(), bench.connect()];
    clients.iter().zip([1.0, 2.0, 3.0]).for_each(|(client, value)| client.say(infer(value)));
    bench.tick(&clients.iter().collect::<Vec<_>>());
    let answered = || clients.iter().map(|client| client.hear().len()).collect::<Vec<_>>();
    assert_eq!(answered(), [1, 0, 0]);
    assert_eq!(bench.shard.wait(), Some(Duration::ZERO));
    let other = bench.connect();
    other.say(get("/v2/health/live"));
    bench.tick(&[&other]);
    assert_eq!((answered(), other.hear_statuses()), (vec![0, 1, 0], vec![200]));
    bench.tick(&[]);
    assert_eq!(answered(), [0, 0, 1]);
    assert_ne!(bench.shard.wait(), Some(Duration::ZERO));
    bench.assert_idle();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (mut bench, _model) = Bench::serving(Placement::Inline, |_| {});
    let client = bench.connect();
    let many: String = (0..100).map(|n| if n % 2 == 0 { infer(n as f32) } else { get("/v2/health/live") }).collect();
    client.say(many);
    bench.tick(&[&client]);
    while bench.shard.wait() == Some(Duration::ZERO) {
        bench.tick(&[]);
    }
    let heard = client.hear();
    assert_eq!(heard.len(), 100);
    for (n, heard) in heard.iter().enumerate() {
        if n % 2 == 0 {
            assert_eq!(value_of(heard), n as f64);
        } else {
            assert_eq!(heard.body, "{\"live\":true}");
        }
    }
    bench.assert_idle();
}

#[test]
fn a_request_may_come_in_single_bytes() {
    let (mut bench, _model) = Bench::serving(Placement::Inline, |_| {});
    let client = bench.connect();
    for byte in infer(2.5).bytes() {
        assert!(client.hear().is_empty());
        client.say([byte]);
        bench.tick(&[&client]);
    }
    assert_eq!(values_of(&client.hear()), [2.5]);
    bench.assert_idle();
}

#[test]
fn a_pool_model_answers_by_mailbox() {
    let (mut bench, model) = Bench::serving(Placement::Pool, |_| {});
    let runner = bench.start_runner();
    let clients = [bench.connect(), bench.connect()];
    clients.iter().for_each(|client| client.say(infer(4.0)));
    bench.tick(&[&clients[0], &clients[1]]);
    bench.wait_woken();
    bench.tick(&[]);
    assert_eq!(values_of(&clients[0].hear()), [4.0]);
    assert_eq!(values_of(&clients[1].hear()), [4.0]);
    assert_eq!(model.recorded().len(), 1);
    bench.shared.pool.stop(&crate::refusals::draining());
    runner.join().expect("a runner ends with its pool");
    bench.assert_idle();
}

#[test]
fn an_inline_model_leaves_to_a_runner_what_is_larger_than_was_tried() {
    let (mut bench, model) = Bench::serving(Placement::Inline, |_| {});
    let runner = bench.start_runner();
    let client = bench.connect();
    let body = |columns: usize| {
        let data = vec!["1"; columns].join(",");
        format!(r#"{{"inputs":[{{"name":"x","shape":[1,{columns}],"datatype":"FP32","data":[{data}]}}]}}"#)
    };
    let columns_max = INLINE_BYTES_MAX as usize / size_of::<f32>();
    client.say(post(&body(columns_max), ""));
    bench.tick(&[&client]);
    assert_eq!(values_of(&client.hear()), [1.0], "as large as was tried: answered in its tick");
    client.say(post(&body(columns_max + 1), ""));
    bench.tick(&[&client]);
    bench.wait_woken();
    bench.tick(&[]);
    assert_eq!(values_of(&client.hear()), [1.0]);
    assert_eq!(model.recorded().len(), 2);
    bench.shared.pool.stop(&crate::refusals::draining());
    runner.join().expect("a runner ends with its pool");
    bench.assert_idle();
}

#[test]
fn a_caller_who_leaves_does_not_harm_the_batch() {
    let (mut bench, model) = Bench::serving(Placement::Pool, |_| {});
    let [leaver, other] = [bench.connect(), bench.connect()];
    leaver.say(infer(1.0));
    other.say(infer(2.0));
    bench.tick(&[&leaver, &other]);
    leaver.close();
    bench.tick(&[&leaver]);
    assert!(leaver.is_closed());
    let runner = bench.start_runner();
    bench.wait_woken();
    bench.tick(&[]);
    assert_eq!(values_of(&other.hear()), [2.0]);
    assert!(leaver.hear().is_empty());
    assert_eq!(model.recorded()[0].values, [2.0]);
    assert_eq!(bench.counted().cancelled, 1);
    bench.shared.pool.stop(&crate::refusals::draining());
    runner.join().expect("a runner ends with its pool");
    bench.assert_idle();
}

#[test]
fn the_fault_of_one_caller_is_theirs_alone() {
    let (mut bench, model) = Bench::serving(Placement::Inline, |_| {});
    model.reject(9.0);
    let clients: Vec<Client> = (0..8).map(|_| bench.connect()).collect();
    for (n, client) in clients.iter().enumerate() {
        client.say(infer(if n == 3 { 9.0 } else { n as f32 }));
    }
    bench.tick(&clients.iter().collect::<Vec<_>>());
    for (n, client) in clients.iter().enumerate() {
        let heard = client.hear();
        if n == 3 {
            assert_eq!(heard[0].status, 400);
            assert!(heard[0].head.contains("servekit-refusal: row"));
        } else {
            assert_eq!(values_of(&heard), [n as f64]);
        }
    }
    bench.assert_idle();
}

#[test]
fn a_panic_in_the_engine_fails_its_own_request_only() {
    let (mut bench, model) = Bench::serving(Placement::Inline, |_| {});
    model.panic_at(9.0);
    let clients = [bench.connect(), bench.connect()];
    clients[0].say(infer(9.0));
    clients[1].say(infer(1.0));
    bench.tick(&[&clients[0], &clients[1]]);
    assert_eq!(clients[0].hear_statuses(), [500]);
    assert_eq!(values_of(&clients[1].hear()), [1.0]);
    bench.assert_idle();
}

#[test]
fn a_lost_lane_is_replaced() {
    let (mut bench, model) = Bench::serving(Placement::Inline, |_| {});
    let client = bench.connect();
    model.lose();
    client.say(infer(1.0));
    bench.tick(&[&client]);
    let heard = client.hear();
    assert_eq!(heard[0].status, 503);
    assert!(heard[0].head.contains("retry-after: 1") && heard[0].head.contains("retry-after-ms: 1"));
    bench.assert_idle();
}

#[test]
fn a_refusal_is_answered_before_the_connection_goes_on() {
    let (mut bench, _model) = Bench::serving(Placement::Inline, |_| {});
    let client = bench.connect();
    client.say(post(r#"{"id":"7","inputs":[]}"#, "") + &infer(1.0));
    bench.tick(&[&client]);
    let heard = client.hear();
    assert_eq!(heard[0].status, 400);
    assert!(heard[0].body.starts_with(r#"{"error":"[request id: 7] expected 1 inputs"#), "{}", heard[0].body);
    assert_eq!(value_of(&heard[1]), 1.0);
    bench.assert_idle();
}

#[test]
fn heads_are_refused_before_their_bodies_are_read() {
    let (mut bench, _model) = Bench::serving(Placement::Inline, |_| {});
    let cases = [
        ("POST /v2/models/nope/infer HTTP/1.1\r\n", "", 404, "model"),
        ("POST /v2/models/ident/versions/2/infer HTTP/1.1\r\n", "", 404, "model"),
        ("POST /v3 HTTP/1.1\r\n", "", 404, "route"),
        ("PUT /v2/models/ident/infer HTTP/1.1\r\n", "", 405, "method"),
        ("POST /v2/repository/models/ident/load HTTP/1.1\r\n", "", 404, "management"),
        ("POST /v2/models/ident/infer HTTP/1.1\r\n", "content-type: multipart/form-data\r\n", 415, "media_type"),
        ("POST /v2/models/ident/infer HTTP/1.1\r\n", "content-encoding: br\r\n", 415, "encoding"),
        ("POST /v2/models/ident/infer HTTP/1.1\r\n", "x-request-timeout-ms: soon\r\n", 400, "field"),
    ];
    for (line, field, status, label) in cases {
        let client = bench.connect();
        client.say(format!("{line}host: a\r\n{field}content-length: 10\r\n\r\n"));
        bench.tick(&[&client]);
        let heard = client.hear();
        assert_eq!(heard[0].status, status, "{line}");
        assert!(heard[0].head.contains(&format!("servekit-refusal: {label}")), "{}", heard[0].head);
        assert_eq!(bench.counted().refusals[label], if label == "model" && line.contains("ident") { 2 } else { 1 });
    }
    bench.assert_idle();
}

#[test]
fn a_405_names_the_verbs_that_are_allowed() {
    let (mut bench, _model) = Bench::serving(Placement::Inline, |_| {});
    let client = bench.connect();
    client.say("GET /v2/models/ident/infer HTTP/1.1\r\nhost: a\r\n\r\nDELETE /v2 HTTP/1.1\r\nhost: a\r\n\r\n");
    bench.tick(&[&client]);
    let heard = client.hear();
    assert!(heard[0].head.contains("allow: POST"), "{}", heard[0].head);
    assert!(heard[1].head.contains("allow: GET, HEAD"), "{}", heard[1].head);
}

#[test]
fn what_is_not_served_yet_says_so() {
    let mut bench = Bench::new(|_| {});
    let absent =
        |absence| Entry { name: "ident".into(), version: "1".into(), required: true, state: State::Absent(absence) };
    let client = bench.connect();
    let failed = crate::Absence::Failed { label: "model_file".into(), reason: "/secret/path".into() };
    for (absence, label) in [(crate::Absence::Loading, "loading"), (failed, "model_failed")] {
        bench.change(|listing| listing.with(absent(absence.clone())));
        client.say(infer(1.0) + &get("/v2/health/ready") + &get("/v2/models/ident/ready"));
        bench.tick(&[&client]);
        let heard = client.hear();
        assert_eq!(heard.iter().map(|heard| heard.status).collect::<Vec<_>>(), [503, 503, 503]);
        assert!(heard[0].head.contains(&format!("servekit-refusal: {label}")));
        assert!(!heard[0].body.contains("secret"));
    }
    bench.publish(Placement::Inline);
    client.say(get("/v2/health/ready") + &infer(1.0));
    bench.tick(&[&client]);
    assert_eq!(client.hear_statuses(), [200, 200]);
}

#[test]
fn a_model_tells_how_it_is_configured_and_why_it_is_as_fast_as_it_is() {
    let (mut bench, _model) = Bench::serving(Placement::Inline, |_| {});
    let client = bench.connect();
    client.say(infer(1.0) + &get("/v2/models/ident/config") + &get("/v2/models/ident/versions/1/why"));
    bench.tick(&[&client]);
    let heard = client.hear();
    assert_eq!(heard.iter().map(|heard| heard.status).collect::<Vec<_>>(), [200, 200, 200]);
    let [config, why] = [1, 2].map(|at| serde_json::from_str::<serde_json::Value>(&heard[at].body).expect("JSON"));
    assert_eq!((&config["name"], &config["max_batch_size"]), (&"ident".into(), &64.into()));
    assert_eq!(
        (&why["model"], &why["version"], &why["figures"]["answered"]),
        (&"ident".into(), &"1".into(), &1.into())
    );
    assert!(why["sentences"][0].as_str().is_some_and(|text| text.starts_with("Of 1 requests in ")), "{why}");
    client.say(get("/v2/models/nope/why") + &get("/v2/models/ident/versions/2/config"));
    bench.tick(&[&client]);
    assert_eq!(client.hear_statuses(), [404, 404]);
}
