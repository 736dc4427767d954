//! Figures in sentences, and what they advise.

use std::collections::BTreeMap;

use servekit_core::{Dispatch, Shed};

use super::Facts;
use super::figures::{Figures, Slowest, Steps};

/// Lanes busier than this have no time left: beyond it waits grow without bound.
const BUSY: f64 = 0.85;

/// Lanes less busy than this are not what requests wait for on the whole.
const QUIET: f64 = 0.6;

/// A share that is most of something.
const MOST: f64 = 0.5;

/// Shares of reasons below this are not told.
const TOLD_MIN: f64 = 0.01;

/// What is, from the most important on.
pub(super) fn sentences(facts: &Facts<'_>, figures: &Figures) -> Vec<String> {
    let slowest = std::iter::once(slowest(figures));
    slowest.chain(of_batches(facts, figures)).chain(throttling(figures)).collect()
}

/// What is of a queue and its batches.
pub(super) fn of_batches(facts: &Facts<'_>, figures: &Figures) -> Vec<String> {
    let told = [batches(facts, figures), knee(figures), lanes(figures), shed(figures), padding(figures)];
    told.into_iter().flatten().collect()
}

fn slowest(figures: &Figures) -> String {
    let Some(Slowest { p99_ms_max, steps, .. }) = &figures.slowest else {
        return format!("No request was answered with a result in the {} that are counted.", seconds(figures.served_s));
    };
    let within = match p99_ms_max {
        Some(bound) => format!("within {} ms", number(*bound)),
        None => String::from("in more than 60 s"),
    };
    let Steps { queue, input, run, output, rest } = steps;
    let percents = [*queue, *run, input + output, *rest].map(percent);
    let [queue, run, batch, rest] = &percents;
    format!(
        "Of {} requests in {}, 99 in 100 were answered {within}: the time of the slowest was {queue} waiting for a batch, {run} the model's run, {batch} putting batches together and taking them apart, and {rest} the rest, which is reading, decoding, encoding and the network thread.",
        figures.answered,
        seconds(figures.served_s),
    )
}

fn batches(facts: &Facts<'_>, figures: &Figures) -> Option<String> {
    if let Some(why) = facts.alone {
        return Some(format!("Every request runs alone: {why}."));
    }
    let batches = &figures.batches;
    if batches.runs == 0 {
        return None;
    }
    let reasons = most(&batches.reasons, |label| {
        let dispatch = Dispatch::ALL.into_iter().find(|dispatch| dispatch.label() == label)?;
        Some(match dispatch {
            Dispatch::Idle => "a lane was free",
            Dispatch::Full => "no further row fitted",
            Dispatch::Window => "more rows would have made the most urgent one late",
            Dispatch::Held => "rows that were waited for had come, or had not come in time",
            Dispatch::Alone => "the request may share its run with nobody",
        })
    });
    let (mean, rows_max) = (number(batches.rows_mean), batches.rows_max);
    let left = if reasons.is_empty() { String::new() } else { format!("; they left the queue because {reasons}") };
    Some(format!("Batches had {mean} rows on average, of at most {rows_max}{left}."))
}

fn knee(figures: &Figures) -> Option<String> {
    let knee = figures.batches.knee_rows.filter(|&rows| rows > 1)?;
    Some(format!("Batches of {knee} rows have the best rate that the target allows."))
}

fn lanes(figures: &Figures) -> Option<String> {
    if figures.batches.runs == 0 {
        return None;
    }
    let busy = percent(figures.lanes.busy);
    Some(match figures.lanes.count {
        1 => format!("The one lane was busy {busy} of the time."),
        count => format!("The {count} lanes were busy {busy} of the time."),
    })
}

fn shed(figures: &Figures) -> Option<String> {
    let shed = &figures.shed;
    if shed.requests == 0 {
        return None;
    }
    let reasons = most(&shed.reasons, |label| {
        let shed = Shed::ALL.into_iter().find(|shed| shed.label() == label)?;
        Some(match shed {
            Shed::Arrival => "their answers were predicted to come too late when they arrived",
            Shed::Window => "serving them would have made more of the others late",
            Shed::Miss => "not even a run at once would have answered them in time",
            Shed::Expired => "their deadlines had passed in the queue",
        })
    });
    Some(format!("{} of the requests were given up without a run, because {reasons}.", capital(percent(shed.share))))
}

fn padding(figures: &Figures) -> Option<String> {
    let padding = percent(figures.padding);
    (figures.padding > 0.0).then(|| {
        format!(
            "{} of the positions that runs computed were padding between rows of different lengths.",
            capital(padding)
        )
    })
}

fn throttling(figures: &Figures) -> Option<String> {
    let throttling = figures.throttling.filter(|throttling| throttling.periods_throttled > 0)?;
    Some(format!(
        "The system has stopped this process in {} of its periods, for {} in all, because it had used up its share of the cores.",
        percent(throttling.share()),
        seconds(throttling.throttled_s),
    ))
}

