//! The models that are known by name, as one immutable snapshot that everybody reads and nobody locks.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use servekit_core::{
    Inputs, Model, ModelCounters, ModelKey, Outlook, Policy, Quota, Reason, Refusal, Route, ShardCounters, Step, Way,
    quoted,
};

use crate::dialect::Letterhead;
use crate::estimates::Estimates;

/// A model version that is ready to be served.
pub struct Served {
    /// Name that requests use.
    pub name: Box<str>,
    /// A whole number.
    pub version: Box<str>,
    /// What answers.
    pub model: Arc<dyn Model>,
    /// Who runs its batches; where requests are prepared it is a runner whatever is said here.
    pub placement: Placement,
    /// Inline: what a batch was tried with. Larger requests go to a runner: nobody knows how long they run, and a shard
    /// must not find out. The largest number there is keeps all of them inline.
    pub inline_bytes_max: u64,
    /// What bounds its batches and its queue.
    pub policy: Policy,
    /// How long a request may take that brings no deadline, for each class, the highest first; zero leaves it to
    /// `queue_wait_ms_max`. A class beyond them has the last one's.
    pub targets: Box<[Duration]>,
    /// Level, from 1, of a request that names none.
    pub priority_default: u8,
    /// Whether the server is ready only while this is.
    pub required: bool,
    /// As metadata names it.
    pub platform: Box<str>,
    /// Further properties of the metadata, for example class labels.
    pub properties: Vec<(Box<str>, Box<str>)>,
    /// What the snapshot tells of it beyond what the server knows: device, digest, decisions and so on.
    pub description: serde_json::Map<String, serde_json::Value>,
    /// The legs behind the first, where it has a route: what they are called, and their queues.
    pub legs: Vec<Served>,
}

impl Served {
    /// Classes that requests may have.
    pub(crate) fn levels(&self) -> u8 {
        u8::try_from(self.targets.len()).unwrap_or(u8::MAX).max(1)
    }

    /// How long a request of this class may take that brings no deadline.
    pub(crate) fn target(&self, priority: u8) -> Duration {
        self.targets.get(usize::from(priority)).or(self.targets.last()).copied().unwrap_or_default()
    }

    /// Who runs a request with so many bytes of inputs.
    pub(crate) fn placement_of(&self, input_bytes: u64) -> Placement {
        if input_bytes > self.inline_bytes_max { Placement::Pool } else { self.placement }
    }

    /// Who runs its batches. Preparing a request may take long, so a shard never does that; and legs are the pool's.
    pub(crate) fn execution(&self) -> Placement {
        let is_pooled = self.model.preparer().is_some() || self.model.route().is_some();
        if is_pooled { Placement::Pool } else { self.placement }
    }

    /// Whether any request may go to a runner.
    pub(crate) fn needs_runners(&self) -> bool {
        self.placement_of(u64::MAX) == Placement::Pool
    }

    /// The policy of the batches that shards run: none is larger than what was tried.
    pub(crate) fn inline_policy(&self) -> Policy {
        let bytes_max = usize::try_from(self.inline_bytes_max).unwrap_or(usize::MAX);
        Policy { bytes_max: bytes_max.min(self.policy.bytes_max), lanes: 1, cores: 1, ..self.policy.clone() }
    }
}

/// Who runs a model's batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Each shard runs those of its own connections.
    Inline,
    /// Runner threads.
    Pool,
}

impl Placement {
    /// As people read it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Inline => "inline",
            Self::Pool => "pool",
        }
    }
}

/// What is known of a name that is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absence {
    /// It will be.
    Loading,
    /// It will not be.
    Failed {
        /// Label of the refusal that ended its load.
        label: Box<str>,
        /// For people; may name files, so it never leaves by a data port.
        reason: Box<str>,
    },
}

/// The legs that requests go through one after the other.
#[derive(Clone)]
pub(crate) struct Journey {
    /// Leads them.
    pub route: Arc<dyn Route>,
    /// Of the queues, in the order of the legs.
    pub keys: Arc<[ModelKey]>,
}

