"""Every limit of pipelines holds: at it a result, one past it its refusal."""

import pytest

from tests.serve.limit_cases_pipelines import CHECKS, GROUP


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with GROUP.served(tmp_path_factory.mktemp("models")) as server:
        yield server


@pytest.mark.parametrize("key", GROUP.cases)
def test_at_the_limit_is_served_and_one_past_it_is_refused(server, key):
    GROUP.cases[key](server)


@pytest.mark.parametrize("key", CHECKS)
def test_at_the_limit_a_pipeline_loads_and_past_it_it_says_why_not(tmp_path, key):
    CHECKS[key](tmp_path)
