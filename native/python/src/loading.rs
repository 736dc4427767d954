//! From a model's file to a model that is served.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::json;
use servekit_engine::{
    CorePlan, Description, DeviceChoice, Environment, Execution, Leg, LoadedModel, LogLevel, ModelSpec, Pipeline,
    ProfileUse, Sample, Settings, Shares, Start, core_plan,
};
use servekit_server::core::{
    Axis, Contract, Datatype, Limits, Model, Policy, Reason, Refusal, Tensor, TensorSpec, latency_targets,
};
use servekit_server::{Placement, Served};
use servekit_stages::StageLimits;

use crate::config;
use crate::errors::Error;

/// What requests name the kind of model by.
const PLATFORM: &str = "onnxruntime_onnx";

/// A model as it was loaded.
#[derive(Clone)]
pub struct Loaded {
    /// Its file.
    pub model: Arc<LoadedModel>,
    /// What clients reach under its name, if that is not the file itself.
    pub pipeline: Option<Arc<Pipeline>>,
    /// By leg, of which most models have one.
    queues: Arc<[Queue]>,
}

/// One queue that a model is to have.
#[derive(Clone, Debug)]
pub struct Queue {
    /// What operators know it by.
    pub name: Box<str>,
    /// What its batching starts from.
    pub start: Start,
}

impl Loaded {
    /// A model without a pipeline.
    fn alone(model: &config::Model, file: Arc<LoadedModel>) -> Self {
        let queue = Queue { name: model.name.as_str().into(), start: file.start().clone() };
        Self { model: file, pipeline: None, queues: [queue].into() }
    }

    /// A model with its pipeline, which has that digest.
    fn with_pipeline(model: &config::Model, file: Arc<LoadedModel>, pipeline: Pipeline, digest: &str) -> Self {
        let queue = |(place, leg): (usize, &Arc<Leg>)| {
            let name: Box<str> = match place {
                0 => model.name.as_str().into(),
                _ => format!("{}/{}", model.name, leg.name()).into(),
            };
            let start = leg.start(&name, digest, &file);
            tell_of_profile(&name, start.profile());
            Queue { name, start }
        };
        let queues = pipeline.legs().iter().enumerate().map(queue).collect();
        Self { model: file, pipeline: Some(Arc::new(pipeline)), queues }
    }

    /// Every name under which it is served, with the queues behind it.
    #[must_use]
    pub fn queues(&self, model: &config::Model) -> Vec<(String, Vec<Queue>)> {
        let queues = |(place, name): (usize, String)| match place {
            0 => (name, self.queues.to_vec()),
            _ => (name.clone(), vec![Queue { name: name.into(), start: self.model.start().clone() }]),
        };
        model.names().enumerate().map(queues).collect()
    }
}

/// Loads models, for as long as the process lives.
#[derive(Debug)]
pub struct Loader {
    environment: Environment,
    settings: Settings,
    batching: config::Batching,
    /// Effective limits.
    pub limits: Limits,
    /// Cores and threads.
    pub plan: CorePlan,
}

impl Loader {
    /// Opens the library and plans the cores.
    ///
    /// # Errors
    /// `Config` where the library cannot be used.
    pub fn open(config: &config::Config) -> Result<Self, Error> {
        let plan = plan(&config.execution);
        let environment = Environment::open(&config.onnxruntime_library, Box::new(tell_of_library))
            .map_err(|error| Error::Config(error.to_string()))?;
        let settings = Settings {
            device: match config.execution.device {
                config::Device::Auto => DeviceChoice::Auto,
                config::Device::Cpu => DeviceChoice::Cpu,
                config::Device::Cuda => DeviceChoice::Cuda,
            },
            cores: plan.cores,
            intra_op: plan.intra_op,
            lanes: plan.shards.max(plan.runners),
            inline_run_us_max: inline_run_us_max(&config.execution, &plan),
            proof_seconds_max: config.batching.proof_seconds_max,
            warm_up_seconds_max: config.batching.warm_up_seconds_max,
            profiles: config.batching.profiles.clone(),
        };
        Ok(Self { environment, settings, batching: config.batching.clone(), limits: config.limits.clone(), plan })
    }

    /// Loads the file of one model and tries it out.
    ///
    /// # Errors
    /// Why it cannot be served.
    pub fn read(&self, model: &config::Model) -> Result<Arc<LoadedModel>, Refusal> {
        if let Some(reason) = &model.failed {
            return Err(Refusal::new(Reason::ModelFile, reason.clone()));
        }
        let loaded = Arc::new(self.environment.load(&self.spec(model)?, &self.limits, &self.settings)?);
        tell_of_profile(&model.name, loaded.start().profile());
        Ok(loaded)
    }