/// A served version with what the server adds to it.
pub(crate) struct Version {
    /// Names it in schedulers and counters; never used again.
    pub key: ModelKey,
    /// With its placement settled.
    pub served: Served,
    /// Of the model; empty for most.
    pub steps: Box<[Step]>,
    /// What its answers begin with.
    pub letterhead: Letterhead,
    /// Whether its requests are prepared before they are in a batch.
    pub prepares: bool,
    /// Where its requests go on to; `None` for most.
    pub journey: Option<Journey>,
    /// Behind the first.
    pub legs: Box<[Arc<Version>]>,
    /// Bytes that its requests may hold; one for all legs.
    pub bytes: Arc<Quota>,
    /// Requests that wait in the pool's queue: a hint for refusing before a body is read.
    pub queued: AtomicUsize,
    /// When a newcomer would be answered by the pool: a hint as well.
    pub outlook: Outlook,
    /// Since when it counts.
    pub served_since: Instant,
    /// What its queues reckon with.
    pub estimates: Estimates,
    /// Shards that may still send requests to it.
    pub shards: AtomicUsize,
    /// One per shard and then one per runner, each written by that thread alone.
    pub counters: Box<[Arc<ModelCounters>]>,
}

impl Version {
    /// Blocks in which a model's bytes are lent to shards.
    const BYTES_BLOCK: u64 = 1 << 20;

    /// A version that nobody has asked anything yet, with its legs. Their keys follow its own.
    pub(crate) fn new(key: ModelKey, mut served: Served, bytes_max: u64, threads: &[Arc<ShardCounters>]) -> Self {
        let legs = std::mem::take(&mut served.legs);
        let keys: Arc<[ModelKey]> = (key.0..).take(legs.len() + 1).map(ModelKey).collect();
        let journey = served.model.route().map(|route| Journey { route, keys: Arc::clone(&keys) });
        let bytes = Quota::new(bytes_max, Self::BYTES_BLOCK);
        let leg = |(served, key): (Served, &ModelKey)| {
            let leg = Self { journey: journey.clone(), ..Self::alone(*key, served, Arc::clone(&bytes), threads) };
            Arc::new(leg)
        };
        let legs = legs.into_iter().zip(&keys[1..]).map(leg).collect();
        Self { legs, journey, ..Self::alone(key, served, bytes, threads) }
    }

    /// A version without a route.
    fn alone(key: ModelKey, mut served: Served, bytes: Arc<Quota>, threads: &[Arc<ShardCounters>]) -> Self {
        served.placement = served.execution();
        let steps: Box<[Step]> = served.model.steps().into();
        Self {
            key,
            letterhead: Letterhead::new(served.model.contract(), &served.version),
            prepares: served.model.preparer().is_some(),
            served,
            journey: None,
            legs: Box::default(),
            bytes,
            queued: AtomicUsize::new(0),
            outlook: Outlook::new(Instant::now()),
            // Each thread that counts may have a queue of its own.
            estimates: Estimates::new(threads.len()),
            served_since: Instant::now(),
            shards: AtomicUsize::new(0),
            counters: threads.iter().map(|shard| ModelCounters::new(shard, &steps)).collect(),
            steps,
        }
    }
}

impl Version {
    /// The way of a request with these inputs of the first leg; `None` where there is only one.
    pub(crate) fn departing(&self, inputs: &Inputs, rows: u32, now: Instant) -> Option<Box<Way>> {
        let Journey { route, .. } = self.journey.as_ref()?;
        Some(Box::new(Way::new(rows, route.depart(inputs), now)))
    }

    /// The leg behind this one, if there is one.
    pub(crate) fn next_leg(&self) -> Option<ModelKey> {
        let Journey { keys, .. } = self.journey.as_ref()?;
        keys.iter().copied().find(|key| *key > self.key)
    }

    /// What its queues reckon with, for people; null before the first batch.
    pub(crate) fn estimate(&self) -> serde_json::Value {
        self.estimates.merged().and_then(|merged| serde_json::to_value(merged).ok()).unwrap_or_default()
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} version {}", self.served.name, self.served.version)
    }
}

