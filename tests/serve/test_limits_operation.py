"""Every limit that an operator meets holds: loading, the management port, logs and the drain."""

import pytest

from tests.serve.limit_cases_operation import CHECKS, GROUPS


@pytest.mark.parametrize("key", CHECKS)
def test_at_the_limit_a_model_loads_and_one_past_it_it_does_not(tmp_path, key):
    CHECKS[key](tmp_path)


@pytest.fixture(scope="module")
def managed(tmp_path_factory):
    with GROUPS["managed"].served(tmp_path_factory.mktemp("managed")) as server:
        yield server


@pytest.mark.parametrize("key", GROUPS["managed"].cases)
def test_the_management_port_and_the_log_keep_their_limits(managed, key):
    GROUPS["managed"].cases[key](managed)


@pytest.mark.parametrize("group", ["delayed", "missed"])
def test_the_drain_keeps_its_times(tmp_path, group):
    with GROUPS[group].served(tmp_path) as server:
        for drive in GROUPS[group].cases.values():
            drive(server)
