"""Words that may not appear, or only in one place."""

import re
from pathlib import Path

import pytest

from tests.unit.tree.sources import NATIVE, ROOT, code_of, files, is_rust_test, named, python_names

HERE = Path(__file__).parent
# Queues without a bound, each with the reason why nobody outside can fill it.
QUEUES_ARGUED = {"servekit/server.py": "events of the process's own life: ready, a signal, drained, broken"}
NAMES_BANNED = {"tmp", "data2", "cfg", "mgr", "res"}
# In Rust `cfg` is also a word of the language.
RUST_NAMES_BANNED = re.compile(r"\b(?:tmp|data2|mgr|res|cfg(?!\s*!?\())\b")
METRIC_NAME = re.compile(
    r"""["'](?:nv_inference|nv_cpu|nv_model|nv_gpu|servekit_(?:\w+_(?:total|seconds|bytes|rows|requests|info)|connections)\b)"""
)


def holding(pattern: str, paths: list[Path]) -> list[str]:
    """`file:line` of every match in code."""
    matches = []
    for path in paths:
        for number, line in enumerate(code_of(path).splitlines(), 1):
            if re.search(pattern, line):
                matches.append(f"{named(path)}:{number}")
    return matches


def everything() -> list[Path]:
    return [path for path in files(".rs", ".py", ".pyi", ".proto", ".toml", ".yaml") if path.parent != HERE]


def test_unfinished_work_names_its_issue():
    marks = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b(?!\(#\d+\))|\btodo!|\bunimplemented!|NotImplementedError")
    assert [named(path) for path in everything() if marks.search(path.read_text())] == []


def test_no_test_waits_by_sleeping():
    python = [path for path in files(".py", under=ROOT / "tests") if path.parent != HERE]
    rust = [path for path in files(".rs", under=NATIVE) if is_rust_test(path)]
    assert holding(r"\bsleep\(", python + rust) == []
    for path in files(".rs", under=NATIVE):
        _, _, inline_tests = code_of(path).partition("#[cfg(test)]")
        assert "sleep(" not in inline_tests, named(path)


def test_nothing_is_switched_off_for_good():
    python = [path for path in files(".py", under=ROOT / "tests") if path.parent != HERE]
    assert holding(r"mark\.(?:skip|xfail)\b", python) == []
    assert holding(r"#\[ignore", files(".rs", under=NATIVE)) == []


def test_everything_has_a_bound():
    assert holding(r"\bunbounded\w*|\bmpsc::channel\b", files(".rs", under=NATIVE)) == []
    python = [path for path in files(".py", under=ROOT / "servekit") if named(path) not in QUEUES_ARGUED]
    assert holding(r"\bSimpleQueue\b|\bQueue\(\)", python) == []


def test_only_the_engine_is_unsafe():
    outside = [path for path in files(".rs", under=NATIVE) if path.relative_to(NATIVE).parts[0] != "engine"]
    assert holding(r"\bunsafe\b", outside) == []


def test_crates_that_need_no_unsafe_forbid_it():
    roots = [path for path in NATIVE.glob("*/src/lib.rs") if path.parts[-3] not in {"engine", "python"}]
    assert [named(path) for path in roots if "#![forbid(unsafe_code)]" not in path.read_text()] == []


def test_no_file_excuses_itself_from_arguing_unsafe_code():
    assert holding(r"allow\(.*undocumented_unsafe_blocks", files(".rs", under=NATIVE)) == []
    for path in files(".rs", under=NATIVE / "engine"):
        blocks = len(re.findall(r"\bunsafe\s*(?:\{|impl\b)", code_of(path)))
        assert path.read_text().count("SAFETY:") >= blocks, named(path)


def test_python_is_left_in_one_place():
    leaving = [path for path in files(".rs", under=NATIVE / "python") if re.search(r"\.detach\(", code_of(path))]
    assert len(leaving) <= 1, [named(path) for path in leaving]


def test_only_one_crate_names_python():
    outside = [path for path in files(".rs", under=NATIVE) if path.relative_to(NATIVE).parts[0] != "python"]
    assert holding(r"\bpyo3\b", outside) == []


def test_metric_names_stand_in_one_file():
    sources = files(".py", under=ROOT / "servekit") + files(".rs", under=NATIVE)
    naming = [named(path) for path in sources if METRIC_NAME.search(path.read_text())]
    assert naming in ([], ["servekit/metrics.py"])


@pytest.mark.parametrize("path", files(".py", under=ROOT), ids=named)
def test_names_are_words_in_python(path):
    assert python_names(path) & NAMES_BANNED == set()


def test_names_are_words_in_rust():
    assert holding(RUST_NAMES_BANNED.pattern, files(".rs", under=NATIVE)) == []
