"""File, environment and flags become one configuration; the later source wins, key by key."""

import json
import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from servekit.config.schema import SECTIONS, Config, ModelSettings
from servekit.errors import ConfigError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

ENVIRONMENT_PREFIX = "SERVEKIT__"
CONFIG_FILE_BYTES_MAX = 1 << 20
_FOUND_CHARACTERS_MAX = 64
_PATHS = frozenset({"path", "samples"})
"""Keys of a model that name files."""

Key = tuple[str, ...]


class Setting(NamedTuple):
    """One key's value and where it stands, in words for a message."""

    key: Key
    value: object
    origin: str


def load(
    file: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    flags: Mapping[Key, str] | None = None,
) -> Config:
    """Reads the three sources; raises `ConfigError` with one line for each fault."""
    settings: dict[Key, Setting] = {}
    for source in (_file(file), _environment(environment), _flags(flags or {})):
        settings.update((setting.key, setting) for setting in source)
    return _parsed(settings)


def flag_name(key: Key) -> str:
    """The flag of a key: `--http-port`, `--management-port`, `--queue-requests-max`."""
    section, name = key
    return "--" + (f"{section}-{name}" if section in {"management", "log"} else name).replace("_", "-")


def _file(path: Path | None) -> Iterator[Setting]:
    if path is None:
        return
    for section, keys in _read_yaml(path).items():
        origin = f"{path}: {section}"
        if section == "models":
            yield Setting(("models",), _anchored(keys, path.absolute().parent), origin)
            continue
        _known(section, [*SECTIONS, "models"], f"section '{section}' in {path}")
        if keys is None:
            continue
        if not isinstance(keys, dict):
            raise ConfigError(f"{origin}: a table of keys is allowed, found {_shown(keys)}")
        for name, value in keys.items():
            _known(name, SECTIONS[section].model_fields, f"key '{section}.{name}' in {path}")
            yield Setting((section, name), value, f"{origin}.{name}")


def _read_yaml(path: Path) -> dict[str, Any]:
    from servekit.config import yaml_reading

    try:
        with path.open("rb") as stream:
            text = stream.read(CONFIG_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(
            f"configuration file {path}: {(error.strerror or 'unreadable').lower()}; check --config"
        ) from None
    if len(text) > CONFIG_FILE_BYTES_MAX:
        raise ConfigError(f"configuration file {path} has more than {CONFIG_FILE_BYTES_MAX} bytes; make it smaller")
    return yaml_reading.table(text, str(path))


def _anchored(models: object, folder: Path) -> object:
    """Makes relative paths of `models` relative to the file that names them."""
    if not isinstance(models, list):
        return models
    return [
        {
            name: str(folder / value) if name in _PATHS and isinstance(value, str) else value
            for name, value in model.items()
        }
        if isinstance(model, dict)
        else model
        for model in models
    ]


def _environment(environment: Mapping[str, str]) -> Iterator[Setting]:
    """Names with single underscores are not ours: Kubernetes sets SERVEKIT_PORT for a Service of that name."""
    for name in sorted(environment):
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        section, _, key = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
        origin = f"environment {name}"
        if section == "models" and not key:
            yield Setting(("models",), _json(environment[name], origin), origin)
            continue
        _known(section, [*SECTIONS, "models"], f"section '{section}' in {origin}")
        _known(key, SECTIONS[section].model_fields if section in SECTIONS else (), f"key '{section}.{key}' in {origin}")
        yield Setting((section, key), environment[name], origin)


def _json(text: str, origin: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        raise ConfigError(f'{origin}: a JSON list is allowed, such as [{{"name": "tiny"}}]') from None


def _flags(flags: Mapping[Key, str]) -> Iterator[Setting]:
    for key, value in flags.items():
        yield Setting(key, value, f"flag {flag_name(key)}")


def _known(name: object, allowed: Mapping[str, object] | list[str] | tuple[()], what: str) -> None:
    if name in allowed:
        return
    nearest = get_close_matches(str(name), list(allowed), n=1, cutoff=0.5)
    hint = f"did you mean '{nearest[0]}'?" if nearest else f"known here: {', '.join(allowed) or 'none'}"
    raise ConfigError(f"unknown {what}; {hint}")


def _parsed(settings: Mapping[Key, Setting]) -> Config:
    from pydantic import ValidationError

    tree: dict[str, Any] = {}
    for setting in settings.values():
        if len(setting.key) == 1:
            tree[setting.key[0]] = setting.value
        else:
            tree.setdefault(setting.key[0], {})[setting.key[1]] = setting.value
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise ConfigError("\n".join(dict.fromkeys(_described(detail, settings) for detail in details))) from None


def _described(detail: "ErrorDetails", settings: Mapping[Key, Setting]) -> str:
    """One fault, told by the source that set the value rather than by the schema."""
    where = tuple(str(part) for part in detail["loc"])
    setting = settings.get(where[:2]) or settings.get(where[:1])
    if where[:1] == ("models",) and setting is not None:
        name = f"models[{where[1]}].{where[2]}" if len(where) > 2 else ".".join(where)
        if detail["type"] == "extra_forbidden":
            nearest = get_close_matches(where[2], list(ModelSettings.model_fields), n=1, cutoff=0.5)
            hint = f"did you mean '{nearest[0]}'?" if nearest else f"known: {', '.join(ModelSettings.model_fields)}"
            return f"unknown key '{name}' in {setting.origin.removesuffix(': models')}; {hint}"
        return f"{name} in {setting.origin.removesuffix(': models')}: {_expectation(detail)}"
    origin = setting.origin if setting else ".".join(where[:2])
    # What sections say together is no one key's fault, and its text names them.
    return f"{origin}: {_expectation(detail)}" if origin else _expectation(detail)


def _expectation(detail: "ErrorDetails") -> str:
    context = detail.get("ctx", {})
    found = f"found {_shown(detail['input'])}"
    match detail["type"]:
        case "greater_than_equal":
            return f"{found}, {context['ge']} or more is allowed"
        case "greater_than":
            return f"{found}, more than {context['gt']:g} is allowed"
        case "bool_parsing" | "bool_type":
            return f"{found}, true or false is allowed"
        case "less_than_equal":
            return f"{found}, at most {context['le']} is allowed"
        case "literal_error":
            return f"{found}, {context['expected']} is allowed"
        case "value_error" if isinstance(detail["input"], dict):
            return str(context["error"])
        case "value_error":
            return f"{found}, {context['error']}"
        case _:
            message = detail["msg"]
            return f"{found}, {message[:1].lower()}{message[1:]}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _FOUND_CHARACTERS_MAX else text[:_FOUND_CHARACTERS_MAX] + "…"
