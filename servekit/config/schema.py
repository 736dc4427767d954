"""The one configuration. Every default stands here, every unknown key is refused."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from servekit.config.limits import PRIORITY_LEVELS_MAX, Frozen, Limits, key
from servekit.config.quantities import (
    AutomaticBytes,
    AutomaticCount,
    Bytes,
    Count,
    CountOrZero,
    OptionalPort,
    Port,
    automatic,
    listed,
    switched,
    switched_off,
)

__all__ = [
    "PIPELINE_KEYS",
    "Batching",
    "Config",
    "Data",
    "Execution",
    "Limits",
    "Log",
    "Management",
    "ModelSettings",
]

PIPELINE_KEYS = ("inputs", "before", "model", "after", "outputs", "raw")
"""Keys of a pipeline. What they hold is looked at by who serves it: looking takes libraries that others never load."""

UDS_PATH_BYTES_MAX = 107
"""Longest path that a Unix socket's address holds."""

THREADS_MAX = 1024
"""More than any machine's cores that one run could use."""

Text = Annotated[str, Field(min_length=1)]
OptionalText = Annotated[Text | None, BeforeValidator(switched_off)]
Names = Annotated[tuple[str, ...], BeforeValidator(listed)]
Mode = Literal["auto", "late", "fail_fast"]
Level = Annotated[Count, Field(le=PRIORITY_LEVELS_MAX)]
Threads = Annotated[Count, Field(le=THREADS_MAX)]
AutomaticThreads = Annotated[Threads | None, BeforeValidator(automatic)]


class Data(Frozen):
    """Where requests come in. Every listener speaks HTTP/1.1, HTTP/2 and gRPC; port 0 is a free one, `off` is none."""

    host: Text = key("127.0.0.1", "address of the data ports", flag=True)
    http_port: OptionalPort = key(8000, "the port HTTP clients expect", flag=True)
    grpc_port: OptionalPort = key(8001, "the port gRPC clients expect", flag=True)
    port: OptionalPort = key(None, "one port in place of the two", flag=True)
    uds: OptionalText = key(None, "path of a Unix socket", flag=True)

    @model_validator(mode="after")
    def _listen_somewhere(self) -> "Data":
        if self.port is None and self.http_port is None and self.grpc_port is None and self.uds is None:
            raise ValueError("every listener is off, at least one is needed; set a port or uds")
        if self.port is None and self.http_port and self.http_port == self.grpc_port:
            raise ValueError(f"http_port and grpc_port are both {self.http_port}; use port for one listener")
        if self.uds is not None and len(self.uds.encode()) > UDS_PATH_BYTES_MAX:
            raise ValueError(f"uds is longer than {UDS_PATH_BYTES_MAX} bytes; choose a shorter path")
        return self


class Management(Frozen):
    """Metrics, health and pages for the operator, on loopback unless moved. Nothing here changes the server."""

    host: Text = key("127.0.0.1", "address of the management port", flag=True)
    port: Port = key(8002, "management port; 0 picks a free one", flag=True)
    hosts: Names = key((), "further Host names the pages may be asked by, beside loopback names and the bound address")


class Execution(Frozen):
    """What runs the models."""

    device: Literal["auto", "cpu", "cuda"] = key("auto", "auto takes CUDA where ONNX Runtime offers it", flag=True)
    shards: AutomaticCount = key(None, "network threads", automatic="one for each usable core", flag=True)
    runners: AutomaticCount = key(None, "threads that run models of the pool", automatic="the core plan", flag=True)
    inline_run_us_max: CountOrZero = key(
        150,
        "a model whose largest batch runs within this is run by the network thread itself, on one core within 40 times "
        "this; 0 sends all to the pool",
    )
    allow_code: bool = key(
        default=False, description="run the kernels (.py) of models' own folders; for folders you trust", flag=True
    )


class Batching(Frozen):
    """How requests become batches. Run times are learnt while serving, so there is no delay to tune."""

    mode: Mode = key(
        "auto",
        "when a request that cannot be answered in time is told so: late, as its batch is formed; fail_fast, as it "
        "arrives; auto, as it arrives while more than one in twenty is refused",
        flag=True,
    )
    trust_batching: bool = key(
        default=False, description="take it that rows do not change each other, without the proof at load", flag=True
    )
    proof_seconds_max: Annotated[float, Field(gt=0, le=3600)] = key(
        3.0, "for that proof, for each model; batches stay as small as what it covers by then"
    )
    warm_up_seconds_max: Annotated[float, Field(ge=0, le=3600)] = key(
        2.0, "for runs of all sizes before a model is ready; 0 leaves them out"
    )
    intra_op: AutomaticThreads = key(
        None, "threads of one run", automatic="the fewest with which a model meets its latency target"
    )
    profiles: OptionalText = key(
        "auto",
        "folder in which run times are kept from one start to the next; auto is servekit/profiles in XDG_CACHE_HOME or "
        "~/.cache",
    )
    server_timing: Annotated[Literal["off", "sampled", "always"], BeforeValidator(switched)] = key(
        "off", "which answers say in Server-Timing where their time went", flag=True
    )
    egress_reserve_us: CountOrZero = key(200, "from the end of a run until its answers are on their way")
    priority_default: Level = key(4, "level of a request that names none")


