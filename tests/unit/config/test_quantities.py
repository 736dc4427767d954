import pytest
from hypothesis import given
from hypothesis import strategies as st

from servekit.config.quantities import byte_count, listed, switched_off, whole
from servekit.sizes import sized


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (7, 7),
        ("7", 7),
        ("64MiB", 64 * 2**20),
        ("64 mib", 64 * 2**20),
        ("1.5 GiB", 3 * 2**29),
        ("2kB", 2000),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_bytes_are_read_with_and_without_a_unit(written, read):
    assert byte_count(written) == read


@pytest.mark.parametrize(
    "written", ["", "MiB", "1.5", "0.0001KiB", "1e3", "-1", "1 xB", "1  MiB", True, 1.0, None, [1]]
)
def test_what_is_no_whole_number_of_bytes_is_refused(written):
    with pytest.raises(ValueError, match="allowed"):
        byte_count(written)


@pytest.mark.parametrize("written", [True, 1.0, "1.0", "1e3", "", "0x10", None, "\u0661"])
def test_what_is_no_whole_number_is_refused(written):
    with pytest.raises(ValueError, match="whole number"):
        whole(written)


@given(st.integers(min_value=0, max_value=2**40), st.sampled_from(["KiB", "MiB", "GiB"]))
def test_units_multiply(count, unit):
    factor = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}[unit]
    assert byte_count(f"{count}{unit}") == count * factor


@given(st.integers(min_value=1, max_value=1023), st.sampled_from([10, 20, 30]))
def test_whole_units_are_printed_as_they_are_read(count, power):
    assert byte_count(sized(count * 2**power)) == count * 2**power


def test_off_and_lists_are_read():
    assert [switched_off(value) for value in (False, "off", "OFF", "none", 80, "/run/x")] == [None] * 4 + [80, "/run/x"]
    assert listed("a, b,") == ["a", "b"]
