import pytest

from servekit.pipelines import PipelineError, ordered, read


def pipelines(**named):
    return {
        name: read(f"before: [{', '.join(f'{{model: {other}}}' for other in others)}]".encode(), "model.yaml")
        for name, others in named.items()
    }


def test_a_model_loads_after_those_that_it_runs():
    assert ordered(pipelines(a=["b", "c"], b=["c"], c=[], d=["a"])) == ("c", "b", "a", "d")


def test_models_without_a_pipeline_wait_for_nobody():
    assert ordered(pipelines(a=["plain"])) == ("a",)


@pytest.mark.parametrize(
    ("named", "circle"),
    [
        ({"a": ["b"], "b": ["a"]}, "a → b → a"),
        ({"x": ["a"], "a": ["b"], "b": ["c"], "c": ["a"]}, "a → b → c → a"),
    ],
)
def test_models_that_run_each_other_are_refused(named, circle):
    with pytest.raises(PipelineError) as caught:
        ordered(pipelines(**named))
    assert f"in a circle, {circle}; " in str(caught.value)


def test_a_models_own_tensors_end_a_circle():
    assert set(ordered(pipelines(a=["b", "a"], b=["a.raw"]))) == {"a", "b"}


def test_the_model_in_the_middle_counts():
    two = {name: read(f"model: {other}".encode(), "model.yaml") for name, other in (("a", "b"), ("b", "a"))}
    with pytest.raises(PipelineError, match="in a circle"):
        ordered(two)


def test_a_long_line_of_models_is_no_deep_recursion():
    line = pipelines(**{f"m{number}": [f"m{number + 1}"] for number in range(1023)})
    assert len(ordered(line)) == 1023
