"""Every limit of decoding holds: at it a result, one past it its refusal, in JSON and in gRPC."""

import pytest

from tests.serve.limit_cases_decode import GROUP


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with GROUP.served(tmp_path_factory.mktemp("models")) as server:
        yield server


@pytest.mark.parametrize("key", GROUP.cases)
def test_at_the_limit_is_served_and_one_past_it_is_refused(server, key):
    GROUP.cases[key](server)
