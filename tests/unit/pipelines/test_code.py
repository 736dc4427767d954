"""Pipelines written in Python."""

import pytest

from servekit.pipelines import PipelineError
from servekit.pipelines.code import read_code

CODE = """
import servekit
from servekit.kernels import numbers, scores


@servekit.kernel(inputs={"x": ("float32", ("rows", 3))}, outputs={"twice": ("float32", ("rows", 3))})
def doubled(x, twice):
    twice[:] = x * 2


pipeline = {
    "before": [{"use": doubled}],
    "after": [{"use": scores.softmax}, {"use": "scores.argmax", "as": "class"}],
    "raw": True,
}
"""


def refused(folder, **options):
    with pytest.raises(PipelineError) as caught:
        read_code(folder, **{"allow_code": True, **options})
    return str(caught.value)


def test_a_step_may_use_a_kernel_itself(folder):
    found = read_code(folder("pipeline.py", CODE), allow_code=True)
    assert [step.use for step in (*found.before, *found.after)] == [
        "pipeline.py:doubled",
        "scores.softmax",
        "scores.argmax",
    ]
    assert found.raw


def test_code_runs_only_where_that_is_allowed(folder):
    path = folder("pipeline.py", "raise SystemExit")
    assert refused(path, allow_code=False).endswith("start with --allow-code if you trust it")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has to hold a table called 'pipeline', found none"),
        ("pipeline = [1]", "found list"),
        ("1 / 0", "pipeline.py cannot be loaded, ZeroDivisionError: division by zero; correct it"),
        (
            "from servekit.kernels import scores\npipeline = {'after': [{'use': scores.top_k.bind(count=2)}]}",
            "kernel 'top_k', which has no name in the file",
        ),
    ],
)
def test_what_is_wrong_with_the_file_is_told(folder, text, said):
    assert said in refused(folder("pipeline.py", text))
