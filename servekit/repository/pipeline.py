"""The pipeline that belongs to a model, as it is written: in the configuration, or in a file beside the model's.

What it says is not looked at here: one that is broken fails its model, not the start of the others.
"""

from pathlib import Path

from servekit.config.schema import ModelSettings
from servekit.errors import RepositoryError
from servekit.plan import CODE_FILE_NAME, PIPELINE_BYTES_MAX, PIPELINE_FILE_NAME, WrittenPipeline
from servekit.repository.layout import FILE_NAME, Candidate, refuse_link


def pipeline_of(candidate: Candidate, settings: ModelSettings) -> WrittenPipeline | None:
    """The keys of the configuration, which win as a whole; else the file, of the version before that of the model."""
    folder = str(candidate.path.absolute().parent)
    if settings.pipeline:
        return WrittenPipeline(candidate.name, folder, f"models: {candidate.name}", table=settings.pipeline)
    for place in _places(candidate):
        for path in (place / PIPELINE_FILE_NAME, place / CODE_FILE_NAME):
            if path.is_file():
                if not settings.links:
                    refuse_link(candidate, path)
                is_code = path.name == CODE_FILE_NAME
                text = "" if is_code else _text(path)
                return WrittenPipeline(candidate.name, str(place.absolute()), str(path), text=text, is_code=is_code)
    return None


def passed_over(path: Path) -> str | None:
    """A warning about a `model.yaml` that looks as if it were for this model's file, and is not."""
    beside = path.parent / PIPELINE_FILE_NAME
    if path.name == FILE_NAME or not beside.is_file():
        return None
    return f"{beside} is passed over: it belongs to a {FILE_NAME}, found {path.name}; rename the model's file"


def _places(candidate: Candidate) -> list[Path]:
    """A file of any name in a folder of several has no `model.yaml`: it would be everybody's."""
    folder = candidate.path.parent
    if candidate.path.name != FILE_NAME:
        return []
    is_version = folder.name == candidate.version and folder != candidate.root
    return [folder, folder.parent] if is_version else [folder]


def _text(path: Path) -> str:
    """As much of it as may be, and one byte more where it is too long, which is told by who reads it."""
    try:
        with path.open("rb") as stream:
            return stream.read(PIPELINE_BYTES_MAX + 1).decode(errors="surrogateescape")
    except OSError as error:
        raise RepositoryError(f"{path}: {(error.strerror or 'unreadable').lower()}; check its permissions") from None
