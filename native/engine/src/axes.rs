//! Finds the axis that counts rows where it is not the first, to say so.

use std::sync::Arc;
use std::time::Duration;

use servekit_core::{Axis, Inputs, Shape, Tensor, element_count};

use crate::probe::{RUN_MAX, Subject};
use crate::session::Session;
use crate::signature::Signature;
use crate::tolerance;
use crate::trial::Trial;
use crate::values::{Kind, Values};

/// Of each input, the axis that may count rows; `None` for one that is left out.
type Candidate = Vec<Option<usize>>;

/// Where rows lie instead, as the end of a text; empty where they lie nowhere, or a run takes longer than `run_max`.
pub(crate) fn rows_elsewhere(subject: &Subject<'_>, session: &Arc<Session>, run_max: Duration) -> String {
    let signature = &subject.graph.signature;
    let Ok(mut trial) = Trial::new(subject.graph, session, run_max.min(RUN_MAX)) else { return String::new() };
    for candidate in candidates(signature) {
        let Some(axes) = try_axis(subject, &mut trial, &candidate) else { continue };
        let ends = signature.inputs.iter().zip(&candidate).filter_map(|(port, axis)| Some(("input", port, (*axis)?)));
        let outputs = signature.outputs.iter().zip(axes).map(|(port, axis)| ("output", port, axis));
        let named: Vec<String> = ends
            .chain(outputs)
            .map(|(word, port, axis)| format!("axis {axis} of {word} '{}'", port.spec.name))
            .collect();
        return format!("; rows lie along {}, put them along the first in the model", named.join(" and "));
    }
    String::new()
}

/// Free axes behind the first that all inputs share by name, and free ones at the same place.
fn candidates(signature: &Signature) -> Vec<Candidate> {
    let given = |index: &usize| !signature.inputs[*index].spec.optional;
    let Some(first) = (0..signature.inputs.len()).find(given) else { return Vec::new() };
    let mut candidates = Vec::new();
    for (index, axis) in signature.inputs[first].spec.axes.iter().enumerate().skip(1) {
        let Axis::Symbol(name) = axis else { continue };
        let place = |axes: &[Axis]| match axes.iter().skip(1).position(|other| other == axis) {
            Some(place) if !name.is_empty() => Some(place + 1),
            _ => axes.get(index).filter(|other| matches!(other, Axis::Symbol(_))).map(|_| index),
        };
        let places = signature.inputs.iter().map(|port| (port.spec.optional, place(&port.spec.axes)));
        let is_shared = places.clone().all(|(optional, place)| optional || place.is_some());
        if is_shared {
            candidates.push(places.map(|(optional, place)| place.filter(|_| !optional)).collect());
        }
    }
    candidates
}

/// The axes of the outputs that count what the inputs' axes count, if two rows together are answered like each alone.
fn try_axis(subject: &Subject<'_>, trial: &mut Trial, candidate: &Candidate) -> Option<Vec<usize>> {
    const SIZE: i64 = 4;
    let signature = &subject.graph.signature;
    let values = Values::new(signature, subject.clues, false);
    let mut shapes = values.shapes(SIZE, subject.batch_bytes_max)?;
    for (shape, axis) in shapes.iter_mut().zip(candidate) {
        if let Some(axis) = *axis {
            shape[axis] = 1;
        }
    }
    let rows = [0, 1].map(|seed| values.row(&shapes, Kind::Usual, seed));
    let pair = |(index, axis): (usize, &Option<usize>)| match (&rows[0][index], &rows[1][index], axis) {
        (Some(one), Some(other), Some(axis)) => joined(one, other, *axis).map(Some),
        _ => Some(None),
    };
    let both: Inputs = candidate.iter().enumerate().map(pair).collect::<Option<_>>()?;
    let [one, other, both] = [&rows[0], &rows[1], &both].map(|inputs| trial.run(&[inputs]).ok());
    let (one, other, both) = (one?.outputs, other?.outputs, both?.outputs);
    let mut axes = Vec::new();
    for ((one, other), both) in one.iter().zip(&other).zip(&both) {
        let axis = one.shape.iter().zip(&both.shape).position(|(one, both)| (*one, *both) == (1, 2))?;
        let expected = joined(one, other, axis)?;
        let allowed = tolerance::relative(one.datatype, subject.clues.coarsest);
        let difference = tolerance::difference(&expected, both);
        if tolerance::share(difference, tolerance::magnitude(&expected)) > allowed {
            return None;
        }
        axes.push(axis);
    }
    Some(axes)
}

/// Two tensors of the same shape, one behind the other along an axis; `None` for strings.
fn joined(one: &Tensor, other: &Tensor, axis: usize) -> Option<Tensor> {
    if one.shape != other.shape {
        return None;
    }
    let inner = usize::try_from(element_count(one.shape.get(axis..)?)?).ok()?;
    let block = inner.checked_mul(one.datatype.element_bytes()?)?.max(1);
    let mut data = Vec::with_capacity(one.data.len() + other.data.len());
    for (one, other) in one.data.chunks(block).zip(other.data.chunks(block)) {
        data.extend_from_slice(one);
        data.extend_from_slice(other);
    }
    let mut shape: Shape = one.shape.clone();
    shape[axis] *= 2;
    Some(Tensor { datatype: one.datatype, shape, data: data.into() })
}
