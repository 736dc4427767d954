import json
import subprocess
import sys

import numpy as np
import pytest

import servekit
from servekit.errors import LoadError
from servekit.kernels import KernelError, Port, audio, derived, each, image, kernel, numbers
from tests.unit.kernels.samples import ROW, ROW_RESULT, VALUES, checked, doubled, summed

F32 = "float32"


def test_the_decorator_is_the_package_s_own():
    assert servekit.kernel is kernel
    assert "kernel" in servekit.__all__


@pytest.mark.parametrize(
    "module", ["servekit", "servekit.kernels", "servekit.kernels.image", "servekit.kernels.audio", "servekit.cli"]
)
def test_what_compiles_nothing_imports_no_compiler(module):
    code = f"import sys, {module}; assert not [name for name in sys.modules if name.partition('.')[0] == 'numba']"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_servekit_alone_does_not_import_numpy():
    subprocess.run([sys.executable, "-c", "import sys, servekit; assert 'numpy' not in sys.modules"], check=True)


def test_a_kernel_is_still_the_function():
    values = np.array([[1.0, 2.0]], np.float32)
    result = np.empty_like(values)
    doubled(values, result)
    assert result.tolist() == [[2.0, 4.0]]
    doubled.py_func(values, result, factor=3.0)
    assert result.tolist() == [[3.0, 6.0]]
    assert doubled.__doc__ == "Each value, times the factor."
    assert doubled.name == doubled.__name__ == "doubled"


def test_bound_options_leave_the_kernel_as_it_was():
    thrice = doubled.bind(factor=3)
    assert (thrice.options, doubled.options) == ({"factor": 3.0}, {"factor": 2.0})
    assert isinstance(thrice.options["factor"], float)


def test_options_are_sizes_and_what_is_derived_follows():
    assert summed.bind(count=9).outputs["sums"].shape == ("rows", 5)
    assert summed.bind(count=9).scratch["running"].shape == (10,)
    assert len(summed.bind(count=9).options["table"]) == 9
    assert image.normalise.bind(channels=[0]).batch_inputs["image"].shape == ("rows", "height", "width", 1)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"speed": 1}, "kernel 'doubled' has no option 'speed', it has factor"),
        ({"factor": "two"}, "kernel 'doubled': option 'factor' is  'two', float is expected"),
        ({"factor": True}, "kernel 'doubled': option 'factor' is bool True, float is expected"),
        ({"factor": 2**63}, "kernel 'doubled': option 'factor' is  9223372036854775808, float is expected"),
    ],
)
def test_an_option_that_does_not_fit_is_named(changes, text):
    with pytest.raises(KernelError) as caught:
        doubled.bind(**changes)
    assert str(caught.value) == text
    assert isinstance(caught.value, LoadError)


def test_what_cannot_be_derived_says_why():
    with pytest.raises(KernelError, match="points is 400, a power of two of at least 400"):
        audio.log_mel.bind(points=400)
    with pytest.raises(KernelError, match=r"channels \(0, 0, 1\) do not name each channel once"):
        image.normalise.bind(channels=(0, 0, 1))

    with pytest.raises(KernelError, match="window is 400 and hop is 0, samples from 1 on"):
        audio.frames.bind(hop=0)
    with pytest.raises(KernelError, match="bands is 0, numbers from 1"):
        audio.log_mel.bind(bands=0)
    with pytest.raises(KernelError, match="fill is 256, a level from 0 to 255"):
        image.letterbox.bind(fill=256)
    for divided in (image.normalise.bind, numbers.standardise.bind):
        with pytest.raises(KernelError, match=r"std \(0.0,\) holds 0"):
            divided(std=[0])


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (
            image.normalise.bind(mean=[0.5, 0.5]),
            "kernel 'normalise': option 'mean' has 2 values, expected 3, one for each of 'channels'",
        ),
        (
            image.normalise.bind(channels=[0], std=[]),
            "kernel 'normalise': option 'std' has 0 values, expected 1, one for each of 'channels'",
        ),
        (
            numbers.standardise.bind(mean=[1, 2], std=[1, 2, 3]),
            "kernel 'standardise': option 'std' has 3 values, expected 2, one for each of 'mean'",
        ),
    ],
)
def test_options_of_different_lengths_are_refused_before_anything_runs(found, text):
    given = {name: port._replace(shape=("rows",)) for name, port in found.batch_inputs.items()}
    arrays = {name: np.zeros(1, port.element.numpy) for name, port in found.batch_inputs.items()}
    for refused in (
        lambda: found.typed(given),
        lambda: found.run(**arrays),
        lambda: found.run_compiled(**arrays),
        found.compiled,
        found.described,
    ):
        with pytest.raises(KernelError) as caught:
            refused()
        assert str(caught.value) == text


