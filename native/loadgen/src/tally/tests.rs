use super::*;
use crate::plan::Priority;
use crate::plan::tests::sample;

const MS: u64 = 1_000_000;

/// 1 s of warm-up, then 1 s that counts; 50 ms are good.
fn plan() -> Plan {
    Plan { warm_seconds: 1.0, priorities: vec![Priority { level: 1, share: 1.0 }], ..sample() }
}

fn request(tally: &mut Tally, due_ms: u64) -> Flight {
    let counted = tally.offer(due_ms * MS, 0);
    let flight = Flight { due_ns: due_ms * MS, connection: 0, class: 0, counted };
    tally.send(&flight, MS / 10);
    flight
}

fn answer(status: Status) -> Answer {
    Answer { token: 0, status, body_bytes: 10, closes: false }
}

fn usage() -> Usage {
    Usage { cpu_share: 0.5, reconnects: 0, slow: SlowReaders::default() }
}

#[test]
fn everything_that_was_due_is_accounted_for() {
    let mut tally = Tally::new(&plan());
    let ok = answer(Status::Http(200));
    let warm = request(&mut tally, 999);
    tally.answer(&warm, &ok, b"", 1_000 * MS);
    for (due_ms, took_ms) in [(1_000, 10), (1_200, 50), (1_300, 51)] {
        let flight = request(&mut tally, due_ms);
        tally.answer(&flight, &ok, b"", (due_ms + took_ms) * MS);
    }
    for text in ["full", "full again"] {
        let flight = request(&mut tally, 1_400);
        tally.answer(&flight, &answer(Status::Http(503)), text.as_bytes(), 1_402 * MS);
    }
    let left = request(&mut tally, 1_500);
    tally.cancel(&left);
    let lost = request(&mut tally, 1_999);
    tally.fail(lost.counted, "connection lost");
    assert!(!tally.offer(2_000 * MS, 0), "the schedule has ended");
    let outcome = tally.finish(&plan(), usage());
    assert_eq!((outcome.offered, outcome.sent, outcome.answered, outcome.ok, outcome.good), (7, 7, 5, 3, 2));
    assert_eq!((outcome.cancelled, outcome.sent_total, outcome.answered_total, outcome.ok_total), (1, 8, 6, 4));
    assert_eq!(outcome.refused, BTreeMap::from([("503".to_owned(), 2)]));
    assert_eq!(outcome.refusal_texts["503"], "full", "the first text is shown");
    assert_eq!(outcome.failed, BTreeMap::from([("connection lost".to_owned(), 1)]));
    assert!((outcome.goodput_per_s - 2.0).abs() < 1e-9);
    assert_eq!(outcome.offered_ms.p50, Some(51.0), "three of six were served");
    assert_eq!(outcome.offered_ms.p90, None, "a request that is not served takes for ever");
    assert_eq!(outcome.served_ms.p99, Some(51.0));
    assert_eq!(outcome.refusal_ms.p50.map(f64::round), Some(2.0));
    assert_eq!(outcome.priorities[0].offered, 6);
    assert_eq!(outcome.answer_bytes_total, 60);
}

#[test]
fn the_timeline_shows_a_request_where_it_was_due() {
    let mut tally = Tally::new(&plan());
    let flight = request(&mut tally, 1_150);
    tally.answer(&flight, &answer(Status::Grpc(0)), b"", 1_900 * MS);
    let refused = request(&mut tally, 1_999);
    tally.answer(&refused, &answer(Status::Grpc(14)), b"", 1_999 * MS);
    let outcome = tally.finish(&plan(), usage());
    assert_eq!(outcome.timeline.len(), 10);
    assert_eq!(outcome.timeline[1], Window { offered: 1, ok: 1, good: 0, refused: 0 });
    assert_eq!(outcome.timeline[9], Window { offered: 1, ok: 0, good: 0, refused: 1 });
    assert_eq!(outcome.refused, BTreeMap::from([("grpc 14".to_owned(), 1)]));
}

#[test]
fn a_run_that_was_late_is_not_valid() {
    let mut tally = Tally::new(&plan());
    let counted = tally.offer(1_000 * MS, 0);
    let flight = Flight { due_ns: 1_000 * MS, connection: 0, class: 0, counted };
    tally.send(&flight, 3 * MS);
    tally.answer(&flight, &answer(Status::Http(200)), b"", 1_004 * MS);
    let outcome = tally.finish(&plan(), usage());
    assert!(!outcome.valid && outcome.invalid_because[0].contains("requests left late"), "{outcome:?}");
}
