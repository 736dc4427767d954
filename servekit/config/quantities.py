"""Numbers as people write them: whole, positive, bytes with a unit."""

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

INTEGER_MAX = 2**63 - 1
"""What the native side and YAML both hold."""

_UNITS = {
    "": 1,
    "b": 1,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
}
_BYTES = re.compile(r"([0-9]{1,19})(?:\.([0-9]{1,6}))?[ ]?([A-Za-z]{0,3})")
_DIGITS = re.compile(r"-?[0-9]{1,19}")


def whole(value: object) -> object:
    """Passes a whole number, also as the text a flag or the environment brings; 1.0, true and "1e3" are none."""
    if isinstance(value, str) and _DIGITS.fullmatch(value.strip()):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("a whole number is allowed")


def byte_count(value: object) -> object:
    """Reads `67108864`, `64MiB` or `1.5 GiB`; a fraction must come out as whole bytes."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = _BYTES.fullmatch(value.strip()) if isinstance(value, str) else None
    unit = _UNITS.get(found[3].lower()) if found else None
    if found is None or unit is None:
        raise ValueError("a whole number of bytes or one with a unit, such as 64MiB, is allowed")
    fraction = found[2] or ""
    count, rest = divmod(int(found[1] + fraction) * unit, 10 ** len(fraction))
    if rest:
        raise ValueError("a whole number of bytes is allowed, this is a fraction of one")
    return count


def switched_off(value: object) -> object:
    """Reads `off` as no value; YAML itself reads a bare `off` as false."""
    return None if value is False or (isinstance(value, str) and value.lower() in {"off", "none"}) else value


def automatic(value: object) -> object:
    """Reads `auto` as no value: it is worked out from the machine or the model."""
    return None if isinstance(value, str) and value.lower() == "auto" else value


def switched(value: object) -> object:
    """Reads the false that YAML makes of a bare `off` as the word it was."""
    return "off" if value is False else value


def listed(value: object) -> object:
    """Reads `a,b` from a flag or the environment as a list."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Count = Annotated[int, BeforeValidator(whole), Field(ge=1, le=INTEGER_MAX)]
CountOrZero = Annotated[int, BeforeValidator(whole), Field(ge=0, le=INTEGER_MAX)]
Bytes = Annotated[int, BeforeValidator(byte_count), Field(ge=1, le=INTEGER_MAX)]
AutomaticCount = Annotated[Count | None, BeforeValidator(automatic)]
AutomaticCountOrZero = Annotated[CountOrZero | None, BeforeValidator(automatic)]
AutomaticBytes = Annotated[Bytes | None, BeforeValidator(automatic)]
Port = Annotated[int, BeforeValidator(whole), Field(ge=0, le=65535)]
OptionalPort = Annotated[Port | None, BeforeValidator(switched_off)]
