"""The stub says what the extension has, no more and no less."""

import ast
from pathlib import Path

import pytest

from servekit import _native

STUB = Path(__file__).parents[2] / "servekit" / "_native.pyi"


def public(names):
    return {name for name in names if not name.startswith("_")}


def test_the_stub_names_what_the_extension_has():
    tree = ast.parse(STUB.read_text())
    declared = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    assert declared == public(dir(_native))


def test_the_stub_names_every_method_of_the_server():
    tree = ast.parse(STUB.read_text())
    server = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Server")
    declared = {node.name for node in server.body if isinstance(node, ast.FunctionDef)}
    assert declared == public(_native.Server.__dict__)


def test_only_start_makes_a_server():
    with pytest.raises(TypeError):
        _native.Server()
