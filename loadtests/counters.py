"""What a process has used: user instructions, context switches, memory. Linux only.

Instructions are counted by the processor through `perf stat`. Where it has no counters for us, as in many virtual
machines, valgrind's callgrind counts them instead, exactly, while it runs the server some fifty times slower.
"""

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from loadtests.server import Launch

EVENT = "instructions:u"
# Where another perf takes the counter away, the kernel guesses the rest, and the guess can be wrong by a factor.
RUNNING_PERCENT_MIN = 99.0
STRETCHED = {
    # While nothing is counted, as in the probe at load, valgrind takes about ten times as long.
    "SERVEKIT__EXECUTION__INLINE_RUN_US_MAX": "1500",
    "SERVEKIT__LIMITS__QUEUE_WAIT_MS_MAX": "300000",
    "SERVEKIT__LIMITS__RUN_MS_MAX": "300000",
}


@dataclass(frozen=True)
class Counted:
    """What a command printed, and the user instructions of the watched process meanwhile; None if not counted."""

    output: str
    instructions: float | None


class Counter(Protocol):
    """Counts the user instructions of a process while a client runs."""

    name: str
    slowdown: float
    """About how much longer the server takes while it is counted."""

    def launch(self, folder: Path) -> Launch:
        """How the server has to be started; reports go to the folder."""

    def run(self, command: list[str], pid: int) -> Counted:
        """Run a client to its end."""


class Perf:
    """The counters of the processor."""

    name = "perf stat"
    slowdown = 1.0

    @staticmethod
    def available() -> bool:
        """True where this machine and this user can count."""
        try:
            return bool(Perf.counted(["true"], []).instructions)
        except (RuntimeError, FileNotFoundError):
            return False

    @staticmethod
    def counted(command: list[str], target: list[str]) -> Counted:
        """Count the target, or the command itself where there is none."""
        with tempfile.NamedTemporaryFile("r") as report:
            perf = ["env", "LC_ALL=C", "perf", "stat", "-x,", "-o", report.name, "-e", EVENT, *target, "--"]
            output = run(perf + command)
            rows = [line.split(",") for line in report.read().splitlines() if "," in line]
        exact = [row for row in rows if row[0].isdigit() and float(row[4]) >= RUNNING_PERCENT_MIN]
        return Counted(output, float(exact[0][0]) if exact else None)

    def launch(self, folder: Path) -> Launch:  # noqa: ARG002 - the processor needs no folder
        """Any server can be counted."""
        return Launch()

    def run(self, command: list[str], pid: int) -> Counted:
        """All threads of the process, those that it starts meanwhile too."""
        return self.counted(command, ["-p", str(pid)])


class Callgrind:
    """A server that runs inside valgrind, which counts every instruction of a processor without AVX-512."""

    name = "callgrind"
    slowdown = 50.0

    def __init__(self) -> None:
        self.folder = Path()

    @staticmethod
    def available() -> bool:
        """True where valgrind is installed."""
        return bool(shutil.which("valgrind") and shutil.which("callgrind_control"))

    def launch(self, folder: Path) -> Launch:
        """Counting is off until a client runs. Limits of time are stretched, so that slowness changes no decision."""
        self.folder = folder
        prefix = [
            "valgrind",
            "-q",
            "--tool=callgrind",
            "--instr-atstart=no",
            f"--callgrind-out-file={folder}/counts.%p",
        ]
        return Launch(prefix, STRETCHED)

    def run(self, command: list[str], pid: int) -> Counted:
        """Count from zero, and read the dump that callgrind writes afterwards."""
        before = set(self.folder.glob("counts.*"))
        self.control("--instr=on", pid)
        self.control("--zero", pid)
        output = run(command)
        self.control("--dump", pid)
        self.control("--instr=off", pid)
        dumps = [path.read_text() for path in set(self.folder.glob("counts.*")) - before]
        totals = [
            int(total) for dump in dumps for total in re.findall(r"^(?:totals|summary): (\d+)", dump, re.MULTILINE)
        ]
        return Counted(output, float(max(totals)) if totals else None)

    @staticmethod
    def control(order: str, pid: int) -> None:
        """Tell the running callgrind something."""
        run(["callgrind_control", order, str(pid)])


def best_counter() -> Counter | None:
    """The processor's counters where there are any, else callgrind, else none."""
    if Perf.available():
        return Perf()
    return Callgrind() if Callgrind.available() else None


def run(command: list[str]) -> str:
    """Run a client to its end; returns what it printed."""
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{ended.stdout}{ended.stderr}")
    return ended.stdout


def switches(pid: int) -> int:
    """Context switches so far, voluntary and not, of all threads that live."""
    total = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            status = (thread / "status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) for line in status.splitlines() if "ctxt_switches" in line)
    return total


def resident_mb(pid: int) -> float:
    """Resident memory now, in millions of bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
