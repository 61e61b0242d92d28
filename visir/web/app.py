"""The application: the API, the pages, and the guard in front of both."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
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
from visir.core.types import InputError, UnavailableError
from visir.web import pages, routes_api, routes_cases
from visir.web.batching import BusyError
from visir.web.bodies import UPLOADS, Refusal, busy
from visir.web.forgetting import forget_hourly
from visir.web.middleware import Guard, address_of
from visir.web.proxies import own_path
from visir.web.rendering import FOLDER
from visir.web.state import AppState

FOR_PROGRAMS = ("/api/", "/openapi.json")  # where errors are JSON
RETRY = 2  # seconds after which a database that was gone may be back
_LOG = logging.getLogger("visir.web")


def create_app(state: AppState) -> ASGIApp:
    """Put the application together."""
    app = FastAPI(
        title="visir",
        summary="Find the same person across visible and infrared cameras.",
        version=__version__,
        docs_url=None,  # those pages load scripts from elsewhere
        redoc_url=None,
        lifespan=_living,
    )
    app.state.visir = state
    # Uploads stay in memory: a part above this length would go to a temporary file.
    MultiPartParser.spool_max_size = UPLOADS
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # not every byte out of place
    app.include_router(routes_api.router)
    app.include_router(routes_cases.router)
    app.mount("/static", StaticFiles(directory=FOLDER / "static"))
    app.include_router(pages.router)
    app.add_exception_handler(InputError, _input_error)
    app.add_exception_handler(UnavailableError, _unavailable)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(RoutingError, _http_error)
    app.add_exception_handler(BusyError, _busy)
    app.add_exception_handler(OSError, _disk_error)
    app.add_exception_handler(Exception, _own_error)
    return Guard(app, state.rules, lambda request, why: _refused(state, request, why))


@contextlib.asynccontextmanager
async def _living(app: FastAPI) -> AsyncIterator[None]:
    state: AppState = app.state.visir
    task = asyncio.create_task(forget_hourly(state))
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _answer(state: AppState, request: Request, why: Refusal) -> Response:
    if own_path(request).startswith(FOR_PROGRAMS):
        return JSONResponse({"error": why.sentence}, why.status, why.headers)
    page = state.page("error.html", why.status, sentence=why.sentence)
    page.headers.update(why.headers)
    return page


def _refused(state: AppState, request: Request, why: Refusal) -> Response:
    state.log_refused(address_of(request), why.failures)
    if why.status == 401 and not own_path(request).startswith(FOR_PROGRAMS):
        return RedirectResponse(f"{state.rules.root}/login", 303)
    return _answer(state, request, why)


def _input_error(request: Request, error: Exception) -> Response:
    return _answer(request.app.state.visir, request, Refusal(422, str(error)))


def _unavailable(request: Request, error: Exception) -> Response:
    _LOG.error("%s", error)
    sentence = "the gallery's database does not answer; try again soon, and if that lasts, start it"
    why = Refusal(503, sentence, {"Retry-After": str(RETRY)})
    return _answer(request.app.state.visir, request, why)


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body") or "the request"
    said = str(first["msg"]).removeprefix("Value error, ")
    sentence = f"{where}: {said[:1].lower()}{said[1:]}"
    return _answer(request.app.state.visir, request, Refusal(422, sentence))


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RoutingError)
    sentence = str(error.detail) if isinstance(error, HTTPException) else "there is no such page"
    why = Refusal(error.status_code, sentence, dict(error.headers or {}))
    return _answer(request.app.state.visir, request, why)


def _busy(request: Request, error: Exception) -> Response:
    assert isinstance(error, BusyError)
    why = busy("too many images are waiting for the network", error.seconds)
    return _answer(request.app.state.visir, request, why)


def _disk_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, OSError)
    _LOG.error("%s", error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        why = Refusal(507, "the server's disk is full; free space there")
    else:
        reason = error.strerror or "its log says why"
        sentence = f"the server cannot read or write a file ({reason}); check its disk"
        why = Refusal(500, sentence)
    return _answer(request.app.state.visir, request, why)


def _own_error(request: Request, error: Exception) -> Response:
    sentence = "something went wrong on the server; its log says what"
    return _answer(request.app.state.visir, request, Refusal(500, sentence))