/// One name and version.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub name: Box<str>,
    pub version: Box<str>,
    /// Whether the server is ready only while this is.
    pub required: bool,
    pub state: State,
}

/// What a request to it meets.
#[derive(Clone, Debug)]
pub(crate) enum State {
    Served(Arc<Version>),
    Absent(Absence),
}

/// Where the server is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its first models are loading.
    #[default]
    Starting,
    /// It serves.
    Ready,
    /// It serves, and is about to end.
    Draining {
        /// When its clients are asked to go.
        leave_at: Instant,
    },
    /// Its time is up: whoever still waits is refused.
    Ending,
}

/// All known models, sorted by name and then by version, and the server's phase.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listing {
    pub phase: Phase,
    /// Grows with every change, so that what was derived from an older listing can be told.
    pub generation: u64,
    pub entries: Vec<Entry>,
}

impl Listing {
    /// A copy with this entry put in, in place of any of the same name and version.
    pub(crate) fn with(&self, entry: Entry) -> Self {
        let mut listing = self.without(&entry.name, &entry.version);
        listing.entries.push(entry);
        listing.entries.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| number(&a.version).cmp(&number(&b.version))));
        listing
    }

    /// A copy without this name and version.
    pub(crate) fn without(&self, name: &str, version: &str) -> Self {
        let others = self.entries.iter().filter(|entry| (&*entry.name, &*entry.version) != (name, version));
        Self { phase: self.phase, generation: self.generation + 1, entries: others.cloned().collect() }
    }

    /// A copy in another phase.
    pub(crate) fn at(&self, phase: Phase) -> Self {
        Self { phase, generation: self.generation + 1, entries: self.entries.clone() }
    }

    /// All versions of a name, the highest last.
    pub(crate) fn versions(&self, name: &str) -> &[Entry] {
        let start = self.entries.partition_point(|entry| &*entry.name < name);
        let count = self.entries[start..].iter().take_while(|entry| &*entry.name == name).count();
        &self.entries[start..start + count]
    }

    /// The version that answers a request; an empty one stands for the highest that is served.
    ///
    /// # Errors
    /// `UnknownModel`, `ModelLoading`, `ModelFailed`.
    pub(crate) fn find(&self, name: &str, version: &str) -> Result<&Arc<Version>, Refusal> {
        let versions = self.versions(name);
        let entry = match version {
            "" => versions.iter().rev().find(|entry| entry.served().is_some()).or(versions.last()),
            version => versions.iter().find(|entry| &*entry.version == version),
        };
        match entry.map(|entry| (&entry.state, entry)) {
            Some((State::Served(version), _)) => Ok(version),
            Some((State::Absent(absence), entry)) => Err(absent(absence, entry)),
            None if versions.is_empty() => {
                let name = quoted(name.as_bytes());
                let text =
                    format!("request for unknown model: '{name}' is not found; GET /v2/models lists the served ones");
                Err(Refusal::new(Reason::UnknownModel, text))
            }
            None => {
                let (name, version) = (quoted(name.as_bytes()), quoted(version.as_bytes()));
                let text = format!(
                    "request for unknown model: '{name}' version {version} is not found; GET /v2/models/{name} lists its versions"
                );
                Err(Refusal::new(Reason::UnknownModel, text))
            }
        }
    }

    /// Numbers of the versions of a name that are served, the highest last.
    pub(crate) fn served_versions(&self, name: &str) -> Vec<&str> {
        self.versions(name).iter().filter(|entry| entry.served().is_some()).map(|entry| &*entry.version).collect()
    }

    /// Everything that is served.
    pub(crate) fn served(&self) -> impl Iterator<Item = &Arc<Version>> {
        self.entries.iter().filter_map(Entry::served)
    }

    /// Whether the server is ready: it neither starts nor ends, something is served, and all that is required.
    pub(crate) fn is_ready(&self) -> bool {
        let mut required = self.entries.iter().filter(|entry| entry.required);
        self.phase == Phase::Ready && self.served().next().is_some() && required.all(|entry| entry.served().is_some())
    }

    /// Health as gRPC names it: of the whole server, of its inference service, or of a model; `None` for a service
    /// that is not known.
    pub(crate) fn health(&self, service: &str) -> Option<bool> {
        match service {
            "" | "inference.GRPCInferenceService" => Some(self.is_ready()),
            name => {
                let versions = self.versions(name);
                let is_served = versions.iter().any(|entry| entry.served().is_some());
                let is_ending = matches!(self.phase, Phase::Draining { .. } | Phase::Ending);
                (!versions.is_empty()).then_some(is_served && !is_ending)
            }
        }
    }
}