def test_options_of_kernels_that_a_kernel_calls_are_looked_at_too():
    shifted = numbers.standardise.bind(mean=[1, 2], std=[1])

    @kernel(inputs={"values": (F32, ("rows", 2))}, outputs={"result": (F32, ("rows", 2))})
    def calling(values, result):
        shifted(values, result)

    with pytest.raises(KernelError, match="option 'std' has 1 values, expected 2, one for each of 'mean'"):
        calling.compiled()


def test_an_option_that_is_one_for_each_follows_the_other_until_it_is_set():
    assert numbers.standardise.bind(mean=[1, 2]).options["std"] == (1.0, 1.0)
    later = numbers.standardise.bind(std=[3]).bind(std=[3, 4]).bind(mean=[1, 2])
    assert (later.options["mean"], later.options["std"]) == ((1.0, 2.0), (3.0, 4.0))
    assert later.typed({"values": Port("values", F32, ("rows", 2))})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([[1.0]], r"option 'std' is tuple \[\[1.0\]\], tuple of float is expected"),
        ([True], r"option 'std' is tuple \[True\], tuple of float is expected"),
        (1.0, "option 'std' is float 1.0, tuple of float is expected"),
        ([2**70], "option 'std' is  .*, tuple of float is expected"),
    ],
)
def test_values_of_a_tuple_are_of_the_kind_that_the_default_has(value, text):
    with pytest.raises(KernelError, match=text):
        numbers.standardise.bind(std=value)


def test_one_for_each_is_of_an_option_with_a_length():
    one = each("mean", 1.0)
    with pytest.raises(KernelError, match="option 'std' is one for each of 'mean', which is no option with a length"):
        declared(function=lambda values, result, *, std=one: None)


def test_what_crosses_is_json():
    described = json.loads(json.dumps(summed.described()))
    assert described.pop("address") > 0
    assert described == {
        "name": "summed",
        "inputs": [
            {"name": "start", "dtype": "int64", "shape": ["rows"]},
            {"name": "wanted", "dtype": "bool", "shape": ["rows"]},
        ],
        "outputs": [{"name": "sums", "dtype": "float64", "shape": ["rows", 4]}],
        "options": {"count": 6},
        "scratch": [
            {"name": "running", "dtype": "float64", "shape": [7]},
            {"name": "seen", "dtype": "uint8", "shape": [6]},
        ],
        "messages": [],
        "per": "batch",
    }


# Shapes at load ------------------------------------------------------------------------------------------------------


def test_outputs_follow_from_inputs():
    given = {"image": Port("photo", "uint8", ("rows", 480, "wide // 2", 3))}
    assert image.normalise.typed(given)["pixels"] == Port("pixels", F32, ("rows", 3, 480, "wide // 2"))
    sound = audio.frames.typed({"sound": Port("sound", F32, ("rows", "count * 2"))})["framed"]
    assert sound.shape == ("rows", "(count * 2 - 400 + 160) // 160", 400)
    assert audio.frames.typed({"sound": Port("sound", F32, ("rows", 1000))})["framed"].shape == ("rows", 4, 400)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            {"image": Port("photo", F32, ("rows", 224, 224, 3))},
            "kernel 'normalise': input 'image' is float32 [rows, 224, 224, 3], expected uint8 [rows, 224, 224, 3]",
        ),
        (
            {"image": Port("photo", "uint8", ("rows", 224, 224, 4))},
            "kernel 'normalise': input 'image' is uint8 [rows, 224, 224, 4], expected uint8 [rows, 224, 224, 3]",
        ),
        (
            {"image": Port("photo", "uint8", ("rows", 224, 224))},
            "kernel 'normalise': input 'image' is uint8 [rows, 224, 224], expected uint8 [rows, 224, 224, 3]",
        ),
        (
            {"photo": Port("photo", "uint8", ("rows", 224, 224, 3))},
            "kernel 'normalise': input 'image' is missing, found photo; name it in the step",
        ),
    ],
)
def test_what_does_not_fit_names_kernel_expected_and_found(given, text):
    if len(given.get("image", Port("", F32, ())).shape) == 3:
        text = text.replace("expected uint8 [rows, 224, 224, 3]", "expected uint8 [rows, 224, 224, 3]")
    with pytest.raises(KernelError) as caught:
        image.normalise.typed(given)
    assert str(caught.value) == text


