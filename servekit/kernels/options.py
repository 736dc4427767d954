"""Options: keyword-only parameters of a kernel, constants by the time it is compiled."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from servekit.kernels.ports import KernelError


class Derived(NamedTuple):
    """A constant that a function computes from the options that its parameters name."""

    function: Callable[..., Any]


def derived(function: Callable[..., Any]) -> Any:  # noqa: ANN401 - it stands for what the function returns
    """Decorates a function whose result is a constant: the default of an option that nobody sets.

    Computed once, in plain Python, when the options are known: with `*, bands: int = 80, filters=filter_bank`, the
    function `filter_bank(bands)` may use all of NumPy and SciPy.
    """
    return Derived(function)


class Options:
    """The options of one kernel, each with its value."""

    def __init__(self, kernel: str, values: Mapping[str, Any]) -> None:
        self.kernel = kernel
        self.values = dict(values)
        """As given: numbers, tuples, arrays, and what is derived, which nobody sets."""
        self.constants = self._constants()
        """What the function is given: as `values`, with what is derived computed."""

    @staticmethod
    def of(kernel: str, function: Callable[..., Any]) -> "Options":
        """Read from the signature; an option has a default."""
        values = {}
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.kind is parameter.KEYWORD_ONLY:
                if parameter.default is parameter.empty:
                    raise KernelError(f"kernel '{kernel}': option '{name}' has no default; give it one")
                values[name] = _frozen(parameter.default)
        return Options(kernel, values)

    def bound(self, changes: Mapping[str, Any]) -> "Options":
        """The same with other values, of the kinds that the defaults have."""
        settable = [name for name, value in self.values.items() if not isinstance(value, Derived)]
        for name, value in changes.items():
            if name not in settable:
                known = ", ".join(settable) or "no options"
                raise KernelError(f"kernel '{self.kernel}' has no option '{name}', it has {known}")
            expected, found = _kind(self.values[name]), _kind(_frozen(value))
            if expected != found and (expected, found) != ("float", "int"):
                raise KernelError(
                    f"kernel '{self.kernel}': option '{name}' is {found} {value!r}, {expected} is expected"
                )
        like = {name: _like(self.values[name], _frozen(value)) for name, value in changes.items()}
        return Options(self.kernel, self.values | like)

    def sizes(self) -> dict[str, int]:
        """Whole numbers, and the lengths of tuples and arrays, by the names that axes may use."""
        found = {}
        for name, value in self.constants.items():
            if isinstance(value, int | np.integer) and not isinstance(value, bool):
                found[name] = int(value)
            elif isinstance(value, tuple | np.ndarray):
                found[f"{name}_count"] = len(value)
        return found

    def described(self) -> dict[str, Any]:
        """As JSON can hold it; what is derived follows from the rest."""
        shown = {name: value for name, value in self.values.items() if not isinstance(value, Derived)}
        return {
            name: value.tolist() if isinstance(value, np.ndarray | np.generic) else value
            for name, value in shown.items()
        }

    def _constants(self) -> dict[str, Any]:
        given = {name: value for name, value in self.values.items() if not isinstance(value, Derived)}
        computed = {}
        for name, value in self.values.items():
            if isinstance(value, Derived):
                wanted = inspect.signature(value.function).parameters
                try:
                    computed[name] = _frozen(value.function(**{option: given[option] for option in wanted}))
                except ValueError as error:
                    raise KernelError(f"kernel '{self.kernel}': {error}") from None
        constants = {**given, **computed}
        for name, value in constants.items():
            if _kind(value) == "":
                raise KernelError(
                    f"kernel '{self.kernel}': option '{name}' is a {type(value).__name__}; "
                    "numbers, tuples of numbers and arrays are allowed"
                )
        return constants


def _frozen(value: Any) -> Any:  # noqa: ANN401 - any option
    """Lists, which is how YAML writes them, as tuples; of one type, so that a kernel can index them."""
    if isinstance(value, Derived) or not isinstance(value, list | tuple):
        return value
    items = tuple(_frozen(item) for item in value)
    is_mixed = {type(item) for item in items} == {int, float}
    return tuple(float(item) for item in items) if is_mixed else items


def _like(default: Any, value: Any) -> Any:  # noqa: ANN401 - any option
    """The value in the type of the default: 1 for an option that is 0.5 means 1.0."""
    if isinstance(default, np.generic):
        return type(default)(value)
    if isinstance(default, float):
        return float(value)
    if isinstance(default, tuple) and default and isinstance(value, tuple):
        return tuple(_like(default[0], item) for item in value)
    return np.asarray(value, default.dtype) if isinstance(default, np.ndarray) else value


def _kind(value: object) -> str:
    """What options are told apart by; empty for what is no option."""
    if isinstance(value, bool | np.bool_):
        return "bool"
    if isinstance(value, int | np.integer):
        return "int"
    if isinstance(value, float | np.floating):
        return "float"
    if isinstance(value, np.ndarray):
        return "array" if value.dtype.kind in "buif" else ""
    if isinstance(value, tuple):
        return "tuple" if all(_kind(item) for item in value) else ""
    return ""
