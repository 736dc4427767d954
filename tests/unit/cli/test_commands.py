import json
import subprocess
import sys

import pytest

from servekit import __version__


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "servekit", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "/usr/bin:/bin"} | environment,
    )


def test_version():
    assert run("--version").stdout == f"servekit {__version__}\n"


def test_help_lists_the_commands():
    text = run("--help").stdout
    assert [word for word in ("serve", "check", "config", "probe") if f"\n  {word} " not in text] == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["serv"], "No such command 'serv'"),
        (["serve", "--prot", "1"], "--port"),
        (["serve", "/missing.onnx"], "servekit: no file or folder /missing.onnx; check the path"),
        (["serve", "--http-port", "x"], "servekit: flag --http-port: found 'x', a whole number is allowed"),
        (["serve", "--config", "/missing.yaml"], "servekit: configuration file /missing.yaml: no such file"),
        (["serve", "--memory-bytes-max", "1MiB"], "servekit: memory_bytes_max is 1 MiB, the process alone takes"),
        (["check", "/missing.onnx"], "servekit: no file or folder"),
        (["config", "--device", "gpu"], "'auto', 'cpu' or 'cuda' is allowed"),
    ],
)
def test_wrong_usage_exits_with_2_and_tells_what_is_right(arguments, told):
    ended = run(*arguments)
    assert ended.returncode == 2
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr


def test_config_prints_what_holds():
    text = run("config", "--http-port", "9000", SERVEKIT__LOG__LEVEL="debug").stdout
    assert "  http_port: 9000\n" in text
    assert "  level: debug\n" in text


def test_config_prints_the_reference():
    from servekit.config.reference import render_reference

    assert run("config", "--reference").stdout == render_reference()


SERVE_IMPORTS = (
    "import sys, servekit.cli, servekit.cli.serve, servekit.server; from servekit.config import load; load()"
)
HEAVY = (
    "numpy onnxruntime starlette uvicorn anyio grpc httpx numba rich jinja2 markdown_it prometheus_client asyncio yaml"
)


def test_serving_imports_nothing_heavy_before_the_ports_are_ready():
    code = f"{SERVE_IMPORTS}; import json; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert sorted(set(HEAVY.split()) & set(loaded)) == []


def test_a_signal_while_the_configuration_is_read_is_kept_for_the_servers_life():
    code = (
        "import os, signal\n"
        "from servekit.cli import commands, serving\n"
        "def outcome(arguments): os.kill(os.getppid(), signal.SIGTERM); return 0\n"
        "commands.outcome = outcome\n"
        "try: serving.run(['serve'])\n"
        "except SystemExit: print(signal.sigpending() == {signal.SIGTERM})\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"


def test_a_probe_imports_no_schema():
    code = "import sys, servekit.cli.probe; print('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
