import json
import re
from pathlib import Path

import pytest

from servekit import _native
from servekit.config import load
from servekit.config.crossing import config_json, model_settings, onnxruntime_library
from servekit.config.effective import Machine, resolve
from servekit.config.limits import PYTHON_ONLY, Limits
from servekit.config.schema import ModelSettings
from servekit.errors import ConfigError
from servekit.repository.model import Model

RUST_LIMITS = Path(__file__).parents[3] / "native" / "core" / "src" / "limits.rs"
SETTINGS = ModelSettings(name="tiny", batch_rows_max=8, links=True, mode="late", latency_targets_ms={1: 50})
MODEL = Model("tiny", "3", Path("/models/tiny.onnx"), 10, SETTINGS)


def crossed(flags=None):
    config = load(environment={}, flags=flags)
    machine = Machine(2**33, "physical memory", 4096, 80 * 2**20)
    return config_json(config, resolve(config.limits, machine, [MODEL]).limits, [MODEL])


def test_the_default_configuration_comes_back_unchanged():
    assert json.loads(_native.round_trip(crossed())) == json.loads(crossed())


def test_an_unknown_key_is_refused_over_there_too():
    changed = json.loads(crossed()) | {"surprise": 1}
    with pytest.raises(_native.ConfigError, match="surprise"):
        _native.round_trip(json.dumps(changed))


def test_both_sides_have_the_same_limits():
    native = set(re.findall(r"^    pub (\w+): (?:u64|Option<u64>),", RUST_LIMITS.read_text(), re.MULTILINE))
    assert set(Limits.model_fields) - PYTHON_ONLY == native
    assert set(json.loads(crossed())["limits"]) == native


def test_every_limit_crosses_as_a_whole_number():
    limits = json.loads(crossed())["limits"]
    missing = {key for key, value in limits.items() if value is None}
    assert missing == {"latency_target_ms", "arena_bytes_max", "run_ms_max"}, "these are known once a model is loaded"
    assert all(isinstance(value, int) for key, value in limits.items() if key not in missing)


def test_a_model_crosses_with_its_settings():
    assert json.loads(crossed())["models"] == [
        {
            "name": "tiny",
            "version": "3",
            "path": "/models/tiny.onnx",
            "execution": "auto",
            "batch_rows_max": 8,
            "batch_bytes_max": None,
            "queue_requests_max": None,
            "arena_bytes_max": None,
            "latency_target_ms": None,
            "latency_targets_ms": {"1": 50},
            "mode": "late",
            "trust_batching": None,
            "intra_op": None,
            "samples": [],
            "links": True,
            "required": False,
            "pipeline": None,
            "shared": None,
            "failed": None,
        }
    ]


def test_a_pipeline_crosses_as_the_process_that_serves_writes_it():
    written = json.loads(crossed())
    written["models"][0] |= {
        "pipeline": {"plan": "{}", "digest": "ab", "folder": "/models", "raw": True, "models": ["other"]}
    }
    written["models"][0] |= {"shared": "it is served twice", "failed": "no such stage"}
    assert json.loads(_native.round_trip(json.dumps(written))) == written


def test_batching_crosses_with_the_folder_it_means(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert json.loads(crossed({("batching", "mode"): "fail_fast"}))["batching"] == {
        "mode": "fail_fast",
        "trust_batching": False,
        "proof_seconds_max": 3.0,
        "warm_up_seconds_max": 2.0,
        "intra_op": None,
        "profiles": str(tmp_path / "servekit" / "profiles"),
        "server_timing": "off",
        "egress_reserve_us": 200,
        "priority_default": 4,
    }


def test_samples_cross_with_their_model(tmp_path):
    file = tmp_path / "rows.json"
    file.write_text('{"inputs": [{"name": "x", "datatype": "UINT8", "shape": [1, 2], "data": [[7, 8]]}]}')
    settings = model_settings(Model("tiny", "1", Path("/m.onnx"), 1, ModelSettings(name="tiny", samples=str(file))))
    assert settings["samples"] == [{"name": "x", "datatype": "UINT8", "shape": [1, 2], "base64": "Bwg="}]


def test_one_port_takes_the_place_of_two():
    data = json.loads(crossed({("data", "port"): "9000", ("data", "uds"): "/run/s.sock"}))["data"]
    assert data == {"host": "127.0.0.1", "http_port": 9000, "grpc_port": None, "uds": "/run/s.sock"}


def test_the_library_is_found_without_importing_the_package():
    assert onnxruntime_library().is_absolute()
    assert onnxruntime_library().is_file()


def test_a_missing_library_says_what_to_install(monkeypatch):
    monkeypatch.setattr("servekit.config.crossing.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install"):
        onnxruntime_library()
