"""What the documents tell people to type works as it is written."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from grpc_tools import protoc

from servekit.repository.resolving import DEMO
from tests.serve import pipelines
from tests.serve.process import serving

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "servekit" / "guide").glob("*.md"))
SNIPPET = re.compile(r"^```(sh|python)\n(.*?)^```", re.DOTALL | re.MULTILINE)
PROMISE = re.compile(r"print\(.*\)  # (.+)$", re.MULTILINE)
# What the text around a curl says of its answer.
CURL_ANSWERS = {"README.md": ['"data":[7]'], "demo.md": ['"shape":[-1,8,8]', '"id":"seven"', "servekit-refusal: shape"]}


def snippets(language: str, first_word: str = "") -> list:
    """Snippets of all pages, with their page and their number among those of their kind there."""
    found = []
    for page in PAGES:
        codes = [code for kind, code in SNIPPET.findall(page.read_text()) if kind == language]
        for number, code in enumerate(code for code in codes if code.startswith(first_word)):
            found.append(pytest.param(page.name, number, code, id=f"{page.name}-{number}"))
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The demo, and the pipeline that the guide begins with."""
    with serving(DEMO.parent, pipelines.classifier(tmp_path_factory.mktemp("models"))) as process:
        yield process


@pytest.fixture(scope="module")
def stubs(tmp_path_factory):
    """The folder that the page's own command fills."""
    folder = tmp_path_factory.mktemp("stubs")
    command = ["", f"-I{ROOT / 'protos'}", f"--python_out={folder}", f"--grpc_python_out={folder}"]
    assert protoc.main([*command, "open_inference.proto"]) == 0
    return folder


def addressed(code: str, server) -> str:
    return code.replace("127.0.0.1:8000", server.http).replace("127.0.0.1:8001", server.grpc)


@pytest.mark.parametrize(("page", "number", "code"), snippets("python"))
def test_a_python_snippet_prints_what_it_promises(server, stubs, page, number, code):
    environment = {**os.environ, "PYTHONPATH": str(stubs)}
    ended = subprocess.run(
        [sys.executable, "-c", addressed(code, server)], capture_output=True, text=True, env=environment, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == PROMISE.findall(code)


@pytest.mark.parametrize(("page", "number", "code"), snippets("sh", "curl") if shutil.which("curl") else [])
def test_a_curl_snippet_gets_the_answer_that_the_page_tells(server, page, number, code):
    ended = subprocess.run(["sh", "-c", addressed(code, server)], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert CURL_ANSWERS[page][number] in ended.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_and_link_of_a_page_exists(page):
    text = page.read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)) <= targets
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_flag_of_a_page_is_one_that_the_command_has(page):
    for line in re.findall(r"servekit (?:serve|check|probe)\b[^\n`#]*", page.read_text()):
        command, *words = line.split()[1:]
        shown = subprocess.run([sys.executable, "-m", "servekit", command, "--help"], capture_output=True, text=True)
        for flag in (word.split("=")[0].rstrip(",.;:)]") for word in words if word.startswith("--")):
            assert re.search(rf"(?<![\w-]){flag}(?![\w-])", shown.stdout), f"{line}: {flag}"
