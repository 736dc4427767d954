"""What the page about pipelines shows can be read, and its tables are complete."""

import re
from pathlib import Path

import pytest

from servekit.config.schema import PIPELINE_KEYS
from servekit.pipelines import read, recipes
from servekit.pipelines.stages import NATIVE
from tests.unit.guide.tables import rows

ROOT = Path(__file__).parents[3]
WRITTEN = [
    pytest.param(text, id=f"{page.name}-{number}")
    for page in (ROOT / "README.md", ROOT / "servekit" / "guide" / "pipelines.md")
    for number, text in enumerate(re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE))
    if "before:" in text
]


def named(key):
    return [row[key].strip("`") for row in rows("pipelines.md", key)]


@pytest.mark.parametrize("text", WRITTEN)
def test_a_pipeline_that_is_shown_can_be_read(text):
    assert read(text.encode(), "model.yaml").before


def test_every_key_is_explained():
    assert sorted(named("Key")) == sorted(PIPELINE_KEYS)


def test_every_stage_is_there_with_its_options():
    found = {row["Stage"].strip("`"): row["Options"] for row in rows("pipelines.md", "Stage")}
    assert set(found) == set(NATIVE)
    for name, kind in NATIVE.items():
        assert [option for option in kind.options if f"`{option}`" not in found[name]] == [], name


def test_every_recipe_is_there():
    assert sorted(named("Recipe")) == sorted(recipes())
