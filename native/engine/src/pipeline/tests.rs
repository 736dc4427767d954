//! Pipelines of kernels and stages alone; those with models are in the crate's other tests.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use servekit_core::{Contract, Datatype, Inputs, Preparer, Reason, RowFault, RunFailure, RunOutputs, Tensor};
use servekit_stages::StageLimits;
use servekit_testing::{byte_strings, fp32, fp32_values, tensor};

use super::kernel::{Call, View};
use super::layout::{Layout, numbered};
use super::plan::Plan;
use super::preparer::RowPreparer;
use super::{PipelineLane, contract, legs};
use crate::lane::Part;

mod batches;
mod plans;
mod rows;
mod trying;

const LIMITS: StageLimits = StageLimits { image_pixels_max: 100_000, text_bytes_max: 1_024 };
const KERNEL_BYTES_MAX: u64 = 1 << 20;

// Kernels, as Numba would have compiled them ---------------------------------------------------------------------------

/// The views of a call, and its faults.
///
/// # Safety
/// The call is one that a frame makes.
unsafe fn parts<'a>(call: *mut Call) -> (&'a Call, &'a [View], &'a mut [i64]) {
    // SAFETY: pointers of a call lead to as many entries as it says, and live until it returns.
    unsafe {
        let call = &*call;
        let views = std::slice::from_raw_parts(call.tensors, (call.inputs + call.outputs) as usize);
        (call, views, std::slice::from_raw_parts_mut(call.faults, call.rows as usize))
    }
}

/// The floats of a view.
///
/// # Safety
/// It is a contiguous one of FP32.
unsafe fn floats<'a>(view: &View) -> &'a mut [f32] {
    let count: i64 = view.dims[..view.rank as usize].iter().product();
    // SAFETY: the view's memory holds as many elements as its axes say.
    unsafe { std::slice::from_raw_parts_mut(view.data.cast(), count as usize) }
}

/// `sum = a + b`.
unsafe extern "C" fn add(call: *mut Call) -> i64 {
    // SAFETY: only frames call it, with what `kernel_of_two` declares.
    let (a, b, sum) = unsafe {
        let (_, views, _) = parts(call);
        (floats(&views[0]), floats(&views[1]), floats(&views[2]))
    };
    for (place, (a, b)) in sum.iter_mut().zip(a.iter().zip(b.iter())) {
        *place = *a + *b;
    }
    1
}

/// Copies rows; refuses those that begin below 0 with the first message, and with NaN with one that nobody declared.
unsafe extern "C" fn picky(call: *mut Call) -> i64 {
    // SAFETY: only frames call it, with what `kernel_of_one` declares.
    let (views, faults, given, kept) = unsafe {
        let (_, views, faults) = parts(call);
        (views, faults, floats(&views[0]), floats(&views[1]))
    };
    let width = views[0].dims[1] as usize;
    for (row, fault) in faults.iter_mut().enumerate() {
        assert_eq!(*fault, 0);
        let first = given[row * width];
        *fault = if first.is_nan() { 9 } else { i64::from(first < 0.0) };
        kept[row * width..(row + 1) * width].copy_from_slice(&given[row * width..(row + 1) * width]);
    }
    1
}

/// Fails as a whole.
unsafe extern "C" fn broken(_call: *mut Call) -> i64 {
    0
}

/// Gives each value 1 where everything lies as the ABI says, and -1 where not. Its scratch are `n * 2 + 1` floats and
/// 3 bytes.
unsafe extern "C" fn strict(call: *mut Call) -> i64 {
    // SAFETY: only frames call it, with what `kernel_of_one` declares and this scratch.
    let (call, views, filled) = unsafe {
        let (call, views, _) = parts(call);
        (call, views, floats(&views[1]))
    };
    let (rows, width) = (call.rows, views[0].dims[1]);
    let is_well = |view: &View| {
        (view.data as usize).is_multiple_of(64)
            && (view.dtype, view.rank) == (1, 2)
            && view.dims == [rows, width, 0, 0, 0, 0, 0, 0]
            && view.strides[..2] == [width * 4, 4]
    };
    let scratch = ((width * 2 + 1) * 4 + 63) / 64 * 64 + 64;
    let is_well = views.iter().all(is_well)
        && (call.inputs, call.outputs, call.scratch_bytes) == (1, 1, scratch)
        && (call.scratch as usize).is_multiple_of(64);
    // SAFETY: there are as many bytes of scratch as the call says.
    unsafe { std::ptr::write_bytes(call.scratch, 0xff, scratch as usize) };
    filled.fill(if is_well { 1.0 } else { -1.0 });
    1
}

// Plans ----------------------------------------------------------------------------------------------------------------

type Compiled = unsafe extern "C" fn(*mut Call) -> i64;

