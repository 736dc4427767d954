"""The management pages: metrics for machines, one page and the guide for people. Nothing here changes the server."""

import hashlib
import json
import secrets
import time
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from servekit import __version__, metrics, snapshot
from servekit.management import guide
from servekit.management.explanation import explain
from servekit.management.figures import Meter, key
from servekit.management.guard import Guard, host_name
from servekit.plan import ManagementPlan
from servekit.sizes import sized
from servekit.snapshot import Snapshot, Source

if TYPE_CHECKING:
    import jinja2
    from starlette.types import ASGIApp

REFRESH_MS = 2000
_NONCE_BYTES = 16
_UNCACHED = {"cache-control": "no-store"}


def application(source: Source, address: str, plan: ManagementPlan) -> "ASGIApp":
    """The whole application, with its guard around it."""
    registry = metrics.registry(source.snapshot, plan.series_max)
    pages = _Pages(source)

    async def scrape(request: Request) -> Response:
        body, content_type = metrics.render(registry, request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    async def health(request: Request) -> Response:
        del request
        return PlainTextResponse("ok\n")

    app = Starlette(
        routes=[
            Route("/metrics", scrape),
            Route("/healthz", health),
            Route("/", pages.first),
            Route("/status.json", pages.status),
            Route("/models/{name}/{version}", pages.model),
            Route("/guide", pages.contents),
            Route("/guide/{name}", pages.guide_page),
        ],
        exception_handlers={404: _unknown},
    )
    return Guard(app, {host_name(address), plan.host, *plan.hosts}, plan.body_bytes_max)


class _Pages:
    """Pages for people; they share one meter."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._meter = Meter()

    def _take_snapshot(self) -> Snapshot:
        return snapshot.read(self._source.snapshot())

    async def first(self, request: Request) -> Response:
        """Models and figures."""
        del request
        taken = self._take_snapshot()
        return _html(
            "first.html",
            title="servekit",
            snapshot=taken,
            figures=self._meter.figures(taken, time.monotonic()),
            layout=layout(taken),
            guide=guide.titles(),
            refresh_ms=REFRESH_MS,
        )

    async def status(self, request: Request) -> Response:
        """The figures alone, for the page's script."""
        del request
        taken = self._take_snapshot()
        figures = self._meter.figures(taken, time.monotonic())
        return JSONResponse({"layout": layout(taken), "figures": figures}, headers=_UNCACHED)

    async def model(self, request: Request) -> Response:
        """Why one model's answers take as long as they do."""
        name, version = request.path_params["name"], request.path_params["version"]
        for model in self._take_snapshot()["models"]:
            if (model["name"], model["version"]) == (name, version):
                explanation = explain(model, self._source.why(name, version))
                return _html("model.html", title=f"{name} {version}", model=model, explanation=explanation)
        return await _unknown(request, None)

    async def contents(self, request: Request) -> Response:
        """Every page of the guide."""
        del request
        return _html("contents.html", title="Guide", guide=guide.titles())

    async def guide_page(self, request: Request) -> Response:
        """One page of the guide, also by its file's name, as the pages link to each other."""
        page = guide.page(request.path_params["name"].removesuffix(".md"))
        if page is None:
            return await _unknown(request, None)
        return _html("guide.html", title=page.title, page=page, guide=guide.titles())


def layout(taken: Snapshot) -> str:
    """A digest of what the page shows beside figures; when it changes the page is loaded anew."""
    parts = [(key(model), model["state"], model["digest"], model["execution"]) for model in taken["models"]]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


async def _unknown(request: Request, error: Exception | None) -> Response:
    del error
    shown = request.url.path[:64].encode("unicode_escape").decode("ascii")
    return JSONResponse({"error": f"no page {shown}; / links to all of them"}, status_code=404)


def _html(template: str, **values: Any) -> Response:  # noqa: ANN401 # what each template takes
    nonce = secrets.token_urlsafe(_NONCE_BYTES)
    text = _templates().get_template(template).render(version=__version__, nonce=nonce, **values)
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {"content-security-policy": policy, "x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
    return HTMLResponse(text, headers=headers | _UNCACHED)


@cache
def _templates() -> "jinja2.Environment":
    """Imported with the first page: a server that only machines ask never pays for it."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["sized"] = sized
    environment.filters["compact"] = partial(json.dumps, ensure_ascii=False)
    return environment
