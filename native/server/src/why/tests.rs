use std::collections::BTreeMap;

use servekit_core::{
    AnatomySnapshot, Bounds, ClassSurface, Distribution, ModelSnapshot, PaddingSnapshot, RequestsSnapshot, Sum, Surface,
};

use super::*;

/// Answered requests that took about so many milliseconds each, of which this share was spent in each step.
#[derive(Clone, Copy)]
struct Answered {
    transport: &'static str,
    requests: u64,
    took_ms: f64,
    /// Queue, input, run, output, rest.
    steps: [f64; 5],
}

const WAITED: [f64; 5] = [0.7, 0.02, 0.2, 0.02, 0.06];
const RAN: [f64; 5] = [0.1, 0.0, 0.8, 0.0, 0.1];
const WROTE: [f64; 5] = [0.0, 0.05, 0.2, 0.05, 0.7];

fn answered(requests: u64, took_ms: f64, steps: [f64; 5]) -> Answered {
    Answered { transport: "grpc", requests, took_ms, steps }
}

fn anatomy(groups: &[Answered]) -> Vec<AnatomySnapshot> {
    let bounds = Bounds::in_use().seconds;
    let mut found: Vec<AnatomySnapshot> = Vec::new();
    for group in groups {
        if found.iter().all(|anatomy| anatomy.transport != group.transport) {
            let none = vec![0.0; bounds.len() + 1];
            found.push(AnatomySnapshot {
                transport: group.transport,
                counts: vec![0; bounds.len() + 1],
                queue_s: none.clone(),
                input_s: none.clone(),
                run_s: none.clone(),
                output_s: none.clone(),
                rest_s: none,
            });
        }
        let anatomy = found.iter_mut().find(|anatomy| anatomy.transport == group.transport).expect("it is there");
        let bucket = bounds.partition_point(|bound| *bound < group.took_ms / 1e3);
        anatomy.counts[bucket] += group.requests;
        let total_s = group.requests as f64 * group.took_ms / 1e3;
        let AnatomySnapshot { queue_s, input_s, run_s, output_s, rest_s, .. } = anatomy;
        for (step, share) in [queue_s, input_s, run_s, output_s, rest_s].into_iter().zip(group.steps) {
            step[bucket] += total_s * share;
        }
    }
    found
}

/// A minute of a model with two lanes, that has run 1,000 batches of 8 rows for 30 ms each.
fn counted(groups: &[Answered]) -> ModelSnapshot {
    let mut counted = ModelSnapshot { anatomy: anatomy(groups), ..ModelSnapshot::default() };
    counted.runs = 1_000;
    counted.batch_rows.sum = 8_000;
    counted.run = Distribution { counts: Vec::new(), sum_s: 30.0 };
    counted.dispatch = BTreeMap::from([("idle", 900), ("full", 100), ("window", 0)]);
    counted.requests = counted
        .anatomy
        .iter()
        .map(|a| RequestsSnapshot { transport: a.transport, outcome: "ok", counts: a.counts.clone(), sum_s: 0.0 })
        .collect();
    counted
}

fn facts(counted: ModelSnapshot) -> Facts<'static> {
    Facts {
        model: "mlp",
        version: "1",
        counted,
        served: Duration::from_secs(60),
        lanes: 2,
        rows_max: 64,
        alone: None,
        verdict: "exact",
        target: Duration::from_millis(100),
        estimate: None,
        throttling: None,
    }
}

fn estimate(knee_rows: u32) -> Option<Estimate> {
    let surface = Surface { base_ns: 1e6, row_ns: 1e5, spread: 0.1, corrections: Vec::new(), samples: 9 };
    Some(Estimate {
        surfaces: vec![ClassSurface { shape: String::new(), length: None, surface }],
        rows_per_s: 100.0,
        knee_rows,
        capacity_rows_per_s: 200.0,
        is_failing_fast: false,
        shed_share: 0.0,
        lanes: 2,
        lanes_busy: 1,
    })
}

fn texts(explained: &Value, key: &str) -> Vec<String> {
    explained[key].as_array().expect("a list").iter().map(|text| text.as_str().expect("text").to_owned()).collect()
}

#[test]
fn the_slowest_are_explained_by_themselves() {
    let explained = explained(&facts(counted(&[answered(9_890, 2.0, RAN), answered(110, 40.0, WAITED)])));
    assert_eq!(
        texts(&explained, "sentences"),
        [
            "Of 10000 requests in 60 s, 99 in 100 were answered within 50 ms: the time of the slowest was 70 % waiting for a batch, 20 % the model's run, 4 % putting batches together and taking them apart, and 6 % the rest, which is reading, decoding, encoding and the network thread.",
            "Batches had 8 rows on average, of at most 64; they left the queue because a lane was free (90 %), no further row fitted (10 %).",
            "The 2 lanes were busy 25 % of the time.",
        ]
    );
    let figures = &explained["figures"];
    assert_eq!(figures["slowest"]["requests"], 110);
    assert_eq!(figures["slowest"]["p99_ms_max"], 50.0);
    assert!((figures["all"]["run"].as_f64().expect("a number") - 0.69).abs() < 0.01, "{figures}");
    assert_eq!(
        (&explained["model"], &explained["version"], &explained["estimate"]),
        (&json!("mlp"), &json!("1"), &Value::Null)
    );
}

#[test]
fn nothing_is_said_of_what_has_not_happened() {
    let explained = explained(&facts(ModelSnapshot::default()));
    assert_eq!(texts(&explained, "sentences"), ["No request was answered with a result in the 60 s that are counted."]);
    assert_eq!(texts(&explained, "advice"), Vec::<String>::new());
    assert_eq!(explained["figures"]["slowest"], Value::Null);
}

