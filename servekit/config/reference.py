"""The configuration as YAML: every key with its default and a comment, or what holds now.

`python -m servekit.config.reference` writes `configs/reference.yaml`.
"""

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from servekit.config.limits import Frozen
from servekit.config.schema import SECTIONS, Config, ModelSettings
from servekit.sizes import sized

REFERENCE = Path(__file__).parents[2] / "configs" / "reference.yaml"

_INTRODUCTION = """\
# Every key of servekit with its default. Generated from the schema; `servekit config --reference` prints it.
#
# servekit serve --config FILE reads such a file; each key may be left out. SERVEKIT__SECTION__KEY in the environment
# wins over the file, a flag over both. `auto` is worked out from the machine or the model: `servekit check` prints the
# numbers with their arithmetic. Bytes may carry a unit (64MiB).
"""
_COLUMNS = 120
_YAML_WORDS = frozenset({"y", "yes", "n", "no", "on", "true", "false", "null"})
"""Which YAML takes for something else than the text."""
_OFF = frozenset({"port", "http_port", "grpc_port", "uds", "profiles"})


def render_reference() -> str:
    """Every key, its default and what it means."""
    parts = [_INTRODUCTION]
    for section, schema in SECTIONS.items():
        parts.append("\n" + "".join(_comment(schema.__doc__ or "", "")) + f"{section}:\n")
        parts.extend(_described_keys(schema))
    parts.append("\n" + "".join(_comment(ModelSettings.__doc__ or "", "")) + "models: []\n# - name: tiny\n")
    for name, about in ModelSettings.model_fields.items():
        if name != "name":
            parts.append(f"#   {name}: {_value(name, about.default, 'null')}  # {about.description}\n")
    return "".join(parts)


def render(config: Config) -> str:
    """What holds, without comments."""
    lines = []
    for section in SECTIONS:
        lines.append(f"{section}:\n")
        values: Frozen = getattr(config, section)
        lines.extend(f"  {name}: {_value(name, value)}\n" for name, value in values)
    if not config.models:
        return "".join([*lines, "models: []\n"])
    lines.append("models:\n")
    for model in config.models:
        keys = [f"{name}: {_value(name, value, 'null')}\n" for name, value in model if name in model.model_fields_set]
        lines.extend(("  - " if not position else "    ") + text for position, text in enumerate(keys))
    return "".join(lines)


def _described_keys(schema: type[Frozen]) -> Iterator[str]:
    for name, about in schema.model_fields.items():
        extra = about.json_schema_extra if isinstance(about.json_schema_extra, dict) else {}
        notes = [about.description or ""]
        if extra.get("automatic"):
            notes.append(f"auto: {extra['automatic']}")
        if "bytes" in name and isinstance(about.default, int) and about.default >= 1024:
            notes.append(sized(about.default))
        yield from _comment("; ".join(notes), "  ")
        yield f"  {name}: {_value(name, about.default)}\n"


def _value(name: str, value: Any, unset: str = "auto") -> str:  # noqa: ANN401 # whatever the schema holds
    """One value as YAML reads it back; JSON is YAML."""
    if value is None:
        return "off" if name in _OFF else unset
    if isinstance(value, tuple):
        return json.dumps(list(value))
    if isinstance(value, str) and value.isalpha() and value.lower() not in _YAML_WORDS:
        return value
    return json.dumps(value)


def _comment(text: str, indent: str) -> Iterator[str]:
    for line in textwrap.wrap(text, _COLUMNS - len(indent) - 2):
        yield f"{indent}# {line}\n"


if __name__ == "__main__":
    REFERENCE.write_text(render_reference(), encoding="utf-8")
