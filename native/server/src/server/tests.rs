//! A whole server over real sockets.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use servekit_core::{Limits, Policy};
use servekit_testing::FakeModel;

use super::*;
use crate::config::{AccessLog, DataPorts, LogFormat, ServerTiming};
use crate::dialect::fixtures;
use crate::listing::Placement;

const PATIENCE: Duration = Duration::from_secs(20);

fn config(shards: usize, change: impl FnOnce(&mut Limits)) -> Config {
    let mut limits = servekit_testing::limits();
    change(&mut limits);
    Config {
        data: DataPorts { host: "127.0.0.1".into(), http_port: Some(0), grpc_port: Some(0), uds: None },
        shards,
        runners: 1,
        limits,
        access: AccessLog { sample: 0.0, format: LogFormat::Text, lines_per_second_max: 10, field_bytes_max: 64 },
        log: Box::new(|_, _| {}),
        server_timing: ServerTiming::Off,
        give_back_memory: Box::new(|| {}),
    }
}

fn served(placement: Placement) -> (Served, FakeModel) {
    let contract = fixtures::ident();
    let model = FakeModel::new(contract.clone());
    let served = Served {
        name: contract.model.clone(),
        version: "1".into(),
        model: Arc::new(model.clone()),
        placement,
        inline_bytes_max: u64::MAX,
        policy: Policy::of(&contract, &servekit_testing::limits()),
        targets: [Duration::ZERO].into(),
        priority_default: 1,
        required: true,
        platform: "onnxruntime_onnx".into(),
        properties: Vec::new(),
        description: serde_json::Map::new(),
        legs: Vec::new(),
    };
    (served, model)
}

/// A listening server with one model.
fn serving(placement: Placement, shards: usize, change: impl FnOnce(&mut Limits)) -> (Server, FakeModel) {
    let server = Server::bind(config(shards, change)).expect("free ports");
    let (served, model) = served(placement);
    server.publish(served).expect("a fake model has lanes");
    server.listen().expect("listens");
    (server, model)
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.addresses().http.expect("bound")).expect("listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

fn infer(stream: &mut impl Write) {
    let body = r#"{"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[1.5]}]}"#;
    let head = format!("POST /v2/models/ident/infer HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes()).expect("sent");
}

fn get(stream: &mut impl Write, path: &str) {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).expect("sent");
}

/// Head and body of the next answer.
fn hear(stream: &mut impl Read) -> (String, String) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("text");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    let mut body = vec![0; length.parse().expect("a number")];
    stream.read_exact(&mut body).expect("a body");
    (head, String::from_utf8(body).expect("text"))
}

