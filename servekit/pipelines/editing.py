"""Pipelines whose files change while they are served: a broken edit keeps the one that works, and says why."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from servekit.errors import ServekitError
from servekit.pipelines.checking import Surroundings, planned
from servekit.pipelines.plan import Plan
from servekit.pipelines.reading import FILE_BYTES_MAX, read

Build = Callable[[bytes, str], Plan]
"""From the text of a file, and what to call it in messages, to a plan."""


class Loaded(NamedTuple):
    """What is served now, and of which edit."""

    plan: Plan | None
    digest: str
    """Of the edit that was looked at last, so that a broken one is told once."""
    reason: str = ""
    """Why the last edit is not what is served; empty where it is."""


def digest(path: Path) -> str:
    """Of the file and of the code beside it; a file that is not there is one more content that it can have."""
    found = hashlib.sha256()
    for file in [path, *sorted(path.parent.glob("*.py"))]:
        try:
            content = file.read_bytes()
        except OSError:
            content = b""
        found.update(f"{file.name} {len(content)}\n".encode() + content)
    return found.hexdigest()


def changed(path: Path, known_digest: str) -> str | None:
    """The new digest, or None where all is as it was."""
    found = digest(path)
    return None if found == known_digest else found


def load_or_keep(old: Loaded | None, path: Path, build: Build) -> Loaded:
    """The plan of the file as it is now; of a broken one the old plan, with the reason."""
    found = digest(path)
    try:
        with path.open("rb") as stream:
            text = stream.read(FILE_BYTES_MAX + 1)
        return Loaded(build(text, path.name), found)
    except OSError as error:
        reason = f"{path.name}: {(error.strerror or 'unreadable').lower()}; put it back"
    except ServekitError as error:
        reason = str(error)
    return Loaded(old.plan if old else None, found, reason)


def built_amid(surroundings: Surroundings) -> Build:
    """The usual way: read, planned, and compiled, which is the last thing that can go wrong."""

    def build(text: bytes, origin: str) -> Plan:
        plan = planned(read(text, origin), surroundings)
        plan.compile()
        return plan

    return build
