"""No body is taken beyond a limit, whether or not it says its length ahead."""

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from studio.api.faults import refusal

LARGEST_BODY = 2**29
"""Bytes of a body; a batch of large pictures fits."""
LARGEST_UPLOAD = 2**33
"""Bytes of all files that are dropped into the page at once; gradio limits each one and writes them to disk as they come."""
UPLOAD = "/gradio_api/upload"


class BodyLimit:
    """ASGI middleware that answers 413 to a body that is too large: at once when it says so, else when the limit is passed."""

    def __init__(self, app: ASGIApp, largest: int = LARGEST_BODY) -> None:
        self.app, self.largest = app, largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count what is received."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = LARGEST_UPLOAD if scope["path"].rstrip("/") == UPLOAD else self.largest
        said = Headers(scope=scope).get("content-length", "")
        if said.isdigit() and int(said) > limit:
            await _too_large(scope, f"The body has {said} bytes; at most {limit} are taken.")(scope, receive, send)
            return
        await _Counted(self.app, limit).run(scope, receive, send)


class _Counted:
    """One request whose body is counted."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app, self.limit = app, limit
        self.taken, self.started = 0, False

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app; once the limit is passed, its answer is 413 whatever it makes of the broken body."""

        async def counted() -> Message:
            message = await receive()
            self.taken += len(message.get("body", b"")) if message["type"] == "http.request" else 0
            if self.taken > self.limit:
                raise HTTPException(413, f"The body has more than {self.limit} bytes.")
            return message

        async def answered(message: Message) -> None:
            if self.started or self.taken <= self.limit:
                self.started = True
                await send(message)

        try:
            await self.app(scope, counted, answered)
        except HTTPException:
            if self.taken <= self.limit:
                raise
        if self.taken > self.limit and not self.started:
            await _too_large(scope, f"The body has more than {self.limit} bytes.")(scope, receive, send)


def _too_large(scope: Scope, detail: str) -> ASGIApp:
    """The answer; the connection ends, so that the rest need not be read."""
    return refusal(scope, 413, "too_large", detail, {"Connection": "close"})
