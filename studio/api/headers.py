"""Headers that tell a browser what it may do with an answer: a content security policy, no guessing of types, files as attachments in a sandbox."""

import base64
import hashlib
from collections.abc import Iterable
from html.parser import HTMLParser

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COMMON = {"X-Content-Type-Options": "nosniff", "X-Frame-Options": "SAMEORIGIN", "Referrer-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin"}
"""Headers of every answer."""
FRAMES = "frame-ancestors 'self'"
PAGE = (
    "default-src 'self'",
    "style-src 'self' 'unsafe-inline'",  # gradio writes style attributes and elements
    "img-src 'self' data: blob:",
    "media-src 'self' data: blob:",
    "font-src 'self' data:",
    "connect-src 'self' data: blob:",
    "worker-src 'self' blob:",
    "object-src 'none'",
    "base-uri 'self'",
    "form-action 'self'",
    FRAMES,
)
"""Policy of a page beside its scripts."""


RASTER = frozenset(f"image/{kind}" for kind in ("png", "jpeg", "webp", "gif", "bmp", "avif", "tiff", "x-icon", "vnd.microsoft.icon"))
"""Files that a browser shows and never runs."""
DATA = frozenset({"application/json", "text/event-stream", "text/plain"})
"""Answers that are no files."""
OWN = ("/", "/docs", "/login", "/theme.css", "/favicon.ico", "/manifest.json", "/gradio_api/theme.css")
OWN_FOLDERS = ("/assets/", "/static/", "/svelte/")
"""Addresses of the program's own pages and files, which are shown as what they are; whatever else is no raster image may be a user's."""
FILES = ("/gradio_api/file", "/gradio_api/proxy", "/gradio_api/stream")
"""Where gradio serves files: text is saved there too."""
SANDBOX = f"sandbox; default-src 'none'; {FRAMES}"


class _Scripts(HTMLParser):
    """Collects the text of the inline scripts of a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.found: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin a script that has no address."""
        self._inside = tag == "script" and not any(name == "src" for name, _ in attrs)
        if self._inside:
            self.found.append("")

    def handle_data(self, data: str) -> None:
        """Keep what stands in a script."""
        if self._inside:
            self.found[-1] += data

    def handle_endtag(self, tag: str) -> None:
        """End a script."""
        self._inside = self._inside and tag != "script"


def inline_scripts(page: str) -> list[str]:
    """The inline scripts of an HTML page, as a browser hashes them."""
    parser = _Scripts()
    parser.feed(page.replace("\r\n", "\n"))
    parser.close()
    return parser.found


def page_policy(scripts: Iterable[str], evaluated: bool = False) -> str:
    """The policy of a page that runs these inline scripts and its own files and nothing else; `evaluated` lets gradio make functions of the text of its event handlers."""
    hashes = sorted({f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts})
    return "; ".join(("script-src 'self' " + " ".join([*hashes, *(["'unsafe-eval'"] if evaluated else [])]), *PAGE))


class PagePolicy:
    """ASGI middleware around gradio: gives its page at the root the policy for the inline scripts in it, before it is compressed. Any other HTML may be a user's file.

    `first` is put at the beginning of the page's head, for scripts that must run before gradio's; what gradio is given as head runs only after it has chosen the language.
    """

    def __init__(self, app: ASGIApp, added: Iterable[str] = (), first: str = "") -> None:
        self.app, self.added, self.first = app, tuple(added), first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hold an HTML page back until it is whole; pass everything else on."""
        held: list[Message] = []

        async def looked(message: Message) -> None:
            if message["type"] == "http.response.start" and MutableHeaders(scope=message).get("content-type", "").startswith("text/html"):
                held.append(message)
            elif not held:
                await send(message)
            else:
                held.append(message)
                if not message.get("more_body", False):
                    await self._finish(held, send)

        await self.app(scope, receive, looked if scope["type"] == "http" and scope["path"] in ("", "/") else send)

    async def _finish(self, held: list[Message], send: Send) -> None:
        """Send a page that is whole with its policy."""
        text = b"".join(message.get("body", b"") for message in held[1:]).decode("utf-8", "replace").replace("<head>", f"<head>{self.first}", 1)
        body, headers = text.encode(), MutableHeaders(scope=held[0])
        headers["Content-Security-Policy"] = page_policy([*inline_scripts(text), *self.added], evaluated=True)
        headers["Content-Length"] = str(len(body))
        await send(held[0])
        await send({"type": "http.response.body", "body": body})


def is_own(path: str) -> bool:
    """Whether an address is one of the program's own pages and files."""
    return path in OWN or path.startswith(OWN_FOLDERS)


def _as_attachment(headers: MutableHeaders) -> None:
    """Have a browser save a file, and run nothing of it should it show it after all."""
    if not headers.get("content-disposition", "").lower().startswith("attachment"):
        name = headers.get("content-disposition", "").partition(";")[2]
        headers["Content-Disposition"] = f"attachment;{name}" if name else "attachment"
    headers["Content-Security-Policy"] = SANDBOX


class SafeHeaders:
    """ASGI middleware, the outermost: adds the common headers, a policy to whatever has none, and makes attachments of files that are no raster images."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers to an answer."""
        shown = RASTER if scope.get("path", "").startswith(FILES) else RASTER | DATA

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(COMMON)
                kind = headers.get("content-type", "").partition(";")[0].strip().lower()
                if not is_own(scope["path"]) and (kind or message["status"] == 200) and kind not in shown and "content-security-policy" not in headers:
                    _as_attachment(headers)
                headers.setdefault("Content-Security-Policy", FRAMES)
            await send(message)

        await self.app(scope, receive, guarded if scope["type"] == "http" else send)
