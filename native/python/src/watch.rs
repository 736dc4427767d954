//! Looks after models in service: stops runs that take too long, takes a model that no longer answers its own test row
//! off until it does, and keeps what was learned about it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use servekit_engine::LoadedModel;
use servekit_server::Absence;
use servekit_server::core::{Health, HealthVerdict, Refusal};

use crate::config;
use crate::loading::Loaded;
use crate::profiles::{KEEP_INTERVAL, Keeper};
use crate::runtime::{Runtime, announce};

/// How often runs are looked through for those that take too long.
pub const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// A model in service, or taken off for its failures.
pub struct Watched {
    settings: config::Model,
    loaded: Loaded,
    run_max: Duration,
    health: Health,
    /// By name, and there by leg.
    keepers: Vec<(String, Vec<Keeper>)>,
    keep_at: Instant,
}

impl Watched {
    /// A model that has just been put into service.
    pub fn new(settings: config::Model, loaded: Loaded, run_max: Duration) -> Self {
        let keepers = loaded.queues(&settings).into_iter();
        let keepers = keepers.map(|(name, queues)| (name, queues.into_iter().map(Keeper::new).collect())).collect();
        let keep_at = Instant::now() + KEEP_INTERVAL;
        Self { settings, loaded, run_max, health: Health::Well, keepers, keep_at }
    }

    /// Every name under which it is served.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.settings.names()
    }

    /// The loaded file, if this is the model of that name.
    pub fn file_of(&self, name: &str) -> Option<Arc<LoadedModel>> {
        (self.settings.name == name).then(|| Arc::clone(&self.loaded.model))
    }

    /// Whether this is that version.
    pub fn is(&self, name: &str, version: &str) -> bool {
        self.settings.name == name && self.settings.version == version
    }

    /// Writes down what was learned about it, if there is enough that is new.
    pub fn keep(&mut self, runtime: &Runtime) {
        self.keep_at = Instant::now() + KEEP_INTERVAL;
        for (name, keepers) in &mut self.keepers {
            let learned = runtime.server.surfaces(name, &self.settings.version);
            for (keeper, learned) in keepers.iter_mut().zip(learned) {
                keeper.keep(&learned, &runtime.profile_warnings);
            }
        }
    }

    /// Stops what takes too long, and does what else is due.
    pub fn look(&mut self, runtime: &Runtime, now: Instant) {
        if now >= self.keep_at {
            self.keep(runtime);
        }
        if self.loaded.model.stop_overdue(now, self.run_max) > 0 {
            self.health = self.health.suspect(now);
        }
        if !self.health.is_due(now) {
            return;
        }
        let answer = self.loaded.model.probe_golden();
        let failures_max = runtime.limits().run_failures_max;
        let (health, verdict) = self.health.probed(answer.is_ok(), Instant::now(), failures_max);
        self.health = health;
        match (verdict, answer) {
            (HealthVerdict::TakeOff, Err(refusal)) => self.take_off(runtime, refusal),
            (HealthVerdict::PutBack, _) => self.put_back(runtime, now),
            _ => {}
        }
    }

    fn put_back(&mut self, runtime: &Runtime, now: Instant) {
        if runtime.publish(&self.settings, &self.loaded).is_err() {
            // No lane can be had now: it stays off, and the next probe tries again.
            self.health = Health::failed(now);
        }
    }

    fn take_off(&self, runtime: &Runtime, refusal: Refusal) {
        let failed =
            Absence::Failed { label: refusal.reason.entry().label.into(), reason: refusal.text.into_owned().into() };
        announce(&runtime.server, &self.settings, &failed);
    }
}
