import numpy as np
import pytest

from servekit.kernels import KernelError, kernel
from tests.unit.kernels.samples import ROW, ROW_RESULT, VALUES, bounded, checked, doubled, explosive

SETTINGS = {"factor": 2}


def row(function):
    return kernel(inputs=ROW, outputs=ROW_RESULT, per="row")(function)


def test_messages_are_read_off_the_source_in_order():
    assert checked.refusals == ["a value is negative", "a value is not finite"]
    assert checked.messages == [*checked.refusals, "the kernel raised an exception on this row"]
    assert doubled.messages == []
    assert explosive.refusals == []


def test_messages_of_a_kernel_that_is_called_follow():
    assert bounded.refusals == ["the first value is above 100", *checked.refusals]


def computed_text(values, result):
    raise ValueError(f"value {values[0]}")


def another_exception(values, result):
    raise KeyError("x")


def returning(values, result):
    return values[0]


def trying(values, result):
    try:
        result[0] = 1
    except IndexError:
        result[0] = 2


def nesting(values, result):
    def inner():
        return 1

    result[0] = inner()


def too_long(values, result):
    raise ValueError("long " * 50)


def long_constant(values, result):
    raise ValueError(
        "a text of many words that goes on and on, telling the caller the whole story of the value, its parents, its "
        "childhood, and how it came to be where it is now, by way of Rome"
    )


def naming_a_dictionary(values, result):
    result[0] = SETTINGS["factor"]


def using_a_value(values, result):
    result[0] = checked(values, result)


def assigning(values, result, *, size=3):
    size = size + 1
    result[0] = size


def itself(value):
    return itself(value - 1) if value > 0 else 0


def recursive(values, result):
    result[0] = itself(values[0])


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (computed_text, r"line 2: it refuses a row otherwise than by raise ValueError\(\"constant text\"\)"),
        (another_exception, "it refuses a row otherwise"),
        (returning, "it returns a value; write it into an output"),
        (trying, "it holds a try; test the values instead"),
        (nesting, "it holds the function 'inner'; write it beside the kernel"),
        (too_long, "it refuses a row otherwise"),
        (long_constant, "a message has 172 bytes, allowed are 1 to 160"),
        (naming_a_dictionary, "uses 'SETTINGS', a dict; numbers, tuples"),
        (using_a_value, "it uses the value of a call of a kernel, which has none"),
        (assigning, "assigns to its option 'size'"),
        (recursive, "'itself' calls itself; write a loop"),
    ],
)
def test_a_source_that_cannot_be_compiled_is_told_in_words(function, text):
    with pytest.raises(KernelError, match=text):
        row(function).compiled()


def test_a_kernel_of_a_whole_batch_refuses_no_rows():
    with pytest.raises(KernelError, match=r'refuses rows .*; declare it per="row"'):
        kernel(inputs=VALUES, outputs={"result": VALUES["values"]})(checked.py_func).compiled()


def test_what_has_no_source_is_refused():
    namespace: dict = {}
    exec("def made(values, result):\n    result[0] = 1\n", namespace)
    with pytest.raises(KernelError, match="its source cannot be read; write it into a file"):
        row(namespace["made"]).compiled()


def untyped(values, result):
    result[0] = "text"


def beyond_numba(values, result):
    result[0] = np.fft.fft(values)[0].real


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (untyped, r"kernel 'untyped' cannot be compiled: .*setitem\(array\(float32.*, in: result\[0\] = 'text'"),
        (beyond_numba, "cannot be compiled: Unknown attribute 'fft' of type .*, in: .*fft"),
    ],
)
def test_what_numba_cannot_compile_is_told_in_a_line(function, text):
    with pytest.raises(KernelError, match=text) as caught:
        row(function).compiled()
    assert "\n" not in str(caught.value)
