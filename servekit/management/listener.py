"""The management port: bound early, so that a wrong address is told at once; listening once models are ready."""

import socket
from collections.abc import Callable
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from servekit.errors import BindError
from servekit.logs import Logger
from servekit.plan import ManagementPlan
from servekit.snapshot import Source

if TYPE_CHECKING:
    import uvicorn

START_S_MAX = 30.0
HEAD_BYTES_MAX = 16_384
BACKLOG = 128
IDLE_S_MAX = 75


class Listener:
    """A bound address, then a thread that answers on it until the process ends."""

    def __init__(self, bound: socket.socket, plan: ManagementPlan) -> None:
        self._socket = bound
        self._plan = plan

    @classmethod
    def bind(cls, plan: ManagementPlan) -> "Listener":
        """Takes the address; raises `BindError`."""
        try:
            bound = _bound(plan.host, plan.port)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise BindError(
                f"management address {plan.host}:{plan.port}: {reason}; "
                "choose another with --management-host or --management-port"
            ) from None
        return cls(bound, plan)

    @property
    def address(self) -> str:
        """Host and port as bound."""
        host, port = self._socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def start(self, source: Source, logger: Logger) -> str:
        """Answers from now on, in a thread of its own; returns the address."""
        # Imported here: these cost a quarter of the start, and the data ports do not wait for them.
        import uvicorn

        from servekit.management.application import application
        from servekit.management.forwarding import forward_logs

        forward_logs(logger)
        started = Event()

        class Server(uvicorn.Server):
            """Tells when it listens."""

            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                """Listens, then says so."""
                await super().startup(sockets)
                started.set()

        app = application(source, self.address, self._plan)
        server = Server(self._uvicorn_config(app))
        thread = Thread(target=server.run, args=([self._socket],), name="servekit-management", daemon=True)
        thread.start()
        if not started.wait(START_S_MAX) or not server.started:
            raise BindError(f"management address {self.address} cannot be listened on; choose another")
        return self.address

    def _uvicorn_config(self, app: Callable[..., Any]) -> "uvicorn.Config":
        import uvicorn

        from servekit.management.connections import bounded

        return uvicorn.Config(
            app,
            loop="asyncio",
            http=bounded(self._plan.connections_max),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=IDLE_S_MAX,
            h11_max_incomplete_event_size=HEAD_BYTES_MAX,
        )


def _bound(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound
