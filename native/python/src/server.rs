//! What Python holds of a running server, and what `servekit check` asks for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use serde_json::{Value, json};
use servekit_server::core::Refusal;

use crate::config::{self, Config};
use crate::costs;
use crate::detach::leave_python;
use crate::errors::{Error, into_python};
use crate::loading::{Loader, check_absolute, shown};
use crate::runtime::Runtime;
use crate::{parse, print};

/// A running server. Frozen: every change happens natively, behind its own locks.
#[pyclass(frozen, module = "servekit._native")]
pub struct Server {
    runtime: Arc<Runtime>,
}

#[pymethods]
impl Server {
    /// Binds all sockets, not listening yet, starts all threads, and begins to load models.
    #[staticmethod]
    fn start(python: Python<'_>, config_json: &str) -> PyResult<Self> {
        let runtime = leave_python(python, || Runtime::start(parse(config_json)?))?;
        Ok(Self { runtime })
    }

    /// Where it listens.
    fn addresses(&self) -> PyResult<String> {
        let addresses = self.runtime.server.addresses();
        let text = |address: Option<std::net::SocketAddr>| address.map(|address| address.to_string());
        let uds = addresses.uds.as_ref().map(|path| path.display().to_string());
        print(&json!({"http": text(addresses.http), "grpc": text(addresses.grpc), "uds": uds})).map_err(into_python)
    }

    /// Waits until every start-up model is ready or failed.
    fn wait_ready(&self, python: Python<'_>, timeout_s: f64) -> PyResult<bool> {
        let timeout = seconds(timeout_s);
        leave_python(python, || self.runtime.wait_ready(timeout))
    }

    /// Loads and serves one more model.
    fn load(&self, python: Python<'_>, model_json: &str) -> PyResult<String> {
        leave_python(python, || {
            let model: config::Model = parse(model_json)?;
            self.runtime.load(&model)?;
            let snapshot = self.document()?;
            let models = snapshot["models"].as_array().into_iter().flatten();
            let loaded = models
                .into_iter()
                .find(|entry| entry["name"] == model.name.as_str() && entry["version"] == model.version.as_str());
            print(&loaded)
        })
    }

    /// Ends the serving of one version.
    fn unload(&self, python: Python<'_>, name: &str, version: &str) -> PyResult<()> {
        leave_python(python, || {
            self.runtime.unload(name, version);
            Ok(())
        })
    }

    /// Every figure.
    fn snapshot(&self, python: Python<'_>) -> PyResult<String> {
        leave_python(python, || print(&self.document()?))
    }

    /// Why a model answers as fast as it does, in words; none where it is not served.
    fn why(&self, python: Python<'_>, name: &str, version: &str) -> PyResult<Option<String>> {
        leave_python(python, || self.runtime.server.why(name, version).as_ref().map(print).transpose())
    }

    /// Readiness ends now, acceptance after the delay.
    fn begin_drain(&self, delay_ms: u64) {
        self.runtime.server.begin_drain(Duration::from_millis(delay_ms));
    }

    /// Waits until everything is answered and written; what is not by then is refused.
    fn wait_drained(&self, python: Python<'_>, timeout_s: f64) -> PyResult<String> {
        let timeout = seconds(timeout_s);
        leave_python(python, || {
            let report = self.runtime.server.wait_drained(timeout);
            print(&json!({"drained": report.drained, "unanswered": report.unanswered}))
        })
    }

    /// Ends at once.
    fn stop(&self, python: Python<'_>) -> PyResult<()> {
        leave_python(python, || {
            self.runtime.stop();
            Ok(())
        })
    }
}

impl Server {
    fn document(&self) -> Result<Value, Error> {
        let snapshot = self.runtime.server.snapshot();
        let mut document = serde_json::to_value(snapshot).map_err(|error| Error::Internal(error.to_string()))?;
        document["server"]["cores"] =
            serde_json::to_value(self.runtime.plan()).map_err(|error| Error::Internal(error.to_string()))?;
        Ok(document)
    }
}

/// A length of time that is never out of range.
fn seconds(timeout_s: f64) -> Duration {
    const LONGEST_S: f64 = 1e9;
    Duration::from_secs_f64(timeout_s.clamp(0.0, LONGEST_S))
}

/// What a model of a configuration takes and gives, without a pipeline, and without trying it.
///
/// # Errors
/// `Config`, or `Load` with the reason why it cannot be served.
pub fn contract(config: &Config, name: &str) -> Result<String, Error> {
    let Some(model) = config.models.iter().find(|model| model.name == name) else {
        return Err(Error::Config(format!("model '{name}' is not in the configuration; name one that is")));
    };
    check_absolute(&model.path)?;
    let contract = Loader::open(config)?.contract_of(model).map_err(Error::Load)?;
    print(&shown(&contract))
}

/// Loads the first model of a configuration and describes it; the others are what its pipeline runs, and `row` is what
/// it is tried with.
///
/// # Errors
/// `Config`, or `Load` with the reason why it cannot be served.
pub fn check(config: &Config, row: &[config::Sample]) -> Result<String, Error> {
    let Some(model) = config.models.first() else {
        return Err(Error::Config("no model found, one is checked at a time".into()));
    };
    config.models.iter().try_for_each(|model| check_absolute(&model.path))?;
    let loader = Loader::open(config)?;
    let run_beside = config.models.iter().filter(|other| model.others().contains(&other.name));
    // Of another model a pipeline runs the file alone, whatever is wrong with its own pipeline.
    let file = |other: &config::Model| {
        Ok((other.name.clone(), loader.read(&config::Model { failed: None, ..other.clone() })?))
    };
    let others = run_beside.map(file).collect::<Result<HashMap<_, _>, Refusal>>().map_err(Error::Load)?;
    let read = loader.read(model).map_err(Error::Load)?;
    let loaded = loader.assemble(model, read, |name| others.get(name).map(Arc::clone)).map_err(Error::Load)?;
    let forms = loader.serve(model, &loaded);
    let served = forms.first().ok_or_else(|| Error::Internal("a model without a form".into()))?;
    let entry = servekit_server::describe(served).map_err(Error::Load)?;
    let mut entry = serde_json::to_value(entry).map_err(|error| Error::Internal(error.to_string()))?;
    entry["plan"] = serde_json::to_value(&loader.plan).map_err(|error| Error::Internal(error.to_string()))?;
    entry["run_ms_max"] = json!(loader.run_max(loaded.model.description()).as_millis() as u64);
    if let Some(pipeline) = &loaded.pipeline {
        entry["costs"] = costs::told(pipeline, row, &loader.limits)?;
    }
    print(&entry)
}
