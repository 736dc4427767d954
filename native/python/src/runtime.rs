//! A running server: the data plane, the engine, and the control threads that bring models from one to the other.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use servekit_engine::LoadedModel;
use servekit_server::core::{Limits, Reason, Refusal};
use servekit_server::{Absence, AccessLog, DataPorts, LogKind, Server};

use crate::config::{self, Config};
use crate::errors::Error;
use crate::loading::{Loaded, Loader, check_absolute, tell};
use crate::profiles::Warnings;
use crate::watch::{WATCH_INTERVAL, Watched};

/// Loads yield to requests.
const CONTROL_NICENESS: i32 = 10;

/// Everything that lives as long as the server.
pub struct Runtime {
    /// The data plane.
    pub server: Server,
    loader: Arc<Loader>,
    progress: Mutex<Progress>,
    /// Rung when `progress` changes.
    changed: Condvar,
    /// In service. Locked by control threads only; a look at all of them may take as long as their test rows.
    watched: Mutex<Vec<Watched>>,
    /// About what cannot be kept.
    pub profile_warnings: Warnings,
}

#[derive(Default)]
struct Progress {
    /// Every start-up model is ready or failed, and the ports listen, unless all failed.
    has_started: bool,
    /// Why the ports do not listen although they should.
    listen_error: Option<String>,
    is_stopped: bool,
    /// Loads under way.
    loads: u64,
}

impl Runtime {
    /// Binds all sockets and starts all threads; models are loaded by some of them.
    ///
    /// # Errors
    /// `Config` or `Bind`.
    pub fn start(config: Config) -> Result<Arc<Self>, Error> {
        config.models.iter().try_for_each(|model| check_absolute(&model.path))?;
        let loader = Arc::new(Loader::open(&config)?);
        let server = Server::bind(server_config(&config, &loader)).map_err(|error| Error::Bind(error.to_string()))?;
        for model in &config.models {
            announce(&server, model, &Absence::Loading);
        }
        let (progress, changed, watched) = (Mutex::default(), Condvar::new(), Mutex::default());
        let profile_warnings = Warnings::default();
        let runtime = Arc::new(Self { server, loader, progress, changed, watched, profile_warnings });
        let starting = Arc::clone(&runtime);
        spawn("servekit-control", move || starting.start_up(config.models))?;
        let watching = Arc::downgrade(&runtime);
        spawn("servekit-watch", move || {
            while let Some(runtime) = watching.upgrade() {
                if runtime.watch() {
                    break;
                }
            }
        })?;
        Ok(runtime)
    }

    /// The core plan, for snapshots.
    pub fn plan(&self) -> &servekit_engine::CorePlan {
        &self.loader.plan
    }

    /// Effective limits.
    pub fn limits(&self) -> &Limits {
        &self.loader.limits
    }

