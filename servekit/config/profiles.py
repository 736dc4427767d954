"""Where run times are kept from one start to the next.

Nothing is made here: the server makes the folder once it has something to keep.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

AUTOMATIC = "auto"
_BENEATH_CACHE = Path("servekit", "profiles")


class Profiles(NamedTuple):
    """The folder, or none and what to tell the operator."""

    folder: Path | None
    warnings: tuple[str, ...] = ()


def resolve(setting: str | None, environment: Mapping[str, str] = os.environ) -> Profiles:
    """The folder that a setting means. Serving does not depend on it, so one that cannot be used is a warning."""
    if setting is None:
        return Profiles(None)
    folder = _automatic(environment) if setting == AUTOMATIC else Path(setting).absolute()
    if folder is None:
        return _none("no home folder found")
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return _none(f"{there} cannot be written")
    return Profiles(folder)


def _automatic(environment: Mapping[str, str]) -> Path | None:
    cache, home = environment.get("XDG_CACHE_HOME", ""), environment.get("HOME", "")
    # A relative one is to be ignored, as the specification of these folders says.
    if Path(cache).is_absolute():
        return Path(cache) / _BENEATH_CACHE
    return Path(home) / ".cache" / _BENEATH_CACHE if Path(home).is_absolute() else None


def _none(reason: str) -> Profiles:
    return Profiles(
        None,
        (f"run times are not kept from one start to the next: {reason}; set batching.profiles to a folder, or to off",),
    )
