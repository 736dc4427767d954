//! What each step of a pipeline costs, for `servekit check`.

use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};
use servekit_engine::Pipeline;
use servekit_server::core::{Datatype, Inputs, Limits, Model as _, Refusal, Tensor};

use crate::config;
use crate::errors::Error;

/// Rows of the batch that is tried after the row by itself.
const BATCH_ROWS: u32 = 8;
/// Past it the batch is left out.
const ROW_TIME_MAX: Duration = Duration::from_millis(300);

/// Medians in microseconds, by step: of one row, and where rows share batches, of a batch of it. `unknown` says why
/// there are none, or none of the batch.
///
/// # Errors
/// `Config` where the row cannot be read.
pub fn told(pipeline: &Pipeline, row: &[config::Sample], limits: &Limits) -> Result<Value, Error> {
    let row = row.iter().map(tensor).collect::<Result<Vec<_>, _>>()?;
    let (mut runs, mut unknown) = (Vec::new(), None);
    let started_at = Instant::now();
    let rows_max = pipeline.legs().iter().map(|leg| leg.batch_rows_max()).min().unwrap_or(1);
    for rows in [1, BATCH_ROWS.min(rows_max)] {
        if rows == 1 && !runs.is_empty() || started_at.elapsed() > ROW_TIME_MAX {
            break;
        }
        match tried(pipeline, &row, rows, limits) {
            Ok(steps) => runs.push(json!({"rows": rows, "steps_us": steps})),
            Err(refusal) => {
                unknown = Some(refusal.text);
                break;
            }
        }
    }
    Ok(json!({"runs": runs, "unknown": unknown}))
}

/// Looked at as a client's request is, so that a row that nobody could send is refused and not run.
fn tried(pipeline: &Pipeline, row: &[(&str, Tensor)], rows: u32, limits: &Limits) -> Result<Vec<f64>, Refusal> {
    let contract = pipeline.contract();
    let mut inputs = Inputs::from_elem(None, contract.inputs.len());
    for (name, tensor) in row {
        let Some(index) = contract.input(name.as_bytes()) else { continue };
        let tensor = repeated(tensor, rows as usize);
        contract.check_head(index, tensor.datatype, &tensor.shape, limits)?;
        inputs[index] = Some(tensor);
    }
    let rows = contract.check_set(&inputs, limits)?;
    let steps = pipeline.try_out(&inputs, rows)?;
    Ok(steps.iter().map(|step| step.as_secs_f64() * 1e6).collect())
}

/// The same row so many times.
fn repeated(row: &Tensor, rows: usize) -> Tensor {
    let mut shape = row.shape.clone();
    if let Some(first) = shape.first_mut() {
        *first *= rows as i64;
    }
    Tensor { datatype: row.datatype, shape, data: row.data.repeat(rows).into() }
}

fn tensor(sample: &config::Sample) -> Result<(&str, Tensor), Error> {
    let refused = |why: String| Error::Config(format!("the row has a value for '{}' that {why}", sample.name));
    let datatype = Datatype::parse(sample.datatype.as_bytes())
        .ok_or_else(|| refused(format!("is of '{}', which is no datatype", sample.datatype)))?;
    let data = BASE64_STANDARD.decode(&sample.base64).map_err(|error| refused(format!("is no base64: {error}")))?;
    Ok((&sample.name, Tensor { datatype, shape: sample.shape.iter().copied().collect(), data: data.into() }))
}
