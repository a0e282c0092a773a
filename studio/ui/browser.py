"""Which browser a request comes from: an id that static/forms.js makes at random and keeps in a cookie. It tells browsers apart and protects nothing."""

import re
from collections.abc import Mapping

import gradio as gr

COOKIE = "studio_browser"
_ID = re.compile(r"[A-Za-z0-9_-]{16,64}")


def browser_id(cookies: Mapping[str, str], session: str | None = None) -> str:
    """The id in the cookies, if it is one; a browser that keeps no cookies is told apart by its session, which lasts as long as the page is open."""
    name = cookies.get(COOKIE, "")
    if _ID.fullmatch(name):
        return name
    return f"session-{session}" if session else ""


def browser_of(request: gr.Request) -> str:
    """The browser that an event of the page comes from."""
    return browser_id(request.cookies, request.session_hash)
