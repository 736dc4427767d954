"""Pipelines to begin with, one a file: copied beside a model as `model.yaml`, and changed to fit it."""

from pathlib import Path

_FOLDER = Path(__file__).parent


def recipes() -> tuple[str, ...]:
    """Their names."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def recipe(name: str) -> bytes:
    """The text of one."""
    return (_FOLDER / f"{name}.yaml").read_bytes()
