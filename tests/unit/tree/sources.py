"""The files of the repository, and what can be read off them without running anything."""

import ast
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
NATIVE = ROOT / "native"
WRITTEN_BY_TOOLS = {"target", "__pycache__", "work", "build", "dist"}

# Comments, raw strings, strings and characters, in this order. A lifetime such as 'a has no closing quote.
RUST_TEXT = re.compile(
    r"""//[^\n]*|/\*.*?\*/|\bb?c?r(#*)".*?"\1|\bb?c?"(?:\\.|[^"\\])*"|"(?:\\.|[^"\\])*"|'(?:\\(?:x..|u\{[^}]*\}|.)|[^'\\\n])'""",
    re.DOTALL,
)


@dataclass(frozen=True)
class Function:
    """One function and how many lines it takes."""

    name: str
    """`path:function`, the path from the root of the repository."""
    lines: int


def named(path: Path) -> str:
    """The path as it is written in messages and lists."""
    return path.relative_to(ROOT).as_posix()


def files(*suffixes: str, under: Path = ROOT) -> list[Path]:
    """Files that people wrote, by suffix."""
    found = []
    for folder, folders, names in os.walk(under):
        # Not entered: other tests make and remove files in there meanwhile.
        folders[:] = [name for name in folders if name not in WRITTEN_BY_TOOLS and not name.startswith(".")]
        found += [Path(folder) / name for name in names if Path(name).suffix in suffixes]
    return sorted(found)


def blanked(source: str) -> str:
    """Rust with comments, strings and characters replaced by spaces; every line stays where it is."""
    return RUST_TEXT.sub(lambda text: re.sub(r"[^\n]", " ", text[0]), source)


def code_of(path: Path) -> str:
    """Rust without its texts; other files as they are."""
    source = path.read_text()
    return blanked(source) if path.suffix == ".rs" else source


def is_rust_test(path: Path) -> bool:
    """True for files that hold only tests."""
    return "tests" in path.parts or path.name == "tests.rs" or path.name.endswith("_tests.rs")


def rust_functions(path: Path) -> Iterator[Function]:
    """Functions that have a body, nested ones too."""
    code = blanked(path.read_text())
    for found in re.finditer(r"\bfn\s+(\w+)", code):
        start = body_start(code, found.end())
        if start is not None:
            lines = code.count("\n", found.start(), body_end(code, start)) + 1
            yield Function(f"{named(path)}:{found[1]}", lines)


def body_start(code: str, at: int) -> int | None:
    """Where the body opens; None where the signature ends in a semicolon."""
    depth = 0
    for index in range(at, len(code)):
        character = code[index]
        depth += (character in "([") - (character in ")]")
        if depth <= 0 and character in "{;":
            return index if character == "{" else None
    return None


def body_end(code: str, at: int) -> int:
    """Where the brace that opens at `at` closes."""
    depth = 0
    for index in range(at, len(code)):
        depth += (code[index] == "{") - (code[index] == "}")
        if depth == 0:
            return index
    return len(code)


def python_functions(path: Path) -> Iterator[Function]:
    """Functions and methods, nested ones too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Function(f"{named(path)}:{node.name}", (node.end_lineno or node.lineno) - node.lineno + 1)


def python_names(path: Path) -> set[str]:
    """Every name that the file itself gives to something."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.id if isinstance(node, ast.Name) else node.attr)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
    return names
