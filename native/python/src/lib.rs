//! `servekit._native`: one configuration in, frozen handles out, one snapshot per scrape. No request comes this way.

mod bench;
mod config;
mod costs;
mod detach;
mod errors;
mod loading;
mod profiles;
mod runtime;
mod server;
mod watch;

use pyo3::prelude::*;
use servekit_engine::Allocator;
use servekit_server::core::Reason;

use crate::config::Config;
use crate::detach::leave_python;
use crate::errors::{Error, into_python};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// One row of the catalogue: variant, HTTP status, gRPC code, label, retry.
type Row = (&'static str, Option<u16>, Option<u8>, &'static str, bool);

/// The catalogue of refusals.
#[pyfunction]
fn refusals() -> Vec<Row> {
    let row = |reason: &Reason| {
        let entry = reason.entry();
        (entry.variant, Some(entry.http), entry.grpc.map(|code| code as u8), entry.label, entry.retry)
    };
    Reason::ALL.iter().map(row).collect()
}

/// The configuration as this side understands it.
#[pyfunction]
fn round_trip(config_json: &str) -> PyResult<String> {
    let config = parse::<Config>(config_json).map_err(into_python)?;
    print(&config).map_err(into_python)
}

/// Cores and threads, with reasons.
#[pyfunction]
fn core_plan(config_json: &str) -> PyResult<String> {
    let config = parse::<Config>(config_json).map_err(into_python)?;
    print(&loading::plan(&config.execution)).map_err(into_python)
}

/// What a model's file takes and gives.
#[pyfunction]
fn contract(python: Python<'_>, config_json: &str, name: &str) -> PyResult<String> {
    leave_python(python, || server::contract(&parse(config_json)?, name))
}

/// Loads the first model of the configuration and describes it; its pipeline is tried with the row.
#[pyfunction]
#[pyo3(signature = (config_json, row_json="[]"))]
fn check(python: Python<'_>, config_json: &str, row_json: &str) -> PyResult<String> {
    leave_python(python, || server::check(&parse(config_json)?, &parse::<Vec<_>>(row_json)?))
}

/// Sends load to a server as a plan says, and tells what came of it.
#[pyfunction(name = "bench")]
fn send_load(python: Python<'_>, plan_json: &str, bodies: Vec<Vec<u8>>) -> PyResult<String> {
    leave_python(python, || bench::run(plan_json, bodies))
}

/// Plays batching policies against each other on a virtual clock; gives what is to be printed.
#[pyfunction]
fn simulate(python: Python<'_>, arguments: Vec<String>) -> PyResult<String> {
    leave_python(python, move || servekit_simulate::main_with(&arguments).map_err(Error::Config))
}

/// Reads what crosses; unknown keys are refused.
fn parse<T: serde::de::DeserializeOwned>(json: &str) -> Result<T, Error> {
    serde_json::from_str(json).map_err(|error| Error::Config(error.to_string()))
}

/// Writes what crosses.
fn print(value: &impl serde::Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Internal(error.to_string()))
}

/// The extension module.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let python = module.py();
    module.add_class::<server::Server>()?;
    module.add("ServekitError", python.get_type::<errors::ServekitError>())?;
    module.add("ConfigError", python.get_type::<errors::ConfigError>())?;
    module.add("BindError", python.get_type::<errors::BindError>())?;
    module.add("LoadError", python.get_type::<errors::LoadError>())?;
    module.add_function(wrap_pyfunction!(refusals, module)?)?;
    module.add_function(wrap_pyfunction!(round_trip, module)?)?;
    module.add_function(wrap_pyfunction!(core_plan, module)?)?;
    module.add_function(wrap_pyfunction!(send_load, module)?)?;
    module.add_function(wrap_pyfunction!(simulate, module)?)?;
    module.add_function(wrap_pyfunction!(contract, module)?)?;
    module.add_function(wrap_pyfunction!(check, module)?)
}
