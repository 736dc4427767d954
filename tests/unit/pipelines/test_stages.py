"""The table of native stages says what their source says."""

import re

import pytest

from servekit.pipelines.contracts import DATATYPES
from servekit.pipelines.faults import PipelineError
from servekit.pipelines.stages import CATEGORIES_BYTES_MAX, CATEGORIES_MAX, LENGTH_MAX, NATIVE, SIDE_MAX
from tests.unit.tree.sources import NATIVE as NATIVE_FOLDER

SOURCES = NATIVE_FOLDER / "stages/src"
FILES = {"base64": "base64_text.rs", "decode_image": "image.rs"}
NEEDED = {"lookup": {"categories": ["a"]}, "resize": {"width": 5, "height": 4}}
BUILT = sorted(NATIVE)


def source(kind):
    return (SOURCES / FILES.get(kind, f"{kind}.rs")).read_text()


def words(text):
    return re.findall(r'"(\w+)"', text)


def rendered(found):
    return " ".join(f"{port.name}: {DATATYPES[port.dtype]}[{','.join(map(str, port.shape))}]" for port in found)


def test_the_kinds_are_those_that_are_built():
    kinds = re.search(r"KINDS: \[&str; \d+\] = \[([^\]]*)\]", (SOURCES / "catalogue.rs").read_text())
    assert words(kinds[1]) == BUILT


@pytest.mark.parametrize("kind", BUILT)
def test_options_are_those_that_are_read(kind):
    read = re.search(r'Options::read\("(\w+)", &(?:\[([^\]]*)\]|keys)', source(kind))
    keys = read[2] or re.search(r"let keys = \[([^\]]*)\];", source(kind))[1]
    assert (read[1], words(keys)) == (kind, list(NATIVE[kind].options))


@pytest.mark.parametrize("kind", BUILT)
def test_words_of_choices_are_those_that_are_read(kind):
    allowed = [option.allowed for option in NATIVE[kind].options.values() if option.allowed.startswith("one of")]
    known = {word for text in allowed for word in re.findall(r"'(\w+)'", text)}
    assert known == set(re.findall(r'[\[\s]\("(\w+)", ', source(kind)))


def test_ports_are_those_that_the_stages_have():
    laws = (NATIVE_FOLDER / "stages/tests/laws/options.rs").read_text()
    told = re.findall(r'"((?:\w+: [A-Z0-9]+\[[^\]]*\] ?)+)"', laws)
    found = [NATIVE[kind].checked(NEEDED.get(kind, {})) for kind in BUILT]
    assert [rendered((*ports.inputs, *ports.outputs)) for ports in found] == told


def test_limits_are_those_of_the_stages():
    assert f"SIDE_MAX: u32 = {SIDE_MAX:_};" in source("resize")
    assert f"LENGTH_MAX: u32 = 1 << {LENGTH_MAX.bit_length() - 1};" in source("tokenize")
    assert f"CATEGORIES_MAX: usize = 1 << {CATEGORIES_MAX.bit_length() - 1};" in source("lookup")
    assert f"CATEGORIES_BYTES_MAX: usize = 1 << {CATEGORIES_BYTES_MAX.bit_length() - 1};" in source("lookup")


def test_options_decide_about_ports():
    assert NATIVE["decode_image"].checked({"mode": "gray"}).outputs[0].shape == ("height", "width", 1)
    assert [port.name for port in NATIVE["tokenize"].checked({"pair": True}).inputs] == ["text", "pair"]


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("resize", {"width": 4, "heigth": 4}, "option 'heigth' is unknown; did you mean 'height'?"),
        ("resize", {"width": 4}, "option 'height' is missing"),
        ("resize", {"width": 4, "height": 0}, "a whole number from 1 to 16384"),
        ("resize", {"width": 4, "height": True}, "option 'height' is True"),
        ("resize", {"width": 4, "height": 4, "fit": "box"}, "one of 'exact', 'crop', 'letterbox'"),
        ("resize", {"width": 4, "height": 4, "fill": [1, 2]}, "a list of three"),
        ("decode_image", {"orientation": "yes"}, "true or false"),
        ("tokenize", {"file": 3}, "a text"),
        ("lookup", {}, "neither found, one of the two is needed"),
        ("lookup", {"categories": ["a"], "file": "b"}, "both found"),
        ("lookup", {"categories": ["a", "a"]}, "different texts"),
        ("lookup", {"categories": ["a" * (CATEGORIES_BYTES_MAX + 1)]}, "…, a list of 1 to 1048576 different texts"),
        ("lookup", {"categories": ["a"], "unknown": 2**31}, "a whole number from -2147483648 to 2147483647"),
    ],
)
def test_a_slip_in_an_option_is_told_with_what_is_allowed(kind, options, said):
    with pytest.raises(PipelineError) as caught:
        NATIVE[kind].checked(options)
    assert said in str(caught.value)
