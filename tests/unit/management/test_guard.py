import asyncio

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse

from servekit.management.guard import Guard, host_name


async def page(scope, receive, send):
    await PlainTextResponse("page")(scope, receive, send)


def asked(path="/", method="GET", host="localhost:8002", content=b"", **headers):
    guard = Guard(page, {"10.0.0.7", "ops.example"}, body_bytes_max=8)

    async def ask():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(guard), base_url="http://x") as client:
            fields = {"host": host} | {name.replace("_", "-"): value for name, value in headers.items()}
            return await client.request(method, path, headers=fields, content=content)

    return asyncio.run(ask())


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8002", "127.0.0.1:1", "[::1]:8002", "10.0.0.7:8002", "ops.example", "localhost."]
)
def test_its_own_names_may_ask(host):
    assert asked(host=host).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "", "[::2]:8002", "x:y:z"]
)
def test_a_rebound_name_is_refused(host):
    answer = asked(host=host)
    assert (answer.status_code, answer.headers["servekit-refusal"]) == (403, "forbidden")
    assert "management.hosts" in answer.json()["error"]
    assert host == "" or host not in answer.text


@pytest.mark.parametrize("origin", ["http://localhost:8002", "null", "https://evil.example"])
def test_any_origin_is_refused(origin):
    assert asked(origin=origin).status_code == 403


@pytest.mark.parametrize("path", ["/metrics", "/healthz"])
def test_scrapers_and_probes_ask_by_any_name(path):
    assert asked(path, host="10.1.2.3:8002", origin="http://x").status_code == 200
    assert asked(path, method="POST", host="10.1.2.3:8002").status_code == 403


def test_a_body_is_let_through_at_the_limit_and_refused_past_it():
    assert asked(method="POST", content=b"x" * 8).status_code == 200
    past = asked(method="POST", content=b"x" * 9)
    assert (past.status_code, past.headers["servekit-refusal"]) == (413, "body")


def test_a_body_without_a_length_is_counted():
    async def parts():
        for _ in range(9):
            yield b"x"

    assert asked(method="POST", content=parts()).status_code == 413


def test_a_length_that_lies_is_refused_before_reading():
    assert asked(method="POST", content_length="99999999999999999999999").status_code == 413


@given(st.text(max_size=60))
def test_no_host_header_breaks_the_guard(text):
    assert isinstance(host_name(text), str)
