"""Carries `servekit serve` out, in a process that never loads what only reading the configuration needs."""

import os
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from servekit import signals
from servekit.errors import ServekitError, told
from servekit.plan import CODE_FILE_NAME, PIPELINE_FILE_NAME, Plan

_READ_BYTES = 65_536
_ALLOW_CODE = "--allow-code"


def run(arguments: list[str]) -> NoReturn:
    """Reads the configuration in a child process, serves in this one, and ends it with the exit code.

    The child is forked before anything native runs and ends before anything is bound. Its libraries for schemas,
    YAML and command lines are a fifth of a small server's memory, and are never used again.
    """
    # From here on a signal waits for the server's life to take it: as a container's first process one that came during
    # the imports would be lost.
    signals.hold()
    carry_out(_planned_by_child(arguments))


def carry_out(plan: Plan) -> NoReturn:
    """Serves until the end, and ends the process with the exit code."""
    from servekit.server import serve

    try:
        code = int(serve(plan))
    except ServekitError as error:
        told(error)
        code = int(error.exit_code)
    # Without the destructors of libraries whose threads may still be in a run that nobody waits for.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _planned_by_child(arguments: list[str]) -> Plan:
    """The plan; where there is none, the child has said why, and this process ends as it did."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _plan(arguments, writer)
    os.close(writer)
    _look_ahead(arguments)
    with os.fdopen(reader, "rb", _READ_BYTES) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code or not text:
        sys.exit(code if code >= 0 else 1)
    return Plan.from_json(text.decode())


def _look_ahead(arguments: list[str]) -> None:
    """Loads what compiles pipelines while the child is reading, where a folder looks as if it held any.

    That takes as long as the child does, on another core. Where it is wrong about a pipeline, nothing depends on it.
    """
    # Where code is not allowed to run, nothing of it is compiled.
    names = (PIPELINE_FILE_NAME, CODE_FILE_NAME) if _ALLOW_CODE in arguments else (PIPELINE_FILE_NAME,)
    patterns = [f"{place}{name}" for place in ("", "*/") for name in names]
    folders = [path for argument in arguments if not argument.startswith("-") and (path := Path(argument)).is_dir()]
    if any(any(folder.glob(pattern)) for folder in folders for pattern in patterns):
        import_module("servekit.pipelines.starting")
        import_module("numba")


def _plan(arguments: list[str], writer: int) -> NoReturn:
    """The child: reads the command line, sends the plan, ends."""
    code = 1
    try:
        from servekit.cli.commands import outcome

        result = outcome(arguments)
        if isinstance(result, Plan):
            with os.fdopen(writer, "wb") as pipe:
                pipe.write(result.to_json().encode())
            code = 0
        else:
            code = result
    except BaseException:  # noqa: BLE001 # whatever it is, this process must not go on as a second server
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
