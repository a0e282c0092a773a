"""Telling somewhere else that a training ended or rests: one HTTP POST to an address the person wrote into the settings."""

import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

WAIT = 10.0
"""Seconds the other side has to answer."""


def check_address(address: str) -> str:
    """An address a message can be sent to, or nothing; raises ValueError in words."""
    clean = address.strip()
    if not clean:
        return ""
    parts = urlsplit(clean)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{clean[:80]!r} is not an address; write for example https://ntfy.example.org/my-trainings")
    return clean


def message(text: str, **facts: Any) -> bytes:
    """The body: `text` and `content` as the chat services read them (Slack, Mattermost, Discord), `msgtype` and its text as WeCom and DingTalk do, and the plain facts."""
    return json.dumps(
        {"text": {"content": text} if facts.get("wrapped") else text, "content": text, "msgtype": "text", **{k: v for k, v in facts.items() if k != "wrapped"}}, ensure_ascii=False
    ).encode()


def send(address: str, text: str, **facts: Any) -> str:
    """Post a message; returns what went wrong as a sentence, or nothing."""
    host = urlsplit(address).hostname or ""
    wrapped = host.endswith(("weixin.qq.com", "dingtalk.com"))
    request = urllib.request.Request(address, message(text, wrapped=wrapped, **facts), {"Content-Type": "application/json; charset=utf-8", "User-Agent": "sd-training-studio"}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=WAIT) as answer:
            return "" if answer.status < 400 else f"{host} answered {answer.status}."
    except urllib.error.HTTPError as error:
        return f"{host} answered {error.code}."
    except (OSError, ValueError) as error:
        return f"{host} could not be reached ({error})."
