"""The ratchet on the length of functions."""

from tests.unit.tree.sources import Function, files, python_functions, rust_functions

LINES_MAX = 70

# Longer ones, each with the reason why it reads better whole. An entry that is no longer needed fails the test.
ARGUED: dict[str, str] = {}


def functions() -> list[Function]:
    rust = [function for path in files(".rs") for function in rust_functions(path)]
    return rust + [function for path in files(".py") for function in python_functions(path)]


def test_no_function_grows_long():
    long = {function.name: function.lines for function in functions() if function.lines > LINES_MAX}
    assert {name: lines for name, lines in long.items() if name not in ARGUED} == {}
    assert [name for name in ARGUED if name not in long] == [], "no longer long: remove the exception"


def test_the_reader_of_functions_sees_rust_as_the_compiler_does(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.unit.tree.sources.ROOT", tmp_path)
    source = tmp_path / "sample.rs"
    source.write_text(
        "trait Open { fn declared(&self, rows: [u8; 4]); }\n"
        "fn texts<'a>(name: &'a str) -> char {\n"
        '    let brace = "{ // not a comment";\n'
        '    let raw = r#"fn hidden() { "#; // fn commented() {\n'
        "    '{'\n"
        "}\n"
        "fn short() {}\n"
    )
    assert list(rust_functions(source)) == [Function("sample.rs:texts", 5), Function("sample.rs:short", 1)]
