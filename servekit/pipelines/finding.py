"""Kernels by the names that pipelines call them: those that come with servekit, and those of a model's own folder."""

import hashlib
import importlib
import linecache
import re
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from servekit.errors import ServekitError
from servekit.kernels import Kernel
from servekit.pipelines.faults import PipelineError, meant

MODULES: Final = ("audio", "boxes", "image", "numbers", "scores", "vectors")
CODE_BYTES_MAX: Final = 1 << 20

_OWN = re.compile(r"([A-Za-z_]\w*\.py):([A-Za-z_]\w*)")


def built_in() -> dict[str, Kernel]:
    """All that come with servekit, as `module.name`."""
    found = {}
    for module in MODULES:
        members = vars(importlib.import_module(f"servekit.kernels.{module}"))
        kernels = {name: value for name, value in members.items() if isinstance(value, Kernel)}
        found.update({f"{module}.{name}": value for name, value in kernels.items()})
    return found


def is_kernel(name: str) -> bool:
    """Whether the name is of the form that kernels' names have; stages' names are single words."""
    return "." in name


@dataclass
class Kernels:
    """Finds kernels for one pipeline; a file of its own is read once, and runs only where that is allowed."""

    folder: Path | None = None
    allow_code: bool = False
    _modules: dict[str, types.ModuleType] = field(default_factory=dict)

    def find(self, name: str) -> Kernel:
        """The kernel, with its options as they were declared."""
        own = _OWN.fullmatch(name)
        if own is None:
            known = built_in()
            if name not in known:
                raise PipelineError(f"unknown; {meant(name, known)}")
            return known[name]
        members = vars(self.module(own[1]))
        kernels = [member for member, value in members.items() if isinstance(value, Kernel)]
        if own[2] not in kernels:
            raise PipelineError(f"{own[1]} has no kernel '{own[2]}'; {meant(own[2], kernels)}")
        kernel: Kernel = members[own[2]]
        return kernel

    def module(self, file: str) -> types.ModuleType:
        """A file of the folder, run."""
        if not self.allow_code:
            raise PipelineError(
                f"{file} is code of the model's own, which is not allowed to run; start with --allow-code if you "
                "trust it"
            )
        if self.folder is None:
            raise PipelineError(f"{file} is looked for in the model's folder, and there is none; give the model one")
        if file not in self._modules:
            self._modules[file] = _loaded(self.folder / file)
        return self._modules[file]


def _loaded(path: Path) -> types.ModuleType:
    try:
        if path.is_symlink():
            raise PipelineError(f"{path.name} is a link, a file in the model's folder is allowed; copy it there")
        text = path.read_bytes()
    except OSError as error:
        raise PipelineError(f"{path.name}: {(error.strerror or 'unreadable').lower()}; check the folder") from None
    if len(text) > CODE_BYTES_MAX:
        raise PipelineError(f"{path.name} has {len(text)} bytes, up to {CODE_BYTES_MAX} are allowed; split it")
    digest = hashlib.sha256(text).hexdigest()[:12]
    # A name of its own for each content: an edit meanwhile must not be taken for the source of what runs.
    name = f"<{path.name} {digest}>"
    module = types.ModuleType(f"servekit_code_{digest}")
    try:
        lines = text.decode().splitlines(keepends=True)
        linecache.cache[name] = (len(text), None, lines, name)
        exec(compile(text, name, "exec"), vars(module))  # noqa: S102 - the operator allowed it
    except ServekitError as error:
        raise PipelineError(f"{path.name}: {error}") from None
    except Exception as error:  # noqa: BLE001 - whatever the file raises is its own
        said = str(error).splitlines()[0] if str(error) else "no text"
        raise PipelineError(f"{path.name} cannot be loaded, {type(error).__name__}: {said}; correct it") from None
    return module
