"""Every number that bounds the server. The native side has the same keys and no defaults."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from servekit.config.quantities import (
    AutomaticBytes,
    AutomaticCount,
    AutomaticCountOrZero,
    Bytes,
    Count,
    CountOrZero,
)

MIB = 2**20
WINDOW_BYTES_MAX = 2**31 - 1
FRAME_BYTES_MIN = 16_384
FRAME_BYTES_MAX = 2**24 - 1
PRIORITY_LEVELS_MAX = 255
"""What the native side counts levels in is one byte."""

Window = Annotated[Bytes, Field(le=WINDOW_BYTES_MAX)]
Frame = Annotated[Bytes, Field(ge=FRAME_BYTES_MIN, le=FRAME_BYTES_MAX)]


class Frozen(BaseModel):
    """A section: read once, never changed, and every key known."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def key(default: object, description: str, *, flag: bool = False, automatic: str = "") -> Any:  # noqa: ANN401
    """One key. With `flag` the command line has it too; `automatic` says how the number comes about if none is set."""
    return Field(default, description=description, json_schema_extra={"flag": flag, "automatic": automatic})


class Limits(Frozen):
    """Limits can be moved, not switched off: 0 is refused except where the key says so. Bytes may carry a unit."""

    # Connections
    connections_max: AutomaticCount = key(
        None,
        "open connections; past it the one idle for longest is closed, or accepting pauses",
        flag=True,
        automatic="the least of 10000, half of the open-file limit, and a tenth of the memory budget at 32 KiB each",
    )
    connections_peer_max: AutomaticCount = key(
        None,
        "open connections of one address; loopback and Unix sockets are exempt",
        automatic="half of connections_max",
    )
    handshake_ms_max: Count = key(10_000, "from accepting to the first byte")
    header_read_ms_max: Count = key(10_000, "from a request's first byte to its last header byte")
    connection_idle_ms_max: Count = key(75_000, "without a request, then the connection is closed")
    connection_age_ms_max: CountOrZero = key(
        1_800_000, "age at which a connection is told to go, within 10 %; 0 is off"
    )
    connection_age_grace_ms_max: Count = key(30_000, "for open requests of a connection that was told to go")
    connection_read_bytes_max: Bytes = key(32_768, "read ahead of the request in hand")

    # Head
    request_line_bytes_max: Bytes = key(8_192, "method, target and version")
    header_bytes_max: Bytes = key(16_384, "header list, decoded: name, value and 32 for each field; trailers too")
    headers_max: Count = key(100, "header fields")

    # Body
    request_body_bytes_max: Bytes = key(
        64 * MIB, "request or gRPC message, also once inflated; at most half of in_flight_bytes_max", flag=True
    )
    body_chunks_max: Count = key(65_536, "chunks of one chunked body")
    chunk_extension_bytes_max: Bytes = key(16_384, "chunk extensions of one body")
    inflate_ratio_max: Count = key(100, "inflated bytes for one compressed byte, beyond inflate_grace_bytes_max")
    inflate_grace_bytes_max: Bytes = key(MIB, "inflated bytes that are let through at any ratio")
    content_encodings_max: Count = key(1, "content encodings of one body")
    body_bytes_per_second_min: Bytes = key(1_024, "pace of a body, after body_grace_ms_max")
    body_grace_ms_max: Count = key(5_000, "before the pace of a body counts")
    body_read_ms_max: Count = key(120_000, "for one whole body")
    response_body_bytes_max: Bytes = key(256 * MIB, "answer as encoded; at most half of in_flight_bytes_max", flag=True)
    write_stall_ms_max: Count = key(30_000, "in which a peer takes no byte of its answer")

    # HTTP/2 frames
    connection_streams_max: Annotated[Count, Field(le=WINDOW_BYTES_MAX)] = key(256, "open streams, as advertised")
    stream_window_bytes_max: Window = key(65_535, "flow-control window of a stream")
    connection_window_bytes_max: Window = key(MIB, "flow-control window of a connection, at least 65535")
    frame_bytes_max: Frame = key(16_384, "payload of one frame, as advertised")
    continuation_frames_max: Count = key(8, "continuation frames of one header block")
    stream_resets_max: Count = key(
        1_000, "streams a peer resets before their answer in 10 s, once they are more than half of those opened"
    )
    stream_errors_max: Count = key(128, "streams reset for the peer's fault")
    control_frames_max: Count = key(1_000, "SETTINGS, PING, PRIORITY, empty DATA and unknown frames in 10 s")
    ping_strikes_max: Count = key(2, "PINGs sooner than ping_interval_ms_min after the last")
    ping_interval_ms_min: Count = key(10_000, "between two PINGs of a quiet peer")
    keepalive_interval_ms: Count = key(30_000, "between two of our own PINGs")
    keepalive_timeout_ms_max: Count = key(10_000, "for the answer to one of our PINGs")
    connection_requests_in_flight_max: Count = key(1_024, "unanswered requests of a connection; past it reading waits")

    # Decoding
    json_depth_max: Count = key(32, "open brackets, in ignored fields too")
    json_number_bytes_max: Bytes = key(64, "characters of one JSON number")
    protobuf_depth_max: Count = key(100, "nested protobuf messages")
    request_tensors_max: Count = key(1_000, "inputs, and requested outputs, of one request")
    parameters_max: Count = key(64, "parameters of one object")
    name_bytes_max: Bytes = key(256, "a key or a tensor's name")
    request_id_bytes_max: Bytes = key(1_024, "a request's id")
    parameter_bytes_max: Bytes = key(65_536, "one parameter's value")
    tensor_rank_max: Count = key(16, "dimensions of one tensor")
    tensor_elements_max: Count = key(2**31 - 1, "elements of one tensor")
    bytes_element_bytes_max: Bytes = key(16 * MIB, "one element of a BYTES tensor")
    bytes_elements_max: Count = key(1_048_576, "elements of one BYTES tensor")
    request_rows_max: Count = key(65_536, "rows of one request; above batch_rows_max it is split", flag=True)

    # Admission
    memory_bytes_max: AutomaticBytes = key(
        None, "resident size of the process", flag=True, automatic="0.90 of the cgroup's limit, or of physical memory"
    )
    in_flight_bytes_max: AutomaticBytes = key(
        None,
        "every byte read and not yet answered or dropped",
        flag=True,
        automatic="a quarter of the memory budget, or what the models leave",
    )
    model_in_flight_bytes_max: AutomaticBytes = key(
        None,
        "bytes in flight for one model",
        flag=True,
        automatic="half of in_flight_bytes_max with two models or more, else all of it",
    )
    queue_requests_max: Count = key(65_536, "requests of all models that wait or run", flag=True)
    model_queue_requests_max: Count = key(16_384, "queued requests of one model", flag=True)
    latency_target_ms: AutomaticCountOrZero = key(
        None,
        "deadline of a request that brings none; 0 is none",
        flag=True,
        automatic="100, or 5 times one row's measured time if that is longer",
    )
    queue_wait_ms_max: Count = key(30_000, "wait in the queue where neither target nor deadline is set", flag=True)
    deadline_ms_max: Count = key(300_000, "longest deadline; longer ones are cut", flag=True)
    priority_levels_max: Annotated[Count, Field(le=PRIORITY_LEVELS_MAX)] = key(
        8, "levels of priority; 1 is the highest"
    )

    # Batches and runs
    batch_rows_max: Count = key(64, "rows of one batch; a model with a fixed batch has its own", flag=True)
    batch_bytes_max: Bytes = key(64 * MIB, "gathered inputs of one batch", flag=True)
    arena_bytes_max: AutomaticBytes = key(
        None,
        "memory of one lane's runs",
        automatic="4 times the peak of the largest warm-up batch, at least 64 MiB",
    )
    run_ms_max: AutomaticCount = key(None, "one run", automatic="10 times the predicted time, within 1000 and 60000")
    row_failures_max: Count = key(3, "failing rows of one connection in 10 s, then its requests run alone for 10 s")
    run_failures_max: Count = key(3, "failures in a row of a model's own test row, then it is not ready")

    # Pipelines
    image_pixels_max: Count = key(50_000_000, "pixels of one image, as its header says; in a pipeline")
    text_bytes_max: Bytes = key(MIB, "one text; in a pipeline")
    pipeline_stages_max: Count = key(32, "steps of a pipeline, its model among them")
    pipeline_ms_max: Count = key(30_000, "from arrival to the answer, where a model has a pipeline")

    # Loading
    models_max: Count = key(1_024, "served models")
    loads_max: Count = key(2, "loads at once")
    model_name_bytes_max: Bytes = key(128, "a model's name: letters, digits, '.', '_' and '-'")
    model_file_bytes_max: Bytes = key(2**31 - 1, "a model's file, without external data")
    model_nodes_max: Count = key(200_000, "nodes of a graph")
    model_graph_depth_max: Count = key(32, "nested graphs")
    model_tensors_max: Count = key(1_000, "inputs, and outputs, of a model")
    load_ms_max: Count = key(120_000, "one load")

    # Management and logs
    management_body_bytes_max: Bytes = key(MIB, "body of a management request")
    management_connections_max: Count = key(64, "open connections of the management port")
    metric_series_max: Count = key(10_000, "series of one scrape; further ones are dropped and counted")
    log_lines_per_second_max: Count = key(10, "lines of one kind; further ones are dropped and counted")
    log_field_bytes_max: Bytes = key(256, "one field of a log line, escaped")

    # Drain
    drain_delay_ms: CountOrZero = key(5_000, "of normal service after SIGTERM, while readiness says no", flag=True)
    drain_ms_max: Count = key(25_000, "from the signal to the end", flag=True)

    @model_validator(mode="after")
    def _agree(self) -> "Limits":
        """Pairs of which one bounds the other."""
        if self.drain_delay_ms >= self.drain_ms_max:
            raise ValueError(
                f"drain_delay_ms is {self.drain_delay_ms}, less than drain_ms_max ({self.drain_ms_max}) is allowed"
            )
        if self.connection_window_bytes_max < self.stream_window_bytes_max:
            raise ValueError(
                f"connection_window_bytes_max is {self.connection_window_bytes_max}, "
                f"stream_window_bytes_max ({self.stream_window_bytes_max}) or more is allowed"
            )
        return self


PYTHON_ONLY = frozenset({"management_body_bytes_max", "management_connections_max", "metric_series_max"})
"""Limits of the management port, which the native side never sees."""
