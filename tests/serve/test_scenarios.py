"""The scenarios of `loadtests` start real servers; the shortest of them, once through."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOT_JUDGED = 4


def test_a_scenario_starts_its_servers_takes_turns_and_ends():
    first, *others = sorted(os.sched_getaffinity(0))
    processors = ("--server-processor", first, "--client-processor", others[0] if others else first)
    command = [sys.executable, "-m", "loadtests.scenarios", "lone", "--seconds", 0.2, "--rounds", 1, "--json"]
    ended = subprocess.run([*map(str, (*command, *processors))], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert ended.returncode == NOT_JUDGED, ended.stderr
    document = json.loads(ended.stdout)
    assert [one["what"].split()[3] for one in document["criteria"]] == ["tiny", "mlp"]
    assert all(one["found"] is None or one["found"] > 0 for one in document["criteria"])
    assert [doubt for doubt in document["doubts"] if "3 are needed" not in doubt] == []
    assert len(document["doubts"]) == 2, "one round of each is not enough"