/// What would help, from the most important on; that nothing needs to be done where nothing stands out.
pub(super) fn advice(facts: &Facts<'_>, figures: &Figures) -> Vec<String> {
    let told = [throttled(figures), load(facts, figures), alone(facts), encoding(figures)];
    let mut advice: Vec<String> = told.into_iter().flatten().collect();
    if advice.is_empty() && figures.answered > 0 {
        advice.push(String::from("Nothing stands out: there is nothing to change."));
    }
    advice
}

fn throttled(figures: &Figures) -> Option<String> {
    const NOTABLE: f64 = 0.05;
    figures.throttling.filter(|throttling| throttling.share() >= NOTABLE)?;
    Some(String::from(
        "Raise the CPU limit of the container, or leave it out: while the process is stopped requests wait although lanes are free.",
    ))
}

/// What to do where requests wait or are given up.
fn load(facts: &Facts<'_>, figures: &Figures) -> Option<String> {
    const SHED_NOTABLE: f64 = 0.01;
    const FULL_NOTABLE: f64 = 0.3;
    const HELD_NOTABLE: f64 = 0.2;
    let waits = figures.slowest.is_some_and(|slowest| slowest.steps.queue >= MOST);
    let sheds = figures.shed.share >= SHED_NOTABLE;
    if !waits && !sheds {
        return None;
    }
    let reason = |dispatch: Dispatch| figures.batches.reasons.get(dispatch.label()).copied().unwrap_or(0.0);
    let target_ms = facts.target.as_secs_f64() * 1e3;
    if figures.lanes.busy >= BUSY {
        let knee = figures.batches.knee_rows.unwrap_or(0);
        return Some(if facts.alone.is_none() && reason(Dispatch::Full) >= FULL_NOTABLE && knee >= facts.rows_max {
            format!(
                "Raise batch_rows_max, which is {}: the lanes have no time left, and larger batches cost less for each row.",
                facts.rows_max
            )
        } else if reason(Dispatch::Window) >= FULL_NOTABLE {
            format!(
                "Raise latency_target_ms, which is {}, so that batches may be larger, or add cores or replicas: the lanes have no time left.",
                number(target_ms)
            )
        } else {
            String::from("Add cores or replicas: the lanes have no time left, and batches are as large as pays.")
        });
    }
    if sheds && target_ms > 0.0 && figures.batches.run_ms_mean * 2.0 > target_ms {
        return Some(format!(
            "Raise latency_target_ms, which is {}: a run alone takes {} ms, so that who arrives during one is nearly always late.",
            number(target_ms),
            number(figures.batches.run_ms_mean),
        ));
    }
    if reason(Dispatch::Held) >= HELD_NOTABLE && waits {
        return Some(String::from(
            "Lower latency_target_ms where answers should come sooner: batches are held for rows that are expected.",
        ));
    }
    (figures.lanes.busy <= QUIET).then(|| {
        String::from("Spread requests more evenly, or add lanes: they come in bursts, and between those the lanes have nothing to do.")
    })
}

fn alone(facts: &Facts<'_>) -> Option<String> {
    facts.alone?;
    Some(String::from(match facts.verdict {
        "unproved" => {
            "Give real rows by `samples`, or set trust_batching where rows are known to be independent: as long as nothing is proved, every request runs alone."
        }
        _ => {
            "Export the model with a free first axis over which no operator mixes rows: its requests could share runs then."
        }
    }))
}

fn encoding(figures: &Figures) -> Option<String> {
    let json = figures.transports.get("http_json").copied().unwrap_or(0.0);
    let rest = figures.all.map_or(0.0, |all| all.rest);
    (json >= MOST && rest >= MOST).then(|| {
        String::from(
            "Send binary tensors or use gRPC: most of the time goes into reading and writing JSON, not into the model.",
        )
    })
}

/// The reasons that are told, the most frequent first, in words.
fn most(reasons: &BTreeMap<&'static str, f64>, words: impl Fn(&str) -> Option<&'static str>) -> String {
    const REASONS_TOLD_MAX: usize = 3;
    let mut told: Vec<(f64, &'static str)> = reasons
        .iter()
        .filter(|(_, share)| **share >= TOLD_MIN)
        .filter_map(|(label, share)| Some((*share, words(label)?)))
        .collect();
    told.sort_by(|a, b| b.0.total_cmp(&a.0));
    told.truncate(REASONS_TOLD_MAX);
    let told: Vec<String> = told.into_iter().map(|(share, words)| format!("{words} ({})", percent(share))).collect();
    told.join(", ")
}

fn percent(share: f64) -> String {
    match share * 100.0 {
        0.0 => String::from("0 %"),
        percent if percent < 1.0 => String::from("less than 1 %"),
        percent => format!("{percent:.0} %"),
    }
}

/// Without digits behind the point that say nothing.
fn number(value: f64) -> String {
    if value >= 100.0 || value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        let text = format!("{value:.*}", if value < 1.0 { 3 } else { 1 });
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

fn seconds(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 120.0 => format!("{} s", number(seconds)),
        seconds if seconds < 7_200.0 => format!("{:.0} min", seconds / 60.0),
        seconds => format!("{:.0} h", seconds / 3_600.0),
    }
}

fn capital(mut text: String) -> String {
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text
}
