"""The same services in Python, written as one would for speed.

`python -m loadtests.pipelines.twin PORT FOLDER...` serves what `loadtests.pipelines.models` has made.
Starlette under uvicorn with uvloop and httptools. Requests that wait are batched, and a batch runs in a thread, so that
the event loop goes on meanwhile: tokenizing, Pillow, NumPy's loops and ONNX Runtime all leave the interpreter's lock.
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
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from tokenizers import Tokenizer

ROWS_MAX: Final = 64
THREADS: Final = 2
MEAN: Final = np.array([0.485, 0.456, 0.406], np.float32)
STD: Final = np.array([0.229, 0.224, 0.225], np.float32)

Answer = dict[str, Any]
Run = Callable[[Sequence[Any]], list[Answer]]


class Batches:
    """Takes what waits whenever a thread is free; nobody is kept waiting for others."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._waiting: list[tuple[Any, asyncio.Future[Answer]]] = []
        self._threads = ThreadPoolExecutor(THREADS)
        self._busy = 0

    async def answer(self, row: Any) -> Answer:  # noqa: ANN401 - a text or a picture
        """What comes of one row."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((row, future))
        self._begin()
        return await future

    def _begin(self) -> None:
        if self._busy == THREADS or not self._waiting:
            return
        batch, self._waiting = self._waiting[:ROWS_MAX], self._waiting[ROWS_MAX:]
        self._busy += 1
        done = asyncio.get_running_loop().run_in_executor(self._threads, self._run, [row for row, _ in batch])
        done.add_done_callback(lambda answers: self._end(batch, answers))

    def _end(self, batch: list[tuple[Any, "asyncio.Future[Answer]"]], answers: "asyncio.Future[list[Answer]]") -> None:
        self._busy -= 1
        for (_, future), answer in zip(batch, answers.result(), strict=True):
            future.set_result(answer)
        self._begin()


def loaded(folder: Path) -> onnxruntime.InferenceSession:
    """The model, each run on the thread that asks for it: there are as many of them as cores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(folder / "model.onnx", options)


def embedding(folder: Path) -> Run:
    """Texts to vectors of length 1."""
    session = loaded(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(256)
    tokenizer.enable_padding()

    def run(texts: Sequence[str]) -> list[Answer]:
        found = tokenizer.encode_batch(texts)
        mask = np.array([one.attention_mask for one in found])
        inputs = {
            "input_ids": np.array([one.ids for one in found]),
            "attention_mask": mask,
            "token_type_ids": np.array([one.type_ids for one in found]),
        }
        (hidden,) = session.run(None, inputs)
        shown = mask[:, :, None].astype(np.float32)
        pooled = (hidden * shown).sum(1) / shown.sum(1)
        vectors = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return [{"embedding": vector.tolist()} for vector in vectors]

    return run


def classification(folder: Path) -> Run:
    """Pictures to their five best classes."""
    session = loaded(folder)

    def decoded(content: bytes) -> np.ndarray[Any, Any]:
        with Image.open(io.BytesIO(content)) as image:
            scale = 256 / min(image.size)
            size = (round(image.width * scale), round(image.height * scale))
            left, top = (size[0] - 224) // 2, (size[1] - 224) // 2
            scaled = image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
            return np.asarray(scaled.crop((left, top, left + 224, top + 224)))

    def run(contents: Sequence[bytes]) -> list[Answer]:
        photos = np.stack([decoded(content) for content in contents]).astype(np.float32)
        pixels = np.ascontiguousarray(((photos / 255 - MEAN) / STD).transpose(0, 3, 1, 2))
        (logits,) = session.run(None, {"pixels": pixels})
        powers = np.exp(logits - logits.max(1, keepdims=True))
        shares = powers / powers.sum(1, keepdims=True)
        best = np.argsort(-shares, 1)[:, :5]
        return [
            {"probabilities": share[chosen].tolist(), "classes": chosen.tolist()}
            for share, chosen in zip(shares, best, strict=True)
        ]

    return run


def application(folders: Sequence[Path]) -> Starlette:
    """Routes as servekit has them; a text comes as JSON, a picture as the body."""
    batches = {
        folder.name: Batches(embedding(folder) if (folder / "tokenizer.json").exists() else classification(folder))
        for folder in folders
    }

    async def infer(request: Request) -> Response:
        body = await request.body()
        name = request.path_params["name"]
        if request.headers["content-type"] == "application/json":
            answer = await batches[name].answer(json.loads(body)["inputs"][0]["data"][0])
        else:
            answer = await batches[name].answer(body[int(request.headers["inference-header-content-length"]) + 4 :])
        return Response(json.dumps(answer), media_type="application/json")

    return Starlette(routes=[Route("/v2/models/{name}/infer", infer, methods=["POST"])])


def main() -> None:
    """Serves until it is ended."""
    port, *folders = sys.argv[1:]
    served = application([Path(folder) for folder in folders])
    uvicorn.run(served, port=int(port), loop="uvloop", http="httptools", log_level="error")


if __name__ == "__main__":
    main()
