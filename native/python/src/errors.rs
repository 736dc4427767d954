//! One exception tree for everything that crosses.

use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use servekit_server::core::{Reason, Refusal};

create_exception!(_native, ServekitError, PyException, "Anything that the data plane could not do.");
create_exception!(_native, ConfigError, ServekitError, "The configuration cannot be used.");
create_exception!(_native, BindError, ServekitError, "An address cannot be listened on.");
create_exception!(_native, LoadError, ServekitError, "A model cannot be served.");

/// What went wrong natively, before it becomes an exception.
#[derive(Debug)]
pub enum Error {
    /// See [`ConfigError`].
    Config(String),
    /// See [`BindError`].
    Bind(String),
    /// See [`LoadError`].
    Load(Refusal),
    /// A panic of ours.
    Internal(String),
}

/// The exception for an error; `label` names its row of the catalogue.
pub fn into_python(error: Error) -> PyErr {
    let (exception, label) = match error {
        Error::Config(text) => (ConfigError::new_err(text), "config"),
        Error::Bind(text) => (BindError::new_err(text), "bind"),
        Error::Load(refusal) => (LoadError::new_err(refusal.text.into_owned()), refusal.reason.entry().label),
        Error::Internal(text) => (ServekitError::new_err(text), Reason::Internal.entry().label),
    };
    Python::attach(|python| {
        // An exception without its label still says what happened.
        let _unlabelled = exception.value(python).setattr("label", label);
    });
    exception
}
