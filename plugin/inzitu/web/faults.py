"""Faults as answers: a VOTable under ``/tap``, a page for a browser, a line of text for all others (DALI 1.1, 4.2)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from starlette.exceptions import HTTPException

from inzitu.errors import (
    BusyFault,
    Fault,
    GoneFault,
    LimitFault,
    NotFoundFault,
    ParameterFault,
    ServiceFault,
    UserFault,
    as_fault,
)
from inzitu.vo.votable import error_document
from inzitu.web.rendering import render

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from inzitu.jobs.job import Failure

_log = logging.getLogger(__name__)
_RETRY_SECONDS = "5"


def install(app: FastAPI) -> None:
    """Have every exception of the app's handlers answered."""
    for kind in (RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _handler)
    app.add_middleware(_FaultMiddleware)


class _FaultMiddleware:
    """Answers what a handler raises.

    Not an exception handler of the framework: for `Exception` those raise it once more after the answer, and the
    server then drops the connection.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception as error:
            if begun:
                # Half of the answer is out: only a broken connection can say now that it is not whole.
                raise
            await _answer(Request(scope, receive), error)(scope, receive, send)


async def _handler(request: Request, error: Exception) -> Response:
    return _answer(request, error)


def fault_of(failure: Failure) -> Fault:
    """Return the fault that a job ended with, as far as its code tells."""
    kinds = (UserFault, NotFoundFault, GoneFault, LimitFault, BusyFault)
    kind: type[Fault] = next((kind for kind in kinds if kind.code == failure.code), ServiceFault)
    return kind(failure.message)


def votable(fault: Fault, status: int | None = None) -> Response:
    """Return a fault as a VOTable."""
    return Response(error_document(fault), status_code=status or fault.status, media_type="application/x-votable+xml")


def text(fault: Fault, status: int | None = None) -> Response:
    """Return a fault as a line of text: its code, then its message."""
    return PlainTextResponse(f"{fault.code}: {fault}\n", status_code=status or fault.status)


def _answer(request: Request, error: Exception) -> Response:
    fault, status = _fault(error)
    if fault.status >= 500:
        _log.error("%s %s: %s", request.method, request.url.path, fault, exc_info=error)
    if request.url.path.removeprefix(request.scope.get("root_path", "")).startswith("/tap"):
        response = votable(fault, status)
    elif request.headers.get("accept", "").startswith("text/html"):
        response = _page(request, fault, status)
    else:
        response = text(fault, status)
    if isinstance(error, HTTPException):
        response.headers.update(error.headers or {})
    if status == BusyFault.status:
        response.headers["retry-after"] = _RETRY_SECONDS
    return response


def _page(request: Request, fault: Fault, status: int) -> Response:
    return render(request, "fault.html", status=status, fault=fault)


def _fault(error: Exception) -> tuple[Fault, int]:
    """Return the fault and the HTTP status."""
    match error:
        case RequestValidationError():
            first = error.errors()[0]
            fault: Fault = ParameterFault(f"{first['loc'][-1]}: {first['msg']}.")
        case HTTPException(status_code=404):
            fault = NotFoundFault("There is nothing at this address; / shows what there is.")
        case HTTPException():
            return UserFault(f"{error.detail}."), error.status_code
        case _:
            fault = as_fault(error)
    return fault, fault.status
