"""A pipeline is edited while it is served."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest

from tests.serve import pipelines
from tests.serve.process import serving
from tests.serve.transports import TRANSPORTS, Asked

ROW = Asked("finite", {"value": np.array([[1, 2, 3]], np.float32)})
OSLO = Asked("cities", {"city": pipelines.column(["oslo"])})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return pipelines.finite(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def server(folder):
    with serving(folder, arguments=["--watch", "--allow-code"]) as process:
        yield process


def test_edits_are_served_without_a_request_that_fails(server, folder):
    file = folder / "model.yaml"
    written = file.read_text()
    ended = Event()

    def ask():
        """Until the edits are over: what came, each once, in order."""
        answers = []
        with TRANSPORTS["grpc"](server) as infer:
            while not ended.is_set():
                (answer,) = (output.tolist() for output in infer(ROW).values())
                answers += [answer] if answers[-1:] != [answer] else []
        return answers

    with ThreadPoolExecutor(2) as callers:
        asking = [callers.submit(ask) for _ in range(2)]
        try:
            file.write_text(written + "after: [{use: scores.sotfmax}]\n")
            kept = server.event("pipeline_kept")
            file.write_text(written + "after: [{use: numbers.clip, with: {low: 0, high: 3}}]\n")
            swapped = server.event("pipeline_swapped")
            with TRANSPORTS["binary"](server) as infer:
                (now,) = infer(ROW).values()
        finally:
            ended.set()
    assert "did you mean 'scores.softmax'?" in kept["reason"]
    assert swapped["model"] == "finite"
    assert now.tolist() == [[2, 3, 3]]
    for answers in asking:
        assert answers.result() in ([[[2, 4, 6]], [[2, 3, 3]]], [[[2, 4, 6]]])


def test_an_edit_of_a_file_that_a_stage_reads_is_served(tmp_path):
    file = pipelines.cities(tmp_path) / "cities.txt"

    def write(text):
        """In one piece: half of a file would be one more edit."""
        (tmp_path / "new").write_text(text)
        (tmp_path / "new").rename(file)

    with serving(file.parent, arguments=["--watch"]) as server, TRANSPORTS["binary"](server) as infer:

        def place():
            (found,) = infer(OSLO).values()
            return found.tolist()

        assert place() == [[2]]
        write("berlin\n\noslo\n")
        kept = server.event("pipeline_kept")
        assert "before step 1 (lookup)" in kept["reason"]
        assert "line 2 of the file is empty" in kept["reason"]
        assert place() == [[2]]
        write("oslo\nberlin\n")
        server.event("pipeline_swapped")
        assert place() == [[0]]