    /// Builds the pipeline of a model whose file is loaded, where it has one. The others that it runs are looked up by
    /// their names.
    ///
    /// # Errors
    /// Why it cannot be served.
    pub fn assemble(
        &self,
        model: &config::Model,
        file: Arc<LoadedModel>,
        other: impl Fn(&str) -> Option<Arc<LoadedModel>>,
    ) -> Result<Loaded, Refusal> {
        let Some(pipeline) = &model.pipeline else { return Ok(Loaded::alone(model, file)) };
        let found = |name: &String| {
            other(name).map(|file| (name.clone(), file)).ok_or_else(|| {
                let text = format!(
                    "pipeline of '{}': model '{name}' is not loaded, and it runs that; look why '{name}' is not served",
                    model.name
                );
                Refusal::new(Reason::ModelFile, text)
            })
        };
        let mut models = pipeline.models.iter().map(found).collect::<Result<Vec<_>, Refusal>>()?;
        models.push((model.name.clone(), Arc::clone(&file)));
        let limits =
            StageLimits { image_pixels_max: self.limits.image_pixels_max, text_bytes_max: self.limits.text_bytes_max };
        let built = Pipeline::build(&pipeline.plan, &models, &pipeline.folder, limits)?;
        Ok(Loaded::with_pipeline(model, file, built, &pipeline.digest))
    }

    /// What a model's file takes and gives, without trying it.
    ///
    /// # Errors
    /// Why it cannot be served.
    pub fn contract_of(&self, model: &config::Model) -> Result<Contract, Refusal> {
        self.environment.contract_of(&self.spec(model)?, &self.limits)
    }

    fn spec(&self, model: &config::Model) -> Result<ModelSpec, Refusal> {
        let said_of_level = model.latency_targets_ms.get(&self.batching.priority_default);
        Ok(ModelSpec {
            name: model.name.clone(),
            version: model.version.clone(),
            path: model.path.clone(),
            execution: match model.execution {
                config::Placement::Auto => Execution::Auto,
                config::Placement::Inline => Execution::Inline,
                config::Placement::Pool => Execution::Pool,
            },
            batch_rows_max: model.batch_rows_max,
            batch_bytes_max: model.batch_bytes_max,
            arena_bytes_max: model.arena_bytes_max,
            links: model.links,
            samples: samples(model)?,
            trust_batching: model.trust_batching.unwrap_or(self.batching.trust_batching),
            intra_op: model.intra_op.or(self.batching.intra_op.filter(|_| model.shared.is_none())),
            shared: model.shared.clone(),
            latency_target_ms: said_of_level.copied().or(model.latency_target_ms).or(self.limits.latency_target_ms),
        })
    }

    /// Puts a loaded model into the forms that are served, that under its own name first.
    #[must_use]
    pub fn serve(&self, model: &config::Model, loaded: &Loaded) -> Vec<Served> {
        let file = &loaded.model;
        let file = || self.form(model, file, file.start(), Arc::clone(file) as Arc<dyn Model>);
        let Some(pipeline) = &loaded.pipeline else { return vec![file()] };
        let is_raw_asked = model.names().count() > 1;
        let raw = is_raw_asked.then(|| Served { name: model.raw_name().into(), required: false, ..file() });
        [Some(self.piped(model, loaded, pipeline)), raw].into_iter().flatten().collect()
    }

    /// A pipeline, with the legs behind its first.
    fn piped(&self, model: &config::Model, loaded: &Loaded, pipeline: &Arc<Pipeline>) -> Served {
        let times: Vec<Duration> = pipeline.legs().iter().map(|leg| one_row(leg).unwrap_or_default()).collect();
        let whole = Some(times.iter().sum::<Duration>()).filter(|time| !time.is_zero());
        let mut forms = pipeline.legs().iter().enumerate().map(|(place, leg)| {
            let reached = if place == 0 { Arc::clone(pipeline) as Arc<dyn Model> } else { Arc::clone(leg) as _ };
            let file = leg.models().first().unwrap_or(&loaded.model);
            let mut form = self.form(model, file, &loaded.queues[place].start, reached);
            self.aim(model, whole, &mut form);
            if leg.models().is_empty() {
                (form.policy.cores, form.policy.lanes) = (1, self.plan.runners);
            }
            // What is said of the model is said of its requests; entries of their rows may be more.
            let said = model.batch_rows_max.filter(|_| place == 0).unwrap_or(self.limits.batch_rows_max);
            form.policy.rows_max = leg.batch_rows_max().min(u32::try_from(said).unwrap_or(u32::MAX)).max(1);
            let lanes = leg.models().iter().map(|model| model.description().lanes);
            form.policy.lanes = lanes.fold(form.policy.lanes, u32::min);
            form
        });
        let Some(mut piped) = forms.next() else {
            return self.form(model, &loaded.model, loaded.model.start(), Arc::clone(pipeline) as _);
        };
        let legs = loaded.queues[1..].iter().zip(forms);
        piped.legs = legs.map(|(queue, form)| Served { name: queue.name.clone(), ..form }).collect();
        piped.description = described(loaded.model.description(), &loaded.queues[0].start);
        if model.execution != config::Placement::Inline {
            piped.placement = Placement::Pool;
            decide(&mut piped.description, "execution", "pool: what a pipeline does was not tried on a shard");
        }
        piped
    }

