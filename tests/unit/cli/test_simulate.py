"""`servekit-simulate` runs the simulator that ships with the package."""

import pytest

from servekit.cli import simulate


def output_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        simulate.main(list(arguments))
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_tables_are_printed_and_a_seed_repeats_them(capsys):
    asked = ("--only", "loads", "--model", "A", "--requests", "500", "--seed", "3")
    first = output_of(capsys, *asked)
    assert "Slackline" in first
    assert "|" in first
    assert output_of(capsys, *asked) == first
    assert output_of(capsys, *asked[:-1], "4") != first


def test_the_picture_is_drawn_where_it_is_wanted(capsys, tmp_path):
    target = tmp_path / "goodput.svg"
    assert output_of(capsys, "--svg", str(target), "--requests", "300", "--model", "A") == ""
    assert target.read_text().startswith("<svg")


def test_what_is_not_understood_is_told(capsys):
    with pytest.raises(SystemExit) as ended:
        simulate.main(["--speed", "9"])
    assert "unknown argument '--speed'" in str(ended.value.code)
