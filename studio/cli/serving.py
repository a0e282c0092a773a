"""`studio serve`: the page and both APIs, and a worker that is looked after."""

import argparse
import os
import secrets
import sys
import webbrowser
from typing import TYPE_CHECKING

from studio import shelves
from studio.engine import Engine
from studio.errors import InputError
from studio.settings import Paths

if TYPE_CHECKING:
    from studio.api.auth import Access


def serve(arguments: argparse.Namespace, paths: Paths) -> int:
    """studio serve"""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import threading

    import uvicorn

    from studio.api.app import create_app
    from studio.api.hosts import is_loopback

    engine = Engine(paths)
    if arguments.memory_mode:
        engine.prefer({"memory_mode": arguments.memory_mode})
    host = arguments.server_name or ("0.0.0.0" if arguments.listen else "127.0.0.1")
    port = _free_port(host, arguments.port)
    access = _access(arguments, host)
    app = create_app(engine, access)
    engine.keep_worker("web")
    urls = [f"http://{name}:{port}/{f'?token={access.token}' if access.token else ''}" for name in _names(host)]
    print(f"SD Training Studio is at {'  or  '.join(urls)}  (Ctrl-C leaves; a training goes on)", flush=True)
    if arguments.no_auth and not is_loopback(host):
        print("--no-auth: everyone who can reach this address may use the studio and read its images.", file=sys.stderr)
    if not shelves.checkpoints(paths):
        print("There is no checkpoint yet: put one into models/Stable-diffusion.", file=sys.stderr)
    if not arguments.no_browser:
        threading.Timer(1.0, webbrowser.open, (urls[0],)).start()  # when the server has begun to listen
    try:
        uvicorn.run(
            app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=2, proxy_headers=False
        )  # X-Forwarded-For would let who guesses passwords through a tunnel choose an address
    finally:
        engine.close()
    return 0


def _access(arguments: argparse.Namespace, host: str) -> "Access":
    """Who may come in; a server that other machines can reach makes a token when no account is named."""
    from studio.api.auth import Access, accounts
    from studio.api.hosts import allowed_hosts, is_loopback

    api, page = (accounts(words, flag) if words else () for words, flag in ((arguments.api_auth, "--api-auth"), (arguments.gradio_auth, "--gradio-auth")))
    if arguments.no_auth and (api or page):
        raise InputError("--no-auth was given together with accounts.", "Leave one of them out.")
    reached = not is_loopback(host) or arguments.allowed_host  # another name than this machine's is that of a proxy
    token = "" if api or page or arguments.no_auth or not reached else secrets.token_urlsafe(24)
    return Access(api, page, arguments.api_server_stop, allowed_hosts(host, arguments.allowed_host), token)


def _names(host: str) -> list[str]:
    """The names to open the page under: this machine's first, then the one other machines know it by."""
    if host in ("0.0.0.0", "::"):
        return ["127.0.0.1", *_lan_address()]
    return [f"[{host}]" if ":" in host else host]


def _lan_address() -> list[str]:
    """The address of this machine in its network, when it is in one; nothing is sent to find it."""
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("10.255.255.255", 1))
        except OSError:
            return []
        address = str(probe.getsockname()[0])
    return [] if address.startswith("127.") or address == "0.0.0.0" else [address]


def _free_port(host: str, first: int) -> int:
    """The first port from `first` on that nobody listens at."""
    import socket

    for port in range(first, first + 100):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
            if sys.platform != "win32":  # there, the option would let two programs share the port
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that was killed leaves its port at once
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise InputError(f"No port between {first} and {first + 99} is free.", "Name another with --port.")
