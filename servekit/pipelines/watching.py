"""Looks whether pipelines were edited while they are served, and swaps them; a broken edit changes nothing."""

import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from servekit.errors import LoadError, native_errors
from servekit.logs import Logger
from servekit.pipelines import code
from servekit.pipelines.editing import Loaded, changed, digest, load_or_keep
from servekit.pipelines.plan import Plan
from servekit.pipelines.reading import FILE_NAME
from servekit.pipelines.starting import Started, started
from servekit.plan import WrittenPipeline

INTERVAL_S: Final = 1.0


class Serving(Protocol):
    """What is used of `_native.Server`."""

    def load(self, model_json: str, /) -> str:
        """Serves a model in place of the one of its name."""

    def unload(self, name: str, version: str, /) -> None:
        """Serves it no longer."""


class Watching:
    """The pipelines of one server that stand in files, with the edit of each that was looked at last."""

    def __init__(
        self, native: Serving, served: Started, written: Sequence[WrittenPipeline], logger: Logger, *, allow_code: bool
    ) -> None:
        self._native = native
        self._native_json = served.native_json
        self._logger = logger
        self._allow_code = allow_code
        self._written = {one.model: one for one in written}
        self._loaded = {
            one.model: Loaded(served.plans.get(one.model), digest(_path(one))) for one in written if one.table is None
        }
        # Lanes of a pipeline that was swapped may be in a run, and have the addresses of its kernels.
        self._kept: list[Plan] = []

    def run(self) -> None:
        """Looks again and again, for as long as the process lives."""
        pause = threading.Event()
        while not pause.wait(INTERVAL_S):
            self.look()

    def look(self) -> None:
        """Swaps what was edited since the last look, and tells what came of it."""
        for name, loaded in self._loaded.items():
            path = _path(self._written[name])
            if changed(path, loaded.digest) is None:
                continue
            edited = load_or_keep(loaded, path, partial(self._swapped, name))
            self._loaded[name] = edited
            if edited.reason:
                self._logger.warning("pipeline_kept", model=name, reason=edited.reason)
            else:
                self._logger.info("pipeline_swapped", model=name)

    def _swapped(self, name: str, text: bytes, origin: str) -> Plan:
        """The plan of this text, which is served by then."""
        # Code is read where it is run.
        said = "" if self._written[name].is_code else text.decode(errors="surrogateescape")
        written = self._written | {name: replace(self._written[name], text=said, origin=origin)}
        result = started(self._native_json, list(written.values()), allow_code=self._allow_code, only=name)
        (entry,) = (model for model in json.loads(result.native_json)["models"] if model["name"] == name)
        if entry["failed"] is not None:
            raise LoadError(entry["failed"])
        old, plan = self._loaded[name].plan, result.plans[name]
        self._kept.append(plan)
        with native_errors():
            self._native.load(json.dumps(entry))
            if old is not None and old.raw and not plan.raw:
                self._native.unload(f"{name}.raw", entry["version"])
        self._written, self._native_json = written, result.native_json
        return plan


def _path(one: WrittenPipeline) -> Path:
    return Path(one.folder) / (code.FILE_NAME if one.is_code else FILE_NAME)
