from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servekit.config.effective import CONNECTION_BYTES, HEADROOM, Machine, resolve
from servekit.config.limits import Limits
from servekit.config.schema import ModelSettings
from servekit.errors import ConfigError
from servekit.repository.model import Model

MIB = 2**20


def machine(memory_mib, files=1_048_576):
    return Machine(memory_mib * MIB, "cgroup limit", files, 80 * MIB)


def model(name="tiny", file_bytes=0, **settings):
    return Model(name, "1", Path("/models/tiny.onnx"), file_bytes, ModelSettings(name=name, **settings))


def numbers(effective):
    limits = effective.limits
    return limits.memory_bytes_max // MIB, limits.connections_max, limits.in_flight_bytes_max // MIB


def test_a_pod_of_a_gibibyte():
    effective = resolve(Limits(), machine(1024), [model()])
    assert numbers(effective) == (921, 2693, 210)
    assert effective.limits.connections_peer_max == 1346
    assert effective.limits.model_in_flight_bytes_max == effective.limits.in_flight_bytes_max


def test_bodies_are_at_most_half_of_what_may_be_in_flight():
    limits = resolve(Limits(), machine(512), [model()]).limits
    assert limits.request_body_bytes_max == limits.in_flight_bytes_max // 2
    assert limits.response_body_bytes_max == limits.in_flight_bytes_max // 2
    large = resolve(Limits(), machine(16_384), [model()]).limits
    assert (large.request_body_bytes_max, large.response_body_bytes_max) == (64 * MIB, 256 * MIB)


def test_with_two_models_one_gets_at_most_half():
    limits = resolve(Limits(), machine(4096), [model("a"), model("b")]).limits
    assert limits.model_in_flight_bytes_max == limits.in_flight_bytes_max // 2


def test_open_files_bound_the_connections():
    assert resolve(Limits(), machine(65_536, files=1024), [model()]).limits.connections_max == 512
    assert resolve(Limits(), machine(65_536), [model()]).limits.connections_max == 10_000


def test_what_is_configured_holds():
    chosen = Limits(memory_bytes_max=2**30, connections_max=7, connections_peer_max=3, in_flight_bytes_max=64 * MIB)
    effective = resolve(chosen, machine(65_536), [model()])
    assert numbers(effective) == (1024, 7, 64)
    assert effective.limits.connections_peer_max == 3
    assert {line.reason for line in effective.lines if line.key == "connections_max"} == {"as configured"}


def test_the_models_may_leave_less_than_a_quarter():
    effective = resolve(Limits(), machine(1024), [model(file_bytes=500 * MIB)])
    assert effective.limits.in_flight_bytes_max // MIB == 149
    reason = next(line.reason for line in effective.lines if line.key == "in_flight_bytes_max")
    assert reason == "what 564 MiB of models and 2693 connections leave"


@pytest.mark.parametrize(
    ("limits", "memory_mib", "models", "told"),
    [
        (Limits(), 80, [model()], "the process alone takes 80 MiB; give it more memory"),
        (
            Limits(),
            1024,
            [model(file_bytes=700 * MIB)],
            "0 bytes would be left for requests in flight, at least 16 MiB",
        ),
        (Limits(in_flight_bytes_max=2**30), 1024, [model()], "in_flight_bytes_max is 1 GiB, at most 649.6 MiB fit"),
        (Limits(connections_max=40_000), 1024, [model()], "fewer connections"),
        (Limits(), 1024, [model(arena_bytes_max=2**30)], "fewer models"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_arithmetic(limits, memory_mib, models, told):
    with pytest.raises(ConfigError, match=told):
        resolve(limits, machine(memory_mib), models)


@given(
    st.integers(min_value=128, max_value=1_000_000),
    st.integers(min_value=64, max_value=10**6),
    st.lists(st.integers(min_value=0, max_value=2**33), max_size=4),
)
def test_whatever_is_let_through_fits(memory_mib, files, models):
    found = [model(f"m{position}", file_bytes) for position, file_bytes in enumerate(models)]
    try:
        limits = resolve(Limits(), machine(memory_mib, files), found).limits
    except ConfigError:
        return
    arena = 64 * MIB * len(found)
    total = 80 * MIB + sum(models) + arena + limits.connections_max * CONNECTION_BYTES + limits.in_flight_bytes_max
    assert HEADROOM * total <= limits.memory_bytes_max + 1
    assert limits.in_flight_bytes_max >= 16 * MIB
    assert limits.request_body_bytes_max <= limits.in_flight_bytes_max // 2
    assert 1 <= limits.connections_max <= min(10_000, max(1, files // 2))


def test_this_machine_is_read():
    here = Machine.here()
    assert here.memory_bytes > 0
    assert here.files_max > 0
    assert here.process_bytes >= 80 * MIB
