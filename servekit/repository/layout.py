"""What a file or folder holds, before names and settings are given.

PATH/model.onnx                                   one model, called after the folder
PATH/1/model.onnx                                 one model, called after the folder, its highest version
PATH/name.onnx, PATH/name/model.onnx, PATH/name/1/model.onnx    several, mixed as one likes
"""

import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from servekit.errors import RepositoryError

SUFFIX = ".onnx"
FILE_NAME = "model.onnx"
FIRST_VERSION = "1"
VERSION_MAX = 2**63 - 1

_VERSION = re.compile(r"[1-9][0-9]{0,18}")
_NUMBER = re.compile(r"-?[0-9]+")
_NEXT_STEPS = {
    ".pt": "export it with torch.onnx.export",
    ".pth": "export it with torch.onnx.export",
    ".pkl": "convert it with skl2onnx",
    ".joblib": "convert it with skl2onnx",
    ".h5": "convert it with tf2onnx",
    ".keras": "convert it with tf2onnx",
    ".pb": "convert it with tf2onnx",
    ".tflite": "convert it with tf2onnx",
    ".safetensors": "export the whole model with optimum-cli export onnx",
    ".ort": f"serve the {SUFFIX} file it was made from",
}


@dataclass(frozen=True)
class Candidate:
    """A model file. `root` is the folder no link may lead out of; `path` lies beneath it."""

    name: str
    version: str
    path: Path
    root: Path


@dataclass
class Contents:
    """What was found, and what was passed over and why."""

    candidates: list[Candidate] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def read(path: Path) -> Contents:
    """Finds the models of one path; raises `RepositoryError` where there are none."""
    path = path.absolute()
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        raise RepositoryError(f"no file or folder {path}{_nearest(path)}")
    if path.suffix != SUFFIX:
        step = _NEXT_STEPS.get(path.suffix.lower(), f"give a {SUFFIX} file or a folder of them")
        raise RepositoryError(f"{path}: the suffix '{path.suffix}' found, '{SUFFIX}' is allowed; {step}")
    return Contents([Candidate(path.stem, FIRST_VERSION, path, path.parent)])


def refuse_link(candidate: Candidate, path: Path) -> None:
    """Links within the folder are the way Kubernetes mounts volumes; links out of it need the operator's word."""
    target = path.resolve()
    if not target.is_relative_to(candidate.root.resolve()):
        raise RepositoryError(
            f"{path} leads out of {candidate.root} to {target}; serve that file itself, or set links: true "
            f"for the model '{candidate.name}'",
            "model_path",
        )


def _folder(folder: Path) -> Contents:
    contents = Contents()
    # The operator may have said `.` or named a link: the model is called after the folder that is meant.
    own_name = folder.resolve().name
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise RepositoryError(f"{folder}: {(error.strerror or 'unreadable').lower()}; check its permissions") from None
    files = [entry for entry in entries if entry.suffix == SUFFIX and entry.is_file()]
    subfolders = [entry for entry in entries if entry.is_dir()]
    if not any(_holds_model(entry) for entry in subfolders if not _NUMBER.fullmatch(entry.name)):
        names = [file.name for file in files]
        if names in ([], [FILE_NAME]):
            own = _own_model(folder, own_name, contents.warnings)
            contents.candidates.extend(own)
            if contents.warnings and not own:
                raise RepositoryError(_nothing_found(folder, entries, contents.warnings))
            if own:
                return contents
    contents.candidates.extend(Candidate(file.stem, FIRST_VERSION, file, folder) for file in files)
    for subfolder in subfolders:
        for found in _own_model(subfolder, subfolder.name, contents.warnings):
            contents.candidates.append(Candidate(found.name, found.version, found.path, folder))
    if not contents.candidates:
        raise RepositoryError(_nothing_found(folder, entries, contents.warnings))
    return contents


def _own_model(folder: Path, name: str, warnings: list[str]) -> list[Candidate]:
    """The model whose folder this is: `model.onnx`, or the highest version; none if it holds neither."""
    file = folder / FILE_NAME
    versions = _versions(folder, warnings)
    if file.is_file() and versions:
        raise RepositoryError(f"{folder} holds {FILE_NAME} and versions ({', '.join(versions)}/); keep one of the two")
    if file.is_file():
        return [Candidate(name, FIRST_VERSION, file, folder)]
    if versions:
        highest = max(versions, key=int)
        return [Candidate(name, highest, folder / highest / FILE_NAME, folder)]
    return []


def _versions(folder: Path, warnings: list[str]) -> list[str]:
    """Version folders with a model in them. A name that only looks like a version is passed over with a warning."""
    versions = []
    for entry in sorted(folder.iterdir()):
        if not _NUMBER.fullmatch(entry.name) or not entry.is_dir():
            continue
        if not _VERSION.fullmatch(entry.name) or int(entry.name) > VERSION_MAX:
            shown = entry.name if len(entry.name) <= 24 else entry.name[:24] + "…"
            warnings.append(
                f"version '{shown}' in {folder} is passed over: whole numbers from 1 to {VERSION_MAX} without "
                "leading zeros are allowed; rename it"
            )
        elif not (entry / FILE_NAME).is_file():
            warnings.append(f"version {entry.name} in {folder} is passed over: it holds no {FILE_NAME}")
        else:
            versions.append(entry.name)
    return versions


def _holds_model(folder: Path) -> bool:
    if (folder / FILE_NAME).is_file():
        return True
    try:
        return any(_NUMBER.fullmatch(entry.name) and (entry / FILE_NAME).is_file() for entry in folder.iterdir())
    except OSError:
        return False


def _nothing_found(folder: Path, entries: list[Path], warnings: list[str]) -> str:
    if not entries:
        return f"{folder} is empty; put a {SUFFIX} file in it"
    passed_over = "".join(f"\n{warning}" for warning in warnings)
    for entry in entries:
        elsewhere = sorted(entry.glob(f"*{SUFFIX}")) if entry.is_dir() else []
        if elsewhere and not warnings:
            return (
                f"no model in {folder}: {elsewhere[0]} found, in a folder of its own a model is called {FILE_NAME}; "
                f"rename it or serve {entry}"
            )
    shown = ", ".join(entry.name for entry in entries[:5]) + (", …" if len(entries) > 5 else "")
    return f"no {SUFFIX} file in {folder}, found {shown}; put name{SUFFIX} or name/{FILE_NAME} in it{passed_over}"


def _nearest(path: Path) -> str:
    parent = path.parent
    if not parent.is_dir():
        return f"; {parent} is missing too, check the path"
    try:
        names = [entry.name for entry in parent.iterdir()]
    except OSError:
        return "; check the path"
    nearest = get_close_matches(path.name, names, n=1, cutoff=0.6)
    return f"; did you mean {parent / nearest[0]}?" if nearest else "; check the path"
