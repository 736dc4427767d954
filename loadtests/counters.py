"""What a process has used: user instructions from `perf stat`, context switches and memory from /proc. Linux only."""

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

EVENT = "instructions:u"
# Where another perf takes the counter away, the kernel guesses the rest, and the guess can be wrong by a factor.
RUNNING_PERCENT_MIN = 99.0


@dataclass(frozen=True)
class Counted:
    """What a command printed, and the user instructions of the watched process meanwhile; None if not counted."""

    output: str
    instructions: float | None


def run(command: list[str]) -> str:
    """Run a client to its end; returns what it printed."""
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{ended.stdout}{ended.stderr}")
    return ended.stdout


def run_counted(command: list[str], pid: int | None = None) -> Counted:
    """Run a command while the instructions of all threads of `pid` are counted; of the command itself without."""
    with tempfile.NamedTemporaryFile("r") as report:
        target = ["-p", str(pid)] if pid else []
        perf = ["env", "LC_ALL=C", "perf", "stat", "-x,", "-o", report.name, "-e", EVENT, *target, "--"]
        output = run(perf + command)
        rows = [line.split(",") for line in report.read().splitlines() if "," in line]
    exact = [row for row in rows if row[0].isdigit() and float(row[4]) >= RUNNING_PERCENT_MIN]
    return Counted(output, float(exact[0][0]) if exact else None)


def reason_not_countable() -> str | None:
    """Why instructions cannot be counted here; None where they can."""
    try:
        counted = run_counted(["true"])
    except (RuntimeError, FileNotFoundError):
        return "perf is missing or not allowed (apt-get install linux-perf; root, or kernel.perf_event_paranoid <= 1)"
    return None if counted.instructions else "this machine has no instruction counter for us, as some virtual ones"


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
