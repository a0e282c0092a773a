"""Who may come in: accounts for the API (HTTP basic) and for the page (a login and a cookie), or a token in the address."""

import base64
import binascii
import secrets
import time
from dataclasses import dataclass, field
from hashlib import sha256
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlencode

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from studio.api.faults import A1111_PATHS, fault, refusal
from studio.api.guessing import Guesses
from studio.api.hosts import Hosts
from studio.api.login import login_page
from studio.errors import InputError

Accounts = tuple[tuple[str, str], ...]
API = ("/sdapi/", "/studio/", "/internal/", "/docs", "/openapi.json")
"""Routes that accounts of the API open; the rest is the page."""
OPEN = ("/internal/ping",)
"""Routes that say nothing but that the server is up."""
LARGEST_FORM = 8192
"""Bytes of the login form."""
LASTING = 30 * 24 * 3600
"""Seconds a login lasts."""
MOST_SESSIONS = 4096


@dataclass(frozen=True)
class Access:
    """Who may use the API and the page; without any account or token both are open."""

    api: Accounts = ()
    """Accounts of the API; when there are none, the page's protect the API too."""
    page: Accounts = ()
    """Accounts of the page; when there are none, the API's protect the page too."""
    server_stop: bool = False
    """Whether a client may stop the server."""
    hosts: Hosts = field(default_factory=Hosts)
    """The hosts that requests may be addressed to."""
    token: str = ""
    """A secret that opens everything: `?token=` in the address, a bearer token, or the password of any name."""

    @property
    def guarded(self) -> bool:
        """Whether anybody has to say who they are."""
        return bool(self.api or self.page or self.token)

    def accounts_for(self, path: str) -> Accounts:
        """The accounts that open a route."""
        return (self.api or self.page) if path.startswith(API) else (self.page or self.api)

    def admit(self, path: str, header: str) -> bool:
        """Whether an Authorization header opens a route."""
        scheme, _, given = header.partition(" ")
        if scheme.lower() == "bearer":
            return bool(self.token) and same_secret(given.strip(), self.token)
        name, password = _basic(header)
        return self.knows(path, name, password)

    def knows(self, path: str, name: str, password: str) -> bool:
        """Whether a name and a password open a route; every account is compared, in constant time."""
        found = [same_secret(f"{name}\0{password}", f"{known}\0{secret}") for known, secret in self.accounts_for(path)]
        return any([*found, bool(self.token) and same_secret(password, self.token)])


def same_secret(given: str, known: str) -> bool:
    """Whether two texts are the same, in a time that tells nothing about either."""
    return secrets.compare_digest(sha256(given.encode("utf-8", "replace")).digest(), sha256(known.encode()).digest())


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


def _basic(header: str) -> tuple[str, str]:
    """Name and password of a Basic header; both empty when it is none."""
    scheme, _, payload = header.partition(" ")
    try:
        given = base64.b64decode(payload.strip(), validate=True).decode("utf-8") if scheme.lower() == "basic" else ""
    except (binascii.Error, ValueError):
        given = ""
    name, _, password = given.partition(":")
    return name, password


class Sessions:
    """Browsers that logged in, by the secret in their cookie; kept in memory, so that a restart asks again."""

    def __init__(self) -> None:
        self._ends: dict[str, float] = {}

    def open(self) -> str:
        """A new session; returns its secret."""
        while len(self._ends) >= MOST_SESSIONS:
            del self._ends[next(iter(self._ends))]
        secret = secrets.token_urlsafe(32)
        self._ends[secret] = time.monotonic() + LASTING
        return secret

    def has(self, secret: str) -> bool:
        """Whether this is the secret of a session."""
        return self._ends.get(secret, 0.0) > time.monotonic()

    def close(self, secret: str) -> None:
        """End a session."""
        self._ends.pop(secret, None)