    /// Sets what answers are to be there within, where one row takes this long.
    fn aim(&self, model: &config::Model, one_row: Option<Duration>, form: &mut Served) {
        let levels = u8::try_from(self.limits.priority_levels_max).unwrap_or(u8::MAX);
        let said_ms = model.latency_target_ms.or(self.limits.latency_target_ms);
        form.targets = latency_targets(levels, said_ms, &model.latency_targets_ms, one_row);
        form.policy.target = form.targets[usize::from(self.batching.priority_default.clamp(1, levels)) - 1];
    }

    /// One form: what clients reach, with what is known of the file behind it, and what its batching starts from.
    fn form(&self, model: &config::Model, loaded: &LoadedModel, start: &Start, reached: Arc<dyn Model>) -> Served {
        let description = loaded.description();
        let mut policy = Policy::of(reached.run_contract(), &self.limits);
        policy.rows_max = description.batch_rows_max;
        policy.lanes = description.lanes.min(self.plan.runners);
        policy.bytes_max = usize::try_from(description.batch_bytes_max).unwrap_or(usize::MAX);
        if let Some(requests_max) = model.queue_requests_max {
            policy.requests_max = usize::try_from(requests_max).unwrap_or(usize::MAX);
        }
        policy.mode = model.mode.unwrap_or(self.batching.mode);
        policy.cores = self.plan.runners_busy(description.intra_op);
        let surfaces = start.surfaces();
        policy.surface = surfaces.first().map(|known| known.surface.clone());
        if surfaces.len() > 1 {
            // A model of one class goes by its own surface.
            policy.class_surfaces = surfaces.iter().filter(|known| !known.shape.is_empty()).cloned().collect();
        }
        policy.egress = Duration::from_micros(self.batching.egress_reserve_us);
        let mut form = Served {
            name: model.name.as_str().into(),
            version: model.version.as_str().into(),
            placement: match description.execution {
                servekit_engine::Placement::Inline => Placement::Inline,
                servekit_engine::Placement::Pool => Placement::Pool,
            },
            inline_bytes_max: match model.execution {
                config::Placement::Inline => u64::MAX,
                config::Placement::Auto | config::Placement::Pool => description.inline_bytes_max,
            },
            policy,
            targets: Box::default(),
            priority_default: self.batching.priority_default,
            required: model.required,
            platform: PLATFORM.into(),
            properties: properties(reached.contract()),
            description: described(description, start),
            legs: Vec::new(),
            model: reached,
        };
        self.aim(model, description.one_row_us.map(Duration::from_micros), &mut form);
        form
    }

    /// How long a run of this model may take: the configured limit, or else ten times what a full batch is expected
    /// to take, within bounds.
    #[must_use]
    pub fn run_max(&self, description: &Description) -> Duration {
        const PREDICTED_FACTOR: u64 = 10;
        const RANGE_MS: (u64, u64) = (1_000, 60_000);
        let predicted_ms = description.predicted_run_us.map(|run_us| run_us.saturating_mul(PREDICTED_FACTOR) / 1_000);
        let automatic = predicted_ms.unwrap_or(RANGE_MS.1).clamp(RANGE_MS.0, RANGE_MS.1);
        Duration::from_millis(self.limits.run_ms_max.unwrap_or(automatic))
    }
}

/// Tells the operator of what was kept and cannot be read.
fn tell_of_profile(name: &str, found: &ProfileUse) {
    if let ProfileUse::Ignored(why) = found {
        tell(&format!("what was kept of the run times of model '{name}' is ignored: {why}"));
    }
}

/// How long the models of a leg take for one row, where that is known.
fn one_row(leg: &Leg) -> Option<Duration> {
    let times = leg.models().iter().map(|model| model.description().one_row_us.map(Duration::from_micros));
    times.sum()
}

