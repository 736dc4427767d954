"""What is loaded while the configuration is read."""

import pytest

from servekit.cli import serving


@pytest.mark.parametrize(
    ("file", "arguments", "is_loaded"),
    [
        ("model.yaml", (), True),
        ("photos/model.yaml", (), True),
        ("pipeline.py", ("--allow-code",), True),
        ("photos/pipeline.py", ("--allow-code",), True),
        # It would not run.
        ("pipeline.py", (), False),
        ("model.onnx", ("--allow-code",), False),
        ("photos/notes/model.yaml", (), False),
    ],
)
def test_what_compiles_is_loaded_ahead_where_pipelines_are_seen(tmp_path, monkeypatch, file, arguments, is_loaded):
    loaded = []
    monkeypatch.setattr(serving, "import_module", loaded.append)
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).touch()
    serving._look_ahead(["serve", str(tmp_path), "--http-port", "0", *arguments])
    assert loaded == (["servekit.pipelines.starting", "numba"] if is_loaded else [])
