"""What is measured, and the bar that each figure has to stay under."""

from dataclasses import dataclass

from loadtests.bodies import Encoding

CLIENTS = 64
RESIDENT_MB_MAX = 80.0
FIRST_ANSWER_S_MAX = 0.6


@dataclass(frozen=True)
class Workload:
    """Single-row requests in a closed loop: each is replaced when its answer is in."""

    title: str
    model: str
    encoding: Encoding
    clients: int
    """Requests in flight."""
    streams: int
    """Of them, how many share a connection."""
    instructions_max: int
    """User instructions a request."""
    switches_max: float
    """Context switches a request."""
    others: str
    """The same figure of other servers, measured the same way on two processors."""


WORKLOADS = (
    Workload("tiny JSON", "tiny", "json", CLIENTS, 1, 10_000, 0.05, "Triton 110k, Starlette 335k"),
    Workload("tiny gRPC", "tiny", "grpc", CLIENTS, 1, 10_000, 0.05, "Triton 142k, grpcio 528k"),
    Workload("tiny gRPC, 16 streams", "tiny", "grpc", CLIENTS, 16, 8_000, 0.05, "Triton 132k, grpcio 518k"),
    Workload("tiny JSON, one client", "tiny", "json", 1, 1, 45_000, 1.2, "Triton 129k, Starlette 472k"),
    Workload("tiny gRPC, one client", "tiny", "grpc", 1, 1, 45_000, 1.2, "Triton 171k"),
    Workload("mlp JSON", "mlp", "json", CLIENTS, 1, 545_000, 0.3, "Triton 1,333k, Starlette 1,308k"),
    Workload("mlp binary", "mlp", "binary", CLIENTS, 1, 480_000, 0.3, "Triton 569k"),
    Workload("mlp gRPC", "mlp", "grpc", CLIENTS, 1, 480_000, 0.3, "Triton 599k, grpcio 987k"),
)
