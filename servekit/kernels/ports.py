"""What a kernel takes and fills: names, element types and shapes whose axes may be symbols or arithmetic on symbols."""

import ast
import operator
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from servekit.errors import LoadError

Array = NDArray[Any]
RANK_MAX: Final = 8
ROWS: Final = "rows"
_OPERATIONS: Final[dict[type[ast.operator], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}


class KernelError(LoadError):
    """A kernel breaks its contract, or does not fit where it is put."""


class Element(NamedTuple):
    """One element type: its number in ONNX (`TensorProto.DataType`), and what the arrays of a kernel hold."""

    onnx: int
    numpy: np.dtype[Any]


# NumPy has no bfloat16 and Numba does not compute with float16: kernels see the bits of both.
ELEMENTS: Final[dict[str, Element]] = {
    "bool": Element(9, np.dtype(np.bool_)),
    "uint8": Element(2, np.dtype(np.uint8)),
    "uint16": Element(4, np.dtype(np.uint16)),
    "uint32": Element(12, np.dtype(np.uint32)),
    "uint64": Element(13, np.dtype(np.uint64)),
    "int8": Element(3, np.dtype(np.int8)),
    "int16": Element(5, np.dtype(np.int16)),
    "int32": Element(6, np.dtype(np.int32)),
    "int64": Element(7, np.dtype(np.int64)),
    "float16": Element(10, np.dtype(np.uint16)),
    "bfloat16": Element(16, np.dtype(np.uint16)),
    "float32": Element(1, np.dtype(np.float32)),
    "float64": Element(11, np.dtype(np.float64)),
}


class Port(NamedTuple):
    """One tensor: an axis is a size, a symbol (`"height"`), or arithmetic on symbols (`"(height - 3) // 2 + 1"`)."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    @property
    def element(self) -> Element:
        """Of the tensor's values."""
        return ELEMENTS[self.dtype]

    def __str__(self) -> str:
        return f"{self.dtype} [{', '.join(map(str, self.shape))}]"

    def described(self) -> dict[str, Any]:
        """As the native side reads it."""
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}


def declared(kernel: str, ports: Mapping[str, tuple[str, tuple[int | str, ...]]]) -> dict[str, Port]:
    """Ports as the decorator was given them, looked at once."""
    found = {}
    for name, (dtype, shape) in ports.items():
        if not name.isidentifier():
            raise KernelError(f"kernel '{kernel}': {name!r} is no name that a parameter can have; rename it")
        if dtype not in ELEMENTS:
            raise KernelError(f"kernel '{kernel}': '{name}' is {dtype!r}, allowed are {', '.join(ELEMENTS)}")
        if len(shape) > RANK_MAX:
            raise KernelError(f"kernel '{kernel}': '{name}' has {len(shape)} axes, up to {RANK_MAX} are allowed")
        for axis in shape:
            if isinstance(axis, int) and axis < 0:
                raise KernelError(f"kernel '{kernel}': '{name}' has an axis of {axis}; a size is 0 or more")
            symbols(axis)
        found[name] = Port(name, dtype, tuple(shape))
    return found


# Arithmetic on axes --------------------------------------------------------------------------------------------------


def symbols(axis: int | str) -> set[str]:
    """The names that an axis depends on."""
    if isinstance(axis, int):
        return set()
    return {node.id for node in ast.walk(_parsed(axis)) if isinstance(node, ast.Name)}


def substituted(axis: int | str, known: Mapping[str, int | str]) -> int | str:
    """The axis with symbols replaced; what has become a constant is computed."""
    if isinstance(axis, int):
        return axis
    value = _folded(_parsed(axis), known)
    return value if isinstance(value, int) else ast.unparse(value)


def size(axis: int | str, known: Mapping[str, int]) -> int:
    """The axis as a number, all of its symbols being known; less than nothing counts as nothing."""
    value = substituted(axis, known)
    if not isinstance(value, int):
        raise KernelError(f"axis '{axis}' has symbols without a size: {', '.join(sorted(symbols(value)))}")
    return max(value, 0)


def sizes(ports: Mapping[str, Port], arrays: Mapping[str, Array]) -> dict[str, int]:
    """What the symbols stand for in these arrays, which fit the ports, or an error that names expected and found."""
    known: dict[str, int] = {}
    for name, port in ports.items():
        array = arrays[name]
        fits = array.dtype == port.element.numpy and array.ndim == len(port.shape)
        for axis, found in zip(port.shape, array.shape, strict=False):
            expected = known.setdefault(axis, found) if isinstance(axis, str) else axis
            fits = fits and expected == found
        if not fits:
            raise KernelError(f"'{name}' is {array.dtype} {list(array.shape)}, expected {port} with {known}")
    return known


def _folded(node: ast.expr, known: Mapping[str, int | str]) -> int | ast.expr:
    if isinstance(node, ast.Constant):
        return int(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.Name):
        value = known.get(node.id, node)
        if isinstance(value, str):
            return _folded(_parsed(value), {})
        return value
    if not isinstance(node, ast.BinOp):
        raise KernelError("an axis is arithmetic on sizes and symbols")
    left, right = _folded(node.left, known), _folded(node.right, known)
    if right == 0 and isinstance(node.op, ast.FloorDiv):
        raise KernelError(f"axis '{ast.unparse(node)}' divides by 0; give the option another value")
    if isinstance(left, int) and isinstance(right, int):
        return int(_OPERATIONS[type(node.op)](left, right))
    return ast.BinOp(_node(left), node.op, _node(right))


def _node(value: int | ast.expr) -> ast.expr:
    return ast.Constant(value) if isinstance(value, int) else value


def _parsed(axis: str) -> ast.expr:
    """The expression, if it is made of names, whole numbers and + - * // alone."""
    try:
        tree = ast.parse(axis, mode="eval").body
    except SyntaxError:
        raise KernelError(
            f"axis {axis!r} is neither a size nor a symbol; write 224, 'height' or 'height // 2'"
        ) from None
    for node in ast.walk(tree):
        is_number = isinstance(node, ast.Constant) and type(node.value) is int
        is_operation = isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS
        if not (is_number or is_operation or isinstance(node, ast.Name | ast.operator | ast.expr_context)):
            raise KernelError(
                f"axis {axis!r} holds more than names, whole numbers, + - * and //; compute it in an option"
            )
    return tree
