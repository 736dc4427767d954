//! A model with steps around it: stages on single rows, then kernels and models on batches.

use std::path::Path;
use std::sync::Arc;

use servekit_core::{Contract, Executor, Model, Preparer, Reason, Refusal, Route, Step, StepPlace};
use servekit_stages::StageLimits;

use crate::LoadedModel;

mod axis;
mod contract;
mod kernel;
mod lane;
mod layout;
mod leg;
mod legs;
mod lengths;
mod memory;
mod plan;
mod preparer;
mod route;
mod trying;

use layout::numbered;
use leg::Draft;
use legs::{Cut, Cuts};
use plan::Plan;
use preparer::RowPreparer;
use route::{Itinerary, Pass};

pub use lane::PipelineLane;
pub use leg::Leg;

/// A pipeline in service; to everybody who serves it, a model.
///
/// It holds addresses of compiled kernels: whoever made its plan keeps them as long as the pipeline.
pub struct Pipeline {
    /// The first has the stages, and takes what clients send.
    legs: Vec<Arc<Leg>>,
    contract: Contract,
    steps: Vec<Step>,
    /// Where there are several legs.
    route: Option<Arc<Itinerary>>,
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
        let refused = |what: &str, why: String| Refusal::new(Reason::ModelFile, format!("{what}: {why}"));
        let plan = Plan::read(plan).map_err(|why| refused("a pipeline", why))?;
        let name = format!("pipeline of '{}'", plan.name);
        Self::of(plan, models, (folder, limits)).map_err(|why| refused(&name, why))
    }

    fn of(
        plan: Plan,
        models: &[(String, Arc<LoadedModel>)],
        surroundings: (&Path, StageLimits),
    ) -> Result<Self, String> {
        let outputs = plan.outputs.clone();
        let Cuts { legs: cuts, carried } = legs::cut(plan)?;
        let (mut drafts, mut passes) = (Vec::with_capacity(cuts.len()), Vec::with_capacity(cuts.len()));
        for Cut { plan, taken, given, each } in cuts {
            let carried = if drafts.is_empty() { carried.as_slice() } else { &[] };
            drafts.push(Draft::new(plan, carried, models, surroundings)?);
            passes.push(Pass { taken, given, each });
        }
        let known: Vec<_> = drafts.iter().map(|draft| (&draft.layout, draft.contracts())).collect();
        let shown = outputs.iter().map(|output| (output.name.as_str(), output.value));
        let mut contract = contract::sent(&known, shown);
        let alone = Some(contract.batching.clone()).filter(|_| !contract.is_batched());
        let steps: Vec<(String, StepPlace)> = drafts
            .iter()
            .flat_map(|draft| draft.layout.steps().map(|(name, place)| (name.to_owned(), place)))
            .collect();
        let steps = numbered(&steps);
        let mut left = steps.as_slice();
        let mut legs = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let (own, behind) = left.split_at(draft.layout.steps().count());
            left = behind;
            legs.push(Arc::new(draft.finish(alone.as_ref(), own.to_vec())));
        }
        if let [leg] = legs.as_slice()
            && leg.layout.queues_as_sent()
        {
            contract = leg.contract.clone();
        }
        let route = (legs.len() > 1).then(|| Arc::new(Itinerary::new(&legs, passes, &outputs)));
        Ok(Self { legs, contract, steps, route })
    }

    /// What runs together, in order; each has a queue of its own.
    #[must_use]
    pub fn legs(&self) -> &[Arc<Leg>] {
        &self.legs
    }
}

impl Model for Pipeline {
    fn contract(&self) -> &Contract {
        &self.contract
    }

    fn run_contract(&self) -> &Contract {
        &self.legs[0].contract
    }

    fn preparer(&self) -> Option<Box<dyn Preparer>> {
        let layout = &self.legs[0].layout;
        if layout.queues_as_sent() {
            return None;
        }
        Some(Box::new(RowPreparer::new(Arc::clone(layout))))
    }

    fn steps(&self) -> &[Step] {
        &self.steps
    }

    fn route(&self) -> Option<Arc<dyn Route>> {
        self.route.as_ref().map(|route| Arc::clone(route) as Arc<dyn Route>)
    }

    fn executor(&self) -> Result<Box<dyn Executor>, Refusal> {
        self.legs[0].executor()
    }
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Pipeline").field("contract", &self.contract).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
