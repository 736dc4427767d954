"""Flags made from the schema: a key that carries the mark has a flag, with the same words and the same default."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from servekit.config import Config, load
from servekit.config.loading import Key, flag_name
from servekit.config.schema import SECTIONS
from servekit.sizes import sized

Decorated = TypeVar("Decorated", bound=Callable[..., object])

_KIBIBYTE = 1024


def config_options(command: Decorated) -> Decorated:
    """Adds `--config` and every flag of the schema; their values arrive as `file` and `flags`."""
    for key, about in reversed(list(flagged_keys())):
        # A switch is given without a value; it reaches the schema as the text that the environment would have.
        form = (
            {"is_flag": True, "flag_value": "true"} if about.annotation is bool else {"metavar": _metavar(key, about)}
        )
        command = click.option(flag_name(key), "__".join(key), help=_help(key, about), default=None, **form)(command)
    file = click.option(
        "--config", "file", type=click.Path(path_type=Path), help="YAML file; environment and flags win over it."
    )
    return file(command)


def configuration(file: Path | None, flags: Mapping[str, str | None]) -> Config:
    """The configuration of file, environment and the flags that were given."""
    given: dict[Key, str] = {tuple(name.split("__", 1)): value for name, value in flags.items() if value is not None}
    return load(file, flags=given)


def flagged_keys() -> Iterator[tuple[Key, FieldInfo]]:
    """Every key that has a flag, in the schema's order."""
    for section, schema in SECTIONS.items():
        for name, about in schema.model_fields.items():
            if _extra(about).get("flag"):
                yield (section, name), about


def _help(key: Key, about: FieldInfo) -> str:
    text = f"{(about.description or '')[:1].upper()}{(about.description or '')[1:]}"
    if about.annotation is bool:
        return f"{text}."
    if about.default is None:
        default = _extra(about).get("automatic") or "off"
    elif "bytes" in key[1] and about.default >= _KIBIBYTE:
        default = sized(about.default)
    else:
        default = about.default
    return f"{text}.  [default: {default}]"


def _metavar(key: Key, about: FieldInfo) -> str:
    if get_origin(about.annotation) is Literal:
        return "|".join(get_args(about.annotation))
    name = key[1]
    if name.endswith("port"):
        return "PORT"
    if "bytes" in name:
        return "BYTES"
    return {"host": "HOST", "uds": "PATH"}.get(name, "NUMBER")


def _extra(about: FieldInfo) -> dict[str, Any]:
    return about.json_schema_extra if isinstance(about.json_schema_extra, dict) else {}
