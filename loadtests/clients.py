"""The load clients: wrk for HTTP, h2load for gRPC, and one checked request before them."""

import http.client
import math
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import grpc

from loadtests import counters
from loadtests.bodies import GRPC_METHOD, Body, grpc_answer, http_answer
from loadtests.server import Server
from loadtests.workloads import Workload

PROGRAMS = {"wrk": "wrk", "h2load": "nghttp2-client"}
FRAME_HEAD_BYTES = 5
LUA = """\
wrk.method = "POST"
local file = assert(io.open("{path}", "rb"))
wrk.body = file:read("*a")
file:close()
{headers}
done = function(summary, latency, requests)
  local errors = summary.errors
  print(string.format("RESULT %d %d %d %d", summary.requests, summary.duration, latency:percentile(50),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


@dataclass(frozen=True)
class Outcome:
    """What a client saw in one run."""

    requests: int
    failures: int
    seconds: float
    p50_us: float


@dataclass(frozen=True)
class Load:
    """One workload against one server, with the body and scripts in files that the clients can read."""

    server: Server
    workload: Workload
    body: Body
    folder: Path

    @property
    def body_path(self) -> Path:
        """Where the clients find the body."""
        return self.folder / f"{self.body.model}_{self.body.encoding}.body"

    @property
    def url(self) -> str:
        """Where the requests go."""
        if self.body.encoding == "grpc":
            return f"http://{self.server.grpc}{GRPC_METHOD}"
        return f"http://{self.server.http}/v2/models/{self.body.model}/infer"

    def prepare(self) -> int:
        """Write the files, send the request once and compare the answer; returns how many bytes answers have."""
        self.body_path.write_bytes(self.body.content)
        if self.body.encoding == "grpc":
            return self.ask_grpc()
        headers = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in self.body.headers.items())
        self.body_path.with_suffix(".lua").write_text(LUA.format(path=self.body_path, headers=headers))
        return self.ask_http()

    def ask_http(self) -> int:
        """One request over HTTP, checked."""
        connection = http.client.HTTPConnection(self.server.http, timeout=60)
        connection.request("POST", f"/v2/models/{self.body.model}/infer", self.body.content, self.body.headers)
        reply = connection.getresponse()
        content, json_bytes = reply.read(), reply.getheader("Inference-Header-Content-Length")
        connection.close()
        if reply.status != http.client.OK:
            raise RuntimeError(f"{self.workload.title}: {reply.status} {content[:400]!r}")
        if not self.body.accepts(http_answer(content, int(json_bytes) if json_bytes else None)):
            raise RuntimeError(f"{self.workload.title}: the answer differs from onnxruntime's: {content[:400]!r}")
        return len(content)

    def ask_grpc(self) -> int:
        """One request over gRPC, checked."""
        with grpc.insecure_channel(self.server.grpc) as channel:
            content: bytes = channel.unary_unary(GRPC_METHOD)(self.body.message, timeout=60)
        if not self.body.accepts(grpc_answer(content)):
            raise RuntimeError(f"{self.workload.title}: the answer differs from onnxruntime's: {content[:400]!r}")
        return FRAME_HEAD_BYTES + len(content)


class Client:
    """Sends one load as often as asked."""

    def __init__(self, load: Load, requests_per_second: float = 1_000.0) -> None:
        """`requests_per_second` is a first guess, for runs of a number of requests."""
        self.load = load
        self.answer_bytes = load.prepare()
        self.requests_per_second = requests_per_second

    def send(self, seconds: float) -> Outcome:
        """Keep the server busy for about this long."""
        if self.load.body.encoding != "grpc":
            return self.checked(read_wrk(counters.run(self.wrk(seconds))))
        with tempfile.NamedTemporaryFile("r") as log:
            output = counters.run(self.h2load(seconds, log.name))
            return self.checked(self.read_h2load(output, log.read()))

    def send_counted(self, seconds: float, counter: counters.Counter) -> float | None:
        """The same by number, so that no request is cut off; returns the server's user instructions a request."""
        with tempfile.NamedTemporaryFile("r") as log:
            counted = counter.run(self.h2load(seconds, log.name), self.load.server.pid)
            outcome = self.checked(self.read_h2load(counted.output, log.read()))
        return counted.instructions / outcome.requests if counted.instructions else None

    def checked(self, outcome: Outcome) -> Outcome:
        """No figure stands on a failed request."""
        if outcome.failures or not outcome.requests:
            raise RuntimeError(f"{self.load.workload.title}: {outcome.failures} of {outcome.requests} requests failed")
        self.requests_per_second = outcome.requests / outcome.seconds
        return outcome

    def wrk(self, seconds: float) -> list[str]:
        """Runs for a time; what is in flight at the end is cut off, at most one request a connection."""
        load = self.load
        script = str(load.body_path.with_suffix(".lua"))
        duration = f"-d{max(1, round(seconds))}s"
        return ["wrk", "-t1", f"-c{load.workload.clients}", duration, "--timeout", "60s", "-s", script, load.url]

    def h2load(self, seconds: float, log: str) -> list[str]:
        """Runs for a number of requests, about what the last run did in that time."""
        load, streams = self.load, self.load.workload.streams
        connections = math.ceil(load.workload.clients / streams)
        requests = max(connections * streams, round(self.requests_per_second * seconds))
        headers = [part for name, value in load.body.headers.items() for part in ("-H", f"{name}: {value}")]
        dialect = [] if load.body.encoding == "grpc" else ["--h1"]
        run = ["h2load", "-t1", f"-c{connections}", f"-m{streams}", f"-n{requests}", f"--log-file={log}", *dialect]
        return [*run, "-d", str(load.body_path), *headers, load.url]

    def read_h2load(self, output: str, log: str) -> Outcome:
        """For h2load a gRPC error is a success too, so the bytes received must be those of that many answers.

        Answers in JSON are not all of one length, but their status tells.
        """
        counts = re.search(r"requests: (\d+) total, .* (\d+) succeeded", output)
        rate = re.search(r"finished in .*, ([\d.]+) req/s", output)
        data = re.search(r"\((\d+)\) data", output)
        if not (counts and rate and data and float(rate[1])):
            raise RuntimeError(f"h2load gave no result:\n{output}")
        requests, succeeded = int(counts[1]), int(counts[2])
        bytes_wrong = abs(succeeded * self.answer_bytes - int(data[1])) if self.load.body.encoding == "grpc" else 0
        failures = requests - succeeded + math.ceil(bytes_wrong / self.answer_bytes)
        latencies = sorted(int(line.split("\t")[2]) for line in log.splitlines())
        return Outcome(requests, failures, requests / float(rate[1]), latencies[len(latencies) // 2])


def read_wrk(output: str) -> Outcome:
    """The line that the script prints at the end."""
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+)", output)
    if not found:
        raise RuntimeError(f"wrk gave no result:\n{output}")
    requests, duration_us, p50_us, failures = map(int, found.groups())
    return Outcome(requests, failures, duration_us / 1e6, p50_us)
