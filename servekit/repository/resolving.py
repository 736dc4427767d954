"""Names and settings for what the paths hold: every model once, under a name that a URL can carry."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from servekit.config.schema import Config, ModelSettings
from servekit.errors import ConfigError, RepositoryError
from servekit.repository import layout
from servekit.repository.layout import Candidate, refuse_link
from servekit.repository.model import Model
from servekit.repository.pipeline import passed_over, pipeline_of

DEMO = Path(__file__).parent.parent / "demo" / layout.FILE_NAME

_NAME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Repository:
    """The models to serve, in the order of the paths, and what was passed over."""

    models: tuple[Model, ...]
    warnings: tuple[str, ...] = field(default=())


def resolve(config: Config, paths: Sequence[Path] = (), model_name: str | None = None) -> Repository:
    """Finds the models of the command line's paths and of the configuration; without any, the bundled demo."""
    with_path = [settings for settings in config.models if settings.path is not None]
    named = {settings.name: settings for settings in config.models if settings.path is None}
    warnings: list[str] = []
    found: list[tuple[Candidate, ModelSettings | None]] = []
    if not paths and not with_path:
        paths = [DEMO.parent]
    given: list[tuple[Path, ModelSettings | None]] = [(path, None) for path in paths]
    given.extend((Path(settings.path or ""), settings) for settings in with_path)
    for path, settings in given:
        contents = layout.read(path)
        warnings.extend(contents.warnings)
        candidates = _renamed(contents.candidates, settings.name if settings else None, path)
        found.extend((candidate, settings) for candidate in candidates)
    if model_name is not None:
        renamed = _renamed([candidate for candidate, _ in found], model_name, None)
        found = [(candidate, settings) for candidate, (_, settings) in zip(renamed, found, strict=True)]
    models = tuple(_model(candidate, settings, named, config) for candidate, settings in found)
    _refuse_doubles(models)
    _refuse_settings_for_nothing(named, models)
    if len(models) > config.limits.models_max:
        raise RepositoryError(
            f"{len(models)} models found, at most {config.limits.models_max} are allowed; "
            "serve fewer or raise models_max"
        )
    warnings.extend(dict.fromkeys(warning for model in models if (warning := passed_over(model.path)) is not None))
    return Repository(models, tuple(warnings))


def _renamed(candidates: list[Candidate], name: str | None, path: Path | None) -> list[Candidate]:
    if name is None:
        return candidates
    if len(candidates) != 1:
        origin = "--model-name" if path is None else f"the name of {path}"
        raise RepositoryError(
            f"{origin} '{name}' is for one model, {len(candidates)} found; leave it out or name one path"
        )
    only = candidates[0]
    return [Candidate(name, only.version, only.path, only.root)]


def _model(
    candidate: Candidate, settings: ModelSettings | None, named: dict[str | None, ModelSettings], config: Config
) -> Model:
    """Gives the model its settings: those of its path, and over them those of its name."""
    _refuse_name(candidate, config.limits.model_name_bytes_max)
    chosen = settings or ModelSettings(name=candidate.name)
    by_name = named.get(candidate.name)
    if by_name is not None:
        chosen = chosen.model_copy(update=by_name.model_dump(exclude_unset=True))
    if not chosen.links:
        refuse_link(candidate, candidate.path)
    return Model(
        candidate.name,
        candidate.version,
        candidate.path,
        _file_bytes(candidate.path),
        chosen,
        pipeline_of(candidate, chosen),
    )


def _refuse_name(candidate: Candidate, name_bytes_max: int) -> None:
    name = candidate.name
    if not _NAME.fullmatch(name) or name in {".", ".."}:
        raise RepositoryError(
            f"model name '{name[:64]}' found ({candidate.path}), letters, digits, '.', '_' and '-' are allowed; "
            "rename it or use --model-name",
            "model_path",
        )
    if len(name) > name_bytes_max:
        raise RepositoryError(
            f"model name of {len(name)} characters found ({candidate.path}), at most {name_bytes_max} are allowed; "
            "rename it or use --model-name",
            "model_path",
        )


def _file_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise RepositoryError(f"{path}: {(error.strerror or 'unreadable').lower()}; check its permissions") from None


def _refuse_doubles(models: Sequence[Model]) -> None:
    seen: dict[str, Path] = {}
    for model in models:
        if model.name in seen:
            raise RepositoryError(
                f"two models are called '{model.name}': {seen[model.name]} and {model.path}; rename one of them"
            )
        seen[model.name] = model.path


def _refuse_settings_for_nothing(named: dict[str | None, ModelSettings], models: Sequence[Model]) -> None:
    names = [model.name for model in models]
    for name in named:
        if name not in names:
            nearest = get_close_matches(str(name), names, n=1, cutoff=0.5)
            hint = f"did you mean '{nearest[0]}'?" if nearest else f"found: {', '.join(names[:10])}"
            raise ConfigError(f"models: settings for '{name}', but no such model is served; {hint}")
