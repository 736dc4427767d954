"""Compiles a program with Numba, once a source: the result lies in a cache folder, where the next process finds it."""

import atexit
import hashlib
import os
import pickle
import shutil
import stat
import sys
import tempfile
import types
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

from servekit.kernels import entry
from servekit.kernels.intrinsics import intrinsics
from servekit.kernels.ports import KernelError
from servekit.kernels.program import Program

# What reading a damaged file of Numba's raises; the folder is then written anew.
_DAMAGED: Final = (EOFError, pickle.UnpicklingError, AttributeError, ImportError, IndexError, KeyError)


class Compiled(NamedTuple):
    """A kernel that native code can call."""

    callback: Any
    """Numba's; its `address` is valid for as long as somebody holds it."""
    key: str
    """The same wherever the same is computed, unlike the address."""


def compiled(program: Program) -> Compiled:
    """The program as native code; raises `KernelError` where Numba cannot compile it."""
    text = program.text()
    key = hashlib.sha256(text.encode()).hexdigest()[:32]
    folder = cache_folder() / f"{program.kernel.name}-{key}"
    try:
        try:
            return Compiled(_callback(program, text, folder), key)
        except _DAMAGED:
            shutil.rmtree(folder, ignore_errors=True)
            return Compiled(_callback(program, text, folder), key)
    except Exception as error:
        raise KernelError(f"kernel '{program.kernel.name}' cannot be compiled: {_reason(error)}") from error


@cache
def cache_folder() -> Path:
    """Where compiled kernels lie: code that is run as ours, so nobody else may write there."""
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
        folder = Path(home) / "servekit" / "kernels"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
        is_ours = found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if is_ours and os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):
        # A container may have no home, or none that can be written to.
        pass
    folder = Path(tempfile.mkdtemp(prefix="servekit-kernels-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _callback(program: Program, text: str, folder: Path) -> Any:  # noqa: ANN401 - Numba has no types
    """Compiles, or reads what an earlier process has compiled from the same text."""
    import numba
    import numpy as np

    path = _written(text, folder)
    module = f"servekit_kernel_{folder.name.rpartition('-')[2]}"
    # Numba looks the module up by its name when it reads what it has compiled before.
    sys.modules[module] = types.ModuleType(module, f"Compiled from {path}.")
    # Compiled under the path, as if imported from there: Numba keeps results beside the file that a function is from.
    codes = {
        code.co_name: code for code in compile(text, str(path), "exec").co_consts if isinstance(code, types.CodeType)
    }
    # As NumPy does: a division by zero is infinite, and raises nothing.
    options = {"error_model": "numpy", "fastmath": program.kernel.fastmath}
    compiled_functions: dict[str, Any] = {}
    for section in program.sections:
        called = {name: compiled_functions[function] for name, function in section.calls.items()}
        names = {"__name__": module, **section.constants, **called}
        function = types.FunctionType(codes[section.name], names, section.name, section.defaults)
        compiled_functions[section.name] = numba.njit(nogil=True, **options)(function)
    names = {
        "__name__": module,
        "np": np,
        "expected": np.array(entry.expected(program.kernel), np.int64),
        **intrinsics(),
        program.name: compiled_functions[program.name],
    }
    function = types.FunctionType(codes[entry.NAME], names, entry.NAME)
    signature = numba.types.int64(numba.types.CPointer(numba.types.int64))
    return numba.cfunc(signature, cache=True, error_model="numpy")(function)


def _written(text: str, folder: Path) -> Path:
    """The source's file, left as it is where it is there: Numba tells by its time whether results are still good."""
    path = folder / "kernel.py"
    if not path.exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        beside = folder / f"kernel-{os.getpid()}"
        beside.write_text(text)
        beside.replace(path)
    return path


def _reason(error: Exception) -> str:
    """Of Numba's own text, which is long and mostly about Numba: what it cannot do, and where."""
    innermost = str(error).rpartition("(step:")[2].partition("raised from ")[0]
    lines = [line.strip() for line in innermost.splitlines() if line.strip()]
    told = lines[1:] if "(step:" in str(error) else [str(error).partition("\n")[0]]
    if not told:
        return type(error).__name__
    reason = f"{told[0]} {told[1].removeprefix('>>> ')}" if told[0].endswith("signature:") else told[0]
    # The line of the source that it underlines.
    places = [line for line, below in pairwise(told) if set(below) == {"^"}]
    return f"{reason}, in: {places[0]}" if places else reason
