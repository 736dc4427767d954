import io
import json

from hypothesis import given
from hypothesis import strategies as st

from servekit.logs import Logger

NOON = 1_700_000_000.123


def logger(stream, **settings):
    made = Logger(stream=stream, **settings)
    made.now = lambda: NOON
    return made


def test_a_text_line_is_words():
    stream = io.StringIO()
    logger(stream).info("ready", http="127.0.0.1:8000", uds=None, models=["tiny", "mlp"], note="two words")
    assert stream.getvalue() == (
        '2023-11-14T22:13:20.123Z info ready http=127.0.0.1:8000 models=tiny,mlp note="two words"\n'
    )


def test_a_json_line_is_one_object():
    stream = io.StringIO()
    logger(stream, as_json=True).info("ready", http="127.0.0.1:8000", uds=None, models=["tiny"])
    assert stream.getvalue().startswith('{"event":"ready","http":"127.0.0.1:8000","uds":null,"models":["tiny"],')
    assert json.loads(stream.getvalue())["level"] == "info"


def test_lines_below_the_level_are_not_written():
    stream = io.StringIO()
    quiet = logger(stream, level="warning")
    quiet.debug("a")
    quiet.info("b")
    quiet.warning("c")
    quiet.error("d")
    assert [line.split()[2] for line in stream.getvalue().splitlines()] == ["c", "d"]


def test_a_flood_of_one_kind_is_cut_counted_and_hides_no_other():
    stream = io.StringIO()
    flooded = logger(stream, lines_per_second_max=2)
    for _ in range(5):
        flooded.info("flood")
    flooded.info("other")
    flooded.now = lambda: NOON + 1
    flooded.info("flood")
    events = [line.split()[2:] for line in stream.getvalue().splitlines()]
    assert events == [["flood"], ["flood"], ["other"], ["flood", "suppressed=3"]]


@given(st.text(), st.booleans())
def test_whatever_a_field_holds_it_stays_on_one_short_line(field, as_json):
    stream = io.StringIO()
    logger(stream, as_json=as_json, field_bytes_max=32).info("event", field=field)
    lines = stream.getvalue().split("\n")
    assert len(lines) == 2
    assert lines[1] == ""
    assert lines[0].isprintable()
    assert len(lines[0]) < 32 * 6 + 100


def test_a_closed_stderr_stops_nothing():
    stream = io.StringIO()
    stream.close()
    logger(stream).info("event")
