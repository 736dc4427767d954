//! What clients see of a pipeline, and what is queued.

use servekit_core::{Axis, Batching, Contract, TensorSpec};

use super::axis::Axis as Size;
use super::layout::{Layout, Named, Work};

/// What clients send and get, of all legs with the contracts of their models. Outputs are names and values.
pub(super) fn sent<'a>(
    legs: &[(&Layout, Vec<&Contract>)],
    outputs: impl Iterator<Item = (&'a str, usize)>,
) -> Contract {
    // Of the first leg as of the whole plan: what it does not make it knows nevertheless.
    let layout = legs[0].0;
    let output = |(name, number): (&str, usize)| {
        let labels = legs.iter().find_map(|(layout, models)| labels(layout, models, number));
        TensorSpec { labels, ..spec(layout, name, number) }
    };
    let mut batching = legs.iter().map(|(layout, models)| batching(layout, models));
    Contract {
        model: layout.name.clone(),
        inputs: layout.inputs.iter().map(|named| spec(layout, &named.name, named.value)).collect(),
        outputs: outputs.map(output).collect(),
        batching: batching.find(|it| *it != Batching::Rows).unwrap_or(Batching::Rows),
        ragged: None,
    }
}

/// What is queued and run in a leg.
pub(super) fn run(layout: &Layout, models: &[&Contract]) -> Contract {
    let name = |number: usize| layout.values[number].name.as_ref();
    let output = |named: &Named| TensorSpec {
        labels: labels(layout, models, named.value),
        ..spec(layout, &named.name, named.value)
    };
    Contract {
        model: layout.name.clone(),
        inputs: layout.gathered.iter().map(|&number| spec(layout, name(number), number)).collect(),
        outputs: layout.outputs.iter().map(output).collect(),
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
