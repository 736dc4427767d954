//! Kernels as Numba compiles them, written against the ABI from outside, and plans that call them.

use std::fmt::Write;

/// The one argument of a kernel.
#[repr(C)]
pub struct Call {
    tensors: *const View,
    inputs: i64,
    outputs: i64,
    rows: i64,
    scratch: *mut u8,
    scratch_bytes: i64,
    faults: *mut i64,
}

/// A tensor.
#[repr(C)]
struct View {
    data: *mut u8,
    dtype: i64,
    rank: i64,
    dims: [i64; 8],
    strides: [i64; 8],
}

/// A compiled kernel.
pub type Compiled = unsafe extern "C" fn(*mut Call) -> i64;

/// The elements of the first view and of the second, and the faults.
///
/// # Safety
/// The call has two contiguous tensors of these types.
unsafe fn pair<'a, From, To>(call: *mut Call) -> (&'a View, &'a [From], &'a mut [To], &'a mut [i64]) {
    // SAFETY: as the caller says; views and faults are as many as the call says.
    unsafe {
        let call = &*call;
        assert_eq!((call.inputs, call.outputs), (1, 1));
        let views = std::slice::from_raw_parts(call.tensors, 2);
        let count = |view: &View| view.dims[..view.rank as usize].iter().product::<i64>() as usize;
        (
            &views[0],
            std::slice::from_raw_parts(views[0].data.cast(), count(&views[0])),
            std::slice::from_raw_parts_mut(views[1].data.cast(), count(&views[1])),
            std::slice::from_raw_parts_mut(call.faults, call.rows as usize),
        )
    }
}

/// Adds one to each float; refuses rows that begin below 0, and fills them with what no model can use.
pub unsafe extern "C" fn increment(call: *mut Call) -> i64 {
    // SAFETY: plans declare it with two such tensors.
    let (view, given, filled, faults) = unsafe { pair::<f32, f32>(call) };
    let width = view.dims[1] as usize;
    for (row, fault) in faults.iter_mut().enumerate() {
        for place in row * width..(row + 1) * width {
            filled[place] = given[place] + 1.0;
        }
        if width > 0 && given[row * width] < 0.0 {
            *fault = 1;
        }
    }
    1
}

/// The only number of each row; refuses negative ones.
pub unsafe extern "C" fn only(call: *mut Call) -> i64 {
    // SAFETY: plans declare it with two such tensors.
    let (_, given, filled, faults) = unsafe { pair::<i64, i64>(call) };
    for ((fault, given), filled) in faults.iter_mut().zip(given).zip(filled) {
        *fault = i64::from(*given < 0);
        *filled = *given;
    }
    1
}

/// The mean of each channel.
pub unsafe extern "C" fn channels(call: *mut Call) -> i64 {
    // SAFETY: plans declare it with two such tensors.
    let (view, given, filled, _) = unsafe { pair::<u8, f32>(call) };
    let pixels = (view.dims[1] * view.dims[2]) as usize;
    for (row, means) in filled.chunks_exact_mut(3).enumerate() {
        for (channel, mean) in means.iter_mut().enumerate() {
            let row = &given[row * pixels * 3..(row + 1) * pixels * 3];
            let sum: f32 = row.iter().skip(channel).step_by(3).map(|&level| f32::from(level)).sum();
            *mean = sum / pixels as f32;
        }
    }
    1
}

/// All elements of each row, and 1000 for each of its positions, so padding is seen; refuses rows of 5 positions.
pub unsafe extern "C" fn extent(call: *mut Call) -> i64 {
    // SAFETY: plans declare it with two such tensors.
    let (view, given, filled, faults) = unsafe { pair::<f32, f32>(call) };
    let positions = view.dims[1];
    for ((sum, row), fault) in filled.iter_mut().zip(given.chunks_exact((positions * 4).max(1) as usize)).zip(faults) {
        *sum = row.iter().sum::<f32>() + 1000.0 * positions as f32;
        *fault = i64::from(positions == 5);
    }
    1
}

