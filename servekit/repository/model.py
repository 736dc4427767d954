"""One model as found on disk."""

from dataclasses import dataclass
from pathlib import Path

from servekit.config.schema import ModelSettings


@dataclass(frozen=True)
class Model:
    """A file to serve under a name and a version, with the settings that are meant for it."""

    name: str
    version: str
    path: Path
    file_bytes: int
    settings: ModelSettings
