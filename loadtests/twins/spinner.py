"""`servekit` with a Python thread beside it that never rests, on a processor of its own.

`python -m loadtests.twins.spinner PROCESSOR serve …`
"""

import os
import sys
import threading
from pathlib import Path
from typing import Final

from servekit import signals
from servekit.cli import main

NAME: Final = "spinner"


def spin(processor: int) -> None:
    """Holds the interpreter as much as a thread can."""
    # Else this thread takes them, and the server is never told to end.
    signals.hold()
    Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(NAME)
    os.sched_setaffinity(0, {processor})
    number = 0
    while True:
        number = (number + 1) % 1_000_003


if __name__ == "__main__":
    threading.Thread(target=spin, args=(int(sys.argv[1]),), name=NAME, daemon=True).start()
    main(sys.argv[2:])
