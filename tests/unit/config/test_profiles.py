import pytest

from servekit.config.profiles import Profiles, resolve


def test_off_keeps_none_and_says_nothing():
    assert resolve(None, {"HOME": "/root"}) == Profiles(None)


def test_auto_is_the_users_cache(tmp_path):
    assert resolve("auto", {"HOME": str(tmp_path)}).folder == tmp_path / ".cache" / "servekit" / "profiles"
    environment = {"HOME": "/nowhere", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert resolve("auto", environment).folder == tmp_path / "cache" / "servekit" / "profiles"


def test_a_relative_cache_folder_is_passed_over_as_its_specification_says(tmp_path):
    environment = {"HOME": str(tmp_path), "XDG_CACHE_HOME": "cache"}
    assert resolve("auto", environment).folder == tmp_path / ".cache" / "servekit" / "profiles"


def test_a_folder_is_taken_as_named_and_not_made(tmp_path):
    assert resolve(str(tmp_path / "a" / "b")) == Profiles(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("environment", [{}, {"HOME": ""}, {"HOME": "relative"}])
def test_without_a_home_none_are_kept_and_a_warning_says_so(environment):
    found = resolve("auto", environment)
    assert found.folder is None
    assert "no home folder found" in found.warnings[0]


@pytest.mark.parametrize("beneath", ["file", "file/profiles", "closed/profiles"])
def test_what_cannot_be_written_is_a_warning(monkeypatch, tmp_path, beneath):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "closed").mkdir()
    # Root may write anywhere: what the system would say to others is said here.
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path / "closed")
    found = resolve(str(tmp_path / beneath))
    assert found.folder is None
    assert f"{tmp_path / beneath.split('/')[0]} cannot be written" in found.warnings[0]
