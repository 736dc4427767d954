"""One configuration: a schema, three sources, and the numbers that follow from the machine."""

from servekit.config.loading import load
from servekit.config.schema import Config, Limits, ModelSettings

__all__ = ["Config", "Limits", "ModelSettings", "load"]
