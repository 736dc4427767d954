"""From paths to models: what is there, what it is called, which version is served."""

from servekit.repository.model import Model
from servekit.repository.resolving import Repository, resolve

__all__ = ["Model", "Repository", "resolve"]
