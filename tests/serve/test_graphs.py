"""Pipelines of several models: each model has a queue and batches of its own, and nobody is lost between them."""

import base64
import io
import json
import os
import select
import signal
from contextlib import contextmanager

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from tests.serve import models, pipelines
from tests.serve.alive import unharmed
from tests.serve.limit_cases import message, refused, served, spin_message
from tests.serve.pipelines import BRIGHT, ROOM, SIDE, column
from tests.serve.process import serving
from tests.serve.raw_frames import peer
from tests.serve.raw_http import RawConnection, abort, infer, raw_connection
from tests.serve.transports import Asked, framed_arrays, infer_once, json_body

PROTOCOLS = ["json", "binary", "httpx-http2", "grpc", "triton-http", "triton-grpc"]
ROWS_MAX = 8
# As many threads as there are cores: a run of such a model waits until nothing else runs.
ALL_CORES = os.cpu_count() or 1
QUEUED_MAX = 3


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graphs")
    for make in (pipelines.shop, pipelines.relay, pipelines.parts, pipelines.labelled):
        make(folder)
    return folder


@pytest.fixture(scope="module")
def server(root):
    arguments = ["--allow-code", "--server-timing", "always", "--batch-rows-max", str(ROWS_MAX)]
    with serving(root, arguments=arguments) as process:
        yield process


# What the shop has to answer, in NumPy -------------------------------------------------------------------------------


def scene(seed, bright):
    """A dark picture with so many bright squares, none as bright as another."""
    random = np.random.default_rng(seed)
    picture = random.integers(0, 60, (32, 32, 3), np.uint8)
    for number, place in enumerate(random.permutation(16)[:bright]):
        left, top = place % 4 * SIDE, place // 4 * SIDE
        picture[top : top + SIDE, left : left + SIDE] += np.uint8(120 + 15 * number)
    return picture


