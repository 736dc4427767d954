//! A plan that makes sense: every value is made once and before it is read, and everybody gets what they are declared
//! with.

use std::path::Path;

use servekit_core::{Contract, Datatype, Step, StepPlace};
use servekit_stages::{Dim, Stage, StageLimits};

use super::axis::{Axes, Axis, Names};
use super::kernel::{Function, Kernel, Port, RANK_MAX};
use super::lengths::Lengths;
use super::plan::{self, Place, Plan, Size};

/// What counts the rows of a batch, in the axes of kernels.
const ROWS: &str = "rows";
/// Where values that kernels read begin.
const KERNEL_ALIGNMENT: usize = 64;

/// Something that a client sends or a step gives.
#[derive(Debug)]
pub(super) struct Value {
    pub(super) name: Box<str>,
    pub(super) datatype: Datatype,
    /// Bytes that are no text.
    pub(super) is_binary: bool,
    /// Of one row.
    pub(super) axes: Axes,
    /// When it exists.
    pub(super) place: Place,
    /// Who makes it, if it exists before the batch forms.
    pub(super) source: Option<Source>,
    /// The buffer that it lies in.
    pub(super) slot: usize,
    /// Where its bytes must begin.
    pub(super) alignment: usize,
}

/// Who makes a value of a row.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// The client, by this input.
    Input(usize),
    /// A stage.
    Stage { stage: usize, output: usize },
}

/// A stage, and the values that it takes and gives.
pub(super) struct StageCall {
    /// What texts call it: where it stands, and what it is.
    pub(super) step: Box<str>,
    /// What it is.
    pub(super) name: Box<str>,
    pub(super) stage: Box<dyn Stage>,
    pub(super) inputs: Box<[usize]>,
}

/// What is done with the batch.
#[derive(Debug)]
pub(super) struct BatchCall {
    /// See [`StageCall`].
    pub(super) step: Box<str>,
    /// See `step`.
    pub(super) name: Box<str>,
    pub(super) work: Work,
    /// Values that nobody reads afterwards.
    pub(super) released: Box<[usize]>,
}

/// See [`BatchCall`].
#[derive(Debug)]
pub(super) enum Work {
    Kernel {
        kernel: Kernel,
        inputs: Box<[usize]>,
        outputs: Box<[usize]>,
    },
    Model {
        /// Its place among those that are run.
        model: usize,
        /// By the model's inputs; `None` is left out.
        inputs: Box<[Option<usize>]>,
        /// By the model's outputs; `None` is of no use.
        outputs: Box<[Option<usize>]>,
    },
}

/// A name that clients use, and the value.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) name: Box<str>,
    pub(super) value: usize,
}

/// All of a pipeline; shared by everybody who runs a part of it.
pub(super) struct Layout {
    /// Of the model that clients ask for.
    pub(super) name: Box<str>,
    pub(super) values: Vec<Value>,
    pub(super) inputs: Vec<Named>,
    pub(super) outputs: Vec<Named>,
    pub(super) stages: Vec<StageCall>,
    pub(super) calls: Vec<BatchCall>,
    /// The models that are run, by their places among those that were given.
    pub(super) models: Vec<usize>,
    /// Values that rows bring into the queue, in ascending order.
    pub(super) gathered: Vec<usize>,
    /// Whether each of them goes into the batch; what only later legs read does not.
    pub(super) is_run: Vec<bool>,
    /// Places of those that later legs read.
    pub(super) carried: Vec<usize>,
    /// Buffers of a lane.
    pub(super) slots: usize,
    /// Names in the axes of values.
    pub(super) names: usize,
    /// The place of the name that counts rows.
    pub(super) rows: usize,
    /// How rows of several lengths run together; `None` where they do not.
    pub(super) lengths: Option<Lengths>,
}

