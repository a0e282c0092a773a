"""Failures as JSON: A1111's four keys under its own routes, two keys under ours, and a status that says whose mistake it was."""

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from studio.errors import StudioError, disk_error
from studio.wording import READER, for_reader, language

STATUS = {
    "invalid": 422,
    "not_found": 404,
    "conflict": 409,
    "unreadable": 422,
    "sampler": 400,
    "unauthorized": 401,
    "too_large": 413,
    "missing_service": 501,
    "out_of_space": 507,
    "unavailable": 503,
    "unreachable": 503,
}
"""HTTP status by error code; anything else is 500."""
log = logging.getLogger("studio.api")
A1111_PATHS = ("/sdapi/", "/internal/")
"""Where failures have A1111's shape."""


def fault(name: str, detail: str, errors: str = "", body: str = "") -> dict[str, str]:
    """A failure in A1111's shape."""
    return {"error": name, "detail": detail, "body": body, "errors": errors or detail}


def refusal(scope: Scope, status: int, code: str, detail: str, headers: dict[str, str] | None = None) -> Response:
    """A refusal by a middleware: a sentence for a browser that wants a page, else JSON in the shape of the route."""
    path, accepted = scope.get("path", ""), Headers(scope=scope).get("accept", "")
    if path.startswith(A1111_PATHS):
        return JSONResponse(fault("HTTPException", detail), status, headers)
    if "text/html" in accepted and scope.get("method") in ("GET", "HEAD"):
        return PlainTextResponse(detail, status, headers)
    return JSONResponse({"error": code, "detail": detail}, status, headers)


def _answer(request: Request, status: int, error: tuple[str, str], detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """One failure in the shape of the route it happened on, in the reader's language; `error` is the class and the code."""
    detail = for_reader(detail)
    if request.url.path.startswith(A1111_PATHS):
        return JSONResponse(fault(error[0], detail), status, headers)
    return JSONResponse({"error": error[1], "detail": detail}, status, headers)


def _sentence(item: dict[str, Any]) -> str:
    """One mistake in a body: where it is and what is wrong."""
    place = ".".join(str(part) for part in item["loc"] if part != "body")
    shown = repr(jsonable_encoder(item.get("input"), custom_encoder={bytes: repr}))
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return f"{place or 'body'}: {item['msg']} (got {shown})."


class ReaderLanguage:
    """Notes for each request of the page in which language its person reads; programs get English."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        READER.set(language(headers.get("accept-language")) if "x-studio-page" in headers else "en")
        await self.app(scope, receive, send)


def tell_faults(app: FastAPI) -> None:
    """Answer every failure in words, those of the page in its person's language."""
    app.add_middleware(ReaderLanguage)

    @app.exception_handler(StudioError)
    async def in_words(request: Request, error: StudioError) -> JSONResponse:
        """What a person can be told."""
        return _answer(request, STATUS.get(error.code, 500), (type(error).__name__, error.code), str(error))

    @app.exception_handler(RequestValidationError)
    async def wrong_body(request: Request, error: RequestValidationError) -> JSONResponse:
        """A body that is not what the route takes."""
        return _answer(request, 422, ("RequestValidationError", "invalid"), " ".join(_sentence(item) for item in error.errors()))

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> JSONResponse:
        """A refusal by the framework."""
        return _answer(request, error.status_code, ("HTTPException", "refused"), str(error.detail), dict(error.headers or {}))

    @app.exception_handler(OSError)
    async def of_disk(request: Request, error: OSError) -> JSONResponse:
        """What the file system refused; its own words hold a path, and stay in the log."""
        known = disk_error(error)
        if known is not None:
            return _answer(request, STATUS[known.code], (type(error).__name__, known.code), str(known))
        log.error("%s failed", request.url.path, exc_info=error)
        return _answer(request, 500, (type(error).__name__, "error"), f"The file system failed ({error.strerror or type(error).__name__}).")

    @app.exception_handler(ValueError)
    async def of_text(request: Request, error: ValueError) -> JSONResponse:
        """Names that no file can have: a NUL, or half a character."""
        if not (isinstance(error, UnicodeError) or "null" in str(error)):
            return unforeseen(request, error)
        return _answer(request, 422, (type(error).__name__, "invalid"), "A name holds a character that no file name can have.")

    @app.exception_handler(Exception)
    async def anything(request: Request, error: Exception) -> JSONResponse:
        """What nobody foresaw."""
        return unforeseen(request, error)


def unforeseen(request: Request, error: Exception) -> JSONResponse:
    """What nobody foresaw: its words, which may hold a path, stay in the server's log."""
    log.error("%s failed", request.url.path, exc_info=error)
    return _answer(request, 500, (type(error).__name__, "error"), f"Something unforeseen happened ({type(error).__name__}). The server's log holds the details.")
