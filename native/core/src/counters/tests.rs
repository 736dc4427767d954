use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::*;
use crate::{RunId, Timing};

fn threads() -> (Arc<ShardCounters>, Arc<ModelCounters>) {
    let shard = ShardCounters::new();
    let model = ModelCounters::new(&shard, &[]);
    (shard, model)
}

fn answered(queue_us: u64) -> Verdict {
    Verdict::Answered(Timing { queue: Duration::from_micros(queue_us), ..Timing::default() })
}

#[test]
fn what_is_accepted_is_answered_or_cancelled() {
    let (shard, model) = threads();
    let start = Instant::now();
    let mut scopes: Vec<_> = (0..6).map(|_| RequestScope::open(&shard, Transport::HttpJson, start)).collect();
    scopes.iter_mut().take(5).for_each(|scope| scope.enter(&model));
    scopes.iter_mut().take(4).for_each(|scope| scope.accept(start));
    assert_eq!((shard.snapshot().in_flight_requests, model.snapshot().in_flight_requests), (6, 5));
    let later = start + Duration::from_micros(60);
    let mut scopes = scopes.into_iter();
    let mut next = || scopes.next().expect("one of six");
    next().close(answered(30), later);
    next().close(Verdict::Refused(Reason::DeadlineExceeded), later);
    next().cancel(later);
    drop(next());
    next().close(Verdict::Refused(Reason::QueueFull), later);
    next().close(Verdict::Refused(Reason::UnknownModel), later);

    let counted = shard.snapshot();
    assert_eq!((counted.accepted, counted.answered, counted.cancelled), (4, 2, 2));
    assert_eq!((counted.in_flight_requests, model.snapshot().in_flight_requests), (0, 0));
    let refused: Vec<_> = counted.refusals.into_iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(refused, [("deadline", 1), ("model", 1), ("queue_full", 1)]);
    let snapshot = model.snapshot();
    let outcomes: Vec<_> = snapshot.requests.iter().map(|r| (r.outcome, r.counts.iter().sum::<u64>())).collect();
    assert_eq!(outcomes, [("ok", 1), ("cancelled", 2), ("queue_full", 1), ("deadline", 1)]);
    assert_eq!((snapshot.requests[0].counts[2], snapshot.requests[0].sum_s), (1, 60e-6), "50 to 75 µs");
    assert_eq!((snapshot.queue.counts[1], snapshot.queue.sum_s), (1, 30e-6));
}

#[test]
fn slow_requests_are_explained_by_themselves() {
    let (_, model) = threads();
    let start = Instant::now();
    let timing = |queue, run| Timing {
        queue: Duration::from_micros(queue),
        input: Duration::from_micros(1),
        run: Duration::from_micros(run),
        output: Duration::from_micros(2),
        ..Timing::default()
    };
    for (timing, took_us) in [(timing(10, 20), 45), (timing(0, 20), 40), (timing(9_000, 30), 9_100)] {
        let mut scope = RequestScope::open_for(&model, Transport::HttpJson, start);
        scope.accept(start);
        scope.close(Verdict::Answered(timing), start + Duration::from_micros(took_us));
    }
    RequestScope::open_for(&model, Transport::Grpc, start).close(answered(1), start);
    RequestScope::open_for(&model, Transport::HttpBinary, start).close(Verdict::Refused(Reason::QueueFull), start);
    let snapshot = model.snapshot();
    assert_eq!(snapshot.anatomy.iter().map(|a| a.transport).collect::<Vec<_>>(), ["http_json", "grpc"]);
    let anatomy = &snapshot.anatomy[0];
    let [fast, slow] =
        [50e-6, 10e-3].map(|bound| Bounds::in_use().seconds.iter().position(|&found| found == bound).expect("a bound"));
    let micros = |steps: &[f64], bucket: usize| (steps[bucket] * 1e6).round() as u64;
    let steps = |bucket| {
        let AnatomySnapshot { counts, queue_s, input_s, run_s, output_s, rest_s, .. } = anatomy;
        (counts[bucket], [queue_s, input_s, run_s, output_s, rest_s].map(|step| micros(step, bucket)))
    };
    assert_eq!(steps(fast), (2, [10, 2, 40, 4, 29]));
    assert_eq!(steps(slow), (1, [9_000, 1, 30, 2, 67]));
    assert_eq!(anatomy.counts, snapshot.requests[0].counts, "the same requests in the same buckets");
    let mut merged = ModelSnapshot::default();
    merged.merge(&snapshot);
    merged.merge(&snapshot);
    assert_eq!((merged.anatomy[0].counts[fast], micros(&merged.anatomy[0].run_s, fast)), (4, 80));
}

