"""The application: the API, the pages, and what stands in front of both."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as RoutingError
from starlette.formparsers import MultiPartParser
from starlette.responses import Response
from starlette.types import ASGIApp

from visir import __version__
from visir.core.types import InputError
from visir.web import pages, routes_api, routes_cases
from visir.web.markup import FOLDER
from visir.web.middleware import UPLOADS, Guard, Refusal
from visir.web.state import Bench, Who

HOUR = 3600.0
FOR_PROGRAMS = ("/api/", "/openapi.json")  # where errors are JSON
_LOG = logging.getLogger("visir.web")


def create_app(bench: Bench) -> ASGIApp:
    """Put the application together."""
    app = FastAPI(
        title="visir",
        summary="Find the same person across visible and infrared cameras.",
        version=__version__,
        docs_url=None,  # those pages load scripts from elsewhere
        redoc_url=None,
        lifespan=_living,
    )
    app.state.bench = bench
    # What is sent stays in memory: a part above this length would go to a temporary file.
    MultiPartParser.spool_max_size = UPLOADS
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # not every byte out of place
    app.include_router(routes_api.router)
    app.include_router(routes_cases.router)
    app.mount("/static", StaticFiles(directory=FOLDER / "static"))
    app.include_router(pages.router)
    app.add_exception_handler(InputError, _input_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(RoutingError, _http_error)
    app.add_exception_handler(OSError, _disk_error)
    app.add_exception_handler(Exception, _own_error)
    return Guard(app, bench.rules, lambda request, why: _refused(bench, request, why))


@contextlib.asynccontextmanager
async def _living(app: FastAPI) -> AsyncIterator[None]:
    bench: Bench = app.state.bench
    task = asyncio.create_task(_expire_hourly(bench))
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _expire_hourly(bench: Bench) -> None:
    while True:
        try:
            await asyncio.to_thread(expire, bench)
        except Exception:
            _LOG.exception("what is older than the retention period could not be forgotten")
        await asyncio.sleep(HOUR)


def expire(bench: Bench) -> int:
    """Forget what the gallery has kept for long enough, and log how many images that were."""
    gone = bench.store.expire(time.time())
    if gone:
        bench.log(Who("visir", ""), "expire", images=gone)
        bench.finder.changed()
    return gone


def _answer(bench: Bench, request: Request, why: Refusal) -> Response:
    if request.url.path.startswith(FOR_PROGRAMS):
        return JSONResponse({"error": why.sentence}, why.status, why.headers)
    page = bench.page("error.html", why.status, sentence=why.sentence)
    page.headers.update(why.headers)
    return page


def _refused(bench: Bench, request: Request, why: Refusal) -> Response:
    if why.status == 401 and not request.url.path.startswith(FOR_PROGRAMS):
        return RedirectResponse("/login", 303)
    return _answer(bench, request, why)


def _input_error(request: Request, error: Exception) -> Response:
    return _answer(request.app.state.bench, request, Refusal(422, str(error)))


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body") or "the request"
    said = str(first["msg"]).removeprefix("Value error, ")
    sentence = f"{where}: {said[:1].lower()}{said[1:]}"
    return _answer(request.app.state.bench, request, Refusal(422, sentence))


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RoutingError)
    named = isinstance(error, HTTPException) or error.status_code in (408, 413)
    sentence = str(error.detail) if named else "there is no such page"
    why = Refusal(error.status_code, sentence, dict(error.headers or {}))
    return _answer(request.app.state.bench, request, why)


def _disk_error(request: Request, error: Exception) -> Response:
    _LOG.error("%s", error)
    sentence = "the audit log or the gallery cannot be written; free space on the server's disk"
    return _answer(request.app.state.bench, request, Refusal(507, sentence))


def _own_error(request: Request, error: Exception) -> Response:
    sentence = "something went wrong on the server; its log says what"
    return _answer(request.app.state.bench, request, Refusal(500, sentence))
