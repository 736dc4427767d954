"""The native half: sockets, protocols, queues, batches and ONNX Runtime.

One configuration goes in as JSON, frozen handles and JSON snapshots come out. Calls that may block leave the
interpreter meanwhile. No Python runs for a request.
"""

from typing import final

class ServekitError(Exception):
    """Whatever the native side refuses; `args[0]` is the text."""

    label: str
    """Row of the error catalogue, empty where none fits."""

class ConfigError(ServekitError):
    """The configuration's JSON is not what both sides agreed on."""

class BindError(ServekitError):
    """A port or socket cannot be had."""

class LoadError(ServekitError):
    """A model cannot be served."""

@final
class Server:
    """A running server. It has no public constructor; `start` makes it."""

    @staticmethod
    def start(config_json: str) -> Server:
        """Binds every socket without listening yet and starts shards, runners and the control thread, which loads.

        Raises `ConfigError` or `BindError`. SIGTERM and SIGINT should be blocked before, so that native threads
        inherit the mask.
        """

    def addresses(self) -> str:
        """JSON of the bound addresses, with real ports where 0 was asked: `{"http", "grpc", "uds"}`, null if off."""

    def wait_ready(self, timeout_s: float) -> bool:
        """Waits until every start-up model is ready or failed; False once the time has passed.

        The ports listen then, unless all models failed.
        """

    def load(self, model_json: str) -> str:
        """Loads one model and returns its entry of the snapshot as JSON. Blocks; raises `LoadError`."""

    def unload(self, name: str, version: str) -> None:
        """Takes one version of a model out of service."""

    def snapshot(self) -> str:
        """JSON of every counter, histogram and contract, merged over the shards."""

    def why(self, name: str, version: str) -> str | None:
        """JSON of why a model answers as fast as it does: `{"sentences", "advice", "figures", …}`.

        None where it is not served.
        """

    def begin_drain(self, delay_ms: int) -> None:
        """Turns readiness off at once and tells connections to go after `delay_ms` of normal service."""

    def wait_drained(self, timeout_s: float) -> str:
        """Waits until nothing accepted is open: JSON `{"drained", "unanswered"}`."""

    def stop(self) -> None:
        """Ends at once; whatever is open gets no answer."""

def bench(plan_json: str, bodies: list[bytes]) -> str:
    """Sends one run of load to a server, and returns what came of it as JSON.

    The plan is `Plan` of `native/loadgen`, the bodies are those that it describes. Raises `ConfigError` for a plan that
    makes no sense and `BindError` where the server cannot be reached.
    """

def check(config_json: str, row_json: str = "[]") -> str:
    """Loads the first model of the configuration and describes it, as JSON; others are what its pipeline runs.

    The object is the model's entry of the snapshot with two keys more: the core `plan` and the effective `run_ms_max`.
    With a pipeline there are `costs` too: `{"runs": [{"rows", "steps_us"}], "unknown"}`, found out with the row, which
    is written as a model's `samples` are. Raises `LoadError`.
    """

def contract(config_json: str, name: str) -> str:
    """JSON of what a model's file takes and gives, which is not tried: `{"name", "inputs", "outputs"}`.

    A tensor is `{"name", "datatype", "shape", "optional"}`; a free axis is its name in the model, or -1. Raises
    `LoadError`.
    """

def core_plan(config_json: str) -> str:
    """JSON of how the usable cores are shared: `{"cores", "shards", "runners", "intra_op", "reasons"}`."""

def refusals() -> list[tuple[str, int | None, int | None, str, bool]]:
    """The error catalogue: variant, HTTP status, gRPC code, label, and whether a retry may succeed."""

def round_trip(config_json: str) -> str:
    """Parses the configuration, refusing unknown keys, and prints it back: the proof that both schemas are equal."""

def simulate(arguments: list[str]) -> str:
    """Plays batching policies against each other on a virtual clock, and returns what is to be printed.

    The arguments are those of `servekit-simulate`. Raises `ConfigError` where one is not understood.
    """
