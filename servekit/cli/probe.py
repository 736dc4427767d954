"""`servekit probe`: what a kubelet runs inside the container, as it reaches neither loopback nor a Unix socket."""

import os
import socket
import sys
from http.client import HTTPConnection, HTTPException

import click

from servekit.errors import ExitCode

READY_PATH = "/v2/health/ready"
LIVE_PATH = "/v2/health/live"
HTTP_OK = 200


class UnixConnection(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Opens the socket in place of an address."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@click.command("probe")
@click.option("--uds", metavar="PATH", envvar="SERVEKIT__DATA__UDS", help="Ask over this Unix socket.")
@click.option("--host", metavar="HOST", default="127.0.0.1", show_default=True, help="Address of the data port.")
@click.option(
    "--port",
    "--http-port",
    type=click.IntRange(1, 65535),
    envvar=["SERVEKIT__DATA__PORT", "SERVEKIT__DATA__HTTP_PORT"],
    default=8000,
    show_default=True,
    help="Data port.",
)
@click.option("--live", is_flag=True, help="Ask only whether the process answers, for a liveness probe.")
@click.option("--timeout-ms", type=click.IntRange(1), default=1000, show_default=True, help="Longest wait.")
def command(uds: str | None, host: str, port: int, timeout_ms: int, *, live: bool) -> None:
    """Exit with 0 if the server is ready, else with 1 and the reason."""
    asked = uds or f"{host}:{port}"
    timeout_s = timeout_ms / 1000
    connection = UnixConnection(uds, timeout_s) if uds else HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", LIVE_PATH if live else READY_PATH)
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        click.echo(f"servekit: {asked} does not answer: {_reason(error)}", err=True)
        sys.exit(ExitCode.FAILED)
    finally:
        connection.close()
    if status != HTTP_OK:
        click.echo(f"servekit: {asked} is not {'live' if live else 'ready'}: status {status}", err=True)
        sys.exit(ExitCode.FAILED)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return str(error).lower() or type(error).__name__