class Gate:
    """ASGI middleware around everything: asks who it is where accounts or a token are set, and says how long an answer of the API took."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access
        self.sessions, self.guesses = Sessions(), Guesses()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await (self.app if not self.access.guarded or self._logged_in(scope) else WebSocketClose(1008))(scope, receive, send)
        else:
            answer = await self._answer(scope, receive) if self.access.guarded else None
            await (answer or self.app)(scope, receive, _timed(send) if scope["path"].startswith((*A1111_PATHS, "/studio/")) else send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response | None:
        """What the gate itself answers; None lets the request through."""
        path = scope["path"].rstrip("/")
        if path == "/login":
            return await self._login(scope, receive)
        if path == "/logout" and scope["method"] == "POST":
            self.sessions.close(_cookie(scope))
            return _forgotten(scope, RedirectResponse("login", 303))
        if scope["path"] in OPEN:
            return None
        if self._logged_in(scope) and not (self.access.api and self.access.page and scope["path"].startswith(A1111_PATHS)):
            return None
        return self._credentials(scope)

    def _logged_in(self, scope: Scope) -> bool:
        """Whether a browser shows the cookie of a session."""
        return self.sessions.has(_cookie(scope))

    def _credentials(self, scope: Scope) -> Response | None:
        """Check what a request shows: an Authorization header, or the token in its address."""
        headers, query = Headers(scope=scope), parse_qs(scope.get("query_string", b"").decode("latin-1"))
        token = query.get("token", [""])[0] if self.access.token and scope["method"] in ("GET", "HEAD") else ""
        header = headers.get("authorization", "")
        if not (token or header):
            return self._refused(scope)
        if wait := self.guesses.wait(_address(scope)):
            return self._refused(scope, wait)
        if header and self.access.admit(scope["path"], header):
            self.guesses.right(_address(scope))
            return None
        if token and same_secret(token, self.access.token):
            self.guesses.right(_address(scope))
            rest = urlencode([(name, value) for name, values in query.items() if name != "token" for value in values])
            return _remembered(scope, RedirectResponse(f"./{scope['path'].rpartition('/')[2]}" + (f"?{rest}" if rest else ""), 303), self.sessions.open())
        self.guesses.wrong(_address(scope))
        return self._refused(scope, wrong=True)

    def _refused(self, scope: Scope, wait: int = 0, wrong: bool = False) -> Response:
        """The answer to somebody who may not come in (yet): the login page for a browser, else JSON."""
        status, headers = (429, {"Retry-After": str(wait)}) if wait else (401, {})
        said = f"Too many wrong passwords from this address. Try again in {wait} s." if wait else "Incorrect username or password"
        if "text/html" in Headers(scope=scope).get("accept", "") and scope["method"] in ("GET", "HEAD"):
            return login_page(scope, status, self._asks(), wait, wrong)
        if not scope["path"].startswith(API):
            return refusal(scope, status, "unauthorized", said, headers)
        return JSONResponse(fault("HTTPException", said), status, headers or {"WWW-Authenticate": "Basic"})

    def _asks(self) -> str:
        """What the login page asks for."""
        return "account" if self.access.page or self.access.api else "token"

    async def _login(self, scope: Scope, receive: Receive) -> Response:
        """GET: the form. POST: check it, as gradio's own login does for its clients."""
        if scope["method"] != "POST":
            return login_page(scope, 200, self._asks(), logged_in=self._logged_in(scope))
        address, browser = _address(scope), "text/html" in Headers(scope=scope).get("accept", "")
        form = await _form(Request(scope, receive))
        wait = self.guesses.wait(address)
        if not wait and self.access.knows("/", form.get("username", "").strip(), form.get("password", "")):
            self.guesses.right(address)
            return _remembered(scope, RedirectResponse("./", 303) if browser else JSONResponse({"success": True}), self.sessions.open())
        if not wait:
            self.guesses.wrong(address)
        if browser:
            return login_page(scope, 429 if wait else 401, self._asks(), wait, wrong=not wait)
        said = f"Too many wrong passwords from this address. Try again in {wait} s." if wait else "Incorrect username or password."
        return JSONResponse({"error": "unauthorized", "detail": said}, 429 if wait else 401, {"Retry-After": str(wait)} if wait else None)


def _timed(send: Send) -> Send:
    """Add the time an answer took to its head."""
    began = time.perf_counter()

    async def timed(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), (b"x-process-time", f"{time.perf_counter() - began:.4f}".encode())]
        await send(message)

    return timed


async def _form(request: Request) -> dict[str, str]:
    """The fields of a small form; empty when it is larger than a login needs."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST_FORM:
            return {}
    return {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}


def _address(scope: Scope) -> str:
    """The address a request comes from."""
    return str(scope["client"][0]) if scope.get("client") else ""


def _cookie_name(scope: Scope) -> str:
    """The cookie of this server: browsers don't keep the cookies of two ports apart."""
    return f"studio-session-{scope['server'][1] if scope.get('server') else 0}"


def _cookie(scope: Scope) -> str:
    """The secret in a request's cookie."""
    try:
        found = SimpleCookie(Headers(scope=scope).get("cookie", "")).get(_cookie_name(scope))
    except CookieError:
        return ""
    return found.value if found else ""


def _remembered(scope: Scope, answer: Response, secret: str) -> Response:
    """Give the cookie of a session along."""
    secure = "https" in (scope.get("scheme"), Headers(scope=scope).get("x-forwarded-proto", "").partition(",")[0].strip())
    answer.set_cookie(_cookie_name(scope), secret, max_age=LASTING, httponly=True, samesite="lax", secure=secure)
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _forgotten(scope: Scope, answer: Response) -> Response:
    """Take the cookie away."""
    answer.delete_cookie(_cookie_name(scope), httponly=True, samesite="lax")
    return answer