impl Layout {
    /// Checks a plan, or that of a leg, after which later legs read the values of `carried` that rows bring. Models are
    /// looked up by these names.
    ///
    /// # Errors
    /// Which step is wrong: what was found, what is allowed.
    pub(super) fn new(
        plan: Plan,
        carried: &[usize],
        contracts: &[(&str, &Contract)],
        folder: &Path,
        limits: StageLimits,
    ) -> Result<Self, String> {
        let mut draft = Draft::new(&plan)?;
        for (index, input) in plan.inputs.iter().enumerate() {
            draft.make("inputs", input.value, Some(Source::Input(index)))?;
        }
        for call in plan.stages {
            draft.stage(call, folder, limits)?;
        }
        for call in plan.batch {
            match call {
                plan::BatchCall::Kernel(call) => draft.kernel(call)?,
                plan::BatchCall::Model(call) => draft.model(&call, contracts)?,
            }
        }
        for output in &plan.outputs {
            draft.read("outputs", output.value)?;
            draft.read_last[output.value] = Some(usize::MAX);
        }
        for &number in carried {
            draft.read("later steps", number)?;
        }
        let named = |some: Vec<plan::Named>| {
            some.into_iter().map(|one| Named { name: one.name.into(), value: one.value }).collect()
        };
        Ok(draft.finish(plan.name, named(plan.inputs), named(plan.outputs), carried))
    }

    /// What its steps are called, in order, and where they run.
    pub(super) fn steps(&self) -> impl Iterator<Item = (&str, StepPlace)> {
        let stages = self.stages.iter().map(|call| (&*call.name, StepPlace::Row));
        let calls = self.calls.iter().map(|call| {
            let place = match call.work {
                Work::Kernel { .. } => StepPlace::Batch,
                Work::Model { .. } => StepPlace::Model,
            };
            (&*call.name, place)
        });
        stages.chain(calls)
    }

    /// Whether what clients send is queued as it is.
    pub(super) fn queues_as_sent(&self) -> bool {
        self.stages.is_empty() && self.inputs.iter().map(|input| input.value).eq(self.gathered.iter().copied())
    }
}

/// Steps as operators see them. What comes again has a number behind its name.
pub(super) fn numbered(steps: &[(String, StepPlace)]) -> Vec<Step> {
    let named = steps.iter().enumerate().map(|(index, (name, place))| {
        let before = steps[..index].iter().filter(|(other, _)| other == name).count();
        let place = *place;
        let name = if before == 0 { name.as_str().into() } else { format!("{name} {}", before + 1).into() };
        Step { name, place }
    });
    named.collect()
}

/// A layout in the making.
struct Draft {
    values: Vec<Value>,
    /// Of each value whether something has made it.
    is_made: Vec<bool>,
    /// Of each value the call that reads it last, counted from 0; past all calls for what clients get.
    read_last: Vec<Option<usize>>,
    stages: Vec<StageCall>,
    calls: Vec<BatchCall>,
    models: Vec<usize>,
    slots: usize,
    names: Names,
}

