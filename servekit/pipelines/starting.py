"""Pipelines as a server starts: each is planned amid the contracts of its models, compiled, and put beside its model.

One that is broken is a reason why its model fails; the others are served.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from servekit.errors import ServekitError, native_errors
from servekit.pipelines import graphs
from servekit.pipelines.checking import Surroundings, planned
from servekit.pipelines.code import read_code
from servekit.pipelines.contracts import ModelContract
from servekit.pipelines.faults import PipelineError
from servekit.pipelines.plan import Plan
from servekit.pipelines.reading import parsed, read
from servekit.pipelines.schema import Pipeline
from servekit.plan import CODE_FILE_NAME, RAW_SUFFIX, WrittenPipeline


class Started(NamedTuple):
    """What crosses to the native side, and what has to live as long as it serves."""

    native_json: str
    plans: Mapping[str, Plan]
    """By model. They hold the compiled kernels, of which the native side has only the addresses."""


def started(
    native_json: str, written: Sequence[WrittenPipeline], *, allow_code: bool, only: str | None = None
) -> Started:
    """The configuration with the plan of each pipeline, or with the reason why there is none.

    With `only`, the others stay as they stand in the configuration.
    """
    config = json.loads(native_json)
    surroundings = _Models(native_json, config, {one.model: one for one in written}, allow_code)
    plans: dict[str, Plan] = {}
    for entry in config["models"]:
        name = entry["name"]
        if name not in surroundings.written or only not in (None, name):
            continue
        try:
            plan = surroundings.plan(name)
            entry |= {"pipeline": _crossing(plan, surroundings.written[name].folder), "failed": None}
            plans[name] = plan
        except ServekitError as error:
            entry["failed"] = "; ".join(str(error).splitlines())
        except Exception as error:  # noqa: BLE001 - whatever it is, other models can be served
            entry["failed"] = f"pipeline of '{name}' failed by a defect ({error!r:.256}), please report it"
    _tell_of_shared(config, plans)
    return Started(json.dumps(config), plans)


def _tell_of_shared(config: Mapping[str, Any], plans: Mapping[str, Plan]) -> None:
    """Says of which models several queues run the file: it runs on one thread, as sessions of more are not shared.

    Where somebody has said of such a model that it runs on several, what runs it beside fails and says so.
    """
    shared: dict[str, tuple[str, str]] = {}
    for plan in plans.values():
        for model in dict.fromkeys(plan.models):
            if model != plan.name:
                shared[model] = (plan.name, f"the pipeline of '{plan.name}' runs it too")
            elif plan.models.count(model) > 1:
                shared[model] = (plan.name, "its pipeline runs it in several steps")
        if plan.raw:
            shared[plan.name] = (plan.name, f"it is served as {plan.name}{RAW_SUFFIX} too")
    refused = {}
    for entry in config["models"]:
        name, said = entry["name"], entry["intra_op"]
        if name not in shared:
            continue
        runner, why = shared[name]
        entry["shared"] = why
        if said is not None and said > 1:
            refused[runner] = (
                f"pipeline of '{runner}': model '{name}' has intra_op {said}, 1 is allowed as {why}; take intra_op out"
            )
    for entry in config["models"]:
        entry["failed"] = refused.get(entry["name"], entry["failed"])


def _crossing(plan: Plan, folder: str) -> dict[str, Any]:
    others = [model for model in dict.fromkeys(plan.models) if model != plan.name]
    return {
        "plan": plan.as_json(),
        "digest": plan.digest(),
        "folder": folder,
        "raw": plan.raw,
        "models": others,
    }


@dataclass
class _Models:
    """All that is served, as a pipeline may name it."""

    native_json: str
    config: Mapping[str, Any]
    written: Mapping[str, WrittenPipeline]
    allow_code: bool
    _contracts: dict[str, ModelContract] = field(default_factory=dict)
    _pipelines: dict[str, Pipeline | ServekitError] = field(default_factory=dict)

    @cached_property
    def names(self) -> list[str]:
        """Of the served models."""
        return [entry["name"] for entry in self.config["models"]]

    def plan(self, name: str) -> Plan:
        """The plan of one, compiled; raises what is wrong with it."""
        one = self.written[name]
        pipeline = self._pipeline(name)
        self._check_names(name, pipeline)
        amid = Surroundings(
            name,
            _Contracts(self, name),
            folder=Path(one.folder),
            allow_code=self.allow_code,
            stages_max=self.config["limits"]["pipeline_stages_max"],
        )
        plan = planned(pipeline, amid)
        plan.compile()
        return plan

    def _pipeline(self, name: str) -> Pipeline:
        """Read once, as reading it may run code; raises what is wrong with it, each time."""
        if name not in self._pipelines:
            try:
                self._pipelines[name] = self._read(self.written[name])
            except ServekitError as error:
                self._pipelines[name] = error
        found = self._pipelines[name]
        if isinstance(found, ServekitError):
            raise found
        return found

    def _read(self, one: WrittenPipeline) -> Pipeline:
        if one.table is not None:
            return parsed(one.table, one.origin)
        folder = Path(one.folder)
        if one.is_code:
            return read_code(folder, allow_code=self.allow_code)
        if (folder / CODE_FILE_NAME).exists():
            raise PipelineError(
                f"pipeline of '{one.model}': {one.origin} and {CODE_FILE_NAME} are both there; keep one of the two"
            )
        return read(one.text.encode(errors="surrogateescape"), one.origin)

    def _check_names(self, name: str, pipeline: Pipeline) -> None:
        if pipeline.raw and name + RAW_SUFFIX in self.names:
            raise PipelineError(
                f"pipeline of '{name}': raw is true and another model is called '{name}{RAW_SUFFIX}'; rename it, or "
                "leave raw out"
            )
        # Whoever is in a circle hears of the circle first.
        graphs.ordered(self._reachable(name))
        for other in graphs.models(name, pipeline):
            if other in self.written:
                raise PipelineError(
                    f"pipeline of '{name}': model '{other}' has a pipeline of its own, which does not run inside "
                    f"another; name the model's own tensors, {other}{RAW_SUFFIX}"
                )

    def _reachable(self, name: str) -> dict[str, Pipeline]:
        found: dict[str, Pipeline] = {}
        waiting = [name]
        while waiting:
            of = waiting.pop()
            if of not in self.written or of in found:
                continue
            # What is wrong with another one is told where that is planned.
            with suppress(ServekitError):
                found[of] = self._pipeline(of)
                waiting.extend(graphs.models(of, found[of]))
        return found

    def contract(self, name: str) -> ModelContract:
        """Of the model's own tensors; asked for once."""
        if name not in self._contracts:
            from servekit import _native

            with native_errors():
                told = json.loads(_native.contract(self.native_json, name))
            self._contracts[name] = ModelContract.of(told)
        return self._contracts[name]


class _Contracts(Mapping[str, ModelContract]):
    """What one pipeline may name; a model's file is opened once it is named."""

    def __init__(self, models: _Models, own: str) -> None:
        with_pipeline = [name for name in models.written if name != own]
        self._models = models
        self._names = {name: name for name in models.names if name not in with_pipeline}
        self._names |= {name + RAW_SUFFIX: name for name in with_pipeline}

    def __getitem__(self, name: str) -> ModelContract:
        return self._models.contract(self._names[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
