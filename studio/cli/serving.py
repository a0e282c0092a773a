"""`studio serve`: the page and both APIs, and a worker that is looked after."""

import argparse
import os
import sys
import webbrowser

from studio import shelves
from studio.engine import Engine
from studio.errors import InputError
from studio.settings import Paths


def serve(arguments: argparse.Namespace, paths: Paths) -> int:
    """studio serve"""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import threading

    import uvicorn

    from studio.api.app import create_app
    from studio.api.auth import Access, accounts
    from studio.api.hosts import allowed_hosts

    engine = Engine(paths)
    if arguments.memory_mode:
        engine.prefer({"memory_mode": arguments.memory_mode})
    host = arguments.server_name or ("0.0.0.0" if arguments.listen else "127.0.0.1")
    port = _free_port(host, arguments.port)
    api, page = (accounts(words, flag) if words else () for words, flag in ((arguments.api_auth, "--api-auth"), (arguments.gradio_auth, "--gradio-auth")))
    access = Access(api, page, arguments.api_server_stop, allowed_hosts(host, arguments.allowed_host))
    app = create_app(engine, access)
    engine.keep_worker("web")
    url = f"http://127.0.0.1:{port}"
    print(f"SD Training Studio is at {url}  (Ctrl-C leaves; a training goes on)", flush=True)
    if not shelves.checkpoints(paths):
        print("There is no checkpoint yet: put one into models/Stable-diffusion.", file=sys.stderr)
    if not arguments.no_browser:
        threading.Timer(1.0, webbrowser.open, (url,)).start()  # when the server has begun to listen
    try:
        uvicorn.run(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=2)
    finally:
        engine.close()
    return 0


def _free_port(host: str, first: int) -> int:
    """The first port from `first` on that nobody listens at."""
    import socket

    for port in range(first, first + 100):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            if sys.platform != "win32":  # there, the option would let two programs share the port
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that was killed leaves its port at once
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise InputError(f"No port between {first} and {first + 99} is free.", "Name another with --port.")
