"""Pipelines: what happens to what clients send before a model sees it, and to its answer before they do.

`model.yaml` beside a model, or the same keys under `models` of the configuration, is read into a `Pipeline`; amid the
models' contracts it becomes a `Plan`, in which every value has a type and every step a place.
"""

from servekit.pipelines.checking import Surroundings, planned
from servekit.pipelines.contracts import ModelContract, ModelTensor
from servekit.pipelines.editing import Built, Loaded, Source, is_edited, load_or_keep
from servekit.pipelines.faults import PipelineError
from servekit.pipelines.graphs import ordered
from servekit.pipelines.plan import KernelCall, ModelCall, Plan, StageCall, Value
from servekit.pipelines.reading import parsed, read
from servekit.pipelines.recipes import recipe, recipes
from servekit.pipelines.schema import Pipeline, Step

__all__ = [
    "Built",
    "KernelCall",
    "Loaded",
    "ModelCall",
    "ModelContract",
    "ModelTensor",
    "Pipeline",
    "PipelineError",
    "Plan",
    "Source",
    "StageCall",
    "Step",
    "Surroundings",
    "Value",
    "is_edited",
    "load_or_keep",
    "ordered",
    "parsed",
    "planned",
    "read",
    "recipe",
    "recipes",
]