impl Draft {
    fn new(plan: &Plan) -> Result<Self, String> {
        let count = plan.values.len();
        if plan.slots > count {
            return Err(format!("its plan has {} slots for {count} values, at most one each is allowed", plan.slots));
        }
        let mut names = Names::default();
        let mut values = Vec::with_capacity(count);
        for (number, value) in plan.values.iter().enumerate() {
            let place = format!("value {number} ('{}')", value.name);
            let (datatype, is_binary) = datatype(&place, &value.dtype)?;
            if let Some(slot) = value.slot.filter(|slot| *slot >= plan.slots) {
                return Err(format!("{place}: slot {slot} of {} does not exist; write the plan again", plan.slots));
            }
            values.push(Value {
                name: value.name.as_str().into(),
                datatype,
                is_binary,
                axes: axes(&place, &value.shape, &mut names)?,
                place: value.place,
                source: None,
                // Whoever has no buffer of the plan's has one of its own.
                slot: value.slot.unwrap_or(plan.slots + number),
                alignment: datatype.element_bytes().unwrap_or(1),
            });
        }
        let (is_made, read_last) = (vec![false; count], vec![None; count]);
        let (stages, calls, models) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { values, is_made, read_last, stages, calls, models, slots: plan.slots + count, names })
    }

    fn finish(mut self, name: String, inputs: Vec<Named>, outputs: Vec<Named>, carried: &[usize]) -> Layout {
        for (number, call) in self.calls.iter_mut().enumerate() {
            let is_last = |(value, last): (usize, &Option<usize>)| (*last == Some(number)).then_some(value);
            call.released = self.read_last.iter().enumerate().filter_map(is_last).collect();
        }
        let is_run = |number: usize| self.read_last[number].is_some();
        let is_gathered = |(number, value): (usize, &Value)| {
            (value.place == Place::Row && (is_run(number) || carried.contains(&number))).then_some(number)
        };
        let rows = self.names.place(ROWS);
        let gathered: Vec<usize> = self.values.iter().enumerate().filter_map(is_gathered).collect();
        let is_carried = |(place, number): (usize, &usize)| carried.contains(number).then_some(place);
        Layout {
            name: name.into(),
            is_run: gathered.iter().map(|&number| is_run(number)).collect(),
            carried: gathered.iter().enumerate().filter_map(is_carried).collect(),
            gathered,
            values: self.values,
            inputs,
            outputs,
            stages: self.stages,
            calls: self.calls,
            models: self.models,
            slots: self.slots,
            names: self.names.len(),
            rows,
            lengths: None,
        }
    }

    /// Something makes a value: a client or a stage says so by the source, a call of the batch has none.
    fn make(&mut self, step: &str, number: usize, source: Option<Source>) -> Result<(), String> {
        let count = self.values.len();
        let (Some(value), Some(is_made)) = (self.values.get_mut(number), self.is_made.get_mut(number)) else {
            return Err(format!("{step}: value {number} of {count} does not exist; write the plan again"));
        };
        let place = if source.is_some() { Place::Row } else { Place::Batch };
        if *is_made || value.place != place {
            let problem = if *is_made { "made twice" } else { "not made where the plan says" };
            return Err(format!("{step}: value {number} ('{}') is {problem}; write the plan again", value.name));
        }
        *is_made = true;
        value.source = source;
        // Unless a later call reads it, the one that makes it is the last to know it.
        self.read_last[number] = source.is_none().then_some(self.calls.len());
        Ok(())
    }

    /// A value that exists by now.
    fn read(&self, step: &str, number: usize) -> Result<&Value, String> {
        let is_made = self.is_made.get(number).copied().unwrap_or(false);
        let value = self.values.get(number).filter(|_| is_made);
        value.ok_or_else(|| format!("{step}: value {number} does not exist by then; write the plan again"))
    }

    /// The next call reads a value.
    fn take(&mut self, step: &str, number: usize) -> Result<(), String> {
        self.read(step, number)?;
        self.read_last[number] = Some(self.calls.len());
        Ok(())
    }

    fn stage(&mut self, call: plan::StageCall, folder: &Path, limits: StageLimits) -> Result<(), String> {
        let step = call.step.as_str();
        let stage = servekit_stages::build(&call.kind, &call.options, folder, limits)
            .map_err(|why| format!("{step}: {why}"))?;
        let (taken, given) = (stage.inputs().len(), stage.outputs().len());
        if (taken, given) != (call.inputs.len(), call.outputs.len()) {
            return Err(format!(
                "{step}: {} values in and {} out, stage {} has {taken} and {given}; write the plan again",
                call.inputs.len(),
                call.outputs.len(),
                call.kind
            ));
        }
        for (&number, port) in call.inputs.iter().zip(stage.inputs()) {
            let value = self.read(step, number)?;
            if value.place != Place::Row {
                return Err(format!("{step}: value {number} exists only with the batch; write the plan again"));
            }
            check_port(step, value, port)?;
        }
        for (output, (&number, port)) in call.outputs.iter().zip(stage.outputs()).enumerate() {
            self.make(step, number, Some(Source::Stage { stage: self.stages.len(), output }))?;
            check_port(step, &self.values[number], port)?;
        }
        self.stages.push(StageCall {
            step: step.into(),
            name: call.kind.as_str().into(),
            stage,
            inputs: call.inputs.into(),
        });
        Ok(())
    }

    fn kernel(&mut self, call: plan::KernelCall) -> Result<(), String> {
        let step = call.step.as_str();
        let place = format!("{step}: kernel '{}'", call.kernel.name);
        let name = call.kernel.name.as_str().into();
        let kernel = kernel(&place, call.kernel)?;
        if (kernel.inputs.len(), kernel.outputs.len()) != (call.inputs.len(), call.outputs.len()) {
            return Err(format!(
                "{place}: {} values in and {} out, it has {} and {}; write the plan again",
                call.inputs.len(),
                call.outputs.len(),
                kernel.inputs.len(),
                kernel.outputs.len()
            ));
        }
        for (&number, port) in call.inputs.iter().zip(&kernel.inputs) {
            self.take(step, number)?;
            self.values[number].alignment = KERNEL_ALIGNMENT;
            check_kernel_port(&place, &self.values[number], port)?;
        }
        for (&number, port) in call.outputs.iter().zip(&kernel.outputs) {
            self.make(step, number, None)?;
            check_kernel_port(&place, &self.values[number], port)?;
        }
        let work = Work::Kernel { kernel, inputs: call.inputs.into(), outputs: call.outputs.into() };
        self.calls.push(BatchCall { step: step.into(), name, work, released: Box::default() });
        Ok(())
    }

    fn model(&mut self, call: &plan::ModelCall, contracts: &[(&str, &Contract)]) -> Result<(), String> {
        let step = call.step.as_str();
        let Some(given) = contracts.iter().position(|(name, _)| *name == call.model) else {
            return Err(format!("{step}: model '{}' is not served; serve it too, or name another", call.model));
        };
        let contract = contracts[given].1;
        let mut inputs = vec![None; contract.inputs.len()];
        for named in &call.inputs {
            self.take(step, named.value)?;
            let place = contract.input(named.name.as_bytes());
            let place = place.ok_or_else(|| unknown_tensor(step, "input", &named.name, &call.model))?;
            inputs[place] = Some(named.value);
            let (value, spec) = (&self.values[named.value], &contract.inputs[place]);
            if value.datatype != spec.datatype || value.axes.0.len() + 1 != spec.axes.len() {
                return Err(format!(
                    "{step}: input '{}' is {} {} a row, model '{}' takes {} {:?} with rows in front; make it so by a step",
                    named.name,
                    value.datatype,
                    value.axes,
                    call.model,
                    spec.datatype,
                    spec.metadata_shape()
                ));
            }
        }
        let is_missing =
            |(spec, given): &(&servekit_core::TensorSpec, &Option<usize>)| !spec.optional && given.is_none();
        if let Some((spec, _)) = contract.inputs.iter().zip(&inputs).find(is_missing) {
            return Err(format!(
                "{step}: input '{}' of model '{}' has no value; name one in from",
                spec.name, call.model
            ));
        }
        let mut outputs = vec![None; contract.outputs.len()];
        for named in &call.outputs {
            let place = contract.output(named.name.as_bytes());
            let place = place.ok_or_else(|| unknown_tensor(step, "output", &named.name, &call.model))?;
            self.make(step, named.value, None)?;
            outputs[place] = Some(named.value);
            let (found, expected) = (contract.outputs[place].datatype, self.values[named.value].datatype);
            if found != expected {
                let name = &named.name;
                return Err(format!("{step}: output '{name}' is {found}, the plan says {expected}; write it again"));
            }
        }
        let model = self.models.iter().position(|known| *known == given).unwrap_or_else(|| {
            self.models.push(given);
            self.models.len() - 1
        });
        let work = Work::Model { model, inputs: inputs.into(), outputs: outputs.into() };
        self.calls.push(BatchCall {
            step: step.into(),
            name: call.model.as_str().into(),
            work,
            released: Box::default(),
        });
        Ok(())
    }
}