/// The operator's rows as tensors.
fn samples(model: &config::Model) -> Result<Vec<Sample>, Refusal> {
    let read = |sample: &config::Sample| {
        let refused = |problem: String| {
            let text = format!("model '{}' has a sample for '{}' that {problem}", model.name, sample.name);
            Refusal::new(Reason::ModelFile, text)
        };
        let datatype = Datatype::parse(sample.datatype.as_bytes()).ok_or_else(|| {
            refused(format!("is of '{}', which is no datatype; name one of the protocol's", sample.datatype))
        })?;
        let data = BASE64_STANDARD
            .decode(&sample.base64)
            .map_err(|error| refused(format!("is no base64: {error}; encode its raw elements")))?;
        let tensor = Tensor { datatype, shape: sample.shape.iter().copied().collect(), data: data.into() };
        Ok(Sample { name: sample.name.clone(), tensor })
    };
    model.samples.iter().map(read).collect()
}

/// The core plan with what the configuration fixes.
#[must_use]
pub fn plan(execution: &config::Execution) -> CorePlan {
    let count = |threads: Option<usize>| threads.map(|threads| u32::try_from(threads).unwrap_or(u32::MAX));
    core_plan(Shares { shards: count(execution.shards), runners: count(execution.runners) })
}

/// How long a full batch may run on a shard. On one core a runner could not run beside the shard, only take turns with
/// it, at two context switches and a smaller batch each time: there a shard runs longer batches itself, still short
/// beside what a health check waits.
fn inline_run_us_max(execution: &config::Execution, plan: &CorePlan) -> u64 {
    const ONE_CORE_FACTOR: u64 = 40;
    let factor = if plan.cores <= 1.0 { ONE_CORE_FACTOR } else { 1 };
    execution.inline_run_us_max.saturating_mul(factor)
}

/// What a description shows in a snapshot, with what batching starts from.
fn described(description: &Description, start: &Start) -> serde_json::Map<String, serde_json::Value> {
    let mut fields = match serde_json::to_value(description) {
        Ok(serde_json::Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    fields.insert("surfaces".to_owned(), json!(start.shown()));
    fields.insert("profile".to_owned(), json!(start.profile()));
    fields
}

/// Says something else of a decision that was about the file alone.
fn decide(description: &mut serde_json::Map<String, serde_json::Value>, subject: &str, reason: &str) {
    let decisions = description.get_mut("decisions").and_then(serde_json::Value::as_array_mut);
    for decision in decisions.into_iter().flatten().filter(|decision| decision[0] == subject) {
        decision[1] = reason.into();
    }
}

/// Class labels, by output: clients find them in the metadata.
#[must_use]
pub fn properties(contract: &Contract) -> Vec<(Box<str>, Box<str>)> {
    let outputs = contract.outputs.iter();
    outputs
        .filter_map(|output| {
            let labels = serde_json::to_string(output.labels.as_ref()?).ok()?;
            Some((format!("labels.{}", output.name).into(), labels.into()))
        })
        .collect()
}

/// What a contract is to Python: free axes by the names that the model has for them, or -1.
#[must_use]
pub fn shown(contract: &Contract) -> serde_json::Value {
    let axis = |axis: &Axis| match axis {
        Axis::Symbol(name) if !name.is_empty() => serde_json::Value::from(&**name),
        Axis::Symbol(_) | Axis::Fixed(_) => axis.size().into(),
    };
    let tensors = |specs: &[TensorSpec]| -> serde_json::Value {
        let shown = specs.iter().map(|spec| {
            let shape: Vec<_> = spec.axes.iter().map(axis).collect();
            let datatype = spec.datatype.to_string();
            json!({"name": spec.name, "datatype": datatype, "shape": shape, "optional": spec.optional})
        });
        shown.collect()
    };
    json!({"name": contract.model, "inputs": tensors(&contract.inputs), "outputs": tensors(&contract.outputs)})
}

/// Whether a path can be opened at all is said before a load is tried.
///
/// # Errors
/// `Config` where it is relative.
pub fn check_absolute(path: &Path) -> Result<(), Error> {
    if path.is_absolute() {
        return Ok(());
    }
    Err(Error::Config(format!("path {} is relative, absolute ones are allowed; resolve it first", path.display())))
}

/// Writes a line to stderr in one piece: others write there too, Python's own logger among them.
pub fn tell(line: &str) {
    // Where nobody reads stderr any more, serving goes on.
    let _unread = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// What ONNX Runtime says while models load is for the operator.
fn tell_of_library(level: LogLevel, text: &str) {
    tell(&format!("onnxruntime {level:?}: {text}"));
}
