"""Pipelines whose files change while they are served: a broken edit keeps the one that works, and says why."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from servekit.errors import ServekitError
from servekit.pipelines.plan import Plan
from servekit.plan import PIPELINE_BYTES_MAX

TOKENIZER: Final = "tokenizer.json"
"""What `tokenize` reads where it is not told another file."""


class Source(NamedTuple):
    """Where a pipeline stands."""

    folder: Path
    """In which its steps look for files."""
    name: str | None
    """Of its own file there; None where it stands in the configuration, which is not looked at again."""


class Built(NamedTuple):
    """An edit that can be planned and compiled."""

    plan: Plan
    serve: Callable[[], None]
    """Puts it in place of the one that is served; the last thing that can go wrong."""


Build = Callable[[bytes, str], Built]
"""From the text of a file, and what to call it in messages."""


class Loaded(NamedTuple):
    """What is served now, and of which edit."""

    plan: Plan | None
    digest: str
    """Of the edit that was looked at last, so that a broken one is told once."""
    files: Mapping[str, str]
    """Digests of the files that stages of this edit read, as they were before the stages read them."""
    reason: str = ""
    """Why the last edit is not what is served; empty where it is."""


def digest(source: Source) -> str:
    """Of the pipeline's own file and of the code beside it."""
    own = [] if source.name is None else [source.folder / source.name]
    found = hashlib.sha256()
    for file in [*own, *sorted(source.folder.glob("*.py"))]:
        found.update(f"{file.name} {_content(file)}\n".encode())
    return found.hexdigest()


def digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Of each of these files."""
    return {name: _content(folder / name) for name in names}


def files(plan: Plan) -> tuple[str, ...]:
    """What its stages read in the folder."""
    found = (call.options.get("file", TOKENIZER if call.kind == "tokenize" else None) for call in plan.stages)
    return tuple(dict.fromkeys(name for name in found if name is not None))


def is_edited(source: Source, loaded: Loaded) -> bool:
    """Whether anything is other than when it was looked at last."""
    return digest(source) != loaded.digest or digests(source.folder, loaded.files) != loaded.files


def load_or_keep(old: Loaded | None, source: Source, build: Build) -> Loaded:
    """What is served once the pipeline as it stands now was tried: this, or if it is broken the old one."""
    found = digest(source)
    # Where there is no plan, nothing but an edit of it can help.
    read: dict[str, str] = {}
    try:
        built = build(_text(source), source.name or "")
        read = digests(source.folder, files(built.plan))
        built.serve()
        return Loaded(built.plan, found, read)
    except OSError as error:
        reason = f"{source.name}: {(error.strerror or 'unreadable').lower()}; put it back"
    except ServekitError as error:
        reason = str(error)
    return Loaded(old.plan if old else None, found, read, reason)


def _text(source: Source) -> bytes:
    if source.name is None:
        return b""
    with (source.folder / source.name).open("rb") as stream:
        return stream.read(PIPELINE_BYTES_MAX + 1)


def _content(file: Path) -> str:
    """A digest; a file that is not there is one more content that it can have."""
    if not file.is_file():
        # Others, such as pipes, may never end.
        return ""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""
