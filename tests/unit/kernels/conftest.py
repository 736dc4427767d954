"""Kernels compiled by earlier runs are used again: compiling all of them takes longer than all of their tests."""

from pathlib import Path

import pytest

from servekit.kernels import compiling

CACHE = Path(__file__).parents[3] / ".pytest_cache"


@pytest.fixture(scope="session", autouse=True)
def kernel_cache():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(CACHE))
        compiling.cache_folder.cache_clear()
        yield compiling.cache_folder()
    compiling.cache_folder.cache_clear()
