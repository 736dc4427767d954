"""What uvicorn and asyncio log goes through our logger, with its limits."""

import logging

from servekit.logs import Logger


class _Forwarding(logging.Handler):
    """Hands records on; the sender's name is the event."""

    def __init__(self, logger: Logger) -> None:
        super().__init__(logging.WARNING)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """One line for one record; of a traceback its last line."""
        error = record.exc_info[1] if record.exc_info else None
        write = self._logger.error if record.levelno >= logging.ERROR else self._logger.warning
        write("management", message=record.getMessage().strip().splitlines()[-1:], error=repr(error) if error else None)


def forward_logs(logger: Logger) -> None:
    """Takes over the loggers of the management thread's libraries."""
    for name in ("uvicorn", "asyncio"):
        source = logging.getLogger(name)
        source.handlers = [_Forwarding(logger)]
        source.propagate = False
