import json
from base64 import b64decode

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servekit.config.samples import SAMPLE_BYTES_MAX, read
from servekit.errors import ConfigError


@pytest.fixture
def file(tmp_path):
    """Writes a file of samples: arrays as .npz, anything else as .json."""

    def write(content, name="rows"):
        if isinstance(content, dict) and all(isinstance(value, np.ndarray) for value in content.values()):
            path = tmp_path / f"{name}.npz"
            np.savez(path, **content)
        else:
            path = tmp_path / f"{name}.json"
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def request(data, datatype="FP32", shape=None, name="x"):
    return {
        "inputs": [{"name": name, "datatype": datatype, "shape": [len(data)] if shape is None else shape, "data": data}]
    }


def raw(path):
    return {sample["name"]: (sample["datatype"], sample["shape"], b64decode(sample["base64"])) for sample in read(path)}


def test_arrays_cross_as_the_protocol_has_them(file):
    ids, mask = np.array([[1, 2], [3, 4]], np.int64), np.ones((2, 2), np.bool_)
    assert raw(file({"ids": ids, "mask": mask})) == {
        "ids": ("INT64", [2, 2], ids.tobytes()),
        "mask": ("BOOL", [2, 2], b"\1" * 4),
    }


def test_arrays_of_the_other_byte_order_and_of_odd_strides_come_out_alike(file):
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert raw(file({"x": values.astype(">f4")})) == raw(file({"x": np.asfortranarray(values)}))
    assert raw(file({"x": np.array(1.5, np.float64)})) == {"x": ("FP64", [], np.float64(1.5).tobytes())}


def test_text_has_its_length_in_front(file):
    expected = {"x": ("BYTES", [2], b"\2\0\0\0\xc3\xa9\1\0\0\0a")}
    assert raw(file({"x": np.array(["é", "a"])})) == expected
    assert raw(file({"x": np.array(["é".encode(), b"a"])})) == expected
    assert raw(file(request(["é", "a"], "BYTES"))) == expected


@pytest.mark.parametrize(
    ("datatype", "data", "expected"),
    [
        ("FP32", [1, 2.5], np.array([1, 2.5], "<f4")),
        ("FP64", ["NaN", "-Infinity"], np.array([np.nan, -np.inf], "<f8")),
        ("FP16", [0.5], np.array([0.5], "<f2")),
        ("BF16", [1.0, -2.5, 1e-3], np.array([0x3F80, 0xC020, 0x3A83], "<u2")),
        ("INT64", [2**63 - 1, -(2**63)], np.array([2**63 - 1, -(2**63)], "<i8")),
        ("UINT64", [2**64 - 1], np.array([2**64 - 1], "<u8")),
        ("UINT8", [0, 255], np.array([0, 255], "u1")),
        ("BOOL", [True, False], np.array([1, 0], "u1")),
    ],
)
def test_a_request_s_values_are_read_as_a_client_writes_them(file, datatype, data, expected):
    assert raw(file(request(data, datatype))) == {"x": (datatype, [len(data)], expected.tobytes())}


def test_nested_data_are_read_flat(file):
    assert raw(file(request([[1, 2], [3, 4]], shape=[2, 2]))) == raw(file(request([1, 2, 3, 4], shape=[2, 2]), "flat"))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "no JSON found"),
        ("[" * 100_000, "no JSON found"),
        ("[]", "no list 'inputs' found"),
        ({"inputs": {}}, "no list 'inputs' found"),
        ({"inputs": [1]}, "no list 'inputs' found"),
        ({"inputs": []}, "no input found"),
        ({"inputs": [{}]}, "an input without a name"),
        ({"inputs": [{"name": "x"}]}, "input 'x': no shape"),
        (request([1], shape=[True]), "input 'x': no shape"),
        (request([1], shape=[-1]), "input 'x': no shape"),
        (request([1], "FP8"), "datatype 'FP8' found"),
        (request([1], ["FP32"]), "FP32"),
        (request([1, 2], shape=[3]), "2 values found, its shape has 3"),
        (request([256], "UINT8"), "no UINT8"),
        (request([1.0], "INT64"), "no INT64"),
        (request([True], "INT64"), "no INT64"),
        (request([True], "FP32"), "no FP32"),
        (request([1], "BOOL"), "no BOOL"),
        (request(["1.5"], "FP32"), "no FP32"),
        (request([{}], "FP32"), "no FP32"),
        (request([10**400], "FP64"), "no FP64"),
        (request([1], "BYTES"), "no BYTES"),
        ({"x": np.array([1j])}, "array 'x' is of complex128"),
        ({"x": np.zeros((SAMPLE_BYTES_MAX // 8 + 1, 8), np.uint8)}, "at most 1 MiB are allowed; keep fewer rows"),
        ({"x": np.zeros((9, SAMPLE_BYTES_MAX), np.uint8)}, "more than 8 MiB found"),
    ],
)
def test_what_cannot_be_used_is_told_with_the_file(file, content, told):
    path = file(content)
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert str(caught.value).startswith(f"samples {path}: ")
    assert told in str(caught.value)


def test_as_many_bytes_as_are_allowed_are_read(file):
    assert len(read(file({"x": np.zeros((SAMPLE_BYTES_MAX // 8, 8), np.uint8)}))) == 1


def test_a_file_that_unpacks_to_much_is_not_unpacked(tmp_path):
    path = tmp_path / "rows.npz"
    np.savez_compressed(path, x=np.zeros((9, SAMPLE_BYTES_MAX), np.uint8))
    with pytest.raises(ConfigError, match="found once unpacked"):
        read(path)


def test_objects_are_not_unpickled(tmp_path):
    path = tmp_path / "rows.npz"
    np.savez(path, x=np.array([{}], object))
    with pytest.raises(ConfigError, match=r"no readable \.npz"):
        read(path)


@pytest.mark.parametrize(
    ("name", "told"), [("gone.npz", "no such file"), ("rows.csv", "'.npz' and '.json' are allowed")]
)
def test_a_path_that_is_wrong_is_told(tmp_path, name, told):
    with pytest.raises(ConfigError, match=told):
        read(tmp_path / name)


@given(st.binary(max_size=300), st.sampled_from([".npz", ".json"]))
def test_no_file_gets_past_as_a_surprise(tmp_path_factory, text, suffix):
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    path.write_bytes(text)
    with pytest.raises(ConfigError):
        read(path)


@given(st.floats(width=32))
def test_bf16_is_the_nearest_there_is(number):
    from servekit.config.samples import _raw

    (found,) = np.frombuffer(_raw([number], "BF16"), "<u2").astype("<u4") << 16
    nearest = np.array([found], "<u4").view("<f4")[0]
    if np.isnan(number):
        assert np.isnan(nearest)
    elif np.isfinite(nearest):
        assert abs(float(nearest) - number) <= max(abs(number) * 2**-8, 2**-133)
