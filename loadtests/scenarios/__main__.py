"""Plays scenarios and judges them: `python -m loadtests.scenarios NAME... | all`.

Exit codes: 0 all passed, 1 one failed, 2 usage, 4 one could not be judged, because the generator was the limit.
"""

import argparse
import json
import math
import sys

from loadtests.scenarios.catalogue import SCENARIOS
from loadtests.scenarios.criteria import Verdict
from loadtests.scenarios.stage import place
from servekit.bench import report

FAILED = 1
NOT_JUDGED = 4


def arguments() -> argparse.Namespace:
    """The command line."""
    names = "\n".join(f"  {name:<16} {about}" for name, (about, _) in SCENARIOS.items())
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.scenarios",
        description=f"Play open-loop scenarios against servekit serve and judge them.\n\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="+", choices=[*SCENARIOS, "all"], metavar="NAME", help="one of these, or all")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of one run")
    parser.add_argument("--rounds", type=int, default=5, help="how often those take turns that are compared")
    parser.add_argument("--server-processor", type=int, default=0)
    parser.add_argument("--client-processor", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print one JSON object a scenario instead of the tables")
    return parser.parse_args()


def told(name: str, verdict: Verdict) -> str:
    """The runs, then one line for each criterion."""
    lines = [f"{name}: {SCENARIOS[name][0]}", *verdict.notes]
    if verdict.runs:
        lines += [report.heading(0).splitlines()[1], *(report.line(run) for run in verdict.runs)]
    lines += [str(criterion) for criterion in verdict.criteria]
    lines += [f"NOT JUDGED  {doubt}" for doubt in verdict.doubts]
    return "\n".join(lines)


def document(name: str, verdict: Verdict) -> str:
    """The same for machines."""
    criteria = [
        {
            "what": one.what,
            "found": one.found if math.isfinite(one.found) else None,
            "least": one.least,
            "most": one.most,
            "met": one.met,
        }
        for one in verdict.criteria
    ]
    runs = [run.as_json() for run in verdict.runs]
    about = {"scenario": name, "notes": list(verdict.notes), "criteria": criteria, "doubts": verdict.doubts}
    return json.dumps(about | {"runs": runs})


def main() -> int:
    """Plays one after the other."""
    chosen = arguments()
    names = list(SCENARIOS) if "all" in chosen.names else chosen.names
    code = 0
    for name in names:
        with place(chosen.seconds, chosen.rounds, chosen.server_processor, chosen.client_processor) as here:
            verdict = SCENARIOS[name][1](here)
        print(document(name, verdict) if chosen.json else told(name, verdict) + "\n", flush=True)
        if verdict.doubts:
            code = code or NOT_JUDGED
        elif not verdict.passed:
            code = FAILED
    return code


if __name__ == "__main__":
    sys.exit(main())
