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
    """ASGI middleware around what makes HTML pages: gives each the policy for the inline scripts in it. It has to see the page before it is compressed."""

    def __init__(self, app: ASGIApp, added: Iterable[str] = ()) -> None:
        self.app, self.added = app, tuple(added)

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

        await self.app(scope, receive, looked if scope["type"] == "http" else send)

    async def _finish(self, held: list[Message], send: Send) -> None:
        """Send a page that is whole with its policy."""
        text = b"".join(message.get("body", b"") for message in held[1:]).decode("utf-8", "replace")
        MutableHeaders(scope=held[0])["Content-Security-Policy"] = page_policy([*inline_scripts(text), *self.added], evaluated=True)
        for message in held:
            await send(message)


class SafeHeaders:
    """ASGI middleware, the outermost: adds the common headers, and a policy to whatever has none."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers to an answer."""

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(COMMON)
                headers.setdefault("Content-Security-Policy", FRAMES)
            await send(message)

        await self.app(scope, receive, guarded if scope["type"] == "http" else send)
