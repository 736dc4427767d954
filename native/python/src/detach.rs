//! The one way out of the interpreter.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::prelude::*;

use crate::errors::{Error, into_python};

/// Runs native work detached from the interpreter, so that Python threads go on meanwhile, and turns what went wrong,
/// a panic too, into an exception.
pub fn leave_python<T: Send>(python: Python<'_>, work: impl FnOnce() -> Result<T, Error> + Send) -> PyResult<T> {
    python
        .detach(|| {
            catch_unwind(AssertUnwindSafe(work))
                .unwrap_or_else(|_| Err(Error::Internal("internal error, please report it".into())))
        })
        .map_err(into_python)
}
