"""From a pipeline as it is written to a plan: every value gets a type, every step a place, or the load ends here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from servekit.config.limits import Limits
from servekit.kernels import KernelError, ports
from servekit.kernels.ports import ROWS, Port
from servekit.pipelines import entries, matching
from servekit.pipelines.buffers import Use, slots
from servekit.pipelines.contracts import ModelContract, ModelTensor, Shape
from servekit.pipelines.faults import PipelineError, meant
from servekit.pipelines.finding import Kernels, is_kernel
from servekit.pipelines.plan import BatchCall, Entries, KernelCall, ModelCall, Place, Plan, StageCall, Value
from servekit.pipelines.schema import TEXTS, MainModel, Pipeline, Sent, Step
from servekit.pipelines.stages import NATIVE, StageKind
from servekit.plan import RAW_SUFFIX

STAGES_MAX: Final[int] = Limits.model_fields["pipeline_stages_max"].default


@dataclass(frozen=True)
class Surroundings:
    """What a pipeline is planned amid."""

    name: str
    """Under which it is served: its folder's model has this name too."""
    contracts: Mapping[str, ModelContract]
    """Of the models it may name; under `name`, of its own, if the folder holds one."""
    folder: Path | None = None
    allow_code: bool = False
    stages: Mapping[str, StageKind] = field(default_factory=lambda: NATIVE)
    stages_max: int = STAGES_MAX


def planned(pipeline: Pipeline, surroundings: Surroundings) -> Plan:
    """Checks all of it; raises `PipelineError` about the first step that does not fit."""
    steps = len(pipeline.before) + len(pipeline.after) + 1
    if steps > surroundings.stages_max:
        raise PipelineError(
            f"pipeline of '{surroundings.name}' has {steps} steps with its model, at most {surroundings.stages_max} "
            "are allowed; join kernels into one or raise pipeline_stages_max"
        )
    planner = _Planner(pipeline, surroundings)
    try:
        return planner.plan()
    except PipelineError as error:
        raise PipelineError(f"pipeline of '{surroundings.name}': {error}") from None


