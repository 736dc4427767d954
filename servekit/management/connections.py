"""How many connections the management port holds, and for how long one may stay silent."""

import asyncio
from typing import cast

from uvicorn.protocols.http.h11_impl import H11Protocol

SILENT_S_MAX = 10.0


def bounded(connections_max: int) -> type[asyncio.Protocol]:
    """Uvicorn's protocol with a bound: the newcomer past it is closed, and whoever never asks makes room."""

    class Bounded(H11Protocol):
        """One connection."""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            """Closes at once what is past the limit."""
            super().connection_made(cast("asyncio.Transport", transport))
            if len(self.connections) > connections_max:
                self.transport.close()
            else:
                self.loop.call_later(SILENT_S_MAX, self._close_if_silent)

        def _close_if_silent(self) -> None:
            # uvicorn declares it as always set, and sets it with the first request.
            unasked = cast("object | None", self.cycle) is None
            if unasked and not self.transport.is_closing():
                self.transport.close()

    return Bounded