def seen(root, picture):
    """The squares, brightest first, and what each is; of those that are dark, nothing."""
    brightness = picture.reshape(4, SIDE, 4, SIDE, 3).astype(np.float32).mean(axis=(1, 3, 4)).ravel()
    places = np.argsort(-brightness)[:ROOM]
    found = int((brightness[places] > BRIGHT).sum())
    corners = np.stack([places % 4 * SIDE, places // 4 * SIDE], axis=1)
    probabilities = np.zeros((ROOM, 5), np.float32)
    if found:
        squares = [picture[top : top + SIDE, left : left + SIDE] for left, top in corners[:found]]
        session = onnxruntime.InferenceSession(root / "shop" / "model.onnx")
        pixels = np.stack(squares).transpose(0, 3, 1, 2).astype(np.float32) / 255
        (logits,) = session.run(None, {"pixels": pixels})
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities[:found] = shares / shares.sum(axis=1, keepdims=True)
    boxes = np.concatenate([corners, corners + SIDE], axis=1).astype(np.float32)
    return {"boxes": boxes, "found": np.array([found]), "probabilities": probabilities}


def agree(found, rows):
    """Whether each row was answered as it has to be."""
    for name in ("boxes", "found"):
        np.testing.assert_array_equal(found[name], np.stack([row[name] for row in rows]), err_msg=name)
    np.testing.assert_allclose(found["probabilities"], np.stack([row["probabilities"] for row in rows]), atol=1e-5)


# Through every protocol ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_one_model_finds_the_other_classifies(server, root, protocol):
    pictures = np.stack([scene(number, bright) for number, bright in enumerate((2, 0, ROOM, 1))])
    rows = [seen(root, picture) for picture in pictures]
    assert [row["found"].item() for row in rows] == [2, 0, ROOM, 1]
    agree(infer_once(protocol, server, Asked("shop", {"image": pictures})), rows)
    agree(infer_once(protocol, server, Asked("shop", {"image": pictures[1:2]})), rows[1:2])


def test_a_row_with_more_entries_than_there_is_room_for_has_all_of_them(server):
    values = np.arange(1, 25, dtype=np.float32).reshape(2, 4, 3)
    found = infer_once("grpc", server, Asked("parts", {"value": values, "count": np.array([[99], [-1]])}))
    np.testing.assert_allclose(found["finite"], [1 / values[0], np.zeros((4, 3))], rtol=1e-6)


@pytest.mark.parametrize("protocol", ["json", "triton-grpc"])
def test_a_request_may_have_more_rows_than_a_batch(server, root, protocol):
    pictures = np.stack([scene(number, number % (ROOM + 1)) for number in range(3 * ROWS_MAX + 1)])
    agree(infer_once(protocol, server, Asked("shop", {"image": pictures})), [seen(root, one) for one in pictures])
    values = np.random.default_rng(8).uniform(1, 2, (5 * ROWS_MAX + 3, 3)).astype(np.float32)
    found = infer_once(protocol, server, Asked("relay", {"value": values}))
    np.testing.assert_allclose(found["finite"], 1 / values, rtol=1e-6)
    for leg in ("shop", "shop/shop", "relay", "relay/relay"):
        batches = server.metric("servekit_batch_rows_count", model=leg)
        assert server.metric("servekit_batch_rows_bucket", model=leg, le=float(ROWS_MAX)) == batches > 0


def test_objects_are_found_and_classified(server, root):
    # Only bars are added to it, so that every library sees the same pixels.
    stream = io.BytesIO()
    with Image.open(pipelines.IMAGES / "china.jpg") as image:
        image.save(stream, "png")
    (row,) = pipelines.expected(root / "labelled", [{"image": stream.getvalue()}])
    assert row["count"][0] > 3
    for protocol in ("json", "binary", "triton-grpc"):
        picture = stream.getvalue() if protocol != "json" else base64.b64encode(stream.getvalue())
        found = infer_once(protocol, server, Asked("labelled", {"image": column([picture] * 2)}))
        for name, expected in row.items():
            np.testing.assert_allclose(found[name], np.stack([expected] * 2), rtol=1e-3, atol=1e-3, err_msg=name)


# What is told --------------------------------------------------------------------------------------------------------

STEPS = ["finder", "crops", "normalise", "shop", "softmax"]


def test_an_answer_says_what_the_steps_of_all_models_took(server):
    body = json_body(Asked("shop", {"image": scene(1, 2)[None]}))
    status, headers, _ = server.request("POST", "/v2/models/shop/infer", body)
    assert status == 200
    told = [part.partition(";")[0] for part in headers["server-timing"].split(", ")]
    assert told == ["queue", "batch", "input", "run", "output", *STEPS, "total"]


def test_each_step_and_each_queue_is_measured(server):
    before = server.metrics()
    infer_once("grpc", server, Asked("shop", {"image": np.stack([scene(3, 2), scene(4, 3)])}))
    after = server.metrics()

    def more(name, **labels):
        wanted = "".join(f'{key}="{value}",' for key, value in labels.items())
        key = f'{name}{{{wanted}version="1"}}'
        return after[key] - before.get(key, 0)

    for step in STEPS:
        assert more("servekit_stage_duration_seconds_count", model="shop", stage=step) == 1
    assert not [key for key in after if "stage_duration" in key and "shop/" in key]
    for leg, rows in (("shop", 2), ("shop/shop", 5)):
        assert more("servekit_batch_rows_sum", model=leg) == rows
        for counted in ("batch_rows", "run_duration_seconds", "queue_duration_seconds"):
            assert more(f"servekit_{counted}_count", model=leg) == 1, counted
        assert more("servekit_dispatch_total", model=leg, reason="idle") == 1
        assert after[f'servekit_queue_rows{{model="{leg}",version="1"}}'] == 0
        assert f'servekit_estimate_row_seconds{{model="{leg}",version="1"}}' in after
    assert more("nv_inference_request_success", model="shop") == 1
    assert not [key for key in after if key.startswith("nv_inference_request_") and "shop/" in key]
    page = server.request("GET", "/models/shop/1", address=server.management)[2].decode()
    assert "<code>shop/shop</code>" in page


# Between two models --------------------------------------------------------------------------------------------------

CANCELLED = "servekit_requests_cancelled_total"
PENDING = "nv_inference_pending_request_count"
HELD = json.dumps(
    [
        {"name": "relay", "intra_op": ALL_CORES, "queue_requests_max": QUEUED_MAX},
        *({"name": name, "intra_op": ALL_CORES} for name in ("shop", "parts")),
        {"name": "spin", "execution": "pool"},
    ]
)
GOOD = np.array([[1, 2, 4]], np.float32)


@contextmanager
def serving_held(folder, *more, **limits):
    """A server whose second models can be held."""
    for make in (pipelines.shop, pipelines.relay, pipelines.parts, models.spin, models.ident, models.tiny):
        make(folder)
    effective = {"run_ms_max": 3_000, "drain_delay_ms": 0, **limits}
    environment = {f"SERVEKIT__LIMITS__{key.upper()}": str(value) for key, value in effective.items()}
    arguments = ["--shards", "1", "--runners", "2", "--allow-code", *more]
    with serving(folder, arguments=arguments, environment=environment | {"SERVEKIT__MODELS": HELD}) as process:
        yield process


@pytest.fixture(scope="module")
def holding(tmp_path_factory):
    with serving_held(tmp_path_factory.mktemp("held")) as process:
        yield process


@contextmanager
def held(server):
    """Within, no second model runs, as it needs all cores: `spin` has one of them, until `run_ms_max` ends its run."""
    with peer(server) as caller:
        number, frames = caller.called(spin_message(10**12))
        caller.send(*frames)
        server.settles("servekit_in_flight_requests", 1, model="spin")
        server.settles(PENDING, 0, model="spin")
        yield
        caller.answered(number)


def relayed(values):
    """A call of `relay`."""
    return message("relay", ("value", "FP32", values.shape, values.tobytes()))


def batches(server, leg):
    """Batches and rows that have run in a leg."""
    return [server.metric(f"servekit_batch_rows_{which}", model=leg) for which in ("count", "sum")]


def test_entries_of_several_requests_share_a_batch(holding, tmp_path):
    pipelines.shop(tmp_path)
    pictures = [scene(number, bright) for number, bright in enumerate((1, ROOM, 2, 0))]
    with unharmed(holding, lane_lost=1), peer(holding) as caller:
        before = batches(holding, "shop/shop")
        with held(holding):
            calls = [message("shop", ("image", "UINT8", [1, 32, 32, 3], picture.tobytes())) for picture in pictures]
            numbers, frames = zip(*(caller.called(call) for call in calls), strict=True)
            caller.send(*(frame for several in frames for frame in several))
            holding.settles("servekit_queue_rows", 1 + ROOM + 2, model="shop/shop")
        for number, picture in zip(numbers, pictures, strict=True):
            answer = caller.answered(number)
            served(answer)
            agree(framed_arrays(answer.body), [seen(tmp_path, picture)])
        run = [after - then for after, then in zip(batches(holding, "shop/shop"), before, strict=True)]
        assert run == [1, 1 + ROOM + 2]


def test_who_is_late_between_two_models_is_told_so_and_never_runs(holding):
    with unharmed(holding, lane_lost=1, deadline=2), peer(holding) as caller, raw_connection(holding) as connection:
        before = batches(holding, "relay/relay")
        with held(holding):
            ran = batches(holding, "relay")
            body = json_body(Asked("relay", {"value": GOOD}))
            connection.send(infer("relay", body, "x-request-timeout-ms: 1000"))
            number, frames = caller.called(relayed(GOOD), ("grpc-timeout", "1000m"))
            caller.send(*frames)
            refused(connection.answer(), 504, "deadline")
            refused(caller.answered(number), 4, "deadline")
            assert batches(holding, "relay")[1] == ran[1] + 2, "they had run in the first"
        served(caller.call(relayed(GOOD)))
        assert batches(holding, "relay/relay") == [before[0] + 1, before[1] + 1], "only the last one ran in the second"


def test_who_leaves_between_two_models_takes_everything_along(holding):
    body = json_body(Asked("relay", {"value": GOOD}))
    with unharmed(holding, lane_lost=1), peer(holding) as caller:
        before = batches(holding, "relay/relay")
        with held(holding):
            cancelled, bytes_held = (holding.metric(name) for name in (CANCELLED, "servekit_in_flight_bytes"))
            leavers = [RawConnection(holding.connect()) for _ in range(QUEUED_MAX)]
            for leaver in leavers:
                leaver.send(infer("relay", body))
            holding.settles(PENDING, QUEUED_MAX, model="relay/relay")
            for leaver in leavers:
                abort(leaver.socket)
            holding.settles(CANCELLED, cancelled + QUEUED_MAX)
            holding.settles("servekit_in_flight_bytes", bytes_held)
            # The queue has their places for others.
            number, frames = caller.called(relayed(GOOD))
            caller.send(*frames)
        served(caller.answered(number))
        assert batches(holding, "relay/relay") == [before[0] + 1, before[1] + 1]


def test_a_row_that_the_second_model_s_steps_refuse_harms_nobody(holding):
    values = np.arange(1, 49, dtype=np.float32).reshape(4, 4, 3)
    bad = values.copy()
    # The first means nothing, as row 1 has one entry.
    bad[1, 2, 0] = bad[2, 1, 2] = 0
    counts = np.array([[4], [1], [2], [0]])

    def parts(values, counts):
        inputs = ("value", "FP32", values.shape, values.tobytes()), ("count", "INT64", counts.shape, counts.tobytes())
        return message("parts", *inputs)

    with unharmed(holding, lane_lost=1, row=1), peer(holding) as caller:
        with held(holding):
            calls = [parts(values, counts), parts(bad, counts), parts(values[:1], counts[:1])]
            numbers, frames = zip(*(caller.called(call) for call in calls), strict=True)
            caller.send(*(frame for several in frames for frame in several))
            # `first` runs in a leg of its own, behind the one that takes the entries apart.
            holding.settles("servekit_queue_rows", 7 + 7 + 4, model="parts/parts")
        answers = [caller.answered(number) for number in numbers]
        refused(answers[1], 3, "row")
        assert "row 2" in answers[1].text
        for answer, rows in ((answers[0], 4), (answers[2], 1)):
            served(answer)
            expected = np.where(np.arange(4)[:, None] < counts[:rows, :, None], 1 / values[:rows], 0)
            np.testing.assert_allclose(framed_arrays(answer.body)["finite"], expected, rtol=1e-6)


def test_a_full_queue_between_two_models_refuses(holding):
    with unharmed(holding, lane_lost=1, queue_full=1), peer(holding) as caller, raw_connection(holding) as connection:
        with held(holding):
            calls = [caller.called(relayed(GOOD)) for _ in range(QUEUED_MAX)]
            caller.send(*(frame for _, frames in calls for frame in frames))
            holding.settles(PENDING, QUEUED_MAX, model="relay/relay")
            refused(connection.ask(infer("relay", json_body(Asked("relay", {"value": GOOD})))), 429, "queue_full")
        for number, _ in calls:
            served(caller.answered(number))


def test_an_edit_loses_nobody_between_two_models(tmp_path):
    with serving_held(tmp_path, "--watch", run_ms_max=6_000) as server, peer(server) as caller:
        file = tmp_path / "relay" / "model.yaml"
        with held(server):
            calls = [caller.called(relayed(GOOD)) for _ in range(QUEUED_MAX)]
            caller.send(*(frame for _, frames in calls for frame in frames))
            server.settles(PENDING, QUEUED_MAX, model="relay/relay")
            file.write_text(file.read_text() + "    as: inverse\n")
            assert server.event("pipeline_swapped")["model"] == "relay"
            assert select.select([caller.socket], [], [], 0) == ([], [], []), "they still wait"
        for number, _ in calls:
            served(caller.answered(number))
            np.testing.assert_allclose(framed_arrays(caller.replies[number].body)["finite"], 1 / GOOD)
        answer = caller.call(relayed(GOOD))
        served(answer)
        np.testing.assert_allclose(framed_arrays(answer.body)["inverse"], 1 / GOOD)


def test_a_drain_answers_who_is_between_two_models(tmp_path):
    with serving_held(tmp_path, drain_ms_max=20_000) as server, peer(server) as caller:
        with held(server):
            calls = [caller.called(relayed(GOOD)) for _ in range(QUEUED_MAX)]
            caller.send(*(frame for _, frames in calls for frame in frames))
            server.settles(PENDING, QUEUED_MAX, model="relay/relay")
            server.signal(signal.SIGTERM)
            server.event("draining")
        for number, _ in calls:
            served(caller.answered(number))
            np.testing.assert_allclose(framed_arrays(caller.replies[number].body)["finite"], 1 / GOOD)
        assert caller.closed()
        assert server.ended() == 0
    assert server.event("drained")["unanswered"] == 0
