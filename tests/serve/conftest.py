"""What a test gets that asks for a server and has no wishes of its own; a file with wishes defines its own `server`."""

import pytest

from tests.serve import models
from tests.serve.alive import unharmed
from tests.serve.process import serving


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    models.ident(folder)
    models.tiny(folder)
    with serving(folder) as process:
        yield process


@pytest.fixture(params=["http", "grpc"])
def address(server, request):
    """Each test runs on both data ports, and leaves the server as it was."""
    with unharmed(server):
        yield server.data_ports[request.param]
