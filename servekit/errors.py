"""What can go wrong, as exceptions for the operator and as the closed catalogue for callers.

    ServekitError            shown as one line, never as a traceback
    ├── ConfigError          the command line, the environment or a file is wrong: exit code 2
    │   └── RepositoryError  a PATH holds nothing that can be served
    ├── BindError            a port or socket cannot be had: exit code 1
    └── LoadError            a model cannot be served: exit code 1

A caller never meets these. A caller gets a refusal: one row of `CATALOGUE`, which mirrors the table in the Rust core.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Final, NamedTuple

__all__ = [
    "CATALOGUE",
    "BindError",
    "ConfigError",
    "ExitCode",
    "LoadError",
    "Refusal",
    "RepositoryError",
    "ServekitError",
    "native_errors",
    "told",
]


class ExitCode(IntEnum):
    """How the process ends."""

    DRAINED = 0
    FAILED = 1
    USAGE = 2
    DRAIN_MISSED = 3


class ServekitError(Exception):
    """A fault that the operator can act on; its text says what was found, what is allowed and what to do next."""

    exit_code = ExitCode.FAILED

    def __init__(self, text: str, label: str = "") -> None:
        super().__init__(text)
        self.label = label


class ConfigError(ServekitError):
    """The command line, the environment or the configuration file is wrong."""

    exit_code = ExitCode.USAGE


class RepositoryError(ConfigError):
    """A path holds nothing that can be served, or more than it may."""


class BindError(ServekitError):
    """A port or a socket cannot be had."""


class LoadError(ServekitError):
    """A model cannot be served; `label` is its row of the catalogue."""


def told(error: ServekitError) -> None:
    """Shows an error to whoever called the command."""
    for line in str(error).splitlines():
        print(f"servekit: {line}", file=sys.stderr)


@contextmanager
def native_errors() -> Iterator[None]:
    """Turns what the native side raises into this module's tree, so that nobody else names both."""
    from servekit import _native

    try:
        yield
    except _native.ConfigError as error:
        raise ConfigError(*_said(error)) from None
    except _native.BindError as error:
        raise BindError(*_said(error)) from None
    except _native.LoadError as error:
        raise LoadError(*_said(error)) from None
    except _native.ServekitError as error:
        raise ServekitError(*_said(error)) from None


def _said(error: Exception) -> tuple[str, str]:
    return str(error.args[0]) if error.args else str(error), str(getattr(error, "label", "") or "")


class Refusal(NamedTuple):
    """One row of the catalogue; `grpc` is a status code of gRPC, None where no gRPC request can meet the refusal."""

    variant: str
    http: int | None
    grpc: int | None
    label: str
    retry: bool


_RETRY = True
_FINAL = False

_CANCELLED = 1
_INVALID_ARGUMENT = 3
_DEADLINE_EXCEEDED = 4
_NOT_FOUND = 5
_RESOURCE_EXHAUSTED = 8
_UNIMPLEMENTED = 12
_INTERNAL = 13
_UNAVAILABLE = 14

