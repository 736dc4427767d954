import yaml
from hypothesis import given
from hypothesis import strategies as st

from servekit.config import Config, ModelSettings, load
from servekit.config.reference import REFERENCE, render, render_reference
from servekit.config.schema import SECTIONS


def test_the_reference_is_the_schema():
    assert REFERENCE.read_text() == render_reference(), "run: python -m servekit.config.reference"


def test_the_reference_is_the_defaults():
    assert load(REFERENCE, {}) == Config()


def test_the_reference_has_every_key_with_a_comment():
    lines = REFERENCE.read_text().splitlines()
    for schema in SECTIONS.values():
        for name in schema.model_fields:
            (place,) = [number for number, line in enumerate(lines) if line.startswith(f"  {name}: ") and number > 0][
                :1
            ]
            assert lines[place - 1].startswith("  # "), name


@given(
    st.builds(
        ModelSettings,
        name=st.from_regex(r"[a-z]{1,8}", fullmatch=True),
        execution=st.sampled_from(["auto", "inline", "pool"]),
        batch_rows_max=st.none() | st.integers(1, 100),
        links=st.booleans(),
    ),
    st.sampled_from([None, 0, 80]),
)
def test_what_is_printed_is_read_back_the_same(tmp_path_factory, model, port):
    config = Config(models=(model,), data={"port": port, "uds": "/run/a b.sock"}, management={"hosts": ["a", "b"]})
    assert Config.model_validate(yaml.safe_load(render(config))) == config
