"""What the control group of this process allows and has used, version 1 and 2 alike."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_UNLIMITED_BYTES_MIN = 2**62
"""Version 1 writes a number near 2^63 where there is no limit."""


class Processor(NamedTuple):
    """How often the quota stopped the process; counted since the group was made."""

    periods: int
    throttled_periods: int
    throttled_s: float


def memory_limit_bytes(root: Path = Path("/")) -> int | None:
    """The least limit from the process's own group up to the root; None without one."""
    limits = []
    for name, controller in (("memory.max", ""), ("memory.limit_in_bytes", "memory")):
        for group in _groups(root, controller):
            limit = _number(group / name)
            if limit is not None and limit < _UNLIMITED_BYTES_MIN:
                limits.append(limit)
    return min(limits, default=None)


def memory_bytes(root: Path = Path("/")) -> int | None:
    """What the group uses now, page cache included; None outside of one."""
    for name, controller in (("memory.current", ""), ("memory.usage_in_bytes", "memory")):
        for group in _groups(root, controller):
            used = _number(group / name)
            if used is not None:
                return used
    return None


def processor(root: Path = Path("/")) -> Processor | None:
    """What the processor quota did; None where nothing counts it."""
    for controller in ("", "cpu"):
        for group in _groups(root, controller):
            found = _table(group / "cpu.stat")
            if "nr_periods" in found:
                throttled_s = found.get("throttled_usec", 0) / 1e6 + found.get("throttled_time", 0) / 1e9
                return Processor(found["nr_periods"], found.get("nr_throttled", 0), throttled_s)
    return None


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the group and of those above it; in a container the path may be the host's, which is not mounted."""
    mount = root / "sys/fs/cgroup" / controller
    path = ""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, group = [*line.split(":", 2), "", ""][:3]
        if controllers == controller or controller in controllers.split(","):
            path = group.strip("/")
            break
    folder = mount / path
    while True:
        if folder.is_dir():
            yield folder
        if folder in {mount, root}:
            return
        folder = folder.parent


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None


def _table(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _text(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}
