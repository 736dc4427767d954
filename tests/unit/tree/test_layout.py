"""The tree is the architecture: a reader guesses contents from a path."""

import tomllib

from tests.unit.tree.sources import NATIVE, ROOT, files, named

TOP_LEVEL = {
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "configs",
    "loadtests",
    "native",
    "protos",
    "pyproject.toml",
    "servekit",
    "tests",
}
WRITTEN_BY_TOOLS = {"build", "dist", "servekit.egg-info"}
NAMES_THAT_SAY_NOTHING = {"util", "utils", "helper", "helpers", "common", "misc", "tools", "base"}
LINES_MAX = 600

# Who may know whom inside the workspace. A crate appears with the work that fills it.
ARROWS = {
    "core": set(),
    "wire": set(),
    "testing": {"core"},
    "stages": {"core"},
    "simulate": {"core"},
    "loadgen": {"wire"},
    "engine": {"stages", "core"},
    "server": {"core", "wire"},
    "python": {"server", "engine", "stages", "simulate", "loadgen"},
}
MAY_NOT_KNOW = {
    "core": {"mio", "ort", "pyo3", "tokio", "httparse"},
    "wire": {"mio", "ort", "pyo3", "tokio"},
    "testing": {"mio", "ort", "pyo3"},
    "stages": {"mio", "ort", "pyo3"},
    "simulate": {"mio", "ort", "pyo3"},
    "loadgen": {"ort", "pyo3"},
    "engine": {"mio", "pyo3", "httparse"},
    "server": {"ort", "pyo3", "tokio"},
    "python": {"mio", "ort"},
}


def manifest(crate: str) -> dict:
    return tomllib.loads((NATIVE / crate / "Cargo.toml").read_text())


def crates() -> list[str]:
    return tomllib.loads((NATIVE / "Cargo.toml").read_text())["workspace"]["members"]


def dependencies(crate: str, *tables: str) -> set[str]:
    described = manifest(crate)
    targets = [described, *described.get("target", {}).values()]
    return {name for target in targets for table in tables for name in target.get(table, {})}


def inside(names: set[str]) -> set[str]:
    return {name.removeprefix("servekit-") for name in names if name.startswith("servekit-")}


def test_the_top_level_is_fixed():
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")} - WRITTEN_BY_TOOLS
    assert found == TOP_LEVEL


def test_every_crate_is_one_that_the_design_names():
    assert set(crates()) <= set(ARROWS)
    assert {path.parent.name for path in NATIVE.glob("*/Cargo.toml")} == set(crates())


def test_arrows_between_crates_go_one_way():
    for crate in crates():
        assert inside(dependencies(crate, "dependencies", "build-dependencies")) <= ARROWS[crate], crate
        assert inside(dependencies(crate, "dev-dependencies")) <= ARROWS[crate] | {"testing"}, crate


def test_a_crate_knows_only_the_libraries_of_its_own_concern():
    for crate in crates():
        assert MAY_NOT_KNOW[crate].isdisjoint(dependencies(crate, "dependencies", "build-dependencies")), crate


def test_every_crate_obeys_the_lints_of_the_workspace():
    assert [crate for crate in crates() if manifest(crate).get("lints") != {"workspace": True}] == []


def test_a_panic_ends_its_request_and_not_the_process():
    assert tomllib.loads((NATIVE / "Cargo.toml").read_text())["profile"]["release"]["panic"] == "unwind"


def test_no_module_has_a_name_that_says_nothing():
    stems = {named(path): path.stem for path in files(".rs", ".py", ".pyi")}
    folders = {named(path.parent): path.parent.name for path in files(".rs", ".py")}
    assert [path for path, name in (stems | folders).items() if name in NAMES_THAT_SAY_NOTHING] == []


def test_no_file_grows_past_what_one_can_hold_in_mind():
    lengths = {named(path): path.read_text().count("\n") for path in files(".rs", ".py", ".pyi", ".proto")}
    assert {path: lines for path, lines in lengths.items() if lines > LINES_MAX} == {}