#[test]
fn whatever_lasts_longer_than_the_last_bound_is_said_to() {
    let explained = explained(&facts(counted(&[answered(10, 70_000.0, WAITED)])));
    assert!(texts(&explained, "sentences")[0].contains("99 in 100 were answered in more than 60 s"));
    assert_eq!(explained["figures"]["slowest"]["p99_ms_max"], Value::Null);
}

#[test]
fn who_was_given_up_is_told_with_the_reasons() {
    let mut facts = facts(counted(&[answered(968, 2.0, RAN)]));
    facts.counted.shed = BTreeMap::from([("arrival", 24), ("window", 8), ("miss", 0), ("expired", 0)]);
    facts.counted.requests.push(RequestsSnapshot {
        transport: "grpc",
        outcome: "overloaded",
        counts: vec![32],
        sum_s: 0.0,
    });
    facts.counted.padding = PaddingSnapshot { useful: 91, padded: 9 };
    facts.throttling = Some(Throttling { periods: 1_000, periods_throttled: 20, throttled_s: 1.5 });
    let told = texts(&explained(&facts), "sentences");
    assert_eq!(
        told[3..],
        [
            "3 % of the requests were given up without a run, because their answers were predicted to come too late when they arrived (75 %), serving them would have made more of the others late (25 %).",
            "9 % of the positions that runs computed were padding between rows of different lengths.",
            "The system has stopped this process in 2 % of its periods, for 1.5 s in all, because it had used up its share of the cores.",
        ]
    );
}

type Change = fn(&mut Facts<'_>);

/// Nine tenths of the lanes' time is used, and batches left for these reasons.
fn press(facts: &mut Facts<'_>, reasons: &[(&'static str, u64)]) {
    facts.counted.run.sum_s = 110.0;
    facts.counted.dispatch = reasons.iter().copied().collect();
}

/// A case, what its requests consist of, what is special about it, and how the one advice begins.
const ADVICE: [(&str, [f64; 5], Change, &str); 13] = [
    ("all is well", RAN, |_| {}, "Nothing stands out"),
    ("bursts", WAITED, |_| {}, "Spread requests more evenly, or add lanes"),
    ("neither busy nor quiet", WAITED, |facts| facts.counted.run.sum_s = 84.0, "Nothing stands out"),
    ("no time left", WAITED, |facts| press(facts, &[("idle", 9)]), "Add cores or replicas: the lanes"),
    (
        "batches that could be larger",
        WAITED,
        |facts| {
            press(facts, &[("full", 6), ("idle", 4)]);
            facts.estimate = estimate(64);
        },
        "Raise batch_rows_max, which is 64",
    ),
    (
        "batches of the best size",
        WAITED,
        |facts| {
            press(facts, &[("full", 6), ("idle", 4)]);
            facts.estimate = estimate(16);
        },
        "Add cores or replicas",
    ),
    (
        "targets that cut batches",
        WAITED,
        |facts| press(facts, &[("window", 6), ("idle", 4)]),
        "Raise latency_target_ms, which is 100, so that batches may be larger",
    ),
    (
        "a target shorter than two runs",
        RAN,
        |facts| {
            facts.target = Duration::from_millis(50);
            facts.counted.shed = BTreeMap::from([("miss", 500)]);
        },
        "Raise latency_target_ms, which is 50: a run alone takes 30 ms",
    ),
    (
        "held for others",
        WAITED,
        |facts| facts.counted.dispatch = BTreeMap::from([("held", 6), ("idle", 4)]),
        "Lower latency_target_ms where answers should come sooner",
    ),
    (
        "throttled",
        RAN,
        |facts| facts.throttling = Some(Throttling { periods: 100, periods_throttled: 5, throttled_s: 1.0 }),
        "Raise the CPU limit of the container",
    ),
    (
        "not batchable",
        RAN,
        |facts| (facts.alone, facts.verdict) = (Some("the model mixes rows"), "not batchable"),
        "Export the model with a free first axis",
    ),
    (
        "unproved",
        RAN,
        |facts| (facts.alone, facts.verdict) = (Some("no made-up row could be run"), "unproved"),
        "Give real rows by `samples`",
    ),
    ("JSON", WROTE, |facts| facts.counted.anatomy[0].transport = "http_json", "Send binary tensors or use gRPC"),
];

#[test]
fn advice_is_about_what_stands_out() {
    for (name, steps, change, expected) in ADVICE {
        let mut facts = facts(counted(&[answered(1_000, 2.0, steps)]));
        change(&mut facts);
        let advice = texts(&explained(&facts), "advice");
        assert!(matches!(&advice[..], [found] if found.starts_with(expected)), "{name}: {advice:?}");
    }
}

#[test]
fn a_model_that_runs_alone_says_why() {
    let mut facts = facts(counted(&[answered(10, 2.0, RAN)]));
    facts.alone = Some("its rows are normalised together");
    facts.lanes = 1;
    let told = texts(&explained(&facts), "sentences");
    assert_eq!(told[1], "Every request runs alone: its rows are normalised together.");
    assert_eq!(told[2], "The one lane was busy 50 % of the time.");
}

#[test]
fn gathering_and_taking_apart_keep_a_lane_busy_too() {
    let mut facts = facts(counted(&[answered(10, 2.0, RAN)]));
    (facts.counted.input, facts.counted.output) = (Sum { sum_s: 18.0 }, Sum { sum_s: 12.0 });
    facts.estimate = estimate(32);
    let told = texts(&explained(&facts), "sentences");
    assert_eq!(told[2], "Batches of 32 rows have the best rate that the target allows.");
    assert_eq!(told[3], "The 2 lanes were busy 50 % of the time.");
}
