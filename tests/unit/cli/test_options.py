from pathlib import Path

import click
from click.testing import CliRunner

from servekit.cli.options import config_options, configuration, flagged_keys
from servekit.cli.serve import command as serve
from servekit.config.loading import flag_name

LIMITS = """connections_max request_body_bytes_max response_body_bytes_max request_rows_max memory_bytes_max
in_flight_bytes_max model_in_flight_bytes_max queue_requests_max model_queue_requests_max latency_target_ms
queue_wait_ms_max deadline_ms_max batch_rows_max batch_bytes_max drain_delay_ms drain_ms_max"""
FLAGS = """--host --http-port --grpc-port --port --uds --management-host --management-port --device --shards --runners
--allow-code
--mode --trust-batching --server-timing --log-format --log-level"""
VALUES = {
    "host": "10.0.0.1",
    "uds": "/run/s",
    "device": "cpu",
    "mode": "late",
    "server_timing": "always",
    "format": "json",
    "level": "debug",
    "drain_delay_ms": "24999",
}
"""Of the flags that take no 26000."""


def test_the_keys_that_people_move_often_have_flags():
    expected = FLAGS.split() + ["--" + key.replace("_", "-") for key in LIMITS.split()]
    assert sorted(flag_name(key) for key, _ in flagged_keys()) == sorted(expected)


def test_serve_has_each_of_them_and_config():
    options = {option for parameter in serve.params for option in parameter.opts}
    assert {flag_name(key) for key, _ in flagged_keys()} | {"--config", "--model-name"} <= options


def test_every_flag_reaches_its_key():
    seen = {}

    @click.command
    @config_options
    def command(file, **flags):
        seen.update(config=configuration(file, flags))

    for key, about in flagged_keys():
        section, name = key
        value = "True" if about.annotation is bool else VALUES.get(name, "26000")
        given = [flag_name(key)] if about.annotation is bool else [flag_name(key), value]
        ended = CliRunner().invoke(command, given, catch_exceptions=False)
        assert ended.exit_code == 0, about
        assert str(getattr(getattr(seen["config"], section), name)) == value


def test_flags_that_are_not_given_change_nothing(monkeypatch):
    monkeypatch.setenv("SERVEKIT__LIMITS__BATCH_ROWS_MAX", "5")
    assert configuration(None, {"limits__batch_rows_max": None}).limits.batch_rows_max == 5
    assert configuration(None, {"limits__batch_rows_max": "6"}).limits.batch_rows_max == 6


def test_the_help_tells_each_default():
    text = CliRunner().invoke(serve, ["--help"], terminal_width=300).output
    assert "[default: 64 MiB]" in text
    assert "[default: 8000]" in text
    assert Path(__file__).name not in text