#[test]
fn parts_that_ran_at_once_leave_no_rest() {
    let (_, model) = threads();
    let start = Instant::now();
    let timing = Timing { run: Duration::from_micros(90), ..Timing::default() };
    RequestScope::open_for(&model, Transport::Grpc, start)
        .close(Verdict::Answered(timing), start + Duration::from_micros(50));
    let anatomy = &model.snapshot().anatomy[0];
    assert_eq!((anatomy.run_s[1], anatomy.rest_s[1]), (90e-6, 0.0));
}

#[test]
fn steps_are_counted_per_request_and_per_batch() {
    let shard = ShardCounters::new();
    let step = |name: &str, place| Step { name: name.into(), place };
    let steps = [step("decode", StepPlace::Row), step("scale", StepPlace::Batch), step("model", StepPlace::Model)];
    let [one, other] = [(), ()].map(|()| ModelCounters::new(&shard, &steps));
    one.prepared(&[Duration::from_micros(30)]);
    one.prepared(&[]);
    let mut report = report(&[(2, 2)]);
    report.steps = [40, 2_000].map(Duration::from_micros).into();
    other.ran(Dispatch::Idle, &report);
    other.prepared(&[Duration::from_micros(30)]);
    let mut snapshot = one.snapshot();
    snapshot.merge(&other.snapshot());
    let counted = |step: &StepSnapshot| (step.name.to_string(), step.place, step.seconds.counts.iter().sum::<u64>());
    let expected = [("decode", "row", 2), ("scale", "batch", 1), ("model", "model", 1)];
    let expected = expected.map(|(name, place, count)| (String::from(name), place, count));
    assert_eq!(snapshot.steps.iter().map(counted).collect::<Vec<_>>(), expected);
    assert!((snapshot.steps[0].seconds.sum_s - 60e-6).abs() < 1e-12);
}

#[test]
fn what_is_given_up_and_what_is_added_is_counted() {
    let (_, model) = threads();
    model.shed(&ShedCounts::default());
    model.padded(&Padding { useful: 30, padded: 10 });
    model.padded(&Padding { useful: 3, padded: 1 });
    let snapshot = model.snapshot();
    assert_eq!((snapshot.padding.useful, snapshot.padding.padded), (33, 11));
    assert_eq!(snapshot.shed.keys().copied().collect::<Vec<_>>(), ["arrival", "expired", "miss", "window"]);
}

#[test]
fn the_label_cancelled_exists_once() {
    let (shard, model) = threads();
    let now = Instant::now();
    let mut scope = RequestScope::open_for(&model, Transport::Grpc, now);
    scope.accept(now);
    scope.close(Verdict::Refused(Reason::Cancelled), now);
    drop(RequestScope::open_for(&model, Transport::Grpc, now));
    let snapshot = model.snapshot();
    assert_eq!(snapshot.requests.len(), 1);
    assert_eq!(snapshot.requests[0].counts.iter().sum::<u64>(), 2);
    assert_eq!((shard.snapshot().cancelled, shard.snapshot().answered), (1, 0));
}

#[test]
fn a_bound_belongs_to_the_bucket_below_it() {
    let table = [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (64, 6), (65, 7), (65_536, 16), (65_537, 17)];
    for (rows, bucket) in table {
        let histogram = Histogram::rows();
        histogram.observe(rows);
        assert_eq!(histogram.row_distribution().counts[bucket], 1, "{rows}");
        assert_eq!(histogram.row_distribution().sum, rows);
    }
    let bounds = Bounds::in_use();
    assert_eq!((bounds.seconds[0], bounds.seconds.last()), (25e-6, Some(&60.0)));
    assert!(bounds.seconds.is_sorted() && bounds.rows.is_sorted());
    let histogram = Histogram::seconds();
    histogram.observe(u64::MAX);
    assert_eq!(histogram.distribution().counts[bounds.seconds.len()], 1);
}

fn report(runs: &[(u32, u32)]) -> Report {
    let mut report = Report::started(RunId::default(), Instant::now());
    for &(rows, requests) in runs {
        let [input, run, output] = [1, 100, 2].map(Duration::from_micros);
        report.runs.push(crate::Run { rows, requests, rows_refused: 0, run, input, output });
    }
    report
}

