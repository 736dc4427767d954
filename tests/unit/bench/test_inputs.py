import json
import statistics
import struct

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from servekit.bench import encoding
from servekit.bench.encoding import Given
from servekit.bench.inputs import DTYPES, IDS_MAX, Lengths, shape_of, values_of
from servekit.bench.target import Target, Tensor, described
from servekit.errors import ConfigError, LoadError

TARGET = Target("localhost:1", "model", "3")
NUMPY_OF = {name: dtype for name, dtype in DTYPES.items() if name not in ("BF16", "BYTES")}


def given(datatype, shape=(2, 3), name="x"):
    tensor = Tensor(name, datatype, shape)
    return Given(tensor, values_of(tensor, shape, np.random.default_rng(0)))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("localhost:8000/mlp", ("localhost:8000", "mlp", "")),
        ("http://localhost:8000/v2/models/mlp", ("localhost:8000", "mlp", "")),
        ("http://[::1]:80/v2/models/mlp/versions/2/infer", ("[::1]:80", "mlp", "2")),
    ],
)
def test_a_model_url_is_read(url, expected):
    target = Target.parse(url)
    assert (target.address, target.model, target.version) == expected


@pytest.mark.parametrize("url", ["mlp", "localhost/mlp", "localhost:80", "https://localhost:80/m", "a:b/m", ""])
def test_anything_else_is_no_model_url(url):
    with pytest.raises(ConfigError, match="HOST:PORT/NAME"):
        Target.parse(url)


def test_metadata_that_describes_no_model_is_told():
    assert described(b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]}') == [
        Tensor("x", "FP32", (-1, 4))
    ]
    for content in (b"<html>", b"{}", b"[]", b'{"inputs": [{"name": "x"}]}'):
        with pytest.raises(LoadError, match="describes no model"):
            described(content)


def test_free_axes_hold_rows_and_then_lengths():
    assert shape_of(Tensor("x", "FP32", (-1, -1, 4)), 2, 48) == (2, 48, 4)
    assert shape_of(Tensor("x", "FP32", (8, -1)), 2, 48) == (8, 48)
    assert shape_of(Tensor("x", "FP32", ()), 2, 48) == ()


def test_values_suit_their_names():
    assert (given("INT64", name="attention_mask").values == 1).all()
    assert (given("INT64", name="token_type_ids").values == 0).all()
    ids = given("INT64", (50, 50), "input_ids").values
    assert (ids.min(), ids.max()) == (1, IDS_MAX)


def test_lognormal_lengths_have_their_median_and_their_most():
    sizes = Lengths.parse("lognormal:48:512").sizes
    assert abs(statistics.median(sizes) - 48) <= 1
    assert max(sizes) <= 512
    assert min(sizes) >= 1
    assert max(Lengths.parse("lognormal:48:100").sizes) == 100
    spread = [statistics.stdev(Lengths.parse(f"lognormal:48:512:{sigma}").sizes) for sigma in (0.2, 0.8)]
    assert spread[0] < spread[1]


def test_other_lengths():
    sizes = Lengths.parse("uniform:10:20").sizes
    assert (min(sizes), max(sizes)) == (10, 20)
    assert Lengths.parse("7").sizes == (7,)


@pytest.mark.parametrize("text", ["", "0", "x", "1:2", "uniform:5:1", "lognormal:1", "lognormal:1:2:0", "normal:1:2"])
def test_lengths_that_mean_nothing_are_refused(text):
    with pytest.raises(ConfigError, match="lognormal:MEDIAN:MAX"):
        Lengths.parse(text)


@pytest.mark.parametrize("datatype", [name for name in NUMPY_OF if name != "FP16"])
def test_json_holds_the_values(datatype):
    one = given(datatype)
    (read,) = json.loads(encoding.json_body([one]))["inputs"]
    assert (read["name"], read["datatype"], read["shape"]) == ("x", datatype, [2, 3])
    assert np.array_equal(np.array(read["data"], NUMPY_OF[datatype]).reshape(2, 3), one.values)


def test_half_floats_are_not_sent_as_json():
    with pytest.raises(ConfigError, match="which JSON cannot hold"):
        encoding.json_body([given("FP16")])


def test_a_binary_body_has_its_tensors_behind_its_json():
    ones = [given("FP32"), given("INT64", (4,), "ids")]
    content, json_bytes = encoding.binary_body(ones)
    inputs = json.loads(content[:json_bytes])["inputs"]
    sizes = [tensor["parameters"]["binary_data_size"] for tensor in inputs]
    assert sizes == [24, 32]
    assert content[json_bytes:] == ones[0].values.tobytes() + ones[1].values.tobytes()


@pytest.mark.parametrize("datatype", NUMPY_OF)
def test_a_grpc_message_is_read_by_others(datatype):
    one = given(datatype, (300, 2))
    read = service_pb2.ModelInferRequest.FromString(encoding.grpc_message(TARGET, [one]))
    assert (read.model_name, read.model_version) == ("model", "3")
    assert (read.inputs[0].name, read.inputs[0].datatype, list(read.inputs[0].shape)) == ("x", datatype, [300, 2])
    assert np.array_equal(np.frombuffer(read.raw_input_contents[0], NUMPY_OF[datatype]).reshape(300, 2), one.values)


def test_bytes_stand_behind_their_lengths():
    raw = encoding.raw_bytes(given("BYTES", (2,)))
    assert raw == (struct.pack("<I", 8) + b"servekit") * 2
    assert len(encoding.raw_bytes(given("BF16"))) == 12
