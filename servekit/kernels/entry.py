"""The entry of a kernel: the C callback that turns the views of a call into arrays, written as Python for Numba.

It trusts the views' pointers and nothing else: types, ranks and sizes are compared with the contract, because a mistake
in them would read memory that is not the caller's. That costs a few nanoseconds an axis.
"""

import ast
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from servekit.kernels.intrinsics import AXES, CALL_FIELDS, DATA, DIMS, IS_ANY, IS_ROWS, IS_SAME, TENSOR_FIELDS
from servekit.kernels.ports import ROWS, Port, symbols

if TYPE_CHECKING:
    from servekit.kernels.contract import Kernel

SCRATCH_ALIGNMENT: Final = 64
NAME: Final = "entry"


def text(kernel: "Kernel", function: str) -> str:
    """Source of the function `entry`, which calls the compiled `function`."""
    inputs, outputs = list(kernel.batch_inputs.values()), list(kernel.batch_outputs.values())
    lines = [
        f"# expected is {expected(kernel)}",
        f"def {NAME}(call):",
        f"    head = carray(call, {CALL_FIELDS})",
        f"    if head[1] != {len(inputs)} or head[2] != {len(outputs)}:",
        "        return 0",
        "    rows = head[3]",
        f"    views = carray(pointer(head[0]), ({len(inputs) + len(outputs)}, {TENSOR_FIELDS}), np.int64)",
        "    if not fits(views, rows, expected):",
        "        return 0",
    ]
    lines += _indented(_sizes(kernel))
    for index, port in enumerate(inputs):
        lines += _indented(_input(index, port))
    for index, port in enumerate(outputs, len(inputs)):
        lines += _indented(_output(index, port))
    lines += _indented(_scratch(list(kernel.scratch.values())))
    lines += _indented(_calls(kernel, function))
    return "\n".join(lines)


def expected(kernel: "Kernel") -> list[list[int]]:
    """A row a view: the type, the rank, and what each axis has to be; arithmetic is looked at by the entry itself."""
    table, seen = [], {ROWS: IS_ROWS}
    for index, port in enumerate([*kernel.batch_inputs.values(), *kernel.batch_outputs.values()]):
        axes = [IS_ANY] * AXES
        for place, axis in enumerate(port.shape):
            if isinstance(axis, int):
                axes[place] = axis
            elif axis.isidentifier():
                axes[place] = seen.get(axis, IS_ANY)
                seen.setdefault(axis, IS_SAME - (index * AXES + place))
        table.append([port.element.onnx, len(port.shape), *axes])
    return table


def _sizes(kernel: "Kernel") -> Iterable[str]:
    """Symbols that arithmetic needs, and the axes that are arithmetic."""
    ports = [*kernel.batch_inputs.values(), *kernel.batch_outputs.values()]
    computed = [axis for port in ports for axis in port.shape if isinstance(axis, str) and not axis.isidentifier()]
    needed = set().union(
        *map(symbols, computed), *(symbols(axis) for one in kernel.scratch.values() for axis in one.shape)
    )
    for index, port in enumerate(ports):
        for place, axis in enumerate(port.shape):
            if axis in needed - {ROWS}:
                needed -= {str(axis)}
                yield f"size_{axis} = views[{index}, {DIMS + place}]"
    for index, port in enumerate(ports):
        for place, axis in enumerate(port.shape):
            if axis in computed:
                yield f"if views[{index}, {DIMS + place}] != max({_sized(axis)}, 0):"
                yield "    return 0"


def _input(index: int, port: Port) -> Iterable[str]:
    """A view of contiguous values; a copy of others, since loops over known strides are several times as fast."""
    dims = _dims(index, port)
    dtype, item_bytes = f"np.{port.element.numpy.name}", port.element.numpy.itemsize
    yield f"if contiguous(views, {index}, {item_bytes}):"
    yield f"    array_{port.name} = carray(pointer(views[{index}, {DATA}]), {dims}, {dtype})"
    yield "else:"
    yield f"    array_{port.name} = np.empty({dims}, {dtype})"
    yield f"    gather(views, {index}, {item_bytes}, array_{port.name}.ctypes.data)"


def _output(index: int, port: Port) -> Iterable[str]:
    dims = _dims(index, port)
    yield f"array_{port.name} = carray(pointer(views[{index}, {DATA}]), {dims}, np.{port.element.numpy.name})"


def _dims(index: int, port: Port) -> str:
    return _tuple(f"views[{index}, {DIMS + axis}]" for axis in range(len(port.shape)))


def _scratch(ports: list[Port]) -> Iterable[str]:
    """Arrays one behind the other, each where a cache line begins."""
    if not ports:
        return
    yield "used = 0"
    for port in ports:
        dims = _tuple(f"max({_sized(length)}, 0)" for length in port.shape)
        yield f"dims_{port.name} = {dims}"
        yield f"array_{port.name} = carray(pointer(head[4] + used), dims_{port.name}, np.{port.element.numpy.name})"
        yield f"bytes_{port.name} = {port.element.numpy.itemsize}"
        yield f"for length in dims_{port.name}:"
        yield f"    bytes_{port.name} *= length"
        yield f"used += (bytes_{port.name} + {SCRATCH_ALIGNMENT - 1}) // {SCRATCH_ALIGNMENT} * {SCRATCH_ALIGNMENT}"
    yield "if used > head[5]:"
    yield "    return 0"


def _calls(kernel: "Kernel", function: str) -> Iterable[str]:
    tensors = [f"array_{name}" for name in (*kernel.inputs, *kernel.outputs)]
    scratch = [f"array_{name}" for name in kernel.scratch]
    if kernel.per == "batch":
        yield f"return 1 if guarded({function}, {_tuple([*tensors, *scratch])}) == 0 else 0"
        return
    yield "faults = carray(pointer(head[6]), (rows,), np.int64)"
    yield "for row in range(rows):"
    yield f"    fault = guarded({function}, {_tuple([*[f'{tensor}[row]' for tensor in tensors], *scratch])})"
    yield f"    faults[row] = fault if fault >= 0 else {len(kernel.messages)}"
    yield "return 1"


def _sized(axis: int | str) -> str:
    """The axis over variables whose names cannot meet others."""
    if isinstance(axis, int):
        return str(axis)
    tree = ast.parse(axis, mode="eval")
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id != ROWS:
            node.id = f"size_{node.id}"
    return ast.unparse(tree) if symbols(axis) else axis


def _tuple(items: Iterable[str]) -> str:
    return f"({', '.join(items)},)"


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]