class Log(Frozen):
    """Lines on stderr."""

    format: Literal["text", "json"] = key("text", "one line of words, or one JSON object a line", flag=True)
    level: Literal["debug", "info", "warning", "error"] = key("info", "least level that is printed", flag=True)
    access_sample: Annotated[float, Field(ge=0, le=1)] = key(0.0, "share of the requests that are logged")


class ModelSettings(Frozen):
    """Settings of the models under `path`, or of the found model called `name`. What is not set follows `limits`."""

    name: OptionalText = key(None, "the model these settings are for, or the name under which `path` is served")
    path: OptionalText = key(None, "a file or folder to serve; relative ones are looked for beside this file")
    execution: Literal["auto", "inline", "pool"] = key("auto", "where it runs; auto measures at load")
    batch_rows_max: Count | None = key(None, "see limits")
    batch_bytes_max: Bytes | None = key(None, "see limits")
    queue_requests_max: Count | None = key(None, "see limits.model_queue_requests_max")
    arena_bytes_max: AutomaticBytes = key(None, "see limits")
    latency_target_ms: CountOrZero | None = key(None, "see limits")
    latency_targets_ms: dict[Level, CountOrZero] = key({}, "latency_target_ms for single levels of priority: {1: 50}")
    mode: Mode | None = key(None, "see batching")
    trust_batching: bool | None = key(None, "see batching")
    intra_op: AutomaticThreads = key(None, "see batching")
    samples: OptionalText = key(
        None, "real rows to try the model with: an .npz, or a .json with a request's inputs; else values are made up"
    )
    links: bool = key(default=False, description="follow links that lead out of the model's folder")
    required: bool = key(default=False, description="the server is ready only while this model is")
    inputs: Any = key(None, "of a pipeline: what clients send; its keys win over the whole of a model.yaml")
    before: Any = key(None, "of a pipeline: steps before the model")
    model: Any = key(None, "of a pipeline: the model between the steps, where it is another or has names to map")
    after: Any = key(None, "of a pipeline: steps after the model")
    outputs: Any = key(None, "of a pipeline: what clients get")
    raw: Any = key(None, "of a pipeline: true serves the model's own tensors too, as name.raw")

    @model_validator(mode="after")
    def _meant_for_something(self) -> "ModelSettings":
        if self.name is None and self.path is None:
            raise ValueError("neither name nor path is set; say which model is meant")
        return self

    @property
    def pipeline(self) -> dict[str, Any]:
        """The keys of a pipeline that are set, as they were written."""
        return {name: value for name in PIPELINE_KEYS if (value := getattr(self, name)) is not None}


class Config(Frozen):
    """Everything that can be set."""

    data: Data = Field(default_factory=Data)
    management: Management = Field(default_factory=Management)
    execution: Execution = Field(default_factory=Execution)
    batching: Batching = Field(default_factory=Batching)
    log: Log = Field(default_factory=Log)
    limits: Limits = Field(default_factory=Limits)
    models: tuple[ModelSettings, ...] = Field(default=(), description="settings of single models, and more to serve")

    @model_validator(mode="after")
    def _levels_exist(self) -> "Config":
        levels_max = self.limits.priority_levels_max
        if self.batching.priority_default > levels_max:
            raise ValueError(
                f"batching.priority_default is {self.batching.priority_default}, at most priority_levels_max "
                f"({levels_max}) is allowed"
            )
        for model in self.models:
            for level in model.latency_targets_ms:
                if level > levels_max:
                    raise ValueError(
                        f"latency_targets_ms of '{model.name or model.path}' names level {level}, at most "
                        f"priority_levels_max ({levels_max}) is allowed"
                    )
        return self


SECTIONS: dict[str, type[Frozen]] = {
    "data": Data,
    "management": Management,
    "execution": Execution,
    "batching": Batching,
    "log": Log,
    "limits": Limits,
}
"""The sections that are tables of plain keys; `models` is a list."""
