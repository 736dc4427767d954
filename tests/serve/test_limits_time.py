"""Every limit of time holds: whoever is in time is served, whoever is late is told so or let go, and not much later."""

import pytest

from tests.serve.limit_cases_time import GROUPS


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Started when first asked for; each group has its own."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        started = {}

        def server(group):
            if group not in started:
                started[group] = stack.enter_context(GROUPS[group].served(tmp_path_factory.mktemp(group)))
            return started[group]

        yield server


@pytest.mark.parametrize(("group", "key"), [(name, key) for name, group in GROUPS.items() for key in group.cases])
def test_whoever_is_in_time_is_served_and_whoever_is_late_is_told(servers, group, key):
    GROUPS[group].cases[key](servers(group))
