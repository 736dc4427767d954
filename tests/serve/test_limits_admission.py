"""Every limit of admission, batches and runs holds; whoever is past it is told while the others are served."""

from contextlib import ExitStack

import pytest

from tests.serve.alive import waited
from tests.serve.ballast import Ballast
from tests.serve.limit_cases import RESOURCE_EXHAUSTED, Group, refused, served
from tests.serve.limit_cases_admission import GROUPS, MEMORY, MIB, asked, called
from tests.serve.raw_http import get, raw_connection


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Started when first asked for, and ended when the next one is."""
    with ExitStack() as stack:
        current = {}

        def server(group):
            if group not in current:
                stack.pop_all().close()
                current.clear()
                current[group] = stack.enter_context(GROUPS[group].served(tmp_path_factory.mktemp(group)))
            return current[group]

        yield server


@pytest.mark.parametrize(("group", "key"), [(name, key) for name, group in GROUPS.items() for key in group.cases])
def test_at_the_limit_is_served_and_one_past_it_is_told(servers, group, key):
    GROUPS[group].cases[key](servers(group))


def test_memory_is_refused_in_steps_and_given_back(tmp_path):
    ballast = Ballast(tmp_path)
    group = Group(MEMORY.limits, MEMORY.models, MEMORY.arguments, ballast.environment)
    with group.served(tmp_path) as server, raw_connection(server) as idle:
        served(idle.ask(get("/v2/health/live")))
        ballast.fill(server, 70)
        served(asked(server, 2 * MIB))
        ballast.fill(server, 85)
        assert idle.closed()
        served(asked(server, 2 * MIB))
        ballast.fill(server, 92)
        waited(lambda: is_refused(asked(server, 2 * MIB)))
        served(asked(server, 1000))
        ballast.fill(server, 97)
        waited(lambda: is_refused(asked(server, 1000)))
        refused(called(server), RESOURCE_EXHAUSTED, "memory")
        ballast.fill(server, 70)
        waited(lambda: served(asked(server, 2 * MIB)))
        served(called(server))


def is_refused(answer):
    assert answer.status != 200
    refused(answer, 503, "memory")
