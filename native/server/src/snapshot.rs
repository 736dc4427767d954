//! Everything that was counted, at one moment, as whoever scrapes reads it.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::{Map, Value, json};
use servekit_core::{Bounds, ModelSnapshot, Refusal, ShardSnapshot};

use crate::listing::{Absence, Entry, Listing, Phase, Placement, Served, State, Version};
use crate::shard::with_facts;
use crate::shared::{Shared, resident_bytes};

/// The server at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// What belongs to no model.
    pub server: ServerSnapshot,
    /// Upper bounds of all histograms.
    pub bounds: Bounds,
    /// By name and version; each is an object of what is known and what was counted.
    pub models: Vec<Value>,
}

/// What belongs to no model.
#[derive(Clone, Debug, Serialize)]
pub struct ServerSnapshot {
    /// `starting`, `ready` or `draining`.
    pub state: &'static str,
    /// Whether requests to the health routes are told so.
    pub ready: bool,
    /// Seconds since 1970.
    pub started_at_unix_s: f64,
    /// Added up over shards.
    #[serde(flatten)]
    pub counted: ShardSnapshot,
    /// Of the process.
    pub memory: MemorySnapshot,
    /// Log lines that nobody will see.
    pub log_lines_dropped: u64,
    /// The core plan, put in by whoever made it.
    pub cores: Value,
}

/// Memory of the process.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct MemorySnapshot {
    /// In RAM now.
    pub resident_bytes: u64,
    /// What it may have.
    pub limit_bytes: u64,
}

/// Adds up what all threads have counted.
pub(crate) fn take(shared: &Shared, started_at: SystemTime) -> Snapshot {
    let listing = shared.listing.load();
    let mut counted = ShardSnapshot::default();
    shared.counters.iter().for_each(|counters| counted.merge(&counters.snapshot()));
    let server = ServerSnapshot {
        state: match listing.phase {
            Phase::Starting => "starting",
            Phase::Ready => "ready",
            Phase::Draining { .. } | Phase::Ending => "draining",
        },
        ready: listing.is_ready(),
        started_at_unix_s: started_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
        counted,
        memory: MemorySnapshot {
            resident_bytes: resident_bytes().unwrap_or_default(),
            limit_bytes: shared.limits.memory_bytes_max,
        },
        log_lines_dropped: shared.log.dropped(),
        cores: Value::Null,
    };
    let models = listing.entries.iter().map(|entry| model(shared, &listing, entry)).collect();
    Snapshot { server, bounds: Bounds::in_use(), models }
}

fn model(shared: &Shared, listing: &Listing, entry: &Entry) -> Value {
    let (state, label, reason) = match &entry.state {
        State::Served(_) => ("ready", "", ""),
        State::Absent(Absence::Loading) => ("loading", "", ""),
        State::Absent(Absence::Failed { label, reason }) => ("failed", &**label, &**reason),
    };
    let mut model = Map::new();
    model.insert("name".into(), json!(entry.name));
    model.insert("version".into(), json!(entry.version));
    model.insert("state".into(), json!(state));
    model.insert("reason".into(), json!(reason));
    model.insert("label".into(), json!(label));
    if let State::Served(version) = &entry.state {
        put_served(&version.served, version.served.placement, &listing.served_versions(&entry.name), &mut model);
        put_counted(shared, version, &mut model);
    }
    Value::Object(model)
}

/// What a snapshot would tell of a model once it is served, besides what is counted.
///
/// # Errors
/// Where the model cannot have a lane, and so could not be served.
pub fn describe(served: &Served) -> Result<Value, Refusal> {
    drop(served.model.executor()?);
    let mut model = Map::new();
    model.insert("name".into(), json!(served.name));
    model.insert("version".into(), json!(served.version));
    put_served(served, served.execution(), &[&served.version], &mut model);
    Ok(Value::Object(model))
}

fn put_served(served: &Served, execution: Placement, versions: &[&str], model: &mut Map<String, Value>) {
    model.extend(served.description.clone());
    let mut contract = Vec::new();
    with_facts(served, versions, |facts| facts.print(&mut contract));
    let mut contract: Value = serde_json::from_slice(&contract).unwrap_or_default();
    if let Value::Object(contract) = &mut contract {
        contract.entry("properties").or_insert_with(|| json!({}));
    }
    model.insert("contract".into(), contract);
    model.insert("execution".into(), json!(execution.name()));
    model.insert("batch_rows_max".into(), json!(served.policy.rows_max));
    model.insert("lanes".into(), json!(served.policy.lanes));
    model.insert("mode".into(), json!(served.policy.mode));
    model.insert("priority_default".into(), json!(served.priority_default));
    let targets_ms: Vec<f64> = served.targets.iter().map(|target| target.as_secs_f64() * 1e3).collect();
    model.insert("targets_ms".into(), json!(targets_ms));
}

/// What all threads have counted of a model.
pub(crate) fn counted(version: &Version) -> ModelSnapshot {
    let mut counted = ModelSnapshot::default();
    version.counters.iter().for_each(|counters| counted.merge(&counters.snapshot()));
    counted
}

fn put_counted(shared: &Shared, version: &Version, model: &mut Map<String, Value>) {
    let mut counted = counted(version);
    if version.served.placement == Placement::Inline {
        model.insert("lanes".into(), json!(shared.standings.len()));
    }
    if let Some((queued, rows_max)) = shared.pool.queued(version.key) {
        counted.queue_requests += queued.requests as u64;
        counted.queue_rows += queued.rows as u64;
        model.insert("batch_rows_max".into(), json!(rows_max));
    }
    if !version.legs.is_empty() {
        let legs: Vec<Value> = version.legs.iter().map(|leg| self::leg(shared, leg, &mut counted)).collect();
        model.insert("legs".into(), json!(legs));
    }
    model.insert("estimate".into(), version.estimate());
    if let Ok(Value::Object(counted)) = serde_json::to_value(&counted) {
        model.extend(counted);
    }
}

/// The queue of a leg behind the first. What its steps took is told with those of the whole model.
fn leg(shared: &Shared, leg: &Version, whole: &mut ModelSnapshot) -> Value {
    let mut shown = Map::new();
    shown.insert("name".into(), json!(leg.served.name));
    shown.insert("batch_rows_max".into(), json!(leg.served.policy.rows_max));
    shown.insert("lanes".into(), json!(leg.served.policy.lanes));
    put_counted(shared, leg, &mut shown);
    for step in counted(leg).steps {
        if let Some(known) = whole.steps.iter_mut().find(|known| known.name == step.name) {
            *known = step;
        }
    }
    shown.remove("steps");
    Value::Object(shown)
}
