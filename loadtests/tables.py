"""Brings the simulated tables of the guide up to date: `python -m loadtests.tables`.

Run after whatever changes how batches form; a test of `native/simulate` compares each row with what its command prints.
"""

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parent.parent / "servekit" / "guide" / "batching.md"
COMMAND = re.compile(r"^servekit-simulate (.*)$", re.MULTILINE)
SIMULATE = "from servekit.cli.simulate import main; main()"
# The guide calls our policy as its readers do.
NAMES = ("**Slackline** ", "servekit, ")


def printed(page: str) -> dict[tuple[str, str], str]:
    """Rows that the commands of a page print, by the head of their table and their first cell."""
    rows: dict[tuple[str, str], str] = {}
    for arguments in COMMAND.findall(page):
        command = [sys.executable, "-c", SIMULATE, *arguments.split()]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout.replace(*NAMES)
        rows |= tabled(output)
    return rows


def tabled(text: str) -> dict[tuple[str, str], str]:
    """Rows of the tables in a text, by head and first cell."""
    rows: dict[tuple[str, str], str] = {}
    head = ""
    for line in text.splitlines():
        if line.startswith("| | "):
            head = line
        elif line.startswith("| ") and not line.startswith("| ---") and head:
            rows[head, line.split(" | ")[0]] = line
        elif not line.startswith("|"):
            head = ""
    return rows


def main() -> None:
    """Rewrites the page."""
    page = PAGE.read_text(encoding="utf-8")
    fresh = printed(page)
    simulated = {key: row for key, row in tabled(page).items() if key in fresh}
    for key, row in simulated.items():
        page = page.replace(row, fresh[key])
    PAGE.write_text(page, encoding="utf-8")
    stale = sum(fresh[key] != row for key, row in simulated.items())
    print(f"{stale} of {len(simulated)} rows were brought up to date")


if __name__ == "__main__":
    main()