fn unknown_tensor(step: &str, what: &str, name: &str, model: &str) -> String {
    format!("{step}: '{name}' is no {what} of model '{model}'; write the plan again")
}

/// What a kernel is declared with.
fn kernel(place: &str, declared: plan::Kernel) -> Result<Kernel, String> {
    let mut names = Names::default();
    let rows = names.place(ROWS);
    let mut ports = |some: Vec<plan::Port>, has_rows: bool| {
        let port = |port: plan::Port| {
            let place = format!("{place}: '{}'", port.name);
            let (datatype, _) = datatype(&place, &port.dtype)?;
            let axes = axes(&place, &port.shape, &mut names)?;
            let counts = matches!(axes.0.first(), Some(Axis::Symbol(place, _)) if *place == rows);
            if datatype == Datatype::Bytes || axes.0.len() > RANK_MAX || has_rows && !counts {
                return Err(format!(
                    "{place} is {} {axes}, numbers of up to {RANK_MAX} axes with rows in front are allowed; write the \
                     plan again",
                    port.dtype
                ));
            }
            Ok(Port { name: port.name.into(), datatype, axes })
        };
        some.into_iter().map(port).collect::<Result<Box<[Port]>, String>>()
    };
    let inputs = ports(declared.inputs, true)?;
    let outputs = ports(declared.outputs, true)?;
    let scratch = ports(declared.scratch, false)?;
    if inputs.is_empty() || outputs.is_empty() || declared.address == 0 {
        return Err(format!("{place}: inputs, outputs and an address are needed; write the plan again"));
    }
    let address = std::ptr::with_exposed_provenance::<()>(declared.address);
    // SAFETY: not null; and a plan is made by Python, which compiled this function of the kernels' ABI just before and
    // keeps it as long as the plan is used. Nothing a client sends comes near it.
    let function = unsafe { std::mem::transmute::<*const (), Function>(address) };
    let messages = declared.messages.into_iter().map(String::into).collect();
    Ok(Kernel { function, inputs, outputs, scratch, messages, rows, names: names.len() })
}

