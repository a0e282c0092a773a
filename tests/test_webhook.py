"""Telling somewhere else: a real server hears the message, and silence is a sentence."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from studio.preferences import Preferences
from studio.webhook import check_address, message, send


@pytest.fixture
def server() -> object:
    """A server that keeps what it hears; /no answers 403."""
    heard: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(403 if self.path == "/no" else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    http = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}", heard
    http.shutdown()
    http.server_close()


def test_a_message_arrives_whole(server: tuple[str, list[dict]]) -> None:
    address, heard = server
    assert send(f"{address}/hook", "Training of 怪物: done", name="怪物", state="done", steps=40) == ""
    assert heard == [{"text": "Training of 怪物: done", "content": "Training of 怪物: done", "msgtype": "text", "name": "怪物", "state": "done", "steps": 40}]


def test_a_refusal_and_silence_are_sentences(server: tuple[str, list[dict]]) -> None:
    assert send(f"{server[0]}/no", "x") == "127.0.0.1 answered 403."
    assert "could not be reached" in send("http://127.0.0.1:9/", "x")


def test_some_services_want_the_text_inside() -> None:
    assert json.loads(message("x", wrapped=True))["text"] == {"content": "x"}


@pytest.mark.parametrize("address", ["ftp://x", "javascript:alert(1)", "no address", "file:///etc/passwd", "http://"])
def test_only_web_addresses_are_taken(address: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        check_address(address)
    with pytest.raises(Exception, match="is not an address"):
        Preferences.check({"webhook": address})