#[test]
fn a_run_that_failed_counts_as_a_run_but_its_rows_do_not() {
    let (_, model) = threads();
    model.ran(Dispatch::Full, &report(&[(64, 0), (32, 32), (32, 32)]));
    model.ran(Dispatch::Idle, &report(&[(1, 1)]));
    let snapshot = model.snapshot();
    assert_eq!((snapshot.runs, snapshot.rows), (4, 65));
    let counted: Vec<_> = snapshot.dispatch.iter().filter(|(_, count)| **count > 0).collect();
    assert_eq!(counted, [(&"full", &1), (&"idle", &1)]);
    assert_eq!((snapshot.batch_rows.counts[0], snapshot.batch_rows.counts[5], snapshot.batch_rows.sum), (1, 2, 129));
    assert_eq!((snapshot.input.sum_s, snapshot.run.sum_s, snapshot.output.sum_s), (4e-6, 400e-6, 8e-6));
}

#[test]
fn threads_are_added_up() {
    let (shard, model) = threads();
    let (other_shard, other_model) = threads();
    let now = Instant::now();
    for (model, queue_rows) in [(&model, 3), (&other_model, 4)] {
        RequestScope::open_for(model, Transport::Grpc, now).close(answered(1), now);
        model.ran(Dispatch::Idle, &report(&[(2, 2)]));
        model.set_queue(Queued { requests: 1, rows: queue_rows, bytes: 0 });
    }
    RequestScope::open_for(&other_model, Transport::HttpBinary, now).close(answered(1), now);
    shard.connection_opened();
    other_shard.connection_opened();
    other_shard.connection_closed();
    other_shard.ended(Ending::Idle);
    let mut merged = ModelSnapshot::default();
    merged.merge(&model.snapshot());
    merged.merge(&other_model.snapshot());
    let outcomes: Vec<_> = merged.requests.iter().map(|r| (r.transport, r.counts[0])).collect();
    assert_eq!(outcomes, [("grpc", 2), ("http_binary", 1)]);
    assert_eq!((merged.rows, merged.runs, merged.queue_rows, merged.queue_requests), (4, 2, 7, 2));
    assert_eq!(merged.queue.counts[0], 3);
    let mut total = ShardSnapshot::default();
    total.merge(&shard.snapshot());
    total.merge(&other_shard.snapshot());
    assert_eq!((total.connections, total.connections_closed["idle"]), (1, 1));
}

#[test]
fn snapshots_are_written_with_the_names_that_readers_know() {
    let (shard, model) = threads();
    let now = Instant::now();
    RequestScope::open_for(&model, Transport::HttpJson, now).close(answered(1), now);
    let model = serde_json::to_value(model.snapshot()).expect("it is plain data");
    let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    let expected = [
        "anatomy",
        "batch_rows",
        "dispatch",
        "in_flight_requests",
        "input",
        "output",
        "padding",
        "panics",
        "queue",
        "queue_requests",
        "queue_rows",
        "requests",
        "rows",
        "run",
        "runs",
        "shed",
        "steps",
    ];
    assert_eq!(keys(&model), expected);
    assert_eq!(keys(&model["requests"][0]), ["counts", "outcome", "sum_s", "transport"]);
    assert_eq!(keys(&model["queue"]), ["counts", "sum_s"]);
    let expected = ["counts", "input_s", "output_s", "queue_s", "rest_s", "run_s", "transport"];
    assert_eq!(keys(&model["anatomy"][0]), expected);
    assert_eq!(model["shed"], json!({"arrival": 0, "window": 0, "miss": 0, "expired": 0}));
    assert_eq!(model["padding"], json!({"useful": 0, "padded": 0}));
    assert_eq!(keys(&model["batch_rows"]), ["counts", "sum"]);
    assert_eq!(
        model["dispatch"],
        json!(Dispatch::ALL.map(|reason| (reason.label(), 0)).into_iter().collect::<BTreeMap<_, _>>())
    );
    let shard = serde_json::to_value(shard.snapshot()).expect("it is plain data");
    let expected = [
        "accepted",
        "answered",
        "cancelled",
        "connections",
        "connections_closed",
        "in_flight_bytes",
        "in_flight_requests",
        "refusals",
        "streams",
    ];
    assert_eq!(keys(&shard), expected);
    assert_eq!(keys(&shard["refusals"]).len(), Reason::ALL.len());
}