/// A value that a stage takes or gives.
fn check_port(step: &str, value: &Value, port: &servekit_stages::Port) -> Result<(), String> {
    let is_alike = |(axis, dim): (&Axis, &Dim)| match (axis, dim) {
        (Axis::Fixed(size), Dim::Fixed(expected)) => u64::try_from(*size) == Ok(*expected),
        _ => true,
    };
    let fits = value.datatype == port.dtype
        && value.axes.0.len() == port.shape.len()
        && value.axes.0.iter().zip(&port.shape).all(is_alike);
    if fits {
        return Ok(());
    }
    Err(format!(
        "{step}: '{}' is {} {}, the stage's '{}' is {} of {} axes; write the plan again",
        value.name,
        value.datatype,
        value.axes,
        port.name,
        port.dtype,
        port.shape.len()
    ))
}

/// A value that a kernel takes or gives.
fn check_kernel_port(place: &str, value: &Value, port: &Port) -> Result<(), String> {
    if value.datatype == port.datatype && value.axes.0.len() + 1 == port.axes.0.len() {
        return Ok(());
    }
    Err(format!(
        "{place}: '{}' is {} {} a row, '{}' is {} {}; write the plan again",
        value.name, value.datatype, value.axes, port.name, port.datatype, port.axes
    ))
}

fn axes(place: &str, shape: &[Size], names: &mut Names) -> Result<Axes, String> {
    let axis = |size: &Size| match size {
        Size::Fixed(size) if *size >= 0 => Ok(Axis::Fixed(*size)),
        Size::Fixed(size) => Err(format!("{place}: an axis is {size}, sizes from 0 are allowed")),
        Size::Text(text) => Axis::parse(text, names)
            .map_err(|why| format!("{place}: axis '{}' {why}", servekit_core::quoted(text.as_bytes()))),
    };
    Ok(Axes(shape.iter().map(axis).collect::<Result<_, _>>()?))
}

/// An element type as kernels call it, and whether it is bytes that are no text.
fn datatype(place: &str, name: &str) -> Result<(Datatype, bool), String> {
    Ok(match name {
        "bool" => (Datatype::Bool, false),
        "uint8" => (Datatype::Uint8, false),
        "uint16" => (Datatype::Uint16, false),
        "uint32" => (Datatype::Uint32, false),
        "uint64" => (Datatype::Uint64, false),
        "int8" => (Datatype::Int8, false),
        "int16" => (Datatype::Int16, false),
        "int32" => (Datatype::Int32, false),
        "int64" => (Datatype::Int64, false),
        "float16" => (Datatype::Fp16, false),
        "bfloat16" => (Datatype::Bf16, false),
        "float32" => (Datatype::Fp32, false),
        "float64" => (Datatype::Fp64, false),
        "string" => (Datatype::Bytes, false),
        "bytes" => (Datatype::Bytes, true),
        other => {
            let found = servekit_core::quoted(other.as_bytes());
            return Err(format!("{place}: element type '{found}' is unknown; install servekit again"));
        }
    })
}
