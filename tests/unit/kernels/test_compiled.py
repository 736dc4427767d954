import ctypes
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from servekit.kernels import audio, compiling
from servekit.kernels.calling import Call, Frame, Tensor
from servekit.kernels.contract import RAISED
from servekit.kernels.program import Program
from tests.unit.kernels.samples import bounded, checked, doubled, explosive, explosive_batch, paired, summed

ROOT = Path(__file__).parents[3]
VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)


def call_of(kernel, **inputs):
    outputs = kernel.run(**inputs).outputs
    return Call(kernel, inputs, outputs, kernel.sizes(inputs))


def test_a_structure_has_the_sizes_of_the_page_on_the_abi():
    assert (ctypes.sizeof(Tensor), ctypes.sizeof(Frame)) == (152, 56)
    page = (ROOT / "servekit" / "guide" / "kernel-abi.md").read_text()
    for structure in (Tensor, Frame):
        for name, _ in structure._fields_:
            assert f"| {getattr(structure, name).offset} | `{name}` |" in page


def test_compiled_and_python_are_one():
    assert doubled.run_compiled(values=VALUES).outputs["result"].tolist() == (VALUES * 2).tolist()
    assert doubled.bind(factor=-1).run_compiled(values=VALUES).outputs["result"].tolist() == (-VALUES).tolist()


def test_a_refused_row_leaves_its_neighbours_alone():
    values = VALUES.copy()
    values[1, 2] = -1
    ran = checked.run_compiled(values=values)
    assert ran.faults.tolist() == [0, 1, 0]
    assert ran.outputs["result"][[0, 2]].tolist() == (VALUES[[0, 2]] / 2).tolist()


def test_a_kernel_that_calls_another_passes_its_refusals_on():
    values = np.array([[1, 1], [101, 1], [1, -1], [1, np.inf]], np.float32)
    faults = bounded.run_compiled(values=values).faults
    assert [bounded.messages[fault - 1] if fault else "" for fault in faults] == [
        "",
        "the first value is above 100",
        "a value is negative",
        "a value is not finite",
    ]


def test_an_exception_that_nobody_meant_fails_its_row_alone():
    ran = explosive.run_compiled(values=VALUES)
    assert [explosive.messages[fault - 1] if fault else "" for fault in ran.faults] == ["", RAISED, RAISED]
    assert ran.outputs["result"][0].tolist() == VALUES[0].tolist()


def test_an_exception_of_a_whole_batch_fails_the_call_and_prints_nothing(capfd):
    assert call_of(explosive_batch, values=VALUES[:1]).run() is True
    call = Call(explosive_batch, {"values": VALUES + 6}, {"result": VALUES.copy()}, {"rows": 3, "columns": 4})
    assert call.run() is False
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kernel", [checked, explosive, explosive_batch], ids=lambda one: one.name)
def test_a_kernel_needs_no_interpreter_not_even_to_fail(kernel):
    call = Call(kernel, {"values": VALUES + 6}, {"result": VALUES.copy()}, {"rows": 3, "columns": 4})
    # A thread that Python does not know runs the kernel, while this one keeps the GIL and waits for it.
    holding = ctypes.PyDLL(None)
    thread, ended = ctypes.c_ulong(), ctypes.c_void_p()
    address = ctypes.c_void_p(kernel.compiled().address)
    assert holding.pthread_create(ctypes.byref(thread), None, address, ctypes.byref(call.frame)) == 0
    assert holding.pthread_join(thread, ctypes.byref(ended)) == 0
    assert bool(ended.value) is (kernel is not explosive_batch)
    assert call.faults.tolist() == ([1, 1, 1] if kernel is explosive else [0, 0, 0])


def test_of_inputs_without_axes_a_row_is_a_number():
    ages, names = np.array([1.5, 2.5], np.float32), np.array([3, 4])
    for ran in (paired.run(age=ages, name=names), paired.run_compiled(age=ages, name=names)):
        assert ran.outputs["both"].tolist() == [[1.5, 6], [2.5, 8]]


