//! One leg of a pipeline: what runs together as one batch, queued by itself.

use std::path::Path;
use std::sync::Arc;

use servekit_core::{Batching, Contract, Executor, Model, Refusal, Step, StepPlace};
use servekit_stages::StageLimits;

use super::contract;
use super::lane::PipelineLane;
use super::layout::Layout;
use super::lengths::Lengths;
use super::plan::Plan;
use crate::{LoadedModel, Start};

/// Calls of kernels may fill at least this much.
const KERNEL_BYTES_MIN: u64 = 256 << 20;
/// Kernels make wider types of what they are given, and several outputs.
const KERNEL_BYTES_FACTOR: u64 = 16;

/// A leg in service: at most one model, and the kernels around it.
pub struct Leg {
    pub(super) layout: Arc<Layout>,
    models: Vec<Arc<LoadedModel>>,
    /// Of its runs.
    pub(super) contract: Contract,
    pub(super) steps: Vec<Step>,
    kernel_bytes_max: u64,
}

impl Leg {
    /// The models that it runs, each once; of a leg behind another one at most.
    #[must_use]
    pub fn models(&self) -> &[Arc<LoadedModel>] {
        &self.models
    }

    /// What operators know it by: its model, or else its first step.
    #[must_use]
    pub fn name(&self) -> &str {
        let model = self.steps.iter().find(|step| step.place == StepPlace::Model);
        model.or(self.steps.first()).map_or("inputs", |step| &step.name)
    }

    /// Most rows of a batch, as far as its models have a say in that.
    #[must_use]
    pub fn batch_rows_max(&self) -> u32 {
        let rows = self.models.iter().map(|model| model.description().batch_rows_max).min();
        if self.contract.is_batched() { rows.unwrap_or(u32::MAX) } else { 1 }
    }

    /// What its batching starts from, as `name`; `beside` is the model that it is kept with where it runs none itself.
    /// `digest` tells other steps under this name apart.
    #[must_use]
    pub fn start(&self, name: &str, digest: &str, beside: &LoadedModel) -> Start {
        let model = self.models.first();
        model.map_or(beside, AsRef::as_ref).start().with_steps(name, digest, model.is_some())
    }

    /// A lane of its own; the same as [`Model::executor`] otherwise.
    ///
    /// # Errors
    /// `LaneLost` or `LoadRefused` where a model has no further lane.
    pub fn lane(&self) -> Result<PipelineLane, Refusal> {
        let lanes = self.models.iter().map(|model| model.lane()).collect::<Result<_, Refusal>>()?;
        let is_batched = self.contract.is_batched();
        Ok(PipelineLane::new(Arc::clone(&self.layout), lanes, self.kernel_bytes_max, is_batched))
    }
}

impl Model for Leg {
    fn contract(&self) -> &Contract {
        &self.contract
    }

    fn steps(&self) -> &[Step] {
        &self.steps
    }

    fn executor(&self) -> Result<Box<dyn Executor>, Refusal> {
        Ok(Box::new(self.lane()?))
    }
}

impl std::fmt::Debug for Leg {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Leg").field("contract", &self.contract).finish_non_exhaustive()
    }
}

/// A leg that knows nothing yet of the others.
pub(super) struct Draft {
    pub(super) layout: Layout,
    models: Vec<Arc<LoadedModel>>,
}

impl Draft {
    /// Checks the plan of a leg, after which others read the values of `carried`.
    ///
    /// # Errors
    /// Which step is wrong, and why.
    pub(super) fn new(
        plan: Plan,
        carried: &[usize],
        models: &[(String, Arc<LoadedModel>)],
        (folder, limits): (&Path, StageLimits),
    ) -> Result<Self, String> {
        let contracts: Vec<(&str, &Contract)> =
            models.iter().map(|(name, model)| (name.as_str(), model.contract())).collect();
        let layout = Layout::new(plan, carried, &contracts, folder, limits)?;
        let models = layout.models.iter().map(|&given| Arc::clone(&models[given].1)).collect();
        Ok(Self { layout, models })
    }

    /// Contracts of its models.
    pub(super) fn contracts(&self) -> Vec<&Contract> {
        self.models.iter().map(|model| model.contract()).collect()
    }

    /// The leg, with all that others have a say in: why requests run alone, and what its steps are called.
    pub(super) fn finish(self, alone: Option<&Batching>, steps: Vec<Step>) -> Leg {
        let mut contract = contract::run(&self.layout, &self.contracts());
        if let Some(alone) = alone {
            contract.batching = alone.clone();
        }
        let Self { mut layout, models } = self;
        if let ([model], true) = (models.as_slice(), contract.is_batched()) {
            layout.lengths = Lengths::of(&layout, model.contract(), model.padding());
        }
        if let Some(lengths) = &layout.lengths {
            lengths.contract(&mut contract);
        }
        let kernel_bytes_max = models.iter().map(|model| {
            let description = model.description();
            description.arena_bytes_max.max(description.batch_bytes_max.saturating_mul(KERNEL_BYTES_FACTOR))
        });
        let kernel_bytes_max = kernel_bytes_max.fold(KERNEL_BYTES_MIN, u64::max);
        Leg { layout: Arc::new(layout), models, contract, steps, kernel_bytes_max }
    }
}
