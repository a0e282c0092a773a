"""JSON bodies hold text that can be written to files and sent back: half a surrogate pair is refused before anything is done."""

import json
import re

from fastapi import Request

from studio.errors import InputError

_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89abAB]|\\u[dD][c-fC-F]")


async def check_text(request: Request) -> None:
    """A dependency of every route: raises InputError when a string of a JSON body has a lone surrogate, which UTF-8 can't encode."""
    if "json" not in request.headers.get("content-type", ""):
        return
    body = await request.body()
    if not _ESCAPED_SURROGATE.search(body):
        return  # unescaped surrogates are no UTF-8, which the JSON parser refuses
    try:
        json.dumps(json.loads(body), ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        start = max(0, error.start - 20)
        shown = error.object[start : error.end + 20].encode("utf-8", "backslashreplace").decode()
        raise InputError(f"The text {shown!r} holds half a character (a lone surrogate).", "Send characters beyond U+FFFF as a pair of escapes or as UTF-8.") from None
    except (ValueError, RecursionError):
        return  # no JSON: the route says so