/// How many numbers of each row there are.
pub unsafe extern "C" fn count(call: *mut Call) -> i64 {
    // SAFETY: plans declare it with two such tensors.
    let (view, _, filled, _) = unsafe { pair::<i64, i64>(call) };
    filled.fill(view.dims[1]);
    1
}

/// A plan in the making.
#[derive(Default)]
pub struct Plan {
    values: Vec<String>,
    inputs: Vec<String>,
    outputs: Vec<String>,
    stages: Vec<String>,
    batch: Vec<String>,
}

impl Plan {
    /// A value: `row` or `batch`, its type, and its axes as JSON.
    pub fn value(mut self, place: &str, dtype: &str, shape: &str) -> Self {
        let number = self.values.len();
        self.values.push(format!(
            r#"{{"name": "v{number}", "dtype": "{dtype}", "shape": {shape}, "place": "{place}", "slot": {number}}}"#
        ));
        self
    }

    /// What clients send.
    pub fn input(mut self, name: &str, value: usize) -> Self {
        self.inputs.push(named(name, value));
        self
    }

    /// What clients get.
    pub fn output(mut self, name: &str, value: usize) -> Self {
        self.outputs.push(named(name, value));
        self
    }

    /// A stage.
    pub fn stage(mut self, kind: &str, options: &str, input: usize, outputs: &[usize]) -> Self {
        let number = self.stages.len() + 1;
        self.stages.push(format!(
            r#"{{"step": "before step {number} ({kind})", "kind": "{kind}", "options": {options}, "inputs": [{input}],
                "outputs": {outputs:?}}}"#
        ));
        self
    }

    /// A kernel of one input and one output, each a value with its type and axes.
    pub fn kernel(mut self, compiled: Compiled, input: (usize, &str, &str), output: (usize, &str, &str)) -> Self {
        let number = self.batch.len() + 1;
        let address = (compiled as *const ()).expose_provenance();
        let port = |(_, dtype, shape)| format!(r#"{{"name": "port", "dtype": "{dtype}", "shape": {shape}}}"#);
        self.batch.push(format!(
            r#"{{"step": "step {number} (kernel)", "inputs": [{}], "outputs": [{}], "kernel": {{"name": "kernel",
                "address": {address}, "inputs": [{}], "outputs": [{}], "options": {{}}, "scratch": [],
                "messages": ["it is negative"], "per": "row"}}}}"#,
            input.0,
            output.0,
            port(input),
            port(output)
        ));
        self
    }

    /// A run of a model.
    pub fn model(mut self, model: &str, inputs: &[(&str, usize)], outputs: &[(&str, usize)]) -> Self {
        let list = |some: &[(&str, usize)]| {
            some.iter().map(|(name, value)| named(name, *value)).collect::<Vec<_>>().join(", ")
        };
        self.batch.push(format!(
            r#"{{"step": "model ({model})", "model": "{model}", "inputs": [{}], "outputs": [{}]}}"#,
            list(inputs),
            list(outputs)
        ));
        self
    }

    /// The last call takes entries as rows, as many as the count says.
    pub fn each(mut self, axis: &str, count: Option<usize>) -> Self {
        let count = count.map_or_else(|| "null".to_owned(), |count| count.to_string());
        let mut call = self.batch.pop().expect("there is a call");
        call.truncate(call.trim_end().len() - 1);
        self.batch.push(format!(r#"{call}, "each": {{"axis": {axis}, "count": {count}}}}}"#));
        self
    }

    /// As JSON, of a pipeline `own`.
    pub fn json(&self) -> String {
        let mut text = format!(r#"{{"version": 2, "name": "own", "raw": false, "slots": {}"#, self.values.len());
        let lists = [
            ("values", &self.values),
            ("inputs", &self.inputs),
            ("stages", &self.stages),
            ("batch", &self.batch),
            ("outputs", &self.outputs),
        ];
        for (key, items) in lists {
            write!(text, r#", "{key}": [{}]"#, items.join(", ")).expect("a string takes everything");
        }
        text + "}"
    }
}

fn named(name: &str, value: usize) -> String {
    format!(r#"{{"name": "{name}", "value": {value}}}"#)
}
