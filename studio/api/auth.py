"""Who may come in: names and passwords for the API (HTTP basic) and for the page (its login)."""

import base64
import binascii
import secrets
import time
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from studio.api.faults import fault
from studio.api.hosts import Hosts
from studio.errors import InputError

Accounts = tuple[tuple[str, str], ...]
GUARDED = ("/sdapi/", "/studio/", "/internal/")
"""Routes that ask for a name and a password."""
PAGES = "/studio/v1/"
"""Routes that the page's own scripts use."""
LARGEST_BODY = 2**29
"""Bytes of a body; a batch of large pictures fits."""
OPEN = ("/studio/v1/pulse", "/internal/ping")
"""Routes that tell nothing about anybody: the page looks there whether something happened."""


@dataclass(frozen=True)
class Access:
    """Who may use the API and the page; without any account both are open."""

    api: Accounts = ()
    """Accounts of the API; when there are none, the page's protect the API too."""
    page: Accounts = ()
    """Accounts of the page."""
    server_stop: bool = False
    """Whether a client may stop the server."""
    hosts: Hosts = field(default_factory=Hosts)
    """The hosts that requests may be addressed to."""
    key: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    """What the page's own scripts show instead of an account; only who was let in to the page is told it."""

    @property
    def callers(self) -> Accounts:
        """Accounts a client of the API must have one of."""
        return self.api or self.page


def accounts(words: str, flag: str = "--api-auth") -> Accounts:
    """`"ann:secret,bob:word"` as (name, password) pairs; raises InputError that never repeats a password."""
    pairs = []
    for number, part in enumerate((p.strip() for p in words.split(",")), 1):
        name, colon, password = part.partition(":")
        if not part:
            continue
        if not (name and colon and password):
            raise InputError(f"{flag}: entry {number} is not of the form name:password.", f"Write for example {flag} ann:secret,bob:word")
        pairs.append((name, password))
    if not pairs:
        raise InputError(f"{flag} names nobody.", f"Write for example {flag} ann:secret")
    return tuple(pairs)


def admits(known: Accounts, header: str) -> bool:
    """Whether an Authorization header carries one of the accounts; every account is compared, in constant time."""
    scheme, _, payload = header.partition(" ")
    try:
        given = base64.b64decode(payload.strip(), validate=True) if scheme.lower() == "basic" else b""
    except (binascii.Error, ValueError):
        return False
    return sum(secrets.compare_digest(given, f"{name}:{password}".encode()) for name, password in known) > 0


class Gate:
    """ASGI middleware: asks for an account where one is needed, and says how long an answer took."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        path = scope.get("path", "")
        if scope["type"] != "http" or not path.startswith(GUARDED):
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()

        async def timed(message: Message) -> None:
            """Add the time to the answer's head."""
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (b"x-process-time", f"{time.perf_counter() - began:.4f}".encode())]
            await send(message)

        refusal = self._refusal(path, Headers(scope=scope), parse_qs(scope.get("query_string", b"").decode("latin-1")))
        await (refusal or self.app)(scope, receive, timed)

    def _of_page(self, path: str, headers: Headers, query: dict[str, list[str]]) -> bool:
        """Whether the page itself asks: in a header, or for a picture in the address."""
        shown = headers.get("x-studio-page") or query.get("key", [""])[0]
        return path.startswith(PAGES) and secrets.compare_digest(shown.encode(), self.access.key.encode())

    def _refusal(self, path: str, headers: Headers, query: dict[str, list[str]]) -> JSONResponse | None:
        """Why a request may not come in; None when it may."""
        known, length = self.access.callers, headers.get("content-length", "0")
        if known and path not in OPEN and not self._of_page(path, headers, query) and not admits(known, headers.get("authorization", "")):
            return JSONResponse(fault("HTTPException", "Incorrect username or password"), 401, {"WWW-Authenticate": "Basic"})
        if length.isdigit() and int(length) > LARGEST_BODY:
            return JSONResponse(fault("StudioError", f"The body has {length} bytes; at most {LARGEST_BODY} are taken."), 413)
        return None
