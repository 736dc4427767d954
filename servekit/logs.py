"""Lines on stderr, for people or for machines: limited in rate and in length, so that no input can flood them."""

import json
import sys
import time
from collections.abc import Callable
from threading import Lock
from typing import Final, TextIO

LEVELS: Final = ("debug", "info", "warning", "error")

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:/[],+@%")


class _Site:
    """One kind of line: how many went out in this second, and how many were held back."""

    __slots__ = ("lines", "second", "suppressed")

    def __init__(self) -> None:
        self.second = -1
        self.lines = 0
        self.suppressed = 0


class Logger:
    """Writes one line for one event. Events are fixed words; whatever varies goes into fields."""

    def __init__(
        self,
        level: str = "info",
        *,
        as_json: bool = False,
        lines_per_second_max: int = 10,
        field_bytes_max: int = 256,
        stream: TextIO | None = None,
    ) -> None:
        self._threshold = LEVELS.index(level)
        self._as_json = as_json
        self._lines_per_second_max = lines_per_second_max
        self._field_bytes_max = field_bytes_max
        self._stream = stream
        # Guards `_sites` and keeps lines of several threads whole; held for one write.
        self._lock = Lock()
        self._sites: dict[str, _Site] = {}
        self.now: Callable[[], float] = time.time

    def debug(self, event: str, **fields: object) -> None:
        """Something only a developer wants to see."""
        self._write("debug", event, fields)

    def info(self, event: str, **fields: object) -> None:
        """Something an operator expects."""
        self._write("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Something an operator should look at."""
        self._write("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Something that does not work."""
        self._write("error", event, fields)

    def _write(self, level: str, event: str, fields: dict[str, object]) -> None:
        if LEVELS.index(level) < self._threshold:
            return
        now = self.now()
        with self._lock:
            site = self._sites.setdefault(event, _Site())
            if int(now) != site.second:
                site.second, site.lines = int(now), 0
            if site.lines >= self._lines_per_second_max:
                site.suppressed += 1
                return
            site.lines += 1
            if site.suppressed:
                fields = {**fields, "suppressed": site.suppressed}
                site.suppressed = 0
            line = self._json(level, event, fields, now) if self._as_json else self._text(level, event, fields, now)
            stream = self._stream or sys.stderr
            try:
                stream.write(line + "\n")
                stream.flush()
            except (OSError, ValueError):
                # Nobody reads stderr any more; serving goes on.
                pass

    def _json(self, level: str, event: str, fields: dict[str, object], now: float) -> str:
        cut = {name: self._cut(value) for name, value in fields.items()}
        return json.dumps({"event": event, **cut, "level": level, "time": _timestamp(now)}, separators=(",", ":"))

    def _text(self, level: str, event: str, fields: dict[str, object], now: float) -> str:
        words = [_timestamp(now), level, event]
        for name, value in fields.items():
            if value is None:
                continue
            shown = self._cut(value)
            text = ",".join(str(part) for part in shown) if isinstance(shown, list) else str(shown)
            words.append(f"{name}={text if text and _PLAIN.issuperset(text) else json.dumps(text)}")
        return " ".join(words)

    def _cut(self, value: object) -> object:
        """Escapes and cuts one field; lists are cut part by part."""
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, list | tuple):
            return [self._cut(part) for part in value]
        escaped = str(value).encode("unicode_escape").decode("ascii") if not _printable(str(value)) else str(value)
        if len(escaped.encode()) <= self._field_bytes_max:
            return escaped
        return escaped.encode()[: self._field_bytes_max].decode(errors="ignore") + "…"


def _printable(text: str) -> bool:
    return all(character.isprintable() for character in text)


def _timestamp(now: float) -> str:
    seconds, milliseconds = divmod(int(now * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{milliseconds:03d}Z"
