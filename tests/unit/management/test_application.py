import asyncio
import re

import httpx
import pytest

from servekit.management import guide
from servekit.management.application import application
from servekit.plan import ManagementPlan
from tests.unit import snapshots


def asked(path, text=None, method="GET", **headers):
    plan = ManagementPlan("127.0.0.1", 8002, ("ops.example",), 2**20, 64, 10_000)
    app = application(snapshots.Source(text or snapshots.text()), "10.0.0.7:8002", plan)

    async def ask():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8002") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(ask())


def test_the_first_page_shows_models_contracts_and_figures():
    page = asked("/")
    assert page.status_code == 200
    for shown in (
        "tiny",
        "FP32",
        "[any, 4]",
        "inline on cpu",
        "first axis is symbolic",
        "queue_full 2",
        "ONNX Runtime 1.32.0",
    ):
        assert shown in page.text, shown


def test_a_model_s_page_says_why():
    page = asked("/models/tiny/1")
    assert page.status_code == 200
    assert '<a class="soft" href="/models/tiny/1">' in asked("/").text
    for shown in (
        "<li>99 in 100 were answered within 4 ms</li>",
        "<li>Add a replica</li>",
        "<code>[?, n], n up to 64</code>",
        "50 ms for level 1, 100 ms for levels 2 to 8",
        "within tolerance, up to 64 rows, largest difference 2e-07 of 1e-05 allowed",
        "10.0% of 100 elements",
        "<code>idle</code></td><td>3</td><td>75.0%</td>",
        "<code>arrival</code></td><td>4</td><td>100.0%</td>",
        "<td>on average</td><td>30.1 ms</td><td>0 ns</td><td>10.2 ms</td>",
        "<td>of the slowest hundredth</td><td>300 ms</td><td>0 ns</td><td>100 ms</td>",
        "<dd>48 rows</dd>",
        "<dd>1 of 2</dd>",
        "<td>93 µs</td><td>912 µs</td><td>± 8%</td><td>120</td>",
    ):
        assert shown in page.text, shown
    assert "<code>expired</code>" not in page.text, "what never happened is not shown"


def test_a_pipeline_s_page_shows_its_queues():
    title = "Its models, one after the other"
    page = asked("/models/tiny/1", snapshots.text(snapshots.model(legs=[snapshots.leg()]))).text
    assert title in page
    for cells in (
        ("<code>tiny</code>", "2 with 3 rows", "2.5 rows", "250 µs", "64 rows, 1 lane"),
        ("<code>tiny/second</code>", "6 with 7 rows", "10.0 rows", "250 µs", "64 rows, 1 lane"),
    ):
        assert "".join(f"<td>{cell}</td>" for cell in cells) in page
    assert "<li><code>tiny/second</code>: 4 batches have run</li>" in page
    assert title not in asked("/models/tiny/1").text


def test_a_page_without_figures_is_a_page():
    for text in (snapshots.text(snapshots.unserved("tiny", "failed", "no such operator", "model_file")), None):
        assert asked("/models/tiny/1", text).status_code == 200
    bare = snapshots.model(estimate=None, proof=None, surfaces=[], dispatch={}, shed={}, padding={}, targets_ms=[])
    assert "Why batches left" not in asked("/models/tiny/1", snapshots.text(bare)).text


def test_what_a_model_says_stays_text():
    evil = "<script>alert(1)</script>"
    text = snapshots.text(snapshots.unserved("tiny", "failed", evil, "model_file"))
    page = asked("/", text).text
    assert evil not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "&lt;a&gt;" in asked("/").text


def test_only_its_own_script_and_style_run():
    page = asked("/")
    policy = page.headers["content-security-policy"]
    (nonce,) = set(re.findall(r'nonce="([^"]+)"', page.text))
    assert policy.startswith("default-src 'none'")
    assert f"script-src 'nonce-{nonce}'" in policy
    assert f'nonce="{nonce}"' not in asked("/").text
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page.text), "nothing comes from elsewhere"


def test_the_script_finds_every_figure_it_refreshes():
    places = set(re.findall(r'data-figure="([^"]+)"', asked("/").text))
    status = asked("/status.json").json()
    assert places <= set(status["figures"])
    assert status["layout"] in asked("/").text


def test_the_layout_changes_with_a_models_state():
    loading = snapshots.text(snapshots.unserved("tiny", "loading"))
    assert asked("/status.json").json()["layout"] != asked("/status.json", loading).json()["layout"]


def test_a_model_that_is_loading_has_a_page():
    text = snapshots.text(snapshots.unserved("tiny", "loading"))
    assert 'class="badge loading"' in asked("/", text).text


def test_without_a_model_there_is_a_page():
    taken = snapshots.snapshot()
    taken["models"] = []
    import json

    assert "No model is served" in asked("/", json.dumps(taken)).text


def test_metrics_and_health_answer():
    assert "servekit_connections 7.0" in asked("/metrics").text
    assert asked("/healthz").text == "ok\n"
    assert asked("/metrics", accept="application/openmetrics-text").text.endswith("# EOF\n")


@pytest.mark.parametrize("name", list(guide.titles()))
def test_every_page_of_the_guide_is_rendered(name):
    assert asked(f"/guide/{name}").status_code == 200
    assert asked(f"/guide/{name}.md").text.count("<h1") == 2
    assert f'href="/guide/{name}"' in asked("/").text
    assert f'href="/guide/{name}"' in asked("/guide").text


@pytest.mark.parametrize(
    "path",
    [
        "/guide/none",
        "/models/tiny/2",
        "/models/none/1",
        "/models/tiny",
        "/guide/..%2f..%2fetc%2fpasswd",
        "/guide/../__init__",
        "/x" * 100,
        "/x%0a",
    ],
)
def test_an_unknown_page_is_404_and_says_little(path):
    answer = asked(path)
    assert answer.status_code == 404
    assert len(answer.text) < 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/", "/status.json", "/guide"])
def test_nothing_here_changes_anything(method, path):
    assert asked(path, method=method).status_code == 405


def test_pages_need_a_known_host_and_the_bound_address_is_one():
    assert asked("/", host="evil.example").status_code == 403
    assert asked("/", host="10.0.0.7:8002").status_code == 200
    assert asked("/", host="ops.example").status_code == 200
    assert asked("/metrics", host="evil.example").status_code == 200
