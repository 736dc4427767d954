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
from servekit.pipelines.editing import Built, Loaded, Source, digest, digests, files, is_edited, load_or_keep
from servekit.pipelines.plan import Plan
from servekit.pipelines.starting import Started, started
from servekit.plan import CODE_FILE_NAME, PIPELINE_FILE_NAME, RAW_SUFFIX, WrittenPipeline

INTERVAL_S: Final = 1.0


class Serving(Protocol):
    """What is used of `_native.Server`."""

    def load(self, model_json: str, /) -> str:
        """Serves a model in place of the one of its name."""

    def unload(self, name: str, version: str, /) -> None:
        """Serves it no longer."""


class Watching:
    """The pipelines of one server, with the edit of each that was looked at last."""

    def __init__(
        self, native: Serving, served: Started, written: Sequence[WrittenPipeline], logger: Logger, *, allow_code: bool
    ) -> None:
        self._native = native
        self._native_json = served.native_json
        self._logger = logger
        self._allow_code = allow_code
        self._written = {one.model: one for one in written}
        self._loaded = {one.model: _loaded(_source(one), served.plans.get(one.model)) for one in written}
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
            source = _source(self._written[name])
            if not is_edited(source, loaded):
                continue
            edited = load_or_keep(loaded, source, partial(self._built, name))
            self._loaded[name] = edited
            if edited.reason:
                self._logger.warning("pipeline_kept", model=name, reason=edited.reason)
            else:
                self._logger.info("pipeline_swapped", model=name)

    def _built(self, name: str, text: bytes, origin: str) -> Built:
        """The plan of this text; served, it takes the place of the one before."""
        one = self._written[name]
        if one.table is None:
            # Code is read where it is run.
            one = replace(one, text="" if one.is_code else text.decode(errors="surrogateescape"), origin=origin)
        written = self._written | {name: one}
        result = started(self._native_json, list(written.values()), allow_code=self._allow_code, only=name)
        (entry,) = (model for model in json.loads(result.native_json)["models"] if model["name"] == name)
        if entry["failed"] is not None:
            raise LoadError(entry["failed"])
        old, plan = self._loaded[name].plan, result.plans[name]

        def serve() -> None:
            self._kept.append(plan)
            with native_errors():
                self._native.load(json.dumps(entry))
                if old is not None and old.raw and not plan.raw:
                    self._native.unload(name + RAW_SUFFIX, entry["version"])
            self._written, self._native_json = written, result.native_json

        return Built(plan, serve)


def _loaded(source: Source, plan: Plan | None) -> Loaded:
    """At the start."""
    return Loaded(plan, digest(source), digests(source.folder, files(plan) if plan else ()))


def _source(one: WrittenPipeline) -> Source:
    own = CODE_FILE_NAME if one.is_code else PIPELINE_FILE_NAME
    return Source(Path(one.folder), own if one.table is None else None)
