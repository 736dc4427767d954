"""The entry of a kernel: the C callback that turns the views of a call into arrays, written as Python for Numba.

It trusts the views' pointers and nothing else: types, ranks and sizes are compared with the contract, because a mistake
in them would read memory that is not the caller's. That costs a few nanoseconds an axis.
"""

import ast
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from servekit.kernels.ports import ROWS, Port, symbols

if TYPE_CHECKING:
    from servekit.kernels.contract import Kernel

# Indices of 8-byte fields; `servekit/guide/kernel-abi.md` has the table.
TENSOR_FIELDS: Final = 19
CALL_FIELDS: Final = 7
DATA, DTYPE, RANK, DIMS, STRIDES = 0, 1, 2, 3, 11
SCRATCH_ALIGNMENT: Final = 64
NAME: Final = "entry"


def text(kernel: "Kernel", function: str) -> str:
    """Source of the function `entry`, which calls the compiled `function`."""
    inputs, outputs = list(kernel.batch_inputs.values()), list(kernel.batch_outputs.values())
    known = {ROWS}
    lines = [
        f"def {NAME}(call):",
        f"    head = carray(call, {CALL_FIELDS})",
        f"    if head[1] != {len(inputs)} or head[2] != {len(outputs)}:",
        "        return 0",
        "    rows = head[3]",
        f"    views = carray(pointer(head[0]), ({len(inputs) + len(outputs)}, {TENSOR_FIELDS}), np.int64)",
    ]
    for index, port in enumerate(inputs):
        lines += _indented([*_checks(index, port, known), *_input(index, port)])
    for index, port in enumerate(outputs, len(inputs)):
        lines += _indented([*_checks(index, port, known), *_output(index, port)])
    lines += _indented(_scratch(list(kernel.scratch.values())))
    lines += _indented(_calls(kernel, function))
    return "\n".join(lines)


def _checks(index: int, port: Port, known: set[str]) -> Iterable[str]:
    wrong = [f"views[{index}, {DTYPE}] != {port.element.onnx}", f"views[{index}, {RANK}] != {len(port.shape)}"]
    yield f"if {' or '.join(wrong)}:"
    yield "    return 0"
    for axis, length in enumerate(port.shape):
        if isinstance(length, str) and length.isidentifier() and length not in known:
            known.add(length)
            yield f"{_sized(length)} = views[{index}, {DIMS + axis}]"
        else:
            yield f"if views[{index}, {DIMS + axis}] != max({_sized(length)}, 0):"
            yield "    return 0"


def _input(index: int, port: Port) -> Iterable[str]:
    """A view of contiguous values; a copy of others, since loops over known strides are several times as fast."""
    axes, dtype = range(len(port.shape)), f"np.{port.element.numpy.name}"
    stride, contiguous = str(port.element.numpy.itemsize), []
    for axis in reversed(axes):
        contiguous.append(f"views[{index}, {STRIDES + axis}] == {stride}")
        stride += f" * views[{index}, {DIMS + axis}]"
    dims = _tuple(f"views[{index}, {DIMS + axis}]" for axis in axes)
    strides = _tuple(f"views[{index}, {STRIDES + axis}]" for axis in axes)
    yield f"if {' and '.join(contiguous)}:"
    yield f"    array_{port.name} = carray(pointer(views[{index}, {DATA}]), {dims}, {dtype})"
    yield "else:"
    yield f"    first_{port.name} = carray(pointer(views[{index}, {DATA}]), (1,), {dtype})"
    yield f"    array_{port.name} = as_strided(first_{port.name}, {dims}, {strides}).copy()"


def _output(index: int, port: Port) -> Iterable[str]:
    dims = _tuple(f"views[{index}, {DIMS + axis}]" for axis in range(len(port.shape)))
    yield f"array_{port.name} = carray(pointer(views[{index}, {DATA}]), {dims}, np.{port.element.numpy.name})"


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
