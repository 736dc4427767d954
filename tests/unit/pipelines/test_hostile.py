"""Whatever a file says, its author is told what is wrong, and never by a traceback."""

import contextlib
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servekit.errors import ConfigError
from servekit.kernels.ports import symbols
from servekit.pipelines import PipelineError, Plan, Surroundings, parsed, planned, read
from servekit.pipelines.finding import built_in
from servekit.pipelines.schema import KEYS
from servekit.pipelines.stages import NATIVE
from tests.unit.pipelines import samples

WORDS = st.sampled_from(
    [*KEYS, "use", "with", "from", "as", "shapes", "each", "name", "float32", "bytes", "rows", "float32[n]"]
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.just(date(2024, 2, 29)), WORDS)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.one_of(WORDS, SCALARS), inner, max_size=3)),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.dictionaries(WORDS, ANYTHING, max_size=4))
def test_any_table_is_a_pipeline_or_refused(table):
    with contextlib.suppress(ConfigError):
        parsed(table, "model.yaml")


@settings(deadline=None)
@given(st.binary(max_size=64))
def test_any_bytes_are_a_pipeline_or_refused(text):
    with contextlib.suppress(ConfigError):
        read(text, "model.yaml")


NAMES = st.sampled_from(["a", "b", "image", "pixels", "logits", "values", "y", "x"])
EACH = st.one_of(st.booleans(), NAMES)
STEPS = st.lists(
    st.one_of(
        st.fixed_dictionaries(
            {"use": st.sampled_from([*NATIVE, *built_in(), "kernels.py:own"])},
            optional={
                "with": st.sampled_from([{}, {"width": 8, "height": 8}, {"count": -3}, {"keep": 0}, {"mean": []}]),
                "from": st.lists(NAMES, max_size=3),
                "as": st.lists(NAMES, max_size=2),
                "each": EACH,
            },
        ),
        st.fixed_dictionaries(
            {"model": st.sampled_from(["own", "own.raw", "other"])},
            optional={
                "shapes": st.dictionaries(NAMES, st.lists(st.sampled_from([3, "n", "wide"]), max_size=2)),
                "each": EACH,
            },
        ),
    ),
    max_size=5,
)
SENT = st.sampled_from(
    ["bytes", "string", "float32", "float32[4]", "float32[n]", "uint8[h, w, 3]", "int64[n]", "int64"]
)
ENTRIES = st.sampled_from(["float32[2, 4]", "float32[n, 4]", "float32[n, m]", "float32[0, 4]", "float32[n, n]"])
SAID = st.sampled_from([[2, 3], [0, 2], ["m", "m"], ["n", 2], ["m", 3], ["b", 1]])
USED = [{"use": "scores.softmax"}, {"use": "scores.argmax"}, {"use": "vectors.cls_pool"}, {"use": "numbers.clip"}]
ON_ENTRIES = st.lists(
    st.tuples(
        st.sampled_from([*USED, {"use": "scores.top_k", "with": {"count": 2}}]),
        st.fixed_dictionaries(
            {"each": st.sampled_from([True, "b", False])}, optional={"from": st.sampled_from(["a", "y"])}
        ),
    ).map(lambda parts: parts[0] | parts[1]),
    max_size=3,
)
OPEN = samples.model("own", [samples.tensor("x", "FP32", -1, "n")], [samples.tensor("y", "FP32", -1, "n // 2", -1)])


@pytest.mark.parametrize("contract", [samples.SCORER, OPEN], ids=["fixed", "open"])
@settings(deadline=None)
@given(inputs=st.dictionaries(NAMES, SENT, min_size=1, max_size=3), before=STEPS, after=STEPS)
def test_any_steps_are_a_plan_or_refused(contract, inputs, before, after):
    pipeline = parsed({"inputs": inputs, "before": before, "after": after}, "model.yaml")
    with contextlib.suppress(PipelineError):
        found = planned(pipeline, Surroundings("own", {"own": contract}))
        assert isinstance(found, Plan)
        assert found.contract()["outputs"]
        assert found.shown()


@pytest.mark.parametrize(("contract", "said"), [(samples.SCORER, st.just([3])), (OPEN, SAID)], ids=["fixed", "open"])
@settings(deadline=None)
@given(
    entries=ENTRIES,
    count=st.sampled_from(["int64", "int64[]", "uint8", "float32"]),
    each=st.sampled_from([True, "b"]),
    after=ON_ENTRIES,
    data=st.data(),
)
def test_entries_stay_beneath_their_axis(contract, said, entries, count, each, after, data):
    model = {"each": each, "from": "a", "shapes": {"y": data.draw(said)}}
    table = {"inputs": {"a": entries, "b": count}, "model": model, "after": after, "outputs": ["b", "y"]}
    with contextlib.suppress(PipelineError):
        found = planned(parsed(table, "model.yaml"), Surroundings("own", {"own": contract}))
        for call in found.batch:
            if call.each is None:
                continue
            counted = call.each.count
            read = [found.values[number].shape for number in call.reads if number != counted]
            told = set().union(*(symbols(axis) for shape in read for axis in shape))
            for number in call.writes:
                axis, *others = found.values[number].shape
                assert axis == call.each.axis
                assert set().union(*map(symbols, others)) <= told
            assert counted is None or count != "float32"
            assert set(call.reads) | set(call.writes) <= set(found.slots)
