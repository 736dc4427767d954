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


class Each(NamedTuple):
    """A tuple with one value for each that another option has."""

    option: str
    value: float


def each(option: str, value: float) -> Any:  # noqa: ANN401 - it stands for a tuple
    """The default of a tuple that has as many values as `option` has: this one as often as needed, until it is set.

    What is set has to be as long, or the kernel does not load: a loop over the one reads the other.
    """
    return Each(option, value)


class Options:
    """The options of one kernel, each with its value."""

    def __init__(self, kernel: str, values: Mapping[str, Any], counted: Mapping[str, Each]) -> None:
        self.kernel = kernel
        self.values = dict(values)
        """As given: numbers, tuples, arrays, and what is derived, which nobody sets."""
        self.counted = dict(counted)
        """Options that have to be as long as others."""
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
        counted = {name: value for name, value in values.items() if isinstance(value, Each)}
        for name, one in counted.items():
            if _kind(values.get(one.option)) not in ("tuple", "array"):
                raise KernelError(
                    f"kernel '{kernel}': option '{name}' is one for each of '{one.option}', which is no option with "
                    "a length; name a tuple or an array"
                )
        return Options(kernel, values, counted)

    def bound(self, changes: Mapping[str, Any]) -> "Options":
        """The same with other values, of the kinds that the defaults have."""
        settable = [name for name, value in self.values.items() if not isinstance(value, Derived)]
        for name, value in changes.items():
            if name not in settable:
                known = ", ".join(settable) or "no options"
                raise KernelError(f"kernel '{self.kernel}' has no option '{name}', it has {known}")
            default, given = self._default(name), _frozen(value)
            if not _fits(default, given):
                raise KernelError(
                    f"kernel '{self.kernel}': option '{name}' is {_kind(given)} {value!r:.64}, {_told(default)} is "
                    "expected"
                )
        like = {name: _like(self._default(name), _frozen(value)) for name, value in changes.items()}
        return Options(self.kernel, self.values | like, self.counted)

    def check(self) -> None:
        """Whether what belongs together is equally long; apart from binding, which may happen one by one."""
        for name, one in self.counted.items():
            expected, found = len(self.constants[one.option]), len(self.constants[name])
            if found != expected:
                raise KernelError(
                    f"kernel '{self.kernel}': option '{name}' has {found} values, expected {expected}, one for each "
                    f"of '{one.option}'"
                )

    def _default(self, name: str) -> Any:  # noqa: ANN401 - any option
        return (self.counted[name].value,) if name in self.counted else self.values[name]

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
        shown = [name for name, value in self.values.items() if not isinstance(value, Derived)]
        return {
            name: value.tolist() if isinstance(value, np.ndarray | np.generic) else value
            for name, value in self.constants.items()
            if name in shown
        }

    def _constants(self) -> dict[str, Any]:
        given = {
            name: (value.value,) * len(self.values[value.option]) if isinstance(value, Each) else value
            for name, value in self.values.items()
            if not isinstance(value, Derived)
        }
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
    if isinstance(value, Derived | Each) or not isinstance(value, list | tuple):
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


def _fits(default: Any, value: Any) -> bool:  # noqa: ANN401 - any option
    expected, found = _kind(default), _kind(value)
    if expected == found == "tuple" and default:
        return all(_fits(default[0], item) for item in value)
    return expected == found or (expected, found) == ("float", "int")


def _told(default: object) -> str:
    is_filled = isinstance(default, tuple) and default
    return f"tuple of {_told(default[0])}" if is_filled else _kind(default)  # type: ignore[index]


def _kind(value: object) -> str:
    """What options are told apart by; empty for what is no option."""
    if isinstance(value, bool | np.bool_):
        return "bool"
    if isinstance(value, int | np.integer):
        return "int" if -(2**63) <= value < 2**63 else ""
    if isinstance(value, float | np.floating):
        return "float"
    if isinstance(value, np.ndarray):
        return "array" if value.dtype.kind in "buif" else ""
    if isinstance(value, tuple):
        return "tuple" if all(_kind(item) for item in value) else ""
    return ""