def test_a_symbol_is_one_size_in_all_inputs():
    two = kernel(
        inputs={"left": (F32, ("rows", "width")), "right": (F32, ("rows", "width"))},
        outputs={"both": (F32, ("rows", "width * 2"))},
    )(lambda left, right, both: None)
    narrow, wide = Port("a", F32, ("rows", 3)), Port("b", F32, ("rows", 4))
    assert two.typed({"left": narrow, "right": narrow})["both"].shape == ("rows", 6)
    with pytest.raises(KernelError, match=r"'right' is float32 \[rows, 4\], expected float32 \[rows, 3\]"):
        two.typed({"left": narrow, "right": wide})
    with pytest.raises(KernelError, match=r"'right' is float32 \[2, 4\], expected float32 \[rows, width\] with .*: 3"):
        two.run(left=np.zeros((2, 3), F32), right=np.zeros((2, 4), F32))


# Declarations --------------------------------------------------------------------------------------------------------


def declared(inputs=VALUES, outputs=VALUES, function=lambda values, result: None, **more):
    return kernel(inputs=inputs, outputs={"result": next(iter(outputs.values()))}, **more)(function)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: declared({"values": ("float31", ("rows",))}), "'values' is 'float31', allowed are bool, uint8"),
        (lambda: declared({"values": ("string", ("rows",))}), "'values' is 'string', allowed are bool, uint8"),
        (lambda: declared({"values": (F32, ("rows",) * 9)}), "'values' has 9 axes, up to 8 are allowed"),
        (lambda: declared({"values": (F32, ("rows", -1))}), "'values' has an axis of -1"),
        (lambda: declared({"values": (F32, ("rows", "a b"))}), "axis 'a b' is neither a size nor a symbol"),
        (lambda: declared({"values": (F32, ("rows", "f(x)"))}), r"axis 'f\(x\)' holds more than names"),
        (lambda: declared({"values": (F32, (3, "rows"))}), r"'values' is float32 \[3, rows\]; of a batch the first"),
        (lambda: declared(outputs={"r": (F32, ("rows", "k"))}), "'k' is neither an axis of an input nor an option"),
        (lambda: declared({"a-b": (F32, ("rows",))}), "'a-b' is no name that a parameter can have"),
        (lambda: declared(ROW, {"r": (F32, ())}, per="row"), r"an output of a row needs an axis"),
        (lambda: declared(ROW, ROW_RESULT, lambda result, values: None, per="row"), "takes result, values, declared"),
        (lambda: declared(function=lambda values, result, *, k="no": None), "option 'k' is a str; numbers, tuples"),
        (lambda: declared(function=lambda values, result, *, k: None), "option 'k' has no default"),
        (lambda: kernel(inputs={}, outputs=VALUES)(lambda: None), "has no inputs"),
    ],
)
def test_a_declaration_that_cannot_be_is_refused_at_once(make, text):
    with pytest.raises(KernelError, match=text):
        make()


def test_a_division_by_an_option_of_zero_is_refused():
    @kernel(inputs=VALUES, outputs={"result": (F32, ("rows", "columns // parts"))})
    def split(values, result, *, parts=2):
        result[:] = values[:, ::parts]

    with pytest.raises(KernelError, match="divides by 0"):
        split.bind(parts=0)


def test_rows_refused_in_python_are_those_refused_compiled():
    values = np.array([[1], [-1], [np.inf]], np.float32)
    assert checked.run(values=values).faults.tolist() == [0, 1, 2]
    assert checked.messages[:2] == ["a value is negative", "a value is not finite"]


def test_a_derived_constant_is_not_set():
    assert derived(len).function is len
    with pytest.raises(KernelError, match="no option 'table', it has count"):
        summed.bind(table=np.zeros(6))
