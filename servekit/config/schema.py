"""The one configuration. Every default stands here, every unknown key is refused."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from servekit.config.limits import Frozen, Limits, key
from servekit.config.quantities import (
    AutomaticBytes,
    AutomaticCount,
    Bytes,
    Count,
    CountOrZero,
    OptionalPort,
    Port,
    listed,
    switched_off,
)

__all__ = ["Config", "Data", "Execution", "Limits", "Log", "Management", "ModelSettings"]

UDS_PATH_BYTES_MAX = 107
"""Longest path that a Unix socket's address holds."""

Text = Annotated[str, Field(min_length=1)]
OptionalText = Annotated[Text | None, BeforeValidator(switched_off)]
Names = Annotated[tuple[str, ...], BeforeValidator(listed)]


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
    links: bool = key(default=False, description="follow links that lead out of the model's folder")
    required: bool = key(default=False, description="the server is ready only while this model is")

    @model_validator(mode="after")
    def _meant_for_something(self) -> "ModelSettings":
        if self.name is None and self.path is None:
            raise ValueError("neither name nor path is set; say which model is meant")
        return self


class Config(Frozen):
    """Everything that can be set."""

    data: Data = Field(default_factory=Data)
    management: Management = Field(default_factory=Management)
    execution: Execution = Field(default_factory=Execution)
    log: Log = Field(default_factory=Log)
    limits: Limits = Field(default_factory=Limits)
    models: tuple[ModelSettings, ...] = Field(default=(), description="settings of single models, and more to serve")


SECTIONS: dict[str, type[Frozen]] = {
    "data": Data,
    "management": Management,
    "execution": Execution,
    "log": Log,
    "limits": Limits,
}
"""The sections that are tables of plain keys; `models` is a list."""
