"""What the tests of pipelines share."""

import pytest


@pytest.fixture
def folder(tmp_path):
    """A model's folder: `write(name, text)` puts files into it."""

    def write(name, text):
        (tmp_path / name).write_text(text)
        return tmp_path

    return write
