use super::*;

#[test]
fn the_connection_that_is_idle_longest_makes_room() {
    let (mut bench, _model) = Bench::serving(Placement::Pool, |limits| limits.connections_max = 3);
    let [busy, first, second] = [bench.connect(), bench.connect(), bench.connect()];
    bench.clock.advance_ms(1);
    busy.say(infer(1.0));
    first.say(get("/v2/health/live"));
    bench.tick(&[&busy, &first, &second]);
    bench.clock.advance_ms(1);
    let newcomer = bench.connect();
    assert!(second.is_closed());
    assert!(!busy.is_closed() && !first.is_closed() && !newcomer.is_closed());
    let counted = bench.counted();
    assert_eq!((counted.connections, counted.connections_closed["connections"]), (3, 1));
}

#[test]
fn a_newcomer_waits_where_no_connection_is_idle() {
    let (mut bench, _model) = Bench::serving(Placement::Pool, |limits| limits.connections_max = 2);
    let clients = [bench.connect(), bench.connect()];
    clients.iter().for_each(|client| client.say(infer(1.0)));
    bench.tick(&[&clients[0], &clients[1]]);
    assert!(bench.connect_from(Peer::Local).is_err());
    assert!(clients.iter().all(|client| !client.is_closed()));
    clients[0].close();
    bench.tick(&[&clients[0]]);
    assert!(bench.connect_from(Peer::Local).is_ok());
}

#[test]
fn a_client_that_does_not_read_keeps_nobody_elses_memory() {
    let (mut bench, _model) = Bench::serving(Placement::Inline, |_| {});
    let client = bench.connect();
    client.set_room(10);
    client.say(infer(1.0));
    bench.tick(&[&client]);
    assert_eq!(client.hear_bytes().len(), 10);
    assert!(bench.counted().in_flight_bytes > 0);
    client.set_room(usize::MAX);
    bench.tick(&[&client]);
    assert!(client.hear_bytes().ends_with(b"}"));
    bench.assert_idle();
}

#[test]
fn a_half_closed_client_still_hears_its_answer() {
    let (mut bench, _model) = Bench::serving(Placement::Inline, |_| {});
    let client = bench.connect();
    client.say(infer(3.0));
    client.close();
    bench.tick(&[&client]);
    assert_eq!(values_of(&client.hear()), [3.0]);
    while !client.is_closed() && bench.shard.wait() == Some(Duration::ZERO) {
        bench.tick(&[]);
    }
    assert!(client.is_closed());
    assert_eq!(bench.counted().connections, 0);
    bench.assert_idle();
}

#[test]
fn an_idle_connection_ends_in_time() {
    let (mut bench, _model) = Bench::serving(Placement::Inline, |limits| limits.connection_idle_ms_max = 1_000);
    let client = bench.connect();
    client.say(get("/v2"));
    bench.tick(&[&client]);
    assert_eq!(client.hear_statuses(), [200]);
    for _ in 0..8 {
        bench.clock.advance_ms(250);
        bench.tick(&[]);
    }
    assert!(client.is_closed());
    assert_eq!(bench.counted().connections_closed["idle"], 1);
}

#[test]
fn a_head_that_does_not_end_is_answered_in_time() {
    let (mut bench, _model) = Bench::serving(Placement::Inline, |limits| limits.header_read_ms_max = 1_000);
    let client = bench.connect();
    client.say("GET /v2 HTTP/1.1\r\nhost");
    bench.tick(&[&client]);
    for _ in 0..8 {
        bench.clock.advance_ms(250);
        bench.tick(&[]);
    }
    let heard = client.hear();
    assert_eq!(heard[0].status, 408);
    assert!(heard[0].head.contains("connection: close"));
    assert_eq!(bench.counted().refusals["read_timeout"], 1);
}

#[test]
fn idle_connections_go_when_memory_is_short() {
    let (mut bench, _model) = Bench::serving(Placement::Inline, |_| {});
    let client = bench.connect();
    client.say(get("/v2"));
    bench.tick(&[&client]);
    bench.shared.pressure.note(80, 100);
    bench.clock.advance_ms(1_000);
    bench.tick(&[]);
    assert!(client.is_closed());
}

#[test]
fn every_connection_has_its_turn() {
    let (mut bench, _model) = Bench::serving(Placement::Inline, |_| {});
    let [loud, quiet] = [bench.connect(), bench.connect()];
    loud.say(post(&"x".repeat(8 << 20), ""));
    quiet.say(get("/v2"));
    bench.tick(&[&loud, &quiet]);
    assert_eq!(quiet.hear_statuses(), [200]);
    assert!(!loud.ends.borrow().incoming.is_empty());
    assert_eq!(bench.shard.wait(), Some(Duration::ZERO));
    while !loud.ends.borrow().incoming.is_empty() {
        bench.tick(&[]);
    }
    assert_eq!(loud.hear_statuses(), [400]);
    bench.assert_idle();
}
