"""What stands before every management page: who may ask, and how much may be sent."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from servekit.errors import CATALOGUE

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

OPEN_PATHS = frozenset({"/metrics", "/healthz"})
"""Scrapers and probes ask these by any name; they hold nothing that a web page could misuse."""
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

_BODY_STATUS = next(refusal.http for refusal in CATALOGUE if refusal.label == "body") or 413
_FORBIDDEN_STATUS = 403


class Guard:
    """Refuses what a browser was tricked into sending (a foreign Host, any Origin), and bodies past the limit.

    Nothing here takes a body yet, so every body is only counted and dropped.
    """

    def __init__(self, app: "ASGIApp", hosts: Iterable[str], body_bytes_max: int) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts) | LOOPBACK_NAMES
        self._body_bytes_max = body_bytes_max

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answers by itself what is refused."""
        if scope["type"] != "http":
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        reading = scope["method"] in {"GET", "HEAD"}
        if not (reading and scope["path"] in OPEN_PATHS):
            host = host_name(headers.get(b"host", ""))
            if b"origin" in headers:
                text = "origin found, none is allowed; open the page itself"
                await _refuse(send, _FORBIDDEN_STATUS, "forbidden", text)
                return
            if host not in self._hosts:
                text = "host found that is not this server's; use its address or add the name to management.hosts"
                await _refuse(send, _FORBIDDEN_STATUS, "forbidden", text)
                return
        if not await self._body_fits(headers.get(b"content-length", ""), receive):
            text = f"body past {self._body_bytes_max} bytes, at most those are allowed; send none"
            await _refuse(send, _BODY_STATUS, "body", text)
            return
        await self._app(scope, receive, send)

    async def _body_fits(self, content_length: str, receive: "Receive") -> bool:
        if content_length.isdecimal() and int(content_length[:19]) > self._body_bytes_max:
            return False
        read_bytes, more = 0, True
        while more:
            message = await receive()
            read_bytes += len(message.get("body", b""))
            more = message.get("more_body", False)
            if read_bytes > self._body_bytes_max:
                return False
        return True


def host_name(host: str) -> str:
    """The name in a Host header, without the port: `[::1]:8002` is `::1`."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".")


async def _refuse(send: "Send", status: int, label: str, text: str) -> None:
    import json

    body = json.dumps({"error": text}).encode()
    fields = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"servekit-refusal", label.encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})
