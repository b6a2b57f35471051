"""The live application's pages and data. Everything is read from a store and nothing is written.

    /                          the list of sweeps             /api/sweeps.json
    /sweep/NAME[?variant=V]    a sweep's page                 /api/sweep/NAME.json
    /healthz                   `ok`, whatever the store does  /api/sweep/NAME/curves.json

The data of a page come without curves, and with arms compared on the metric that the sweep decides
by (`?metric=` for another beside it): both take a while where arms are many, and the page asks for
them when it is on the screen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any
from urllib.parse import quote, urlencode

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboards.cost import at_equal_images
from dashboards.document import document
from dashboards.kept import Kept, Read
from dashboards.render import policy, render, render_list, render_notice
from dashboards.results import Listed, Reader
from dashboards.store import LedgerError
from dashboards.study import Study
from dashboards.which import UnknownSweep


def application(reader: Reader, refresh_s: float, hosts: Iterable[str]) -> Starlette:
    """`refresh_s`: how often an open page asks for new data. `hosts`: the names under which it may
    be called; another one may be a page elsewhere whose name was made to point here."""
    pages = _Pages(reader, refresh_s)
    routes = [
        Route("/", pages.sweeps),
        Route("/healthz", _healthy),
        Route("/api/sweeps.json", pages.sweeps_data),
        Route("/api/sweep/{name:path}/curves.json", pages.curves_data),
        Route("/api/sweep/{name:path}.json", pages.sweep_data),
        Route("/sweep/{name:path}", pages.sweep),
    ]
    middleware = [
        Middleware(_Headers),
        Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
        Middleware(GZipMiddleware),
    ]
    handlers: dict[Any, Callable[[Request, Exception], Response]] = {
        UnknownSweep: lambda request, error: _failed(request, 404, "No such sweep", error),
        LedgerError: lambda request, error: _failed(request, 503, "No data", error),
        404: lambda request, error: _failed(request, 404, "No such page", request.url.path),
    }
    return Starlette(routes=routes, middleware=middleware, exception_handlers=handlers)


async def _healthy(request: Request) -> Response:
    """Not in the pool of threads that the pages may fill when a store hangs."""
    return PlainTextResponse("ok")


def page_of(name: str, variant: str = "") -> str:
    """The address of a sweep's page."""
    return f"/sweep/{quote(name, safe='')}" + (
        f"?{urlencode({'variant': variant})}" if variant else ""
    )


class _Pages:
    """Handlers are plain functions: Starlette runs them in threads, as they wait for the store."""

    def __init__(self, reader: Reader, refresh_s: float) -> None:
        self._reader, self._refresh_s = reader, refresh_s
        self._kept = Kept(refresh_s / 2)

    # ------------------------------------------------------------ pages

    def sweeps(self, request: Request) -> Response:
        read = self._list()
        page = render_list(read.data, self._live(read, "/api/sweeps.json"))
        return HTMLResponse(page, 503 if read.stale else 200)

    def sweep(self, request: Request) -> Response:
        name, variant = _asked(request)
        read = self._sweep(name, variant, "")
        address = f"/api/sweep/{quote(name, safe='')}"
        query = f"?{urlencode({'variant': variant})}" if variant else ""
        live = self._live(read, f"{address}.json{query}")
        page = render(read.data, live | {"curves": f"{address}/curves.json{query}"})
        return HTMLResponse(page, 503 if read.stale else 200)

    def _live(self, read: Read, url: str) -> dict[str, Any]:
        return {"url": url, "refresh": self._refresh_s, "as_of": read.as_of, "stale": read.stale}

    # ------------------------------------------------------------ data

    def sweeps_data(self, request: Request) -> Response:
        return _data(request, self._list())

    def sweep_data(self, request: Request) -> Response:
        return _data(request, self._sweep(*_asked(request), request.query_params.get("metric", "")))

    def curves_data(self, request: Request) -> Response:
        name, variant = _asked(request)

        def ask() -> tuple[Study, dict[str, Any]]:
            study = self._reader.study(name, variant)
            return study, dict(self._reader.curves(study))

        def make(answer: tuple[Study, dict[str, Any]]) -> dict[str, Any]:
            return {"curves": answer[1], "equal_images": asdict(at_equal_images(*answer))}

        return _data(request, self._kept.get(("curves", name, variant), ask, make))

    def _list(self) -> Read:
        return self._kept.get("sweeps", self._reader.studies, listed)

    def _sweep(self, name: str, variant: str | None, metric: str) -> Read:
        return self._kept.get(
            ("sweep", name, variant, metric),
            lambda: self._reader.study(name, variant),
            lambda study: document(study, compared={study.target.name, metric}),
        )


def listed(sweeps: Iterable[Listed]) -> list[dict[str, Any]]:
    """The list of sweeps as JSON; `page` is the address of each one's page."""
    found = list(sweeps)
    names = [sweep.name for sweep in found]
    return [
        asdict(s) | {"page": page_of(s.name, s.run_id if names.count(s.name) > 1 else "")}
        for s in found
    ]


def _asked(request: Request) -> tuple[str, str | None]:
    return request.path_params["name"], request.query_params.get("variant") or None


def _data(request: Request, read: Read) -> Response:
    if read.stale:
        return JSONResponse({"error": read.stale, "as_of": read.as_of}, 503)
    headers = {"ETag": read.etag, "Cache-Control": "no-cache"}
    known = request.headers.get("If-None-Match", "")
    if read.etag in [tag.strip().removeprefix("W/") for tag in known.split(",")]:
        return Response(status_code=304, headers=headers)
    return Response(read.body, headers=headers, media_type="application/json")


def _failed(request: Request, status: int, title: str, said: object) -> Response:
    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": str(said)}, status)
    return HTMLResponse(render_notice(title, str(said)), status)


class _Headers:
    """What a browser is told to keep to, with every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._headers = {
            "Content-Security-Policy": f"{policy(live=True)}; frame-ancestors 'self'",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        await self._app(scope, receive, with_headers)
