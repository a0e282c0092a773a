"""Telling somewhere else that a training ended or rests: one HTTP POST to an address the person wrote into the settings."""

import http.client
import ipaddress
import json
import socket
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


class LocalAddress(OSError):
    """A name that stands for this machine or its link, which the settings don't allow."""


def is_local(address: str) -> bool:
    """Whether an IP address is this machine's (loopback, unspecified) or link-local, where cloud machines have their metadata; also in the forms in which IPv6 holds an IPv4 address."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (ipaddress.ip_address(int(found) & 0xFFFFFFFF) if found in _EMBEDDED[0] or found in _EMBEDDED[1] else None)
        if inner is not None and int(found) > 1:
            return is_local(str(inner))
    return found.is_loopback or found.is_link_local or found.is_unspecified or found.is_multicast or (found.version == 4 and found in ipaddress.ip_network("0.0.0.0/8"))


_EMBEDDED = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("::/96"))
"""NAT64 and the old IPv4-compatible addresses."""


def _connected(host: str, port: int) -> socket.socket:
    """A connection to the first address of a host that answers; raises LocalAddress when one of its addresses is local, so that what was checked is what is connected to."""
    found = [entry[4][:2] for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    if any(is_local(str(address)) for address, _ in found):
        raise LocalAddress(host)
    failure: OSError = OSError(f"{host} has no address")
    for address in found:
        try:
            return socket.create_connection((str(address[0]), int(address[1])), WAIT)
        except OSError as error:
            failure = error
    raise failure


class _Plain(http.client.HTTPConnection):
    """HTTP to an address that is not local."""

    def connect(self) -> None:
        """Connect to an address that was checked."""
        self.sock = _connected(self.host, self.port)


class _Secure(http.client.HTTPSConnection):
    """HTTPS to an address that is not local."""

    def connect(self) -> None:
        """Connect to an address that was checked, and check the certificate of its name."""
        self.sock = self._context.wrap_socket(_connected(self.host, self.port), server_hostname=self.host)


class _PlainHandler(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        """Open by a checked connection."""
        return self.do_open(_Plain, request)


class _SecureHandler(urllib.request.HTTPSHandler):
    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        """Open by a checked connection."""
        return self.do_open(_Secure, request)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow none: the address a person wrote is where the message goes."""
        return None


def _opener(host: str, scheme: str, local: bool) -> urllib.request.OpenerDirector:
    """What sends the message. By a proxy of the environment, which resolves the name itself, an address is checked ahead; raises LocalAddress."""
    if local:
        return urllib.request.build_opener(_NoRedirects)
    if scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
        if host.rstrip(".").lower() == "localhost" or any(is_local(str(entry[4][0])) for entry in _looked_up(host)):
            raise LocalAddress(host)
        return urllib.request.build_opener(_NoRedirects)
    return urllib.request.build_opener(_NoRedirects, _PlainHandler, _SecureHandler)


def _looked_up(host: str) -> list[Any]:
    """The addresses of a host as far as this machine knows them."""
    try:
        return socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return []


def send(address: str, text: str, local: bool = False, **facts: Any) -> str:
    """Post a message; returns what went wrong as a sentence, or nothing. Without `local` nothing is sent to this machine or its link."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    wrapped = host.endswith(("weixin.qq.com", "dingtalk.com"))
    try:
        request = urllib.request.Request(address, message(text, wrapped=wrapped, **facts), {"Content-Type": "application/json; charset=utf-8", "User-Agent": "sd-training-studio"}, method="POST")
        with _opener(host, parts.scheme, local).open(request, timeout=WAIT) as answer:
            return "" if answer.status < 400 else f"{host} answered {answer.status}."
    except urllib.error.HTTPError as error:
        return f"{host} answered {error.code}" + (", and redirects are not followed; write the address it leads to." if 300 <= error.code < 400 else ".")
    except (OSError, ValueError, http.client.HTTPException) as error:
        if isinstance(error, LocalAddress) or isinstance(getattr(error, "reason", None), LocalAddress):
            return f"{host} is this machine or its own network link; nothing was sent. Switch on 'Webhook to this machine' in Settings if that is wanted."
        return f"{host} could not be reached ({error})."