def test_an_output_whose_size_is_arithmetic_is_compared_too():
    call = call_of(audio.frames, sound=np.zeros((2, 900), np.float32))
    assert call.run() is True
    call.frame.tensors[1].dims[1] += 1
    assert call.run() is False


def test_scratch_constants_and_bools_are_what_the_function_sees():
    start, wanted = np.array([0, 10]), np.array([True, False])
    ran = summed.run_compiled(start=start, wanted=wanted)
    assert ran.outputs["sums"].tolist() == [[0, 0, 1, 5], [-1, -1, -1, -1]]


def test_scratch_that_is_too_small_is_noticed():
    call = call_of(summed, start=np.array([1]), wanted=np.array([True]))
    assert call.run() is True
    call.frame.scratch_bytes -= 64
    assert call.run() is False


@pytest.mark.parametrize(
    ("tensor", "field", "value"),
    [(0, "dtype", 11), (0, "rank", 3), (1, "dtype", 11), (1, "rank", 1)],
)
def test_a_view_of_another_type_is_not_touched(tensor, field, value):
    call = call_of(doubled, values=VALUES)
    setattr(call.frame.tensors[tensor], field, value)
    assert call.run() is False


@pytest.mark.parametrize(("tensor", "axis"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_a_view_of_another_size_is_not_touched(tensor, axis):
    call = call_of(doubled, values=VALUES)
    call.frame.tensors[tensor].dims[axis] += 1
    assert call.run() is False


def test_a_call_with_another_number_of_tensors_is_not_run():
    for name in ("inputs", "outputs", "rows"):
        call = call_of(doubled, values=VALUES)
        setattr(call.frame, name, 4)
        assert call.run() is False


@pytest.mark.parametrize(
    "values",
    [VALUES[::-1], VALUES[:, ::2], VALUES.T, np.broadcast_to(VALUES[:1], (3, 4)), VALUES[:0], VALUES[:, :0]],
    ids=["reversed", "strided", "transposed", "broadcast", "no rows", "no columns"],
)
def test_inputs_lie_in_memory_as_they_like(values):
    assert doubled.run_compiled(values=values).outputs["result"].tolist() == (values * 2).tolist()


def test_another_process_finds_what_this_one_compiled(kernel_cache):
    doubled.compiled()
    code = (
        "from tests.unit.kernels.samples import doubled; import numpy as np\n"
        "assert doubled.compiled().cache_hits == 1\n"
        "assert doubled.run_compiled(values=np.ones((1, 1), np.float32)).outputs['result'].tolist() == [[2.0]]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_whatever_matters_makes_another_file():
    texts = {Program.of(one).text() for one in (doubled, doubled.bind(factor=3.0), summed, summed.bind(count=7))}
    assert len(texts) == 4
    assert Program.of(doubled).text() == Program.of(doubled.bind(factor=2.0)).text()


def test_a_damaged_cache_is_written_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(compiling, "cache_folder", lambda: tmp_path)
    doubled.bind(factor=17.0).compiled()
    for path in tmp_path.rglob("*.nb?"):
        path.write_bytes(b"")
    assert doubled.bind(factor=17.0).run_compiled(values=VALUES).outputs["result"][0, 1] == 17


def test_a_cache_that_others_may_write_to_is_not_used(tmp_path, monkeypatch):
    shared = tmp_path / "servekit" / "kernels"
    shared.mkdir(parents=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for mode, is_used in ((0o700, True), (0o770, False), (0o702, False)):
        shared.chmod(mode)
        found = compiling.cache_folder.__wrapped__()
        assert (found == shared) is is_used
        assert found.stat().st_mode & 0o777 == (0o700 if not is_used else mode)


def test_without_a_home_kernels_are_compiled_for_this_process_alone(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert compiling.cache_folder.__wrapped__().is_dir()
