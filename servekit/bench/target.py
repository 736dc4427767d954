"""Where a model is served, and what it says about itself."""

import json
import re
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Literal, get_args
from urllib.parse import quote

from servekit.errors import BindError, ConfigError, LoadError

Protocol = Literal["json", "binary", "grpc"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)

GRPC_PATH = "/inference.GRPCInferenceService/ModelInfer"
METADATA_SECONDS_MAX = 10.0

_OK = 200
_URL = re.compile(
    r"(?:http://)?(?P<address>\[[^\]]+\]:\d+|[^/:@\s]+:\d+)/(?:v2/models/)?(?P<name>[^/\s]+)"
    r"(?:/versions/(?P<version>[^/\s]+))?(?:/infer)?/?"
)


@dataclass(frozen=True)
class Tensor:
    """An input as the model describes it; -1 is an axis of any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Target:
    """A model on a server."""

    address: str
    """HOST:PORT of HTTP."""
    model: str
    version: str = ""
    grpc_address: str = ""
    """HOST:PORT of gRPC, where it is not the same."""

    @staticmethod
    def parse(url: str, grpc_address: str | None = None) -> "Target":
        """Reads what the caller wrote."""
        found = _URL.fullmatch(url)
        if not found:
            message = f"model URL {url!r}: HOST:PORT/NAME or http://HOST:PORT/v2/models/NAME is allowed"
            raise ConfigError(message)
        return Target(found["address"], found["name"], found["version"] or "", grpc_address or "")

    @property
    def path(self) -> str:
        """Path of the model's resource."""
        version = f"/versions/{quote(self.version)}" if self.version else ""
        return f"/v2/models/{quote(self.model)}{version}"

    def asked(self, protocol: Protocol) -> dict[str, str]:
        """The target as the native plan wants it."""
        if protocol == "grpc":
            return {"address": self.grpc_address or self.address, "path": GRPC_PATH, "protocol": "grpc"}
        return {"address": self.address, "path": f"{self.path}/infer", "protocol": "http"}

    def inputs(self) -> list[Tensor]:
        """Asks the server what the model wants."""
        connection = HTTPConnection(self.address, timeout=METADATA_SECONDS_MAX)
        try:
            connection.request("GET", self.path)
            answer = connection.getresponse()
            status, content = answer.status, answer.read()
        except (OSError, HTTPException) as error:
            message = f"{self.address} does not answer: {error}; is the server running"
            raise BindError(message) from None
        finally:
            connection.close()
        if status != _OK:
            message = f"{self.address}{self.path}: status {status}, {content[:200].decode(errors='replace')}"
            raise LoadError(message)
        return described(content)


def described(content: bytes) -> list[Tensor]:
    """The inputs in a model's metadata."""
    try:
        tensors = json.loads(content)["inputs"]
        return [
            Tensor(str(tensor["name"]), str(tensor["datatype"]), tuple(int(size) for size in tensor["shape"]))
            for tensor in tensors
        ]
    except (ValueError, KeyError, TypeError):
        message = "the answer of the server describes no model; name a server of the Open Inference Protocol"
        raise LoadError(message) from None
