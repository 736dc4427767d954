//! Real rows that the operator gives to try a model with.

use servekit_core::{Batching, Contract, Datatype, Inputs, Limits, Reason, Refusal, element_count};

use crate::model::{ModelSpec, Sample};
use crate::probe::shares_rows;
use crate::signature::Signature;

/// More rows would take time and show little.
const ROWS_MAX: usize = 16;

/// The samples of a model, one row each; one request where the first axis counts no rows.
///
/// # Errors
/// `ModelFile` where they are no request that the model could get: they are there to be relied on.
pub(crate) fn rows(spec: &ModelSpec, signature: &Signature, limits: &Limits) -> Result<Vec<Inputs>, Refusal> {
    if spec.samples.is_empty() {
        return Ok(Vec::new());
    }
    let counts_rows = shares_rows(signature).is_ok();
    let contract = Contract {
        model: spec.name.as_str().into(),
        inputs: signature.inputs.iter().map(|port| port.spec.clone()).collect(),
        outputs: Box::default(),
        batching: if counts_rows { Batching::Rows } else { Batching::Alone("".into()) },
        ragged: None,
    };
    let (inputs, count) = request(&spec.samples, &contract, limits).map_err(|problem| {
        let text = format!("model '{}' has samples that it cannot be tried with: {problem}", spec.name);
        Refusal::new(Reason::ModelFile, text)
    })?;
    if !counts_rows {
        return Ok(vec![inputs]);
    }
    let row = |index| inputs.iter().map(|tensor| tensor.as_ref().map(|tensor| tensor.rows(index, 1))).collect();
    Ok((0..count.min(ROWS_MAX)).map(row).collect())
}

/// The samples as one request, and its rows; else what is wrong with them.
fn request(samples: &[Sample], contract: &Contract, limits: &Limits) -> Result<(Inputs, usize), String> {
    let mut inputs = Inputs::from_elem(None, contract.inputs.len());
    for Sample { name, tensor } in samples {
        let Some(index) = contract.input(name.as_bytes()) else {
            let known: Vec<&str> = contract.inputs.iter().map(|spec| spec.name.as_ref()).collect();
            return Err(format!("there is no input '{name}', inputs are '{}'; correct it", known.join("', '")));
        };
        let told = |refusal: Refusal| refusal.text.into_owned();
        contract.check_head(index, tensor.datatype, &tensor.shape, limits).map_err(told)?;
        let is_whole = tensor.datatype != Datatype::Bytes
            || Some(tensor.elements().count() as u64) == element_count(&tensor.shape);
        if !is_whole {
            return Err(format!("the strings of '{name}' do not fill its shape; send the elements its shape needs"));
        }
        if contract.inputs[index].optional {
            return Err(format!("input '{name}' has a default, which is what models are tried with; leave it out"));
        }
        if inputs[index].replace(tensor.clone()).is_some() {
            return Err(format!("input '{name}' is given twice, once is allowed; remove one"));
        }
    }
    let rows = contract.check_set(&inputs, limits).map_err(|refusal| refusal.text.into_owned())?;
    Ok((inputs, rows as usize))
}

#[cfg(test)]
mod tests;