fn assert_answered(stream: &mut impl Read) {
    let (head, body) = hear(stream);
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}{body}");
    assert!(body.contains(r#""data":[1.5]"#), "{body}");
}

#[test]
fn nobody_is_let_in_before_the_server_listens() {
    let server = Server::bind(config(1, |_| {})).expect("free ports");
    let address = server.addresses().http.expect("bound");
    assert!(TcpStream::connect(address).is_err());
    server.announce("ident", "1", true, Absence::Loading);
    server.listen().expect("listens");
    let mut stream = connect(&server);
    get(&mut stream, "/v2/health/ready");
    assert!(hear(&mut stream).0.starts_with("HTTP/1.1 503 "));
    server.publish(served(Placement::Inline).0).expect("lanes");
    get(&mut stream, "/v2/health/ready");
    assert!(hear(&mut stream).0.starts_with("HTTP/1.1 200 "));
    assert_eq!(server.snapshot().server.state, "ready");
}

#[test]
fn connections_are_spread_over_shards() {
    let (server, _model) = serving(Placement::Inline, 2, |_| {});
    let mut streams: Vec<TcpStream> = (0..6).map(|_| connect(&server)).collect();
    for stream in &mut streams {
        infer(stream);
        assert_answered(stream);
    }
    let connections: Vec<u64> =
        server.shared.counters.iter().take(2).map(|counters| counters.snapshot().connections).collect();
    assert_eq!(connections, [3, 3]);
    let counted = server.snapshot().server.counted;
    assert_eq!((counted.accepted, counted.answered, counted.in_flight_requests), (6, 6, 0));
}

#[test]
fn runners_and_shards_count_what_they_did() {
    let (server, _model) = serving(Placement::Pool, 2, |_| {});
    let mut stream = connect(&server);
    infer(&mut stream);
    assert_answered(&mut stream);
    // A runner counts a batch before it tells of it.
    let model = &server.snapshot().models[0];
    assert_eq!(model["state"], "ready");
    assert_eq!(model["execution"], "pool");
    assert_eq!((&model["runs"], &model["rows"]), (&1.into(), &1.into()));
    assert_eq!(model["requests"][0]["outcome"], "ok");
    assert_eq!(model["contract"]["inputs"][0]["shape"], serde_json::json!([-1, -1]));
    assert_eq!(model["contract"]["properties"], serde_json::json!({}));
}

#[test]
fn a_drain_answers_everything_that_was_accepted() {
    let (server, model) = serving(Placement::Pool, 2, |_| {});
    model.hold();
    let mut stream = connect(&server);
    infer(&mut stream);
    model.wait_running(1);
    server.begin_drain(Duration::ZERO);
    assert_eq!(server.snapshot().server.state, "draining");
    model.release();
    assert_eq!(server.wait_drained(PATIENCE), DrainReport { drained: true, unanswered: 0 });
    assert_answered(&mut stream);
    assert_eq!(stream.read(&mut [0]).expect("the end"), 0);
    let address = server.addresses().http.expect("bound");
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_drain_that_takes_too_long_says_how_many_it_left() {
    let (server, model) = serving(Placement::Pool, 1, |_| {});
    model.hold();
    let mut stream = connect(&server);
    infer(&mut stream);
    model.wait_running(1);
    server.begin_drain(Duration::ZERO);
    let report = server.wait_drained(Duration::from_millis(50));
    assert_eq!(report, DrainReport { drained: false, unanswered: 1 });
    let (head, _) = hear(&mut stream);
    assert!(head.contains("servekit-refusal: draining"), "{head}");
    model.release();
}

#[test]
fn a_model_that_is_replaced_answers_what_came_in_for_it() {
    let (server, old) = serving(Placement::Pool, 1, |_| {});
    old.hold();
    let mut streams = [connect(&server), connect(&server)];
    infer(&mut streams[0]);
    old.wait_running(1);
    infer(&mut streams[1]);
    let (new, fresh) = served(Placement::Inline);
    server.publish(new).expect("lanes");
    let mut late = connect(&server);
    infer(&mut late);
    assert_answered(&mut late);
    assert_eq!(fresh.recorded().len(), 1);
    old.release();
    streams.iter_mut().for_each(assert_answered);
    server.retract("ident", "1");
    infer(&mut late);
    assert!(hear(&mut late).0.contains("servekit-refusal: model\r\n"));
}

#[test]
fn the_unix_socket_speaks_too_and_goes_with_the_server() {
    let path = std::env::temp_dir().join(format!("servekit-{}-server.sock", std::process::id()));
    let mut config = config(1, |_| {});
    config.data.uds = Some(path.clone());
    let server = Server::bind(config).expect("free ports");
    server.publish(served(Placement::Inline).0).expect("lanes");
    server.listen().expect("listens");
    let mut stream = UnixStream::connect(&path).expect("listens");
    infer(&mut stream);
    assert_answered(&mut stream);
    server.stop();
    assert!(!path.exists());
}

#[test]
fn a_newcomer_beyond_the_limit_takes_the_place_of_an_idle_one() {
    let (server, _model) = serving(Placement::Inline, 1, |limits| limits.connections_max = 2);
    let mut streams: Vec<TcpStream> = Vec::new();
    for _ in 0..5 {
        let mut stream = connect(&server);
        infer(&mut stream);
        assert_answered(&mut stream);
        streams.push(stream);
    }
    assert_eq!(streams[0].read(&mut [0]).expect("the end"), 0);
    let counted = server.snapshot().server.counted;
    assert_eq!((counted.connections, counted.connections_closed["connections"]), (2, 3));
}

#[test]
fn a_port_that_is_taken_is_named() {
    let (server, _model) = serving(Placement::Inline, 1, |_| {});
    let port = server.addresses().http.expect("bound").port();
    let mut taken = config(1, |_| {});
    taken.data.http_port = Some(port);
    let error = Server::bind(taken).expect_err("taken");
    assert!(error.to_string().contains(&format!("127.0.0.1:{port} cannot be bound")), "{error}");
}
