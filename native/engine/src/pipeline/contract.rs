//! What clients see of a pipeline, and what is queued.

use servekit_core::{Axis, Batching, Contract, TensorSpec};

use super::axis::Axis as Size;
use super::layout::{Layout, Work};

/// Inputs as clients send them.
pub(super) fn sent(layout: &Layout, models: &[&Contract]) -> Contract {
    contract(layout, models, layout.inputs.iter().map(|named| (named.name.as_ref(), named.value)))
}

/// Inputs as they are queued and run.
pub(super) fn run(layout: &Layout, models: &[&Contract]) -> Contract {
    let gathered = layout.gathered.iter().map(|&number| (layout.values[number].name.as_ref(), number));
    contract(layout, models, gathered)
}

fn contract<'a>(layout: &Layout, models: &[&Contract], inputs: impl Iterator<Item = (&'a str, usize)>) -> Contract {
    let output =
        |name: &str, number: usize| TensorSpec { labels: labels(layout, models, number), ..spec(layout, name, number) };
    Contract {
        model: layout.name.clone(),
        inputs: inputs.map(|(name, number)| spec(layout, name, number)).collect(),
        outputs: layout.outputs.iter().map(|named| output(&named.name, named.value)).collect(),
        batching: batching(layout, models),
        ragged: None,
    }
}

fn spec(layout: &Layout, name: &str, number: usize) -> TensorSpec {
    let value = &layout.values[number];
    let axis = |axis: &Size| match axis {
        Size::Fixed(size) => Axis::Fixed(*size),
        open => Axis::Symbol(open.to_string().into()),
    };
    TensorSpec {
        name: name.into(),
        datatype: value.datatype,
        axes: std::iter::once(Axis::Symbol("rows".into())).chain(value.axes.0.iter().map(axis)).collect(),
        optional: false,
        labels: None,
        base64: value.is_binary,
    }
}

/// What the columns of an output are called, where a model gives it and calls them something.
fn labels(layout: &Layout, models: &[&Contract], number: usize) -> Option<Box<[Box<str>]>> {
    layout.calls.iter().find_map(|call| match &call.work {
        Work::Model { model, outputs, .. } => {
            let place = outputs.iter().position(|output| *output == Some(number))?;
            models.get(*model)?.outputs.get(place)?.labels.clone()
        }
        Work::Kernel { .. } => None,
    })
}

/// Rows share runs where every model lets them.
fn batching(layout: &Layout, models: &[&Contract]) -> Batching {
    for call in &layout.calls {
        let Work::Model { model, inputs, .. } = &call.work else { continue };
        let Some(contract) = models.get(*model) else { continue };
        if let Batching::Alone(why) = &contract.batching {
            return Batching::Alone(format!("model '{}': {why}", contract.model).into());
        }
        let given = contract.inputs.iter().zip(inputs).find(|(spec, given)| spec.optional && given.is_some());
        if let Some((spec, _)) = given {
            let text = format!("model '{}': input '{}' replaces what all rows share", contract.model, spec.name);
            return Batching::Alone(text.into());
        }
    }
    Batching::Rows
}
