"""The configuration as the native side reads it: every key, every time, defaults resolved."""

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from servekit.config import profiles, samples
from servekit.config.limits import PYTHON_ONLY, Limits
from servekit.config.schema import PIPELINE_KEYS, Config
from servekit.errors import ConfigError
from servekit.repository.model import Model

_LIBRARY_PATTERNS = ("libonnxruntime.so.1.*", "libonnxruntime.1.*.dylib")


def config_json(config: Config, limits: Limits, models: Sequence[Model]) -> str:
    """Renders the whole configuration; `limits` are the effective ones."""
    data = config.data
    folder = profiles.resolve(config.batching.profiles).folder
    return json.dumps(
        {
            "data": {
                "host": data.host,
                "http_port": data.http_port if data.port is None else data.port,
                "grpc_port": data.grpc_port if data.port is None else None,
                "uds": None if data.uds is None else str(Path(data.uds).absolute()),
            },
            "execution": config.execution.model_dump(exclude={"allow_code"}),
            "batching": config.batching.model_dump() | {"profiles": None if folder is None else str(folder)},
            "log": config.log.model_dump(),
            "onnxruntime_library": str(onnxruntime_library()),
            "limits": limits.model_dump(exclude=set(PYTHON_ONLY)),
            "models": [model_settings(model) for model in models],
        }
    )


def model_settings(model: Model) -> dict[str, Any]:
    """One entry of `models`; raises `ConfigError` where its samples cannot be read."""
    settings = model.settings
    return {
        "name": model.name,
        "version": model.version,
        "path": str(model.path),
        **settings.model_dump(exclude={"name", "path", "samples", *PIPELINE_KEYS}),
        "samples": [] if settings.samples is None else samples.read(Path(settings.samples).absolute()),
        # Written by who serves: addresses of compiled kernels hold in one process.
        "pipeline": None,
        "shared": None,
        "failed": None,
    }


def onnxruntime_library() -> Path:
    """The library of the installed ONNX Runtime, for processors or GPUs; the package itself is never imported."""
    spec = find_spec("onnxruntime")
    folders = [Path(folder) / "capi" for folder in (spec.submodule_search_locations or [])] if spec else []
    for folder in folders:
        for pattern in _LIBRARY_PATTERNS:
            found = sorted(folder.glob(pattern))
            if found:
                return found[-1].absolute()
    missing = f"no {' or '.join(_LIBRARY_PATTERNS)} in {folders[0]}" if folders else "no package onnxruntime"
    raise ConfigError(f"{missing}; run `pip install --force-reinstall 'onnxruntime>=1.24'`")
