"""Which host names and origins the server answers to: the defence against DNS rebinding and against requests that another web page sends."""

import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from studio.api.faults import refusal
from studio.errors import InputError

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
"""Names of this machine that nobody else can give to it."""
ANY_ADDRESS = frozenset({"0.0.0.0", "::"})
"""What a server that listens on every interface is bound to."""
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*))(?::([0-9]{1,5}))?", re.ASCII)


def host_of(header: str) -> str | None:
    """The host in a `Host` header, in lower case, without its port and an address in its normal form; None when it is no such header."""
    found = _HOST.fullmatch(header)
    if not found:
        return None
    try:
        return str(ipaddress.ip_address(found[1] or found[2]))
    except ValueError:
        return found[2].lower() if found[2] else None


@dataclass(frozen=True)
class Hosts:
    """The hosts a request may be addressed to; by default those of this machine only."""

    names: frozenset[str] = LOOPBACK
    """Names and addresses in the form of `host_of`; one that begins with a dot stands for every name under it."""
    any_address: bool = False
    """Whether an IP address is admitted whatever it is. It can be: the origin of a page is that address then, which no DNS server can change."""

    def admit(self, header: str) -> bool:
        """Whether a `Host` header names this server."""
        host = host_of(header)
        if host is None:
            return False
        if host in self.names or any(name.startswith(".") and host.endswith(name) for name in self.names):
            return True
        return self.any_address and _is_address(host)


def _is_address(host: str) -> bool:
    """Whether a host is an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def allowed_hosts(bound: str, extra: Sequence[str] = ()) -> Hosts:
    """The hosts of a server bound to `bound`, and those named beside; raises InputError for a name that is none."""
    named = {_named(part.strip()) for words in extra for part in words.split(",") if part.strip()}
    if is_loopback(bound):
        return Hosts(LOOPBACK | named)
    own = {host_of(name) for name in (bound, f"[{bound}]", socket.gethostname(), f"{socket.gethostname()}.local")} - {None, *ANY_ADDRESS}
    return Hosts(LOOPBACK | named | {name for name in own if name}, any_address=True)


def is_loopback(bound: str) -> bool:
    """Whether a server that is bound to this name can be reached from this machine only."""
    if bound.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(bound).is_loopback
    except ValueError:
        return False


def _named(words: str) -> str:
    """A host a person named, with or without a port; raises InputError."""
    host = host_of(words.removeprefix(".")) or host_of(f"[{words}]")
    if host is None:
        raise InputError(f"--allowed-host: {words[:80]!r} is not a host name.", "Write the name in the address without http://, for example --allowed-host studio.example.org")
    return f".{host}" if words.startswith(".") else host


class HostGuard:
    """ASGI middleware that refuses, for HTTP and WebSocket, a host that is not ours and an origin that is not the host."""

    def __init__(self, app: ASGIApp, hosts: Hosts) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it before anything of it is read."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        detail = self._reason(Headers(scope=scope))
        if detail is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await WebSocketClose(1008)(scope, receive, send)
        else:
            await refusal(scope, 403, "forbidden", detail)(scope, receive, send)

    def _reason(self, headers: Headers) -> str | None:
        """Why a request is refused; None when it is not."""
        given, origins = headers.getlist("host"), headers.getlist("origin")
        forwarded = [name.strip() for line in headers.getlist("x-forwarded-host") for name in line.split(",")]
        if len(given) != 1:
            return "The request names no host, or several."
        if headers.getlist("x-gradio-server"):
            return "X-Gradio-Server is not taken."
        for name in (*given, *forwarded):
            if not self.hosts.admit(name):
                return _unknown_host(name)
        if origins and not (len(origins) == 1 and _same(origins[0], (*given, *forwarded))):
            return f"A page from {origins[0][:100]} may not use this studio. Behind a proxy, let it pass the Host header on."
        return _embedded(headers)


def _unknown_host(name: str) -> str:
    """What is said to a request for another host."""
    if host_of(name) is None:
        return f"{name[:100]!r} is not a host name."
    host = host_of(name)
    return f"This studio does not answer to {host}. If that name is yours, start it with --allowed-host {host} （如果这个域名是你的，请在启动参数里加上 --allowed-host {host}）"


def _same(origin: str, hosts: Sequence[str]) -> bool:
    """Whether an origin is the page of one of these hosts."""
    try:
        parts = urlsplit(origin)
        standard = {"http": ":80", "https": ":443"}[parts.scheme]
    except (KeyError, ValueError):
        return False
    return parts.netloc.lower().removesuffix(standard) in {host.lower().removesuffix(standard) for host in hosts}


def _embedded(headers: Headers) -> str | None:
    """Why a request is refused that a browser marks as sent by another site, unless a person followed a link."""
    site, mode, kind = (headers.get(f"sec-fetch-{name}", "") for name in ("site", "mode", "dest"))
    if site in ("cross-site", "same-site") and not (mode == "navigate" and kind in ("document", "")):
        return "Another web page may not embed or load parts of this studio."
    return None