fn address(compiled: Compiled) -> usize {
    (compiled as *const ()).expose_provenance()
}

fn port(name: &str, shape: &str) -> String {
    format!(r#"{{"name": "{name}", "dtype": "float32", "shape": {shape}}}"#)
}

/// A kernel `float32 [rows, n]` to the same.
fn kernel_of_one(compiled: Compiled, scratch: &str) -> String {
    let (address, from, to) = (address(compiled), port("from", r#"["rows", "n"]"#), port("to", r#"["rows", "n"]"#));
    format!(
        r#"{{"name": "one", "address": {address}, "inputs": [{from}], "outputs": [{to}], "options": {{"low": "-Infinity"}},
            "scratch": {scratch}, "messages": ["too low", "odd"], "per": "row"}}"#
    )
}

/// A kernel of two such inputs.
fn kernel_of_two(compiled: Compiled) -> String {
    let shape = r#"["rows", "n"]"#;
    let [a, b, sum] = ["a", "b", "sum"].map(|name| port(name, shape));
    let address = address(compiled);
    format!(
        r#"{{"name": "two", "address": {address}, "inputs": [{a}, {b}], "outputs": [{sum}], "options": {{}},
            "scratch": [], "messages": [], "per": "batch"}}"#
    )
}

fn value(name: &str, dtype: &str, shape: &str, place: &str, slot: &str) -> String {
    format!(r#"{{"name": "{name}", "dtype": "{dtype}", "shape": {shape}, "place": "{place}", "slot": {slot}}}"#)
}

/// `y` is what the kernel makes of `x`, in rows of any length.
fn plan_of_one(compiled: Compiled, scratch: &str) -> String {
    let kernel = kernel_of_one(compiled, scratch);
    let (x, y) = (value("x", "float32", r#"["n"]"#, "row", "0"), value("y", "float32", r#"["n"]"#, "batch", "1"));
    format!(
        r#"{{"version": 2, "name": "m", "raw": false, "values": [{x}, {y}], "slots": 2,
            "inputs": [{{"name": "x", "value": 0}}], "stages": [],
            "batch": [{{"step": "after step 1 (one)", "kernel": {kernel}, "inputs": [0], "outputs": [1]}}],
            "outputs": [{{"name": "y", "value": 1}}]}}"#
    )
}

/// `y` is `x + x`, and `z` is `y + x`.
fn plan_of_sums() -> String {
    let kernel = kernel_of_two(add);
    let values = [("x", "row", "0"), ("y", "batch", "1"), ("z", "batch", "2")]
        .map(|(name, place, slot)| value(name, "float32", r#"["n"]"#, place, slot))
        .join(", ");
    format!(
        r#"{{"version": 2, "name": "m", "raw": false, "values": [{values}], "slots": 3,
            "inputs": [{{"name": "x", "value": 0}}], "stages": [],
            "batch": [{{"step": "before step 1 (two)", "kernel": {kernel}, "inputs": [0, 0], "outputs": [1]}},
                      {{"step": "before step 2 (two)", "kernel": {kernel}, "inputs": [1, 0], "outputs": [2]}}],
            "outputs": [{{"name": "z", "value": 2}}, {{"name": "y", "value": 1}}, {{"name": "x", "value": 0}}]}}"#
    )
}

fn layout_in(plan: &str, folder: &Path) -> Result<Layout, String> {
    let mut cuts = legs::cut(Plan::read(plan)?)?;
    assert_eq!(cuts.legs.len(), 1, "{plan}");
    Layout::new(cuts.legs.remove(0).plan, &cuts.carried, &[], folder, LIMITS)
}

fn layout(plan: &str) -> Arc<Layout> {
    Arc::new(layout_in(plan, Path::new("/")).unwrap_or_else(|why| panic!("{why}: {plan}")))
}

fn sent(layout: &Layout) -> Contract {
    contract::sent(&[(layout, Vec::new())], layout.outputs.iter().map(|output| (&*output.name, output.value)))
}

fn lane(plan: &str) -> PipelineLane {
    PipelineLane::new(layout(plan), Vec::new(), KERNEL_BYTES_MAX, true)
}

fn inputs(tensors: impl IntoIterator<Item = Tensor>) -> Inputs {
    tensors.into_iter().map(Some).collect()
}

/// Runs requests as one batch.
fn run(lane: &mut PipelineLane, requests: &[&Inputs]) -> Result<RunOutputs, RunFailure> {
    let rows = |inputs: &Inputs| inputs[0].as_ref().map_or(0, |tensor| tensor.shape[0] as usize);
    let parts: Vec<Part<'_>> =
        requests.iter().map(|inputs| Part { inputs, rows: rows(inputs), is_whole: true }).collect();
    let total: usize = parts.iter().map(|part| part.rows).sum();
    lane.run_parts(&parts, total as u32)
}
