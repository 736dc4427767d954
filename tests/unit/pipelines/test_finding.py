import importlib
import pkgutil
import subprocess
import sys

import numpy as np
import pytest

import servekit.kernels
from servekit.kernels import Kernel
from servekit.pipelines.finding import MODULES, Kernels, built_in
from tests.unit.pipelines import samples
from tests.unit.pipelines.samples import plan, refused

CODE = """
from servekit import kernel

@kernel(inputs={"y": ("float32", ("rows", "n"))}, outputs={"z": ("float32", ("rows", "n"))})
def doubled(y, z, *, factor=2.0):
    for row in range(len(y)):
        for column in range(y.shape[1]):
            z[row, column] = y[row, column] * factor
"""
OWN = "after: [{use: 'kernels.py:doubled', with: {factor: 3}}]"


def test_every_module_of_kernels_is_looked_through():
    modules = [found.name for found in pkgutil.iter_modules(servekit.kernels.__path__)]
    found = {name: vars(importlib.import_module(f"servekit.kernels.{name}")).values() for name in modules}
    assert [name for name in modules if any(isinstance(value, Kernel) for value in found[name])] == list(MODULES)
    assert {"image.normalise", "scores.top_k", "vectors.mean_pool"} <= set(built_in())


def test_a_plan_is_made_without_the_compiler():
    program = """
import sys
from servekit.pipelines import ModelContract, Surroundings, planned, read
own = ModelContract.of({"name": "own", "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
                        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}]})
planned(read(b"after: [{use: scores.softmax}]", "model.yaml"), Surroundings("own", {"own": own})).contract()
sys.exit("numba" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_a_kernel_of_the_models_own_runs_where_that_is_allowed(folder):
    found = plan(OWN, samples.SCORER, folder=folder("kernels.py", CODE), allow_code=True)
    kernel = found.batch[1].kernel
    y = np.array([[1, 2]], np.float32)
    assert kernel.run(y=y).outputs["z"].tolist() == [[3, 6]]
    assert found.contract()["outputs"] == [{"name": "z", "datatype": "FP32", "shape": [-1, 3]}]


def test_code_runs_nowhere_else(folder):
    here = folder("kernels.py", "raise SystemExit")
    said = refused(OWN, samples.SCORER, folder=here)
    assert "kernels.py is code of the model's own, which is not allowed to run" in said


def test_the_source_of_a_kernel_is_what_was_run_even_if_the_file_has_changed_since(folder):
    here = folder("kernels.py", CODE)
    kernel = Kernels(here, allow_code=True).find("kernels.py:doubled")
    folder("kernels.py", CODE.replace("* factor", "+ factor"))
    from servekit.kernels.program import Program

    assert "* factor" in Program.of(kernel).text()
    assert "+ factor" in Program.of(Kernels(here, allow_code=True).find("kernels.py:doubled")).text()


@pytest.mark.parametrize(
    ("code", "use", "said"),
    [
        (CODE, "kernels.py:doubld", "kernels.py has no kernel 'doubld'; did you mean 'doubled'?"),
        (CODE, "kernel.py:doubled", "kernel.py: no such file or directory; check the folder"),
        (CODE, "../kernels.py:doubled", "(../kernels.py:doubled): unknown"),
        ("import nowhere_at_all", "kernels.py:x", "cannot be loaded, ModuleNotFoundError: No module named"),
        ("def f(:", "kernels.py:x", "kernels.py cannot be loaded, SyntaxError: invalid syntax"),
        ("from servekit import kernel\nkernel(inputs={}, outputs={})(lambda: 0)", "kernels.py:x", "kernels.py: kernel"),
        ("#" * (2**20 + 1), "kernels.py:x", "up to 1048576 are allowed"),
    ],
)
def test_code_that_cannot_be_used_is_told_with_the_file(folder, code, use, said):
    here = folder("kernels.py", code)
    assert said in refused(f"after: [{{use: '{use}'}}]", samples.SCORER, folder=here, allow_code=True)


def test_links_are_not_followed(folder, tmp_path):
    here = folder("elsewhere.txt", CODE)
    (here / "kernels.py").symlink_to(tmp_path / "elsewhere.txt")
    assert "kernels.py is a link" in refused(OWN, samples.SCORER, folder=here, allow_code=True)
