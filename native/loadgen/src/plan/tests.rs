use super::*;

/// A plan that makes sense.
pub(crate) fn sample() -> Plan {
    Plan {
        target: Target { address: "127.0.0.1:1".into(), path: "/".into(), protocol: Protocol::Http },
        load: Load::Open { rate: Some(100.0), arrivals: Arrivals::Poisson },
        bodies: vec![Body { content_type: "application/json".into(), json_bytes: None, weight: 1.0 }],
        priorities: Vec::new(),
        connections: 4,
        streams: 1,
        seconds: 1.0,
        warm_seconds: 0.0,
        patience_seconds: 1.0,
        slo_ms: 50.0,
        deadline_ms: None,
        cancel: None,
        slow: None,
        window_ms: 100.0,
        seed: 0,
    }
}

fn told(change: impl FnOnce(&mut Plan)) -> String {
    let mut plan = sample();
    change(&mut plan);
    match plan.check(&[Bytes::from_static(b"{}")]) {
        Ok(()) => String::new(),
        Err(Error::Plan(text) | Error::Server(text)) => text,
    }
}

fn open(rate: Option<f64>, arrivals: Arrivals) -> Load {
    Load::Open { rate, arrivals }
}

#[test]
fn nonsense_is_told_with_what_is_allowed() {
    assert_eq!(told(|_| {}), "");
    let rate = |rate| told(|plan| plan.load = open(rate, Arrivals::Poisson));
    assert_eq!(rate(Some(0.0)), "rate, in requests per second, is 0, more than 0 up to 2000000 is allowed");
    for wrong in [-1.0, f64::NAN, f64::INFINITY, 3e6] {
        assert!(rate(Some(wrong)).starts_with("rate, in requests per second, is "), "{wrong}");
    }
    assert_eq!(rate(None), "no rate is given; only a trace has one of its own");
    assert_eq!(told(|plan| plan.connections = 0), "connections: 0 found, 1 to 28000 are allowed");
    assert_eq!(told(|plan| plan.connections = 30_000), "connections: 30000 found, 1 to 28000 are allowed");
    assert_eq!(told(|plan| plan.streams = 5_000), "streams: 5000 found, 1 to 1000 are allowed");
    assert!(told(|plan| plan.seconds = 0.0).contains("seconds of a run is 0"));
    assert!(told(|plan| plan.warm_seconds = -1.0).contains("warm seconds are -1"));
    assert!(told(|plan| plan.slo_ms = f64::NAN).contains("slo_ms is NaN"));
    assert!(told(|plan| plan.window_ms = 1e-9).contains("windows of the timeline"));
    assert!(told(|plan| plan.load = open(Some(1e6), Arrivals::Poisson)).is_empty());
    assert!(told(|plan| (plan.load, plan.seconds) = (open(Some(1e6), Arrivals::Poisson), 51.0)).contains("rate times"));
    assert!(told(|plan| plan.load = open(Some(1.0), Arrivals::Diurnal { period_s: 0.0 })).contains("period"));
    assert!(told(|plan| plan.load = Load::Closed { in_flight: 5 }).contains("1 to 4 are allowed"));
    assert!(told(|plan| plan.bodies.clear()).contains("0 bodies are described and 1 given"));
    assert!(told(|plan| plan.cancel = Some(Cancel { share: 1.5, within_ms: 1.0 })).contains("is 1.5"));
    let slow = Some(Slow { connections: 1, bytes_per_second: 1 });
    assert!(told(|plan| plan.slow = slow).is_empty());
    assert!(told(|plan| (plan.slow, plan.target.protocol) = (slow, Protocol::Grpc)).contains("HTTP alone"));
}

#[test]
fn a_plan_is_read_from_what_the_command_writes() {
    let json = r#"{"target": {"address": "a:1", "path": "/v2/models/m/infer", "protocol": "http"},
        "load": {"open": {"rate": 10.5, "arrivals": {"kind": "mmpp", "low_s": 2.0, "high_s": 1.0}}},
        "bodies": [{"content_type": "x/y", "json_bytes": 7, "weight": 1}], "priorities": [{"level": 1, "share": 0.3}],
        "connections": 2, "streams": 3, "seconds": 4, "warm_seconds": 1, "patience_seconds": 2, "slo_ms": 50,
        "deadline_ms": null, "cancel": {"share": 0.05, "within_ms": 10}, "slow": null, "window_ms": 100, "seed": 7}"#;
    let plan: Plan = serde_json::from_str(json).expect("a plan");
    assert_eq!(plan.check(&[Bytes::new()]), Ok(()));
    let closed: Load = serde_json::from_str(r#"{"closed": {"in_flight": 32}}"#).expect("a load");
    assert!(matches!(closed, Load::Closed { in_flight: 32 }));
    assert!(serde_json::from_str::<Arrivals>(r#"{"kind": "onoff", "on_s": 1, "off_s": 1, "often": 2}"#).is_err());
}
