"""Everything that one kernel is compiled from, as one text: what it calls, itself, and its entry from C."""

import ast
import hashlib
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from servekit import __version__
from servekit.kernels import entry, intrinsics, source
from servekit.kernels.ports import KernelError

if TYPE_CHECKING:
    from servekit.kernels.contract import Kernel

ABI_VERSION: Final = 1


@dataclass(frozen=True)
class Section:
    """One function of the text, with what its names stand for."""

    name: str
    text: str
    constants: Mapping[str, Any]
    """Values of names: options, constants of the module, NumPy."""
    calls: Mapping[str, str]
    """Names of other sections, by the names they are called by here."""
    defaults: tuple[Any, ...] = ()


@dataclass
class Program:
    """Sections in the order in which they need each other, the kernel's own last."""

    kernel: "Kernel"
    sections: list[Section] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    """What the kernel refuses rows with; numbers begin at 1."""
    _added: dict[int, str] = field(default_factory=dict)
    _underway: list[int] = field(default_factory=list)

    @staticmethod
    def of(kernel: "Kernel") -> "Program":
        """Reads the sources."""
        program = Program(kernel)
        program._add_kernel(kernel)
        return program

    @property
    def name(self) -> str:
        """Of the kernel's own section."""
        return self.sections[-1].name

    def text(self) -> str:
        """The file that is compiled; where it differs, so does something that matters."""
        versions = ", ".join(f"{package} {version(package)}" for package in ("numba", "llvmlite", "numpy"))
        lines = [
            f'"""Kernel {self.kernel.name}, written by servekit for Numba: ABI {ABI_VERSION}, {versions}.',
            "",
            f"Entry {hashlib.sha256(Path(intrinsics.__file__).read_bytes()).hexdigest()}.",
            f"Python {platform.python_version()}, servekit {__version__}, fastmath {self.kernel.fastmath}.",
            '"""',
        ]
        for section in self.sections:
            lines += ["", *_told(section), section.text]
        lines += ["", entry.text(self.kernel, self.name)]
        return "\n".join(lines) + "\n"

    def _add_kernel(self, kernel: "Kernel") -> str:
        if id(kernel) in self._added:
            return self._added[id(kernel)]
        # Of those that it calls too.
        kernel.check_options()
        name = self._named(kernel.name)
        tree = source.tree_of(kernel.py_func, name)
        stored = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        if stored & set(kernel.options):
            first = min(stored & set(kernel.options))
            raise KernelError(f"kernel '{kernel.name}' assigns to its option '{first}'; give the value another name")
        outside = self._outside(kernel.py_func, tree)
        self.messages = source.refusing(kernel.name, tree, outside)
        return self._add(id(kernel), Section(name, ast.unparse(tree), kernel.options, {}), outside)

    def _add_helper(self, function: Callable[..., Any]) -> str:
        plain = getattr(function, "py_func", function)
        if id(plain) in self._added:
            return self._added[id(plain)]
        if plain.__kwdefaults__ or plain.__code__.co_kwonlyargcount:
            raise KernelError(f"'{plain.__name__}', which '{self.kernel.name}' calls, has keyword-only parameters")
        name = self._named(plain.__name__)
        tree = source.tree_of(plain, name)
        outside = self._outside(plain, tree)
        defaults = plain.__defaults__ or ()
        tree.args.defaults = []
        return self._add(
            id(plain), Section(name, ast.unparse(ast.fix_missing_locations(tree)), {}, {}, defaults), outside
        )

    def _named(self, name: str) -> str:
        """Not the name of any section so far, begun or ended."""
        return f"{name}_{len(self._added) + len(self._underway)}"

    def _outside(self, function: Any, tree: ast.FunctionDef) -> dict[str, Any]:  # noqa: ANN401 - a function's globals
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        return {name: value for name, value in source.referenced(function).items() if name in used}

    def _add(self, identity: int, section: Section, outside: Mapping[str, Any]) -> str:
        if identity in self._underway:
            raise KernelError(
                f"kernel '{self.kernel.name}': '{section.name.rpartition('_')[0]}' calls itself; write a loop"
            )
        self._underway.append(identity)
        constants, calls = dict(section.constants), {}
        for name, value in outside.items():
            match source.kind_of(value):
                case "kernel":
                    before, self.messages = self.messages, []
                    calls[name] = self._add_kernel(value)
                    self.messages = before
                case "function":
                    calls[name] = self._add_helper(value)
                case "":
                    raise KernelError(
                        f"kernel '{self.kernel.name}' uses '{name}', a {type(value).__name__}; numbers, tuples, "
                        "arrays, functions, kernels, numpy and math are allowed"
                    )
                case _:
                    constants[name] = value
        self._underway.pop()
        self._added[identity] = section.name
        self.sections.append(Section(section.name, section.text, constants, calls, section.defaults))
        return section.name


def _told(section: Section) -> list[str]:
    """What the names of a section stand for, as comments: a change of any of them is a change of the text."""
    lines = [f"# {name} is {_shown(value)}" for name, value in sorted(section.constants.items())]
    lines += [f"# {name} is {called} of this file" for name, called in sorted(section.calls.items())]
    return lines + ([f"# defaults are {section.defaults}"] if section.defaults else [])


def _shown(value: Any) -> str:  # noqa: ANN401 - any constant
    if isinstance(value, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return f"{value.dtype} {value.shape} with SHA-256 {digest}"
    name = getattr(value, "__name__", "")
    # What has an address in its text differs in each process.
    return f"{getattr(value, '__module__', '')}.{name}" if name else repr(value)
