"""What the threads of a server use, each of them: processor time, and user instructions. Linux only."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from loadtests.counters import STRETCHED, Callgrind, run
from loadtests.scenarios.stage import Configuration
from loadtests.server import CLOSED_LOOP, Launch

NATIVE: Final = ("servekit-shard", "servekit-runner")
NAME_CHARACTERS_MAX: Final = 15
"""Of a thread, in Linux."""
PATIENT: Final[Configuration] = {
    key.removeprefix("SERVEKIT__").replace("__", ".").lower(): value
    for key, value in {**CLOSED_LOOP, **STRETCHED}.items()
}
"""Under callgrind everything takes long, and nothing may be refused or decided otherwise for that."""
PROGRAMS: Final = ("valgrind", "callgrind_control", "vgdb")


def is_thread(name: str, kind: str) -> bool:
    """Whether a thread is of this kind: the first of its name, as far as the system keeps it."""
    return name.startswith(kind[:NAME_CHARACTERS_MAX])


def is_native(name: str) -> bool:
    """Whether a thread of this name serves requests."""
    return any(is_thread(name, kind) for kind in NATIVE)


def named(pid: int) -> dict[int, str]:
    """The threads that live, by their number."""
    return {int(task.name): (task / "comm").read_text().strip() for task in Path(f"/proc/{pid}/task").iterdir()}


def native_seconds(pid: int) -> float:
    """Processor time so far of the threads that serve; to the nanosecond, as the scheduler counts it."""
    total = 0
    for number, name in named(pid).items():
        if is_native(name):
            total += int(Path(f"/proc/{pid}/task/{number}/schedstat").read_text().split()[0])
    return total / 1e9


class Thread(NamedTuple):
    """What a thread has run while it was counted."""

    name: str
    instructions: int
    files: frozenset[str]
    """Programs and libraries that it ran; kernels that were compiled at the start are in none, which is `???`."""


def instructions(threads: list[Thread]) -> int:
    """Of those that serve."""
    return sum(thread.instructions for thread in threads if is_native(thread.name))


class CallgrindOfThreads(Callgrind):
    """Callgrind that counts each thread by itself.

    It runs one thread at a time, and lets them take turns: none starves, and times mean nothing.
    """

    @staticmethod
    def available() -> bool:
        """True where all of valgrind is installed."""
        return all(shutil.which(program) for program in PROGRAMS)

    def launch(self, folder: Path) -> Launch:
        """As its parent's."""
        launch = super().launch(folder)
        return Launch([*launch.prefix, "--separate-threads=yes", "--fair-sched=yes"], launch.environment)

    def count(self, pid: int, work: Callable[[], object]) -> list[Thread]:
        """The threads that live before and after some work; fails where those that serve did nothing."""
        self.control("--instr=on", pid)
        before, dumps_before = self.numbers(pid), self.dumps(pid)
        self.control("--zero", pid)
        work()
        self.control("--dump", pid)
        after, names = self.numbers(pid), named(pid)
        self.control("--instr=off", pid)
        dumps = dict(read(path.read_text()) for path in self.dumps(pid) - dumps_before)
        # A place is used again when its thread has ended.
        threads = [
            Thread(names[number], *dumps[place])
            for place, number in before.items()
            if after.get(place) == number and number in names and place in dumps
        ]
        busy = [thread.name for thread in threads if thread.instructions]
        missing = [kind for kind in NATIVE if not any(is_thread(name, kind) for name in busy)]
        if missing:
            message = (
                f"instructions of {', '.join(busy) or 'no thread'} found, those of {' and '.join(missing)} are needed; "
                "see that the server runs under callgrind and was asked something"
            )
            raise RuntimeError(message)
        return threads

    def dumps(self, pid: int) -> set[Path]:
        """What was written so far, a file for each thread and time."""
        return set(self.folder.glob(f"counts.{pid}.*"))

    @staticmethod
    def numbers(pid: int) -> dict[int, int]:
        """The system's numbers of threads, by those of valgrind."""
        told = run(["vgdb", f"--pid={pid}", "v.info", "scheduler"])
        return places(told)


def places(told: str) -> dict[int, int]:
    """Numbers of threads in the system, by those in valgrind, from what its scheduler says of itself."""
    found = re.findall(r"^Thread (\d+): status = VgTs_\w+.* \(lwpid ([1-9]\d*)\)$", told, re.MULTILINE)
    if not found:
        message = f"valgrind names no threads: {told[:200]!r} found, lines of 'Thread 1: status = …' are expected"
        raise RuntimeError(message)
    return {int(place): int(number) for place, number in found}


def read(dump: str) -> tuple[int, tuple[int, frozenset[str]]]:
    """Valgrind's number of a thread, its instructions and its files, from what callgrind has written of it."""
    place = re.search(r"^thread: (\d+)$", dump, re.MULTILINE)
    counted = re.findall(r"^(?:totals|summary): (\d+)$", dump, re.MULTILINE)
    if place is None or not counted:
        message = f"no counts of one thread: {dump[:200]!r} found, lines of 'thread: 1' and 'totals: 1' are expected"
        raise RuntimeError(message)
    paths = re.findall(r"^c?ob=\(\d+\) (.+)$", dump, re.MULTILINE)
    return int(place[1]), (max(map(int, counted)), frozenset(Path(path).name for path in paths))