    /// Waits until every start-up model is ready or failed; false where it takes longer.
    ///
    /// # Errors
    /// `Bind` where the ports cannot listen.
    pub fn wait_ready(&self, timeout: Duration) -> Result<bool, Error> {
        let waiting = |progress: &mut Progress| !progress.has_started;
        let waited = self.changed.wait_timeout_while(self.progress(), timeout, waiting);
        let (mut progress, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        match progress.listen_error.take() {
            Some(text) => Err(Error::Bind(text)),
            None => Ok(!waited.timed_out()),
        }
    }

    /// Loads and serves one more model, or another version of one.
    ///
    /// # Errors
    /// Why it cannot be served; what was served before still is.
    pub fn load(&self, model: &config::Model) -> Result<(), Error> {
        check_absolute(&model.path)?;
        self.bring(model).map_err(Error::Load)
    }

    /// Ends the serving of one version; requests that were accepted are answered.
    pub fn unload(&self, name: &str, version: &str) {
        self.keep_profile(name, version);
        let mut names = vec![name.to_owned()];
        self.watched().retain(|watched| {
            let is_gone = watched.is(name, version);
            names.extend(is_gone.then(|| watched.names()).into_iter().flatten());
            !is_gone
        });
        names.iter().for_each(|name| self.server.retract(name, version));
    }

    /// Writes down what was learned about one version, before its queues go.
    fn keep_profile(&self, name: &str, version: &str) {
        self.watched().iter_mut().filter(|watched| watched.is(name, version)).for_each(|watched| watched.keep(self));
    }

    /// Puts a loaded model into service.
    ///
    /// # Errors
    /// Where it cannot have its lanes.
    pub fn publish(&self, model: &config::Model, loaded: &Loaded) -> Result<(), Refusal> {
        self.loader.serve(model, loaded).into_iter().try_for_each(|served| self.server.publish(served))
    }

    /// Ends everything at once.
    pub fn stop(&self) {
        self.progress().is_stopped = true;
        self.changed.notify_all();
        self.keep_profiles();
        self.server.stop();
    }

    /// Writes down what was learned about all models. Whoever looks after them may be busy with a test row that does not
    /// end: what was learned since it was last written is given up then.
    fn keep_profiles(&self) {
        const TRIES: u32 = 100;
        const PAUSE: Duration = Duration::from_millis(10);
        for _ in 0..TRIES {
            if let Ok(mut watched) = self.watched.try_lock() {
                return watched.iter_mut().for_each(|watched| watched.keep(self));
            }
            thread::sleep(PAUSE);
        }
    }

    /// Loads the start-up models, and opens the ports.
    fn start_up(&self, models: Vec<config::Model>) {
        let is_any_asked = !models.is_empty();
        // Pipelines come when all files are there: each may run any of them.
        let (files, pipelines) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        let ready = Mutex::new(0_usize);
        let start = |model: &config::Model, file: Result<Arc<LoadedModel>, Refusal>| {
            let other = |name: &str| {
                let files = locked(&files);
                let named = files.iter().filter(|(known, _, _): &&(String, u64, _)| known == name);
                named.max_by_key(|(_, version, _)| *version).map(|(_, _, file)| Arc::clone(file))
            };
            match file.and_then(|file| self.put_into_service(model, file, other)) {
                Ok(()) => *locked(&ready) += 1,
                Err(refusal) => {
                    let label = refusal.reason.entry().label.into();
                    announce(&self.server, model, &Absence::Failed { label, reason: refusal.text.into_owned().into() });
                }
            }
        };
        self.at_once(models, |model| match self.read_in_time(&model) {
            Ok(file) => {
                let version = model.version.parse().unwrap_or(0);
                locked(&files).push((model.name.clone(), version, Arc::clone(&file)));
                match model.pipeline {
                    Some(_) => locked(&pipelines).push((model, file)),
                    None => start(&model, Ok(file)),
                }
            }
            Err(refusal) => start(&model, Err(refusal)),
        });
        self.at_once(std::mem::take(&mut *locked(&pipelines)), |(model, file)| start(&model, Ok(file)));
        let is_serving = !is_any_asked || *locked(&ready) > 0;
        if is_serving && let Err(error) = self.server.listen() {
            self.progress().listen_error = Some(error.to_string());
        }
        self.progress().has_started = true;
        self.changed.notify_all();
    }

    /// Does this work on all of these, as many at once as may be loaded, until the server stops.
    fn at_once<T: Send>(&self, all: Vec<T>, work: impl Fn(T) + Sync) {
        let workers = all.len().min(usize::try_from(self.limits().loads_max).unwrap_or(usize::MAX));
        let waiting = Mutex::new(VecDeque::from(all));
        let next = || locked(&waiting).pop_front();
        thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    yield_to_requests();
                    while let Some(one) = next().filter(|_| !self.progress().is_stopped) {
                        work(one);
                    }
                });
            }
        });
    }

    fn bring(&self, model: &config::Model) -> Result<(), Refusal> {
        let file = self.read_in_time(model)?;
        let other = |name: &str| self.watched().iter().rev().find_map(|watched| watched.file_of(name));
        self.put_into_service(model, file, other)
    }

    /// Builds the pipeline of a model, if it has one, and serves it.
    fn put_into_service(
        &self,
        model: &config::Model,
        file: Arc<LoadedModel>,
        other: impl Fn(&str) -> Option<Arc<LoadedModel>>,
    ) -> Result<(), Refusal> {
        self.keep_profile(&model.name, &model.version);
        let assembled = catch_unwind(AssertUnwindSafe(|| self.loader.assemble(model, file, other)));
        let loaded = assembled.map_err(|_| defect(model, "panic"))??;
        self.publish(model, &loaded)?;
        let run_max = self.loader.run_max(loaded.model.description());
        let mut watched = self.watched();
        watched.retain(|watched| !watched.is(&model.name, &model.version));
        watched.push(Watched::new(model.clone(), loaded, run_max));
        Ok(())
    }

    /// Loads a file on a thread of its own, once there is room for one more load; a load that takes too long is not waited
    /// for, and what it gives in the end is dropped.
    fn read_in_time(&self, model: &config::Model) -> Result<Arc<LoadedModel>, Refusal> {
        let full = |progress: &mut Progress| progress.loads >= self.limits().loads_max;
        let waited = self.changed.wait_while(self.progress(), full);
        waited.unwrap_or_else(PoisonError::into_inner).loads += 1;
        let outcome = self.read_on_thread(model);
        self.progress().loads -= 1;
        self.changed.notify_all();
        outcome
    }

    fn read_on_thread(&self, model: &config::Model) -> Result<Arc<LoadedModel>, Refusal> {
        let (sender, receiver) = sync_channel(1);
        let (loader, settings) = (Arc::clone(&self.loader), model.clone());
        let work = move || {
            let loaded = catch_unwind(AssertUnwindSafe(|| loader.read(&settings)));
            // Nobody listens any more where it took too long.
            let _late = sender.send(loaded);
        };
        spawn("servekit-load", work).map_err(|_| defect(model, "no thread"))?;
        let load_ms_max = self.limits().load_ms_max;
        match receiver.recv_timeout(Duration::from_millis(load_ms_max)) {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => Err(defect(model, "panic")),
            Err(RecvTimeoutError::Timeout) => {
                let text = format!(
                    "load of '{}' took {load_ms_max} ms, at most {load_ms_max} are allowed; raise load_ms_max",
                    model.name
                );
                Err(Refusal::new(Reason::LoadTimeout, text))
            }
        }
    }

    /// Waits one interval, then looks after all models. True when the server has stopped.
    fn watch(&self) -> bool {
        let running = |progress: &mut Progress| !progress.is_stopped;
        let waited = self.changed.wait_timeout_while(self.progress(), WATCH_INTERVAL, running);
        let (progress, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let is_stopped = progress.is_stopped;
        drop(progress);
        if !is_stopped {
            let now = Instant::now();
            self.watched().iter_mut().for_each(|watched| watched.look(self, now));
        }
        is_stopped
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        locked(&self.progress)
    }

    fn watched(&self) -> MutexGuard<'_, Vec<Watched>> {
        locked(&self.watched)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A mistake of ours in a load.
fn defect(model: &config::Model, what: &str) -> Refusal {
    let text = format!("the load of model '{}' failed by a defect ({what}), please report it", model.name);
    Refusal::new(Reason::Internal, text)
}

/// Tells under each of its names that a model is not served.
pub fn announce(server: &Server, model: &config::Model, absence: &Absence) {
    for name in model.names() {
        server.announce(&name, &model.version, model.required, absence.clone());
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn server_config(config: &Config, loader: &Loader) -> servekit_server::Config {
    let data = config.data.clone();
    servekit_server::Config {
        data: DataPorts { host: data.host, http_port: data.http_port, grpc_port: data.grpc_port, uds: data.uds },
        shards: loader.plan.shards as usize,
        runners: loader.plan.runners as usize,
        limits: config.limits.clone(),
        access: AccessLog {
            sample: config.log.access_sample,
            format: match config.log.format {
                config::LogFormat::Text => servekit_server::LogFormat::Text,
                config::LogFormat::Json => servekit_server::LogFormat::Json,
            },
            lines_per_second_max: config.limits.log_lines_per_second_max,
            field_bytes_max: config.limits.log_field_bytes_max,
        },
        log: Box::new(|_: LogKind, line: &str| tell(line)),
        server_timing: match config.batching.server_timing {
            config::ServerTiming::Off => servekit_server::ServerTiming::Off,
            config::ServerTiming::Sampled => servekit_server::ServerTiming::Sampled,
            config::ServerTiming::Always => servekit_server::ServerTiming::Always,
        },
        give_back_memory: Box::new(servekit_engine::give_back_freed_memory),
    }
}

/// A thread that yields to those that serve.
fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let run = move || {
        yield_to_requests();
        work();
    };
    let spawned = thread::Builder::new().name(name.into()).spawn(run);
    spawned.map(drop).map_err(|error| Error::Config(format!("no thread can be started: {error}")))
}

/// Lowers the priority of this thread; where the system does not let it, loads just compete.
fn yield_to_requests() {
    let _refused = rustix::process::setpriority_process(Some(rustix::thread::gettid()), CONTROL_NICENESS);
}
