"""From the text of `model.yaml`, or a table of the same keys, to a pipeline."""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from servekit.config import yaml_reading
from servekit.errors import ConfigError
from servekit.pipelines.faults import meant
from servekit.pipelines.schema import KEYS, MainModel, Pipeline, Step
from servekit.plan import PIPELINE_BYTES_MAX

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_FOUND_CHARACTERS_MAX: Final = 64
_ALIASES: Final = {"options": "with", "taken": "from", "given": "as"}


def read(text: bytes, origin: str) -> Pipeline:
    """Reads a file's text; raises `ConfigError` with one line for each fault."""
    if len(text) > PIPELINE_BYTES_MAX:
        raise ConfigError(f"{origin} has more than {PIPELINE_BYTES_MAX} bytes; make it smaller")
    return parsed(yaml_reading.table(text, origin), origin)


def parsed(table: Mapping[str, Any], origin: str) -> Pipeline:
    """The same of a table, such as the keys of an entry under `models`."""
    try:
        return Pipeline.model_validate(dict(table))
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise ConfigError("\n".join(dict.fromkeys(_described(detail, origin) for detail in details))) from None


def _described(detail: "ErrorDetails", origin: str) -> str:
    where = detail["loc"]
    shown = re.sub(r"\.\[", "[", ".".join(f"[{part}]" if isinstance(part, int) else str(part) for part in where))
    if detail["type"] == "extra_forbidden":
        return f"{origin}: unknown key '{shown}'; {meant(where[-1], _known(where))}"
    place = f"{origin}: {shown}" if shown else origin
    found = repr(detail["input"])
    found = found if len(found) <= _FOUND_CHARACTERS_MAX else found[:_FOUND_CHARACTERS_MAX] + "…"
    match detail["type"]:
        case "value_error" if isinstance(detail["input"], dict):
            return f"{place}: {detail['ctx']['error']}"
        case "value_error":
            return f"{place}: found {found}, {detail['ctx']['error']}"
        case "bool_parsing" | "bool_type":
            return f"{place}: found {found}, true or false is allowed"
        case "tuple_type":
            return f"{place}: found {found}, a list of steps is allowed; write each as '- use: name'"
        case "model_type" | "dict_type":
            return f"{place}: found {found}, a table of keys is allowed"
        case _:
            message = detail["msg"]
            return f"{place}: found {found}, {message[:1].lower()}{message[1:]}"


def _known(where: tuple[int | str, ...]) -> Iterable[str]:
    """Keys that could stand where an unknown one does."""
    if len(where) == 1:
        return KEYS
    fields = MainModel.model_fields if where[0] == "model" else Step.model_fields
    return [_ALIASES.get(name, name) for name in fields]