/// The model that was found last: most connections ask for one again and again.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    generation: u64,
    name: String,
    version: String,
    found: Option<Arc<Version>>,
}

impl Recent {
    /// The model that was found last, if it was in this listing.
    pub(crate) fn last(&self, listing: &Listing) -> Option<&Arc<Version>> {
        self.found.as_ref().filter(|_| self.generation == listing.generation)
    }

    /// As [`Listing::find`].
    ///
    /// # Errors
    /// Those of [`Listing::find`].
    pub(crate) fn find(&mut self, listing: &Listing, name: &str, version: &str) -> Result<&Arc<Version>, Refusal> {
        let is_same = self.generation == listing.generation && self.name == name && self.version == version;
        let found = match self.found.take() {
            Some(found) if is_same => found,
            _ => {
                let found = Arc::clone(listing.find(name, version)?);
                self.generation = listing.generation;
                name.clone_into(&mut self.name);
                version.clone_into(&mut self.version);
                found
            }
        };
        Ok(self.found.insert(found))
    }
}

impl Entry {
    /// The version, where it is served.
    pub(crate) fn served(&self) -> Option<&Arc<Version>> {
        match &self.state {
            State::Served(version) => Some(version),
            State::Absent(_) => None,
        }
    }
}

fn absent(absence: &Absence, entry: &Entry) -> Refusal {
    let Entry { name, version, .. } = entry;
    match absence {
        Absence::Loading => {
            let text = format!(
                "request for unknown model: '{name}' version {version} is not at ready state; retry in 1000 ms"
            );
            Refusal::new(Reason::ModelLoading, text).retry_after(Duration::from_secs(1))
        }
        Absence::Failed { label, .. } => {
            let text = format!(
                "model '{name}' version {version} failed to load ({label}), the server's log tells more; retry when it is mended"
            );
            Refusal::new(Reason::ModelFailed, text).retry_after(Duration::from_secs(5))
        }
    }
}

/// Versions are compared as numbers.
fn number(version: &str) -> u64 {
    version.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loading(name: &str, version: &str) -> Entry {
        Entry { name: name.into(), version: version.into(), required: false, state: State::Absent(Absence::Loading) }
    }

    #[test]
    fn versions_of_a_name_stand_together_in_order_of_their_numbers() {
        let mut listing = Listing::default();
        for (name, version) in [("b", "1"), ("a", "10"), ("a", "9"), ("ab", "1"), ("a", "9")] {
            listing = listing.with(loading(name, version));
        }
        let versions: Vec<&str> = listing.versions("a").iter().map(|entry| &*entry.version).collect();
        assert_eq!(versions, ["9", "10"]);
        assert!(listing.versions("c").is_empty());
        assert_eq!(listing.generation, 5);
    }

    #[test]
    fn what_is_not_served_says_why() {
        let failed = Absence::Failed { label: "model_file".into(), reason: "/srv/secret.onnx is no model".into() };
        let listing = Listing::default()
            .with(loading("a", "1"))
            .with(Entry { state: State::Absent(failed), ..loading("b", "1") });
        let refused = |name: &str, version: &str| listing.find(name, version).map(drop).expect_err("not served");
        assert_eq!(refused("a", "").reason, Reason::ModelLoading);
        assert_eq!(refused("a", "2").reason, Reason::UnknownModel);
        assert_eq!(refused("b", "1").reason, Reason::ModelFailed);
        assert!(!refused("b", "1").text.contains("secret"));
        assert_eq!(refused("c", "").reason, Reason::UnknownModel);
        assert!(!listing.is_ready());
    }
}
