"""What a server is to do, as plain values: all that the serving process keeps of its configuration."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Final

PIPELINE_FILE_NAME: Final = "model.yaml"
"""Of a pipeline, beside its model's file."""
PIPELINE_BYTES_MAX: Final = 1 << 20
"""Of that file."""
CODE_FILE_NAME: Final = "pipeline.py"
"""Of a pipeline that is written in Python; in place of the other."""
RAW_SUFFIX: Final = ".raw"
"""Behind a model's name it means the model's own tensors, without its pipeline."""


@dataclass(frozen=True)
class LogPlan:
    """Lines on stderr."""

    level: str
    as_json: bool
    lines_per_second_max: int
    field_bytes_max: int


@dataclass(frozen=True)
class ManagementPlan:
    """The management port and its limits."""

    host: str
    port: int
    hosts: tuple[str, ...]
    body_bytes_max: int
    connections_max: int
    series_max: int


@dataclass(frozen=True)
class WrittenPipeline:
    """A model's pipeline, as its operator has written it: `text` of a file, or a `table` of the configuration."""

    model: str
    folder: str
    """Absolute path of the folder in which its steps look for files."""
    origin: str
    """Where it stands, for messages."""
    text: str = ""
    """What is no UTF-8 stands in it as surrogates."""
    table: dict[str, Any] | None = None
    is_code: bool = False
    """It is the folder's `pipeline.py`, which runs only where that is allowed."""


@dataclass(frozen=True)
class Plan:
    """Everything parsed: nothing in here can fail for a reason of its own any more."""

    native_json: str
    log: LogPlan
    management: ManagementPlan
    drain_delay_ms: int
    drain_ms_max: int
    warnings: tuple[str, ...]
    pipelines: tuple[WrittenPipeline, ...] = ()
    allow_code: bool = False
    is_watching: bool = False
    """Whether edits of pipelines are served as they are made."""

    def to_json(self) -> str:
        """The plan as text, to hand it to another process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Reads `to_json`."""
        fields = json.loads(text)
        management = fields["management"]
        return cls(
            native_json=fields["native_json"],
            log=LogPlan(**fields["log"]),
            management=ManagementPlan(**management | {"hosts": tuple(management["hosts"])}),
            drain_delay_ms=fields["drain_delay_ms"],
            drain_ms_max=fields["drain_ms_max"],
            warnings=tuple(fields["warnings"]),
            pipelines=tuple(WrittenPipeline(**written) for written in fields["pipelines"]),
            allow_code=fields["allow_code"],
            is_watching=fields["is_watching"],
        )