# fmt: off
CATALOGUE: Final[tuple[Refusal, ...]] = (
    Refusal("BadFraming",          400, _INVALID_ARGUMENT,   "framing",       _FINAL),
    Refusal("UriTooLong",          414, None,                "uri",           _FINAL),
    Refusal("HeadersTooLarge",     431, _RESOURCE_EXHAUSTED, "headers",       _FINAL),
    Refusal("UnknownRoute",        404, _UNIMPLEMENTED,      "route",         _FINAL),
    Refusal("MethodNotAllowed",    405, None,                "method",        _FINAL),
    Refusal("VersionNotSupported", 505, None,                "http_version",  _FINAL),
    Refusal("UnsupportedMedia",    415, _INVALID_ARGUMENT,   "media_type",    _FINAL),
    Refusal("UnsupportedEncoding", 415, _UNIMPLEMENTED,      "encoding",      _FINAL),
    Refusal("BodyTooLarge",        413, _RESOURCE_EXHAUSTED, "body",          _FINAL),
    Refusal("ReadTimeout",         408, _DEADLINE_EXCEEDED,  "read_timeout",  _RETRY),
    Refusal("BadJson",             400, None,                "json",          _FINAL),
    Refusal("JsonTooDeep",         400, None,                "json_depth",    _FINAL),
    Refusal("BadField",            400, _INVALID_ARGUMENT,   "field",         _FINAL),
    Refusal("EnvelopeTooLarge",    400, _INVALID_ARGUMENT,   "envelope",      _FINAL),
    Refusal("Duplicate",           400, _INVALID_ARGUMENT,   "duplicate",     _FINAL),
    Refusal("ReservedName",        400, _INVALID_ARGUMENT,   "reserved",      _FINAL),
    Refusal("BadBinaryHeader",     400, None,                "binary_header", _FINAL),
    Refusal("BinaryLength",        400, None,                "binary_length", _FINAL),
    Refusal("BadProtobuf",         400, _INVALID_ARGUMENT,   "protobuf",      _FINAL),
    Refusal("BadContents",         400, _INVALID_ARGUMENT,   "contents",      _FINAL),
    Refusal("UnknownModel",        404, _NOT_FOUND,          "model",         _FINAL),
    Refusal("UnknownTensor",       400, _INVALID_ARGUMENT,   "tensor_name",   _FINAL),
    Refusal("DatatypeMismatch",    400, _INVALID_ARGUMENT,   "datatype",      _FINAL),
    Refusal("ShapeMismatch",       400, _INVALID_ARGUMENT,   "shape",         _FINAL),
    Refusal("TensorTooLarge",      400, _INVALID_ARGUMENT,   "tensor_size",   _FINAL),
    Refusal("TooManyRows",         400, _INVALID_ARGUMENT,   "rows",          _FINAL),
    Refusal("ByteSizeMismatch",    400, _INVALID_ARGUMENT,   "byte_size",     _FINAL),
    Refusal("ValueOutOfRange",     400, _INVALID_ARGUMENT,   "value",         _FINAL),
    Refusal("RowRejected",         400, _INVALID_ARGUMENT,   "row",           _FINAL),
    Refusal("RunMemory",           413, _RESOURCE_EXHAUSTED, "run_memory",    _FINAL),
    Refusal("ResponseTooLarge",    413, _RESOURCE_EXHAUSTED, "response",      _FINAL),
    Refusal("QueueFull",           429, _RESOURCE_EXHAUSTED, "queue_full",    _RETRY),
    Refusal("Overloaded",          503, _UNAVAILABLE,        "overloaded",    _RETRY),
    Refusal("MemoryFull",          503, _RESOURCE_EXHAUSTED, "memory",        _RETRY),
    Refusal("ModelLoading",        503, _UNAVAILABLE,        "loading",       _RETRY),
    Refusal("ModelFailed",         503, _UNAVAILABLE,        "model_failed",  _RETRY),
    Refusal("LaneLost",            503, _UNAVAILABLE,        "lane_lost",     _RETRY),
    Refusal("Draining",            503, _UNAVAILABLE,        "draining",      _RETRY),
    Refusal("DeadlineExceeded",    504, _DEADLINE_EXCEEDED,  "deadline",      _FINAL),
    Refusal("Cancelled",           499, _CANCELLED,          "cancelled",     _FINAL),
    Refusal("ManagementOnly",      404, _UNIMPLEMENTED,      "management",    _FINAL),
    Refusal("ModelPath",           400, _INVALID_ARGUMENT,   "model_path",    _FINAL),
    Refusal("ModelFile",           400, _INVALID_ARGUMENT,   "model_file",    _FINAL),
    Refusal("LoadRefused",         429, _RESOURCE_EXHAUSTED, "load_refused",  _RETRY),
    Refusal("LoadTimeout",         504, _DEADLINE_EXCEEDED,  "load_time",     _FINAL),
    Refusal("Abandoned",           500, _INTERNAL,           "abandoned",     _FINAL),
    Refusal("Internal",            500, _INTERNAL,           "internal",      _FINAL),
)
# fmt: on
