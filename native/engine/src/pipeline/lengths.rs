//! Rows of several lengths in one batch, where its model may see them padded. Kernels never see padding: they are called
//! once for all rows of one length, so nothing has to be known about what they do.

use std::sync::Arc;

use servekit_core::{Axis as ContractAxis, Contract, Datatype, Mask, Ragged, TensorSpec};

use super::axis::Axis;
use super::layout::{Layout, Work};
use crate::ragged::Pad;

/// How lengths are mixed.
#[derive(Debug)]
pub(super) struct Lengths {
    /// Of each gathered value how its rows are made equal; `None` for those without a length.
    pub(super) pads: Box<[Option<Pad>]>,
    /// Of each output of the model its axis of that length.
    pub(super) outputs: Box<[Option<usize>]>,
    /// Values that kernels read and no kernel makes.
    pub(super) cut: Box<[usize]>,
    /// Whether a column behind the gathered values tells the length of each row: rows of one request come out of
    /// stages with lengths of their own.
    pub(super) has_column: bool,
    /// As the contract of what is queued says it.
    pub(super) ragged: Arc<Ragged>,
}

/// What the column is called. Clients never see it.
const COLUMN: &str = "lengths of rows";

impl Lengths {
    /// Finds out whether lengths may be mixed: a model alone comes first, it may be given padded rows, and what clients
    /// get has no length.
    pub(super) fn of(layout: &Layout, model: &Contract, padding: &[Option<Pad>]) -> Option<Self> {
        let known = model.ragged.as_deref()?;
        let (first, rest) = layout.calls.split_first()?;
        let Work::Model { inputs, outputs, .. } = &first.work else { return None };
        let is_kernel = |work: &Work| matches!(work, Work::Kernel { .. });
        if !rest.iter().all(|call| is_kernel(&call.work)) {
            return None;
        }
        let symbol = symbol(layout, inputs, known)?;
        let axis_of = |number: usize| axis_of(layout, number, symbol);
        let mut pads = vec![None; layout.gathered.len()];
        let mut axes = vec![None; layout.gathered.len()];
        let mut is_given = vec![false; layout.gathered.len()];
        for (number, (axis, pad)) in inputs.iter().zip(known.inputs.iter().zip(padding)) {
            let Some(number) = *number else { continue };
            let place = layout.gathered.iter().position(|gathered| *gathered == number)?;
            // A value that two inputs take is padded for both alike.
            let is_known = axes[place].is_some() && pads[place] != *pad;
            if axis_of(number)? != *axis || pad.map(|pad| pad.axis) != *axis || is_known {
                return None;
            }
            if axis.is_some() && layout.carried.contains(&place) {
                return None;
            }
            (axes[place], pads[place], is_given[place]) = (*axis, *pad, true);
        }
        for (place, &number) in layout.gathered.iter().enumerate().filter(|(place, _)| !is_given[*place]) {
            let Some(axis) = axis_of(number)? else { continue };
            // Whoever reads it later would see padding.
            if layout.carried.contains(&place) {
                return None;
            }
            // Kernels alone read it, and they see no padding.
            layout.values[number].datatype.element_bytes()?;
            (axes[place], pads[place]) = (Some(axis), Some(Pad { axis, element: [0; 8] }));
        }
        for (number, axis) in outputs.iter().zip(&known.outputs) {
            if number.is_some_and(|number| axis_of(number) != Some(*axis)) {
                return None;
            }
        }
        if layout.outputs.iter().any(|output| axis_of(output.value) != Some(None)) {
            return None;
        }
        let has_column = !layout.stages.is_empty();
        let masks = known.masks.iter().map(|mask| {
            let number = inputs.get(mask.input).copied().flatten()?;
            let place = layout.gathered.iter().position(|gathered| *gathered == number)?;
            Some(Mask { input: place, hides: mask.hides.clone() })
        });
        axes.extend(has_column.then_some(None));
        let ragged = Ragged {
            inputs: axes.into(),
            outputs: layout.outputs.iter().map(|_| None).collect(),
            length_max: known.length_max,
            masks: masks.collect::<Option<_>>()?,
        };
        let (pads, outputs) = (pads.into(), known.outputs.clone());
        Some(Self { pads, outputs, cut: cut(layout), has_column, ragged: Arc::new(ragged) })
    }

    /// Puts what it says into the contract of what is queued.
    pub(super) fn contract(&self, queued: &mut Contract) {
        queued.ragged = Some(Arc::clone(&self.ragged));
        if self.has_column {
            let column = TensorSpec {
                name: COLUMN.into(),
                datatype: Datatype::Int64,
                axes: [ContractAxis::Symbol("rows".into())].into(),
                optional: false,
                labels: None,
                base64: false,
            };
            queued.inputs = queued.inputs.iter().cloned().chain([column]).collect();
        }
    }

    /// How a gathered value is padded.
    pub(super) fn pad(&self, place: usize) -> Option<Pad> {
        self.pads.get(place).copied().flatten()
    }
}

/// The name that the length has in the plan: one for all inputs that have it.
fn symbol(layout: &Layout, inputs: &[Option<usize>], known: &Ragged) -> Option<usize> {
    let mut symbol = None;
    for (number, axis) in inputs.iter().zip(&known.inputs) {
        let (Some(number), Some(axis)) = (*number, *axis) else { continue };
        match layout.values[number].axes.0.get(axis.checked_sub(1)?)? {
            Axis::Symbol(place, _) if *symbol.get_or_insert(*place) == *place => {}
            _ => return None,
        }
    }
    symbol
}

/// The axis, rows included, that the name is; `None` within where it is none, and `None` where it is more than that.
fn axis_of(layout: &Layout, number: usize, symbol: usize) -> Option<Option<usize>> {
    let axes = &layout.values[number].axes.0;
    let mut found = axes.iter().enumerate().filter(|(_, axis)| axis.mentions(symbol));
    match (found.next(), found.next()) {
        (None, _) => Some(None),
        (Some((place, Axis::Symbol(..))), None) => Some(Some(place + 1)),
        _ => None,
    }
}

/// Values that kernels read and no kernel makes.
fn cut(layout: &Layout) -> Box<[usize]> {
    let (mut read, mut made) = (Vec::new(), Vec::new());
    for call in &layout.calls {
        if let Work::Kernel { inputs, outputs, .. } = &call.work {
            read.extend(inputs.iter().copied());
            made.extend(outputs.iter().copied());
        }
    }
    read.sort_unstable();
    read.dedup();
    read.retain(|number| !made.contains(number));
    read.into()
}
