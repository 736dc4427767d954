"""The twin: Starlette in front, one thread that runs batches of whatever has come meanwhile.

`python -m loadtests.twins.service text|pictures FOLDER` prints its address once it serves.
"""

import asyncio
import io
import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
import uvicorn
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loadtests.twins.workload import MEAN, PIXELS, SHORTEST, STD

ROWS_MAX: Final = 64
Embed = Callable[[Sequence[bytes]], NDArray[np.float32]]
"""Rows of results for what was sent, one element each."""


class Batcher:
    """Runs what waits, up to `ROWS_MAX` rows, as soon as the run before has ended."""

    def __init__(self, work: Embed) -> None:
        self._work = work
        self._waiting: list[tuple[bytes, asyncio.Future[NDArray[np.float32]]]] = []
        self._came = asyncio.Event()
        self._thread = ThreadPoolExecutor(1)

    async def answer(self, sent: bytes) -> NDArray[np.float32]:
        """The row of this element."""
        future: asyncio.Future[NDArray[np.float32]] = asyncio.get_running_loop().create_future()
        self._waiting.append((sent, future))
        self._came.set()
        return await future

    async def run(self) -> None:
        """Until the service ends."""
        loop = asyncio.get_running_loop()
        while True:
            await self._came.wait()
            batch, self._waiting = self._waiting[:ROWS_MAX], self._waiting[ROWS_MAX:]
            if not self._waiting:
                self._came.clear()
            rows = await loop.run_in_executor(self._thread, self._work, [sent for sent, _ in batch])
            for (_, future), row in zip(batch, rows, strict=True):
                if not future.cancelled():
                    future.set_result(row)


def session(folder: Path) -> onnxruntime.InferenceSession:
    """As a careful user opens it: one thread a run, none that spins."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])


def text(folder: Path) -> Embed:
    """Tokens, padded to the longest of the batch; model; mean; length 1."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding()
    model = session(folder)

    def embed(sent: Sequence[bytes]) -> NDArray[np.float32]:
        encoded = tokenizer.encode_batch_fast([one.decode() for one in sent], add_special_tokens=False)
        ids = np.array([one.ids for one in encoded], np.int64)
        mask = np.array([one.attention_mask for one in encoded], np.float32)
        (tokens,) = model.run(["last_hidden_state"], {"input_ids": ids})
        pooled = np.einsum("rlw,rl->rw", tokens, mask) / np.maximum(mask.sum(1, keepdims=True), 1)
        return np.asarray(pooled / np.linalg.norm(pooled, axis=1, keepdims=True), np.float32)

    return embed


def pictures(folder: Path) -> Embed:
    """Pillow decodes and resizes, NumPy normalises."""
    from PIL import Image

    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)
    scale, offset = 1 / 255 / std, -mean / std
    model = session(folder)

    def pixels(sent: bytes) -> NDArray[np.float32]:
        image = Image.open(io.BytesIO(sent)).convert("RGB")
        ratio = SHORTEST / min(image.size)
        image = image.resize([round(side * ratio) for side in image.size], Image.Resampling.BILINEAR)
        left, top = ((side - PIXELS) // 2 for side in image.size)
        cropped = np.asarray(image.crop((left, top, left + PIXELS, top + PIXELS)))
        return np.asarray((cropped * scale + offset).transpose(2, 0, 1), np.float32)

    def classify(sent: Sequence[bytes]) -> NDArray[np.float32]:
        (logits,) = model.run(["logits"], {"pixels": np.stack([pixels(one) for one in sent])})
        powers = np.exp(logits - logits.max(1, keepdims=True))
        return np.asarray(powers / powers.sum(1, keepdims=True), np.float32)

    return classify


KINDS: Final = {"text": (text, "text", "embedding"), "pictures": (pictures, "image", "probabilities")}


def element(body: bytes, json_bytes: str | None) -> bytes:
    """The one that was sent: in the JSON, or behind it with its length in front."""
    if json_bytes is not None:
        return body[int(json_bytes) + 4 :]
    text: str = json.loads(body)["inputs"][0]["data"][0]
    return text.encode()


def application(kind: str, folder: Path) -> Starlette:
    """The model's page for metadata, and where it is asked."""
    make, input_name, output_name = KINDS[kind]
    batcher = Batcher(make(folder))
    running: set[asyncio.Task[None]] = set()

    async def infer(request: Request) -> Response:
        sent = element(await request.body(), request.headers.get("inference-header-content-length"))
        if not running:
            running.add(asyncio.create_task(batcher.run()))
        row = await batcher.answer(sent)
        output = {"name": output_name, "datatype": "FP32", "shape": [1, len(row)], "data": row.tolist()}
        answer = {"model_name": kind, "model_version": "1", "outputs": [output]}
        return Response(json.dumps(answer), media_type="application/json")

    async def metadata(_: Request) -> Response:
        about = {"name": kind, "inputs": [{"name": input_name, "datatype": "BYTES", "shape": [-1]}]}
        return Response(json.dumps(about), media_type="application/json")

    path = f"/v2/models/{kind}"
    return Starlette(routes=[Route(path, metadata), Route(f"{path}/infer", infer, methods=["POST"])])


class Service(uvicorn.Server):
    """Tells its address when it serves."""

    async def startup(self, sockets: Any = None) -> None:  # noqa: ANN401 - as uvicorn has it
        """As the parent's, then one line."""
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        print(f"{host}:{port}", flush=True)


def main() -> int:
    """Serves until it is told to end."""
    kind, folder = sys.argv[1], Path(sys.argv[2])
    config = uvicorn.Config(application(kind, folder), host="127.0.0.1", port=0, log_level="warning", access_log=False)
    Service(config).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
