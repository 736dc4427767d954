use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use super::*;
use crate::plan::tests::sample;
use crate::plan::{Arrivals, Priority};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Serves `together` connections: answers nobody before each of them has sent a request, then goes on until all leave.
fn server_of(together: usize, answer: &'static [u8]) -> (String, thread::JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let serve = move || {
        let mut callers: Vec<TcpStream> = (0..together).map(|_| listener.accept().expect("a caller").0).collect();
        let (mut buffer, mut served) = ([0; 4_096], 0);
        loop {
            let mut left = true;
            for caller in &mut callers {
                if caller.read(&mut buffer).is_ok_and(|bytes| bytes > 0) {
                    left = false;
                    served += 1;
                }
            }
            if left {
                return served;
            }
            for caller in &mut callers {
                // A caller who left wants no answer.
                let _gone = caller.write_all(answer);
            }
        }
    };
    (address, thread::spawn(serve))
}

fn plan(address: &str, connections: u32) -> Plan {
    let mut plan = Plan { connections, seconds: 0.2, patience_seconds: 5.0, ..sample() };
    address.clone_into(&mut plan.target.address);
    plan.load = Load::Open { rate: Some(50.0), arrivals: Arrivals::Constant };
    plan
}

#[test]
fn time_counts_from_when_a_request_was_due() {
    // Ten requests, 20 ms apart; the server answers none of them before the last one has come.
    let (address, server) = server_of(10, ANSWER);
    let outcome = run(&plan(&address, 10), vec![Bytes::from_static(b"{}")]).expect("a run");
    assert_eq!(server.join().expect("served"), 10);
    assert_eq!((outcome.offered, outcome.ok, outcome.failed.len()), (10, 10, 0));
    let slowest_ms = outcome.offered_ms.p99.expect("answered");
    assert!(slowest_ms >= 180.0, "the first one waited for the last: {slowest_ms}");
}

#[test]
fn waiting_for_a_connection_counts_as_latency_and_makes_the_run_invalid() {
    let (address, server) = server_of(2, ANSWER);
    let mut plan = plan(&address, 2);
    plan.load = Load::Open { rate: Some(100_000.0), arrivals: Arrivals::Constant };
    plan.seconds = 0.001;
    let outcome = run(&plan, vec![Bytes::from_static(b"{}")]).expect("a run");
    assert_eq!(server.join().expect("served"), 100);
    assert_eq!((outcome.offered, outcome.ok), (100, 100));
    assert!(outcome.waited > 50 && !outcome.valid, "{outcome:?}");
    assert!(outcome.invalid_because.iter().any(|reason| reason.contains("waited for a free connection")));
}

#[test]
fn a_closed_loop_keeps_its_number_on_their_way() {
    let (address, server) = server_of(3, ANSWER);
    let mut plan = plan(&address, 3);
    plan.load = Load::Closed { in_flight: 3 };
    plan.priorities = vec![Priority { level: 2, share: 1.0 }];
    // The end of the run may part the last three.
    plan.patience_seconds = 0.0;
    let outcome = run(&plan, vec![Bytes::from_static(b"{}")]).expect("a run");
    assert!(server.join().expect("served") as u64 >= outcome.ok_total);
    assert!(outcome.ok_total >= 6, "with fewer on their way nobody would be answered: {outcome:?}");
}

#[test]
fn an_answer_that_is_none_is_a_failure_with_a_name() {
    let (address, server) = server_of(1, b"SSH-2.0-OpenSSH_9\r\n\r\n");
    let mut plan = plan(&address, 1);
    plan.load = Load::Open { rate: Some(5.0), arrivals: Arrivals::Constant };
    let outcome = run(&plan, vec![Bytes::from_static(b"{}")]).expect("a run");
    assert_eq!(server.join().expect("served"), 1);
    assert_eq!(outcome.failed.get("malformed answer"), Some(&1));
}

#[test]
fn a_server_that_is_not_there_is_told() {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let told = run(&plan(&address.to_string(), 1), vec![Bytes::new()]).map(|outcome| outcome.ok);
    assert!(matches!(&told, Err(Error::Server(text)) if text.contains("refuses connections")), "{told:?}");
}
