"""A kernel's source, read once: what it may contain, which messages it refuses rows with, what it calls.

What is compiled differs from what was written in two places. `raise ValueError("text")` refuses the row, and becomes
the return of the message's number; calling another kernel passes on its number. Both cost nothing while all is well,
and, unlike an exception in compiled code, lose no memory when they happen, which they do as often as clients like.
"""

import ast
import inspect
import linecache
import sys
import textwrap
import types
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from servekit.kernels.ports import KernelError

MESSAGE_BYTES_MAX: Final = 160
# Modules whose functions Numba knows; all else is found by name, so that what it was compiled from can be told.
_MODULES: Final = ("numpy", "math")


def tree_of(function: Callable[..., Any], name: str) -> ast.FunctionDef:
    """The function as it is written, without decorators, annotations and documentation, under another name."""
    if not isinstance(function, types.FunctionType):
        raise KernelError(f"a kernel is a function, found a {type(function).__name__}; write it with def")
    tree = ast.parse(textwrap.dedent(_text_of(function))).body[0]
    if not isinstance(tree, ast.FunctionDef):
        raise KernelError(f"kernel '{function.__name__}' is no plain function; write it with def")
    tree.name, tree.decorator_list, tree.returns, tree.type_comment = name, [], None, None
    given = [*tree.args.posonlyargs, *tree.args.args]
    tree.args = ast.arguments([], [ast.arg(one.arg) for one in given], None, [], [], None, tree.args.defaults)
    if ast.get_docstring(tree) is not None:
        tree.body = tree.body[1:] or [ast.Pass()]
    return tree


def _text_of(function: types.FunctionType) -> str:
    if function.__code__.co_filename == "<string>" and "-c" in sys.orig_argv:
        # Of `python -c` the program is found on the command line and nowhere else.
        program = sys.orig_argv[sys.orig_argv.index("-c") + 1]
        linecache.cache["<string>"] = (len(program), None, program.splitlines(keepends=True), "<string>")
        return "".join(inspect.getblock(linecache.getlines("<string>")[function.__code__.co_firstlineno - 1 :]))
    try:
        return inspect.getsource(function)
    except OSError:
        raise KernelError(f"kernel '{function.__name__}': its source cannot be read; write it into a file") from None


def referenced(function: types.FunctionType) -> dict[str, Any]:
    """What the names in the function stand for outside of it."""
    found = inspect.getclosurevars(function)
    return {**found.globals, **found.nonlocals}


def kind_of(value: object) -> str:
    """What a kernel may name: "module", "function", "constant", or "known" for what NumPy and Python bring; else ""."""
    from servekit.kernels.contract import Kernel

    if isinstance(value, Kernel):
        return "kernel"
    if isinstance(value, types.ModuleType):
        return "module" if value.__name__.partition(".")[0] in _MODULES else ""
    if isinstance(value, bool | int | float | tuple | np.ndarray | np.generic):
        return "constant"
    if str(getattr(value, "__module__", "")).partition(".")[0] in (*_MODULES, "builtins") or isinstance(
        value, np.ufunc
    ):
        return "known"
    # What Numba's own decorators return holds the function that it was made from.
    return "function" if isinstance(getattr(value, "py_func", value), types.FunctionType) else ""


def refusing(kernel: str, tree: ast.FunctionDef, outside: dict[str, Any]) -> list[str]:
    """Turns refusals and calls of kernels into numbers returned, in place; the messages that these stand for."""
    transformer = _Refusing(kernel, outside)
    body = ast.Module(tree.body, [])
    transformer.generic_visit(body)
    tree.body = [*body.body, ast.Return(ast.Constant(0))]
    ast.fix_missing_locations(tree)
    return transformer.messages


class _Refusing(ast.NodeTransformer):
    """Replaces statements; a function so changed returns 0 at its end."""

    def __init__(self, kernel: str, outside: dict[str, Any]) -> None:
        self.kernel = kernel
        self.messages: list[str] = []
        self._outside = outside
        # Where the messages of each kernel that is called begin.
        self._offsets: dict[int, int] = {}

    def visit_Raise(self, node: ast.Raise) -> ast.stmt:
        match node.exc:
            case ast.Call(func=ast.Name(id="ValueError"), args=[ast.Constant(value=str(text))], keywords=[]):
                return ast.Return(ast.Constant(self._number(text)))
        raise self._error(node, 'refuses a row otherwise than by raise ValueError("constant text"); write that')

    def visit_Return(self, node: ast.Return) -> ast.stmt:
        if node.value is not None:
            raise self._error(node, "returns a value; write it into an output")
        return ast.Return(ast.Constant(0))

    def visit_Expr(self, node: ast.Expr) -> ast.stmt | list[ast.stmt]:
        called = self._called(node.value)
        if called is None:
            return self.generic_visit(node)  # type: ignore[return-value]
        if not called.refusals:
            return node
        offset = self._offsets.setdefault(id(called), len(self.messages))
        if offset == len(self.messages):
            self.messages += called.refusals
        fault = ast.Name("fault_of_call", ast.Load())
        passed_on = ast.Return(ast.BinOp(fault, ast.Add(), ast.Constant(offset)))
        return [
            ast.Assign([ast.Name("fault_of_call", ast.Store())], node.value),
            ast.If(ast.Compare(fault, [ast.NotEq()], [ast.Constant(0)]), [passed_on], []),
        ]

    def visit_Call(self, node: ast.Call) -> ast.expr:
        if self._called(node) is not None:
            raise self._error(node, "uses the value of a call of a kernel, which has none; call it as a statement")
        return self.generic_visit(node)  # type: ignore[return-value]

    def visit_Try(self, node: ast.Try) -> ast.stmt:
        raise self._error(node, "holds a try; test the values instead")

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.stmt:
        raise self._error(node, f"holds the function '{node.name}'; write it beside the kernel")

    def _called(self, node: ast.expr) -> Any:  # noqa: ANN401 - a Kernel, which this module does not know
        called = (
            self._outside.get(node.func.id) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None
        )
        return called if kind_of(called) == "kernel" else None

    def _number(self, text: str) -> int:
        if not text or len(text.encode()) > MESSAGE_BYTES_MAX:
            found = f"a message has {len(text.encode())} bytes"
            raise KernelError(f"kernel '{self.kernel}': {found}, allowed are 1 to {MESSAGE_BYTES_MAX}; shorten it")
        if text not in self.messages:
            self.messages.append(text)
        return self.messages.index(text) + 1

    def _error(self, node: ast.AST, text: str) -> KernelError:
        return KernelError(f"kernel '{self.kernel}', line {getattr(node, 'lineno', 0)}: it {text}")
