"""The contract of a kernel: a plain function over NumPy arrays, and what the arrays are.

    @kernel(
        inputs={"image": ("uint8", ("rows", "height", "width", 3))},
        outputs={"pixels": ("float32", ("rows", 3, "height", "width"))},
    )
    def normalise(image, pixels, *, scale=1 / 255):
        ...fills pixels...

The function stays plain Python (`normalise(image, pixels)`, `normalise.py_func`); compiled, it is one C callback.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np

from servekit.kernels import ports
from servekit.kernels.options import Options
from servekit.kernels.ports import ROWS, Array, KernelError, Port

if TYPE_CHECKING:
    from servekit.kernels.compiling import Compiled

Declared = Mapping[str, tuple[str, tuple[int | str, ...]]]
Per = Literal["row", "batch"]
Option = bool | int | float | tuple[Any, ...] | list[Any] | Array | np.generic
RAISED: Final = "the kernel raised an exception on this row"


class Ran(NamedTuple):
    """What a run on some rows gave; `faults` holds 0 for a good row, or n for one refused with the n-th message."""

    outputs: dict[str, Array]
    faults: Array


class Kernel:
    """One kernel with its options; see `kernel`, which makes it."""

    def __init__(self, py_func: Callable[..., None], declared: "Declaration", options: Options) -> None:
        self.py_func = py_func
        self.name = options.kernel
        self.per = declared.per
        self.fastmath = declared.fastmath
        self.options = options.constants
        self._declared = declared
        self._bound = options
        known = options.sizes()
        self.inputs, self.outputs, self.scratch = (
            {name: _sized(port, known) for name, port in found.items()}
            for found in (declared.inputs, declared.outputs, declared.scratch)
        )
        self._check_symbols()
        self.__doc__, self.__name__, self.__module__ = py_func.__doc__, self.name, py_func.__module__

    def __repr__(self) -> str:
        return f"<kernel {self.name}>"

    def __call__(self, *arrays: Array) -> None:
        """Runs the function as it is written, in Python, with the options that are bound."""
        self.py_func(*arrays, **self.options)

    def bind(self, **options: Option) -> "Kernel":
        """The same kernel with other constants."""
        return Kernel(self.py_func, self._declared, self._bound.bound(options))

    @cached_property
    def batch_inputs(self) -> dict[str, Port]:
        """Inputs as they come from C: of all rows."""
        return self._with_rows(self.inputs)

    @cached_property
    def batch_outputs(self) -> dict[str, Port]:
        """Outputs as they go to C: of all rows."""
        return self._with_rows(self.outputs)

    @cached_property
    def refusals(self) -> list[str]:
        """The texts that the kernel itself refuses rows with."""
        from servekit.kernels.program import Program

        found = Program.of(self).messages
        if found and self.per == "batch":
            raise KernelError(f"kernel '{self.name}' refuses rows ({found[0]!r}); declare it per=\"row\"")
        return found

    @property
    def messages(self) -> list[str]:
        """What a fault means, counted from 1; the last, of a kernel per row, is an exception that nobody meant."""
        return [*self.refusals, RAISED] if self.per == "row" else []

    def check_options(self) -> None:
        """Raises unless options that belong together are equally long."""
        self._bound.check()

    def typed(self, given: Mapping[str, Port]) -> dict[str, Port]:
        """The outputs, of all rows, that these inputs give; an error names the kernel, what was found and expected."""
        self.check_options()
        known: dict[str, int | str] = {}
        for name, expected in self.batch_inputs.items():
            if name not in given:
                found = ", ".join(given) or "nothing"
                raise KernelError(
                    f"kernel '{self.name}': input '{name}' is missing, found {found}; name it in the step"
                )
            self._unify(expected, given[name], known)
        return {
            name: port._replace(shape=tuple(ports.substituted(axis, known) for axis in port.shape))
            for name, port in self.batch_outputs.items()
        }

    def compiled(self) -> Any:  # noqa: ANN401 - Numba has no types
        """The C callback; compiled once, and kept alive as long as the kernel."""
        return self._compiled.callback

    @property
    def key(self) -> str:
        """Of what is computed: source, options and versions. Compiles the kernel."""
        return self._compiled.key

    def described(self) -> dict[str, Any]:
        """What the native side is told, the address of the compiled callback included."""
        return {
            "name": self.name,
            "address": int(self.compiled().address),
            "inputs": [port.described() for port in self.batch_inputs.values()],
            "outputs": [port.described() for port in self.batch_outputs.values()],
            "options": self._bound.described(),
            "scratch": [port.described() for port in self.scratch.values()],
            "messages": self.messages,
            "per": self.per,
        }

    def run(self, **arrays: Array) -> Ran:
        """Runs plain Python on a batch, in arrays of its own; a row that is refused does not harm its neighbours."""
        known = self.sizes(arrays)
        outputs = _made(self.batch_outputs, known)
        scratch = list(_made(self.scratch, known).values())
        given = [arrays[name] for name in self.inputs]
        faults = np.zeros(known[ROWS], np.int64)
        # As compiled code does, which warns nobody.
        with np.errstate(all="ignore"):
            if self.per == "batch":
                self(*given, *outputs.values(), *scratch)
                return Ran(outputs, faults)
            for row in range(known[ROWS]):
                try:
                    self(*(array[row] for array in (*given, *outputs.values())), *scratch)
                except Exception as error:  # noqa: BLE001 - any exception is that row's alone
                    faults[row] = self._fault(error)
        return Ran(outputs, faults)

    def run_compiled(self, **arrays: Array) -> Ran:
        """The same through the C callback."""
        from servekit.kernels.calling import Call

        known = self.sizes(arrays)
        # Buffers of a lane hold what the last batch left: a kernel that fills too little is to be noticed.
        outputs = _made(self.batch_outputs, known, filled_with=0x4B)
        call = Call(self, arrays, outputs, known)
        if not call.run():
            raise KernelError(f"kernel '{self.name}' failed as a whole: it raised an exception")
        return Ran(outputs, call.faults)

    def sizes(self, arrays: Mapping[str, Array]) -> dict[str, int]:
        """What the symbols stand for in these arrays."""
        self.check_options()
        if missing := [name for name in self.inputs if name not in arrays]:
            raise KernelError(
                f"kernel '{self.name}': input '{missing[0]}' is missing, it takes {', '.join(self.inputs)}"
            )
        try:
            return ports.sizes(self.batch_inputs, arrays)
        except KernelError as error:
            raise KernelError(f"kernel '{self.name}': {error}") from None

    @cached_property
    def _compiled(self) -> "Compiled":
        from servekit.kernels.compiling import compiled
        from servekit.kernels.program import Program

        # Looked at first: a contract that is broken is told before Numba tells of something else.
        assert isinstance(self.refusals, list)  # noqa: S101
        return compiled(Program.of(self))

    def _with_rows(self, found: Mapping[str, Port]) -> dict[str, Port]:
        if self.per == "batch":
            return dict(found)
        return {name: port._replace(shape=(ROWS, *port.shape)) for name, port in found.items()}

    def _check_symbols(self) -> None:
        """Every symbol is known from an input by the time that it is needed."""
        known = {ROWS}
        for port in self.inputs.values():
            for axis in port.shape:
                known |= {axis} if isinstance(axis, str) and axis.isidentifier() else set()
        if self.per == "batch":
            for port in (*self.inputs.values(), *self.outputs.values()):
                if port.shape[:1] != (ROWS,):
                    raise KernelError(
                        f"kernel '{self.name}': '{port.name}' is {port}; of a batch the first axis is 'rows'"
                    )
        elif any(not port.shape for port in self.outputs.values()):
            raise KernelError(f"kernel '{self.name}': an output of a row needs an axis to be written to; write (1,)")
        for port in (*self.inputs.values(), *self.outputs.values(), *self.scratch.values()):
            if unknown := set().union(*map(ports.symbols, port.shape)) - known:
                raise KernelError(
                    f"kernel '{self.name}': '{port.name}' is {port}, and '{min(unknown)}' is neither an axis of an "
                    "input nor an option"
                )

    def _unify(self, expected: Port, found: Port, known: dict[str, int | str]) -> None:
        fits = found.dtype == expected.dtype and len(found.shape) == len(expected.shape)
        for declared, axis in zip(expected.shape, found.shape, strict=False):
            if isinstance(declared, str) and declared.isidentifier():
                known.setdefault(declared, axis)
            fits = fits and ports.substituted(declared, known) == axis
        if not fits:
            shown = expected._replace(shape=tuple(ports.substituted(axis, known) for axis in expected.shape))
            raise KernelError(f"kernel '{self.name}': input '{expected.name}' is {found}, expected {shown}")

    def _fault(self, error: Exception) -> int:
        is_meant = isinstance(error, ValueError) and str(error) in self.refusals
        return self.messages.index(str(error) if is_meant else RAISED) + 1


class Declaration(NamedTuple):
    """What the decorator was given, looked at; options are not yet in the shapes."""

    inputs: dict[str, Port]
    outputs: dict[str, Port]
    scratch: dict[str, Port]
    per: Per
    fastmath: bool


def kernel(
    *,
    inputs: Declared,
    outputs: Declared,
    scratch: Declared | None = None,
    per: Per = "batch",
    fastmath: bool = False,
) -> Callable[[Callable[..., None]], Kernel]:
    """Makes a kernel of a function that takes inputs, outputs and scratch arrays in this order, and options by keyword.

    Per batch, the first axis of each tensor is `"rows"`, and the function sees all of them. Per row, shapes leave that
    axis out, and the function sees one row, which it may refuse by `raise ValueError("constant text")`. An axis is a
    size, a symbol, or arithmetic on symbols and whole-number options; `name_count` is how many values the option
    `name` has.
    """

    def decorated(function: Callable[..., None]) -> Kernel:
        name = function.__name__
        taking, filling, using = (ports.declared(name, one) for one in (inputs, outputs, scratch or {}))
        declaration = Declaration(taking, filling, using, per, fastmath)
        if not inputs or not outputs:
            raise KernelError(f"kernel '{name}' has no {'outputs' if inputs else 'inputs'}; declare one")
        kinds = inspect.signature(function).parameters.values()
        taken = [one.name for one in kinds if one.kind is not one.KEYWORD_ONLY]
        wanted = [*inputs, *outputs, *(scratch or {})]
        if taken != wanted:
            raise KernelError(
                f"kernel '{name}' takes {', '.join(taken) or 'nothing'}, declared are {', '.join(wanted)}"
            )
        return Kernel(function, declaration, Options.of(name, function))

    return decorated


def _sized(port: Port, known: Mapping[str, int | str]) -> Port:
    return port._replace(shape=tuple(ports.substituted(axis, known) for axis in port.shape))


def _made(found: Mapping[str, Port], known: Mapping[str, int], filled_with: int = 0) -> dict[str, Array]:
    arrays = {}
    for name, port in found.items():
        array = np.empty(tuple(ports.size(axis, known) for axis in port.shape), port.element.numpy)
        array.view(np.uint8).fill(filled_with) if array.ndim and array.size else None
        arrays[name] = array
    return arrays