class _Planner:
    """The state between two steps."""

    def __init__(self, pipeline: Pipeline, surroundings: Surroundings) -> None:
        self._pipeline = pipeline
        self._amid = surroundings
        self._kernels = Kernels(surroundings.folder, surroundings.allow_code)
        self._values: list[Value] = []
        self._names: dict[str, Value] = {}
        self._symbols: set[str] = set()
        # What the step before gave; a step that says nothing takes the first of it.
        self._newest: tuple[Value, ...] = ()
        self._read: set[int] = set()
        self._stages: list[StageCall] = []
        self._batch: list[BatchCall] = []

    def plan(self) -> Plan:
        """Walks through the steps in the order they are written."""
        pipeline = self._pipeline
        main = self._main()
        inputs = self._inputs(main)
        for number, step in enumerate(pipeline.before, 1):
            self._step(f"before step {number} ({step.name})", step)
        if main is not None:
            self._model(f"model ({main.name})", main, pipeline.model)
        for number, step in enumerate(pipeline.after, 1):
            self._step(f"after step {number} ({step.name})", step)
        if not any(isinstance(call, ModelCall) for call in self._batch):
            raise PipelineError(
                "it runs no model, one at least is needed; put model.onnx beside it or name a served model"
            )
        outputs = self._outputs()
        for name, value in inputs.items():
            if value.number not in self._read:
                raise PipelineError(f"input '{name}' is taken by no step; remove it, or name it in a step's from")
        return Plan(
            name=self._amid.name,
            raw=pipeline.raw,
            values=tuple(self._values),
            inputs={name: value.number for name, value in inputs.items()},
            stages=tuple(self._stages),
            batch=tuple(self._batch),
            outputs=outputs,
            slots=self._slots(outputs),
        )

    # What is there before and after ----------------------------------------------------------------------------------

    def _main(self) -> ModelContract | None:
        name = self._pipeline.model.name
        if name is not None:
            return self._contract("model", name)
        return self._amid.contracts.get(self._amid.name)

    def _contract(self, where: str, name: str) -> ModelContract:
        own = self._amid.name
        found = self._amid.contracts.get(own if name == own + RAW_SUFFIX else name)
        if found is None:
            raise PipelineError(f"{where}: model '{name}' is not served; {meant(name, self._amid.contracts)}")
        return found

    def _inputs(self, main: ModelContract | None) -> dict[str, Value]:
        sent = self._pipeline.inputs
        if not sent and main is not None:
            sent = {tensor.name: Sent(tensor.dtype, tensor.shape) for tensor in main.inputs if not tensor.optional}
        if not sent:
            raise PipelineError("it has no inputs; say what clients send, such as inputs: {image: bytes}")
        for one in sent.values():
            self._symbols |= {axis for axis in one.shape if isinstance(axis, str)}
        found = {name: self._value(Port(name, *one), "row", "inputs") for name, one in sent.items()}
        self._newest = tuple(found.values())
        return found

    def _outputs(self) -> dict[str, int]:
        wanted = self._pipeline.outputs or {value.name: value.name for value in self._newest}
        return {name: self._named("outputs", of).number for name, of in wanted.items()}

    def _slots(self, outputs: Mapping[str, int]) -> dict[int, int]:
        return slots(self._values, [Use(call.reads, call.writes) for call in self._batch], outputs.values())

    # Steps -----------------------------------------------------------------------------------------------------------

    def _step(self, where: str, step: Step) -> None:
        if step.model is not None:
            self._model(where, self._contract(where, step.model), step)
        elif is_kernel(step.name):
            self._kernel(where, step)
        else:
            self._stage(where, step)

    def _stage(self, where: str, step: Step) -> None:
        kind = self._amid.stages.get(step.name)
        if kind is None:
            names = [*self._amid.stages, *matching.kernels_alike(step.name)]
            raise PipelineError(f"{where}: no stage is called so; {meant(step.name, names)}")
        if step.each is not False:
            raise PipelineError(
                f"{where}: each found, a stage sees a row whole; leave each out, or use a kernel or model there"
            )
        self._check_place(where)
        try:
            expected = kind.checked(step.options)
        except PipelineError as error:
            raise PipelineError(f"{where}: {error}") from None
        taken = self._taken(where, [port.name for port in expected.inputs], step)
        known: dict[str, int | str] = {}
        for port in expected.inputs:
            value = taken[port.name]
            if value.place == "batch":
                raise PipelineError(
                    f"{where}: input '{port.name}' is '{value.name}' of {value.origin}, which exists once the batch "
                    "has formed; a stage takes what clients send or stages give, so move it before that step"
                )
            matching.unify(where, port, value.port, known)
        given = self._given(where, self._resolved(expected.outputs, known), "row", step)
        numbers = tuple(value.number for value in taken.values())
        self._stages.append(StageCall(where, kind.name, step.options, numbers, given))

    def _check_place(self, where: str) -> None:
        for call in self._batch:
            if isinstance(call, ModelCall):
                raise PipelineError(
                    f"{where}: a stage sees single rows before the batch forms, found after {call.step}; move it "
                    "before the model or use a kernel"
                )

    def _kernel(self, where: str, step: Step) -> None:
        try:
            kernel = self._kernels.find(step.name).bind(**step.options)
            kernel.check_options()
        except KernelError as error:
            raise PipelineError(f"{where}: {error}; correct it under with") from None
        except PipelineError as error:
            raise PipelineError(f"{where}: {error}") from None
        taken = self._taken(where, list(kernel.inputs), step)
        each = self._each(where, step, taken)
        seen = entries.seen(taken, each)
        found = {port: value.batch_port for port, value in seen.items()}
        try:
            outputs = kernel.typed(found)
        except KernelError as error:
            advice = matching.advice_of_several(kernel.batch_inputs, found, may_be_each=each is None)
            raise PipelineError(f"{entries.place(where, each)}: {error}; {advice}") from None
        for port in outputs.values():
            if any(isinstance(axis, int) and axis < 0 for axis in port.shape):
                raise PipelineError(
                    f"{entries.place(where, each)}: output '{port.name}' would be {port}, sizes from 0 are allowed; "
                    "give an option or an input another size"
                )
        rows = [port._replace(shape=port.shape[1:]) for port in outputs.values()]
        given = self._given(where, entries.given(where, rows, each), "batch", step)
        numbers = tuple(value.number for value in taken.values())
        self._batch.append(KernelCall(where, kernel, numbers, given, each))

    def _model(self, where: str, model: ModelContract, step: Step | MainModel) -> None:
        if not model.outputs:
            raise PipelineError(f"{where}: no output of the model has an axis that counts rows; export it with one")
        taken = self._taken(where, [tensor.name for tensor in model.inputs], step, _optional(model.inputs))
        each = self._each(where, step, taken)
        seen = entries.seen(taken, each)
        known: dict[str, int | str] = {}
        for tensor in model.inputs:
            if tensor.name in seen:
                found = seen[tensor.name].port
                # To a model texts are bytes, whatever is in them.
                is_text = found.dtype in TEXTS and tensor.dtype in TEXTS
                expected = tensor.port._replace(dtype=found.dtype) if is_text else tensor.port
                matching.unify(entries.place(where, each), expected, found, known, may_be_each=each is None)
        outputs = [self._open(where, tensor, step.shapes.get(tensor.name), known) for tensor in model.outputs]
        for name in step.shapes:
            if name not in {tensor.name for tensor in model.outputs}:
                outputs_known = [tensor.name for tensor in model.outputs]
                raise PipelineError(f"{where}: shapes names '{name}', no output; {meant(name, outputs_known)}")
        if each is not None:
            entries.check_sized(where, outputs, known, taken)
        rows = entries.given(where, self._resolved(outputs, known), each)
        given = self._given(where, rows, "batch", step)
        numbers = {name: value.number for name, value in taken.items()}
        names = [tensor.name for tensor in model.outputs]
        self._batch.append(ModelCall(where, model.name, numbers, dict(zip(names, given, strict=True)), each))

    def _each(self, where: str, step: Step | MainModel, taken: Mapping[str, Value]) -> Entries | None:
        """Which entries are rows to the step, if any are."""
        if step.each is False:
            return None
        axis = entries.axis_of(where, taken)
        if step.each is True:
            return Entries(axis)
        count = self._named(f"{where}: each", step.each)
        entries.check_count(where, count)
        return Entries(axis, count.number)

    def _open(self, where: str, tensor: ModelTensor, said: Shape | None, known: dict[str, int | str]) -> Port:
        """An output; what the model's file leaves open is as the pipeline says."""
        if said is None:
            return tensor.port
        port = tensor.port._replace(shape=tuple(ports.substituted(axis, known) for axis in tensor.shape))
        fits = len(said) == len(port.shape)
        for own, axis in zip(port.shape, said, strict=False):
            fits = fits and (own == axis or (isinstance(own, str) and own not in self._symbols))
        if not fits:
            found = port._replace(shape=said)
            raise PipelineError(f"{where}: shapes says '{tensor.name}' is {found}, the model says {port}; correct it")
        known.update({axis: axis for axis in said if isinstance(axis, str)})
        return port._replace(shape=said)

    # Names and values ------------------------------------------------------------------------------------------------

    def _taken(
        self, where: str, expected: Sequence[str], step: Step | MainModel, optional: frozenset[str] = frozenset()
    ) -> dict[str, Value]:
        """The value for each input: as the step says; else the newest for one alone, and by name for several."""
        said = matching.by_port(where, "from", step.taken, expected)
        found = {port: self._named(where, name) for port, name in said.items()}
        needed = [port for port in expected if port not in optional]
        for port in expected:
            if port in found:
                continue
            if needed == [port]:
                found[port] = self._newest[0]
            elif port in self._names:
                found[port] = self._names[port]
            elif port not in optional:
                raise PipelineError(
                    f"{where}: input '{port}' has no value, known are {', '.join(self._names)}; name one in from"
                )
        self._read |= {value.number for value in found.values()}
        return {port: found[port] for port in expected if port in found}

    def _named(self, where: str, name: str) -> Value:
        if name not in self._names:
            raise PipelineError(f"{where}: '{name}' is no value; {meant(name, self._names)}")
        value = self._names[name]
        self._read.add(value.number)
        return value

    def _given(self, where: str, found: Sequence[Port], place: Place, step: Step | MainModel) -> tuple[int, ...]:
        said = matching.by_port(where, "as", step.given, [port.name for port in found])
        named = [port._replace(name=said.get(port.name, port.name)) for port in found]
        names = [port.name for port in named]
        if doubles := sorted({name for name in names if names.count(name) > 1}):
            raise PipelineError(f"{where}: '{doubles[0]}' names two outputs; give one another name in as")
        self._newest = tuple(self._value(port, place, where) for port in named)
        return tuple(value.number for value in self._newest)

    def _value(self, port: Port, place: Place, origin: str) -> Value:
        value = Value(len(self._values), port.name, port.dtype, port.shape, place, origin)
        self._values.append(value)
        self._names[port.name] = value
        return value

    def _resolved(self, found: Sequence[Port], known: dict[str, int | str]) -> list[Port]:
        """Shapes with symbols replaced by what they stand for; those that stand for nothing yet are new ones."""
        for port in found:
            for symbol in sorted(set().union(*map(ports.symbols, port.shape)) - set(known)):
                known[symbol] = self._fresh(symbol)
        resolved = [port._replace(shape=tuple(ports.substituted(axis, known) for axis in port.shape)) for port in found]
        self._symbols |= set().union(*(ports.symbols(axis) for port in resolved for axis in port.shape))
        return resolved

    def _fresh(self, symbol: str) -> str:
        taken = {*self._symbols, ROWS}
        count = 2
        name = symbol
        while name in taken:
            name, count = f"{symbol}_{count}", count + 1
        self._symbols.add(name)
        return name


def _optional(tensors: Sequence[ModelTensor]) -> frozenset[str]:
    return frozenset(tensor.name for tensor in tensors if tensor.optional)
