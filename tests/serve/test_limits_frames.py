"""Every limit of HTTP/2 holds: at it all is well, one past it the stream or the connection is told to go."""

import pytest

from tests.serve.limit_cases_frames import GROUP, IN_FLIGHT


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with GROUP.served(tmp_path_factory.mktemp("models")) as server:
        yield server


@pytest.mark.parametrize("key", GROUP.cases)
def test_at_the_limit_all_is_well_and_one_past_it_is_told_to_go(server, key):
    GROUP.cases[key](server)


@pytest.mark.parametrize("key", IN_FLIGHT.cases)
def test_requests_past_the_limit_wait_in_their_connection(tmp_path, key):
    with IN_FLIGHT.served(tmp_path) as server:
        IN_FLIGHT.cases[key](server)
