//! A model with steps around it: stages on single rows, then kernels and models on batches.

use std::path::Path;
use std::sync::Arc;

use servekit_core::{Contract, Executor, Model, Preparer, Reason, Refusal, Step};
use servekit_stages::StageLimits;

use crate::LoadedModel;

mod axis;
mod contract;
mod kernel;
mod lane;
mod layout;
mod lengths;
mod memory;
mod plan;
mod preparer;
mod trying;

use layout::Layout;
use lengths::Lengths;
use plan::Plan;
use preparer::RowPreparer;

pub use lane::PipelineLane;

/// Calls of kernels may fill at least this much.
const KERNEL_BYTES_MIN: u64 = 256 << 20;
/// Kernels make wider types of what they are given, and several outputs.
const KERNEL_BYTES_FACTOR: u64 = 16;

/// A pipeline in service; to everybody who serves it, a model.
///
/// It holds addresses of compiled kernels: whoever made its plan keeps them as long as the pipeline.
pub struct Pipeline {
    layout: Arc<Layout>,
    models: Vec<Arc<LoadedModel>>,
    contract: Contract,
    run_contract: Contract,
    steps: Vec<Step>,
    kernel_bytes_max: u64,
}

impl Pipeline {
    /// Makes the pipeline of a plan. `models` are those that it may name; files of its stages lie in `folder`.
    ///
    /// # Errors
    /// `ModelFile`, saying which step is wrong and why.
    pub fn build(
        plan: &str,
        models: &[(String, Arc<LoadedModel>)],
        folder: &Path,
        limits: StageLimits,
    ) -> Result<Self, Refusal> {
        let plan = Plan::read(plan).map_err(|why| Refusal::new(Reason::ModelFile, format!("a pipeline: {why}")))?;
        let name = plan.name.clone();
        let contracts: Vec<(&str, &Contract)> =
            models.iter().map(|(name, model)| (name.as_str(), model.contract())).collect();
        let mut layout = Layout::new(plan, &contracts, folder, limits)
            .map_err(|why| Refusal::new(Reason::ModelFile, format!("pipeline of '{name}': {why}")))?;
        let models: Vec<Arc<LoadedModel>> = layout.models.iter().map(|&given| Arc::clone(&models[given].1)).collect();
        let contracts: Vec<&Contract> = models.iter().map(|model| model.contract()).collect();
        let kernel_bytes_max = models.iter().map(|model| {
            let description = model.description();
            description.arena_bytes_max.max(description.batch_bytes_max.saturating_mul(KERNEL_BYTES_FACTOR))
        });
        let (mut sent, mut queued) = (contract::sent(&layout, &contracts), contract::run(&layout, &contracts));
        if let ([model], true) = (models.as_slice(), sent.is_batched()) {
            layout.lengths = Lengths::of(&layout, model.contract(), model.padding());
        }
        if let Some(lengths) = &layout.lengths {
            lengths.contract(&mut queued);
            if layout.queues_as_sent() {
                sent = queued.clone();
            }
        }
        Ok(Self {
            contract: sent,
            run_contract: queued,
            steps: layout.steps(),
            kernel_bytes_max: kernel_bytes_max.fold(KERNEL_BYTES_MIN, u64::max),
            layout: Arc::new(layout),
            models,
        })
    }

    /// The models that its steps run, each once, in the order of their first runs.
    #[must_use]
    pub fn models(&self) -> &[Arc<LoadedModel>] {
        &self.models
    }

    /// Most rows of a batch: what all of its models take.
    #[must_use]
    pub fn batch_rows_max(&self) -> u32 {
        let rows = self.models.iter().map(|model| model.description().batch_rows_max).min();
        if self.contract.is_batched() { rows.unwrap_or(u32::MAX) } else { 1 }
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

impl Model for Pipeline {
    fn contract(&self) -> &Contract {
        &self.contract
    }

    fn run_contract(&self) -> &Contract {
        &self.run_contract
    }

    fn preparer(&self) -> Option<Box<dyn Preparer>> {
        if self.layout.queues_as_sent() {
            return None;
        }
        Some(Box::new(RowPreparer::new(Arc::clone(&self.layout))))
    }

    fn steps(&self) -> &[Step] {
        &self.steps
    }

    fn executor(&self) -> Result<Box<dyn Executor>, Refusal> {
        Ok(Box::new(self.lane()?))
    }
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Pipeline").field("contract", &self.contract).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
