"""One model as found on disk."""

from dataclasses import dataclass
from pathlib import Path

from servekit.config.schema import ModelSettings
from servekit.plan import WrittenPipeline


@dataclass(frozen=True)
class Model:
    """A file to serve under a name and a version, with the settings that are meant for it."""

    name: str
    version: str
    path: Path
    file_bytes: int
    settings: ModelSettings
    pipeline: WrittenPipeline | None = None
