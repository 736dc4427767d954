"""YAML as a table of texts: safe, and a key written twice is a fault instead of a silent loss."""

from typing import Any

import yaml

from servekit.errors import ConfigError

_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Reader(_Loader):  # type: ignore[misc] # which of the two it is depends on how PyYAML was built
    """The safe loader, without duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        """Refuses a key that stands twice in one table."""
        seen: set[object] = set()
        for name, _ in node.value:
            if name.tag == "tag:yaml.org,2002:merge":
                continue
            if name.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{name.value}' stands twice", name.start_mark)
            seen.add(name.value)
        table: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return table


def table(text: bytes, name: str) -> dict[str, Any]:
    """The document's table; an empty document is an empty one."""
    try:
        document = yaml.load(text, Loader=_Reader)  # noqa: S506 # a safe loader, see above
    except yaml.MarkedYAMLError as error:
        line = f"{name}:{error.problem_mark.line + 1}" if error.problem_mark else name
        raise ConfigError(f"{line}: {error.problem or 'not YAML'}; correct it") from None
    except (yaml.YAMLError, RecursionError):
        raise ConfigError(f"{name}: not YAML; correct it") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{name}: a table of sections is allowed, found {type(document).__name__}")
    return {str(section): keys for section, keys in document.items()}
