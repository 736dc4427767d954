//! A running server: the data plane, the engine, and the control thread that brings models from one to the other.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use servekit_engine::LoadedModel;
use servekit_server::core::{Reason, Refusal};
use servekit_server::{Absence, AccessLog, DataPorts, LogKind, Server};

use crate::config::{self, Config};
use crate::errors::Error;
use crate::loading::{Loader, check_absolute, tell};

/// How often runs are looked through for those that take too long.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);
/// Loads yield to requests.
const CONTROL_NICENESS: i32 = 10;

/// Everything that lives as long as the server.
pub struct Runtime {
    /// The data plane.
    pub server: Server,
    loader: Loader,
    progress: Mutex<Progress>,
    /// Rung when `progress` changes.
    changed: Condvar,
    /// Held during a load, so that the limit on loads at once holds: one.
    loading: Mutex<()>,
}

#[derive(Default)]
struct Progress {
    /// Every start-up model is ready or failed, and the ports listen, unless all failed.
    has_started: bool,
    /// Why the ports do not listen although they should.
    listen_error: Option<String>,
    is_stopped: bool,
    watched: Vec<Watched>,
}

/// A served model whose runs are bounded.
struct Watched {
    name: String,
    version: String,
    model: std::sync::Weak<LoadedModel>,
    run_max: Duration,
}

impl Runtime {
    /// Binds all sockets and starts all threads; models are loaded by one of them.
    ///
    /// # Errors
    /// `Config` or `Bind`.
    pub fn start(config: Config) -> Result<Arc<Self>, Error> {
        config.models.iter().try_for_each(|model| check_absolute(&model.path))?;
        let loader = Loader::open(&config)?;
        let server = Server::bind(server_config(&config, &loader)).map_err(|error| Error::Bind(error.to_string()))?;
        for model in &config.models {
            server.announce(&model.name, &model.version, model.required, Absence::Loading);
        }
        let runtime = Arc::new(Self {
            server,
            loader,
            progress: Mutex::default(),
            changed: Condvar::new(),
            loading: Mutex::new(()),
        });
        let starting = Arc::clone(&runtime);
        spawn("servekit-control", move || starting.start_up(&config.models))?;
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
        self.server.retract(name, version);
        self.progress().watched.retain(|watched| (watched.name.as_str(), watched.version.as_str()) != (name, version));
    }

    /// Ends everything at once.
    pub fn stop(&self) {
        self.progress().is_stopped = true;
        self.changed.notify_all();
        self.server.stop();
    }

    fn start_up(&self, models: &[config::Model]) {
        let mut ready = 0;
        for model in models {
            if self.progress().is_stopped {
                return;
            }
            match self.bring(model) {
                Ok(()) => ready += 1,
                Err(refusal) => {
                    let failed = Absence::Failed {
                        label: refusal.reason.entry().label.into(),
                        reason: refusal.text.into_owned().into(),
                    };
                    self.server.announce(&model.name, &model.version, model.required, failed);
                }
            }
        }
        let is_serving = ready > 0 || models.is_empty();
        if is_serving && let Err(error) = self.server.listen() {
            self.progress().listen_error = Some(error.to_string());
        }
        self.progress().has_started = true;
        self.changed.notify_all();
    }

    fn bring(&self, model: &config::Model) -> Result<(), Refusal> {
        let _one_at_a_time = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let load = std::panic::AssertUnwindSafe(|| self.loader.load(model));
        let loaded = std::panic::catch_unwind(load).unwrap_or_else(|_| {
            let text = format!("the load of model '{}' failed by a defect, please report it", model.name);
            Err(Refusal::new(Reason::Internal, text))
        })?;
        let watched = Watched {
            name: model.name.clone(),
            version: model.version.clone(),
            model: Arc::downgrade(&loaded),
            run_max: self.loader.run_max(loaded.description()),
        };
        self.server.publish(self.loader.serve(model, loaded))?;
        self.progress().watched.push(watched);
        Ok(())
    }

    /// Waits one interval, then stops runs that have taken too long. True when the server has stopped.
    fn watch(&self) -> bool {
        let running = |progress: &mut Progress| !progress.is_stopped;
        let waited = self.changed.wait_timeout_while(self.progress(), WATCH_INTERVAL, running);
        let (mut progress, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        progress.watched.retain(|watched| match watched.model.upgrade() {
            Some(model) => {
                model.stop_overdue(now, watched.run_max);
                true
            }
            None => false,
        });
        progress.is_stopped
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.stop();
    }
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
    }
}

/// A thread that yields to those that serve.
fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let run = move || {
        // Where the system does not let it, loads just compete.
        let _refused = rustix::process::setpriority_process(Some(rustix::thread::gettid()), CONTROL_NICENESS);
        work();
    };
    let spawned = thread::Builder::new().name(name.into()).spawn(run);
    spawned.map(drop).map_err(|error| Error::Config(format!("no thread can be started: {error}")))
}
