//! Why a model answers as fast as it does, in words and from what was counted: what its slowest requests consist of,
//! what bounds its batches, how busy its lanes are, who was given up, and what would help.

mod figures;
mod throttling;
mod words;

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde_json::{Value, json};
use servekit_core::{Batching, Estimate, ModelSnapshot};

use crate::listing::{Placement, Version};
use crate::shared::Shared;
use crate::snapshot;
use figures::Figures;
use throttling::Throttling;

/// All that is known of a model when it is asked why.
struct Facts<'a> {
    model: &'a str,
    version: &'a str,
    /// Of all threads.
    counted: ModelSnapshot,
    /// How long it has been counted.
    served: Duration,
    /// Batches that may run at the same time.
    lanes: u32,
    rows_max: u32,
    /// Why its requests do not share runs, where that is so.
    alone: Option<&'a str>,
    /// What the proof of its rows' independence has found, in one word; empty where nothing is known.
    verdict: &'a str,
    /// Of the level of a request that names none; zero is none.
    target: Duration,
    /// `None` before its first batch.
    estimate: Option<Estimate>,
    /// `None` where nothing bounds the process's use of cores.
    throttling: Option<Throttling>,
}

/// The answer of `GET v2/models/m/why`.
pub(crate) fn why(shared: &Shared, version: &Version) -> Value {
    let mut told = explained(&facts(shared, version));
    if !version.legs.is_empty() {
        told["legs"] = version.legs.iter().map(|leg| explained_leg(&facts(shared, leg))).collect();
    }
    told
}

fn facts<'a>(shared: &Shared, version: &'a Version) -> Facts<'a> {
    let served = &version.served;
    let lanes = match served.placement {
        Placement::Inline => u32::try_from(shared.standings.len()).unwrap_or(u32::MAX),
        Placement::Pool => served.policy.lanes,
    };
    Facts {
        model: &served.name,
        version: &served.version,
        counted: snapshot::counted(version),
        served: version.served_since.elapsed(),
        lanes,
        rows_max: served.policy.rows_max,
        alone: match &served.model.run_contract().batching {
            Batching::Rows => None,
            Batching::Alone(why) => Some(why),
        },
        verdict: served.description.get("proof").and_then(|proof| proof.get("verdict")?.as_str()).unwrap_or_default(),
        target: served.target(served.priority_default.saturating_sub(1)),
        estimate: version.estimates.merged(),
        throttling: throttling::read(),
    }
}

/// The explanation as a function of what is known.
fn explained(facts: &Facts<'_>) -> Value {
    let figures = Figures::of(facts);
    json!({
        "model": facts.model,
        "version": facts.version,
        "sentences": words::sentences(facts, &figures),
        "advice": words::advice(facts, &figures),
        "figures": figures,
        "estimate": facts.estimate,
    })
}

/// What there is to say of a leg behind the first: requests are the whole model's, batches its own.
fn explained_leg(facts: &Facts<'_>) -> Value {
    let figures = Figures::of(facts);
    let sentences = words::of_batches(facts, &figures);
    let Figures { batches, lanes, shed, padding, .. } = figures;
    let figures = json!({"batches": batches, "lanes": lanes, "shed": shed, "padding": padding});
    json!({"name": facts.model, "sentences": sentences, "figures": figures, "estimate": facts.estimate})
}
