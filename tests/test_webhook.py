"""Telling somewhere else: a real server hears the message, and silence is a sentence."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from studio.preferences import Preferences
from studio.webhook import check_address, is_local, message, send


@pytest.fixture
def server() -> object:
    """A server that keeps what it hears; /no answers 403."""
    heard: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response({"/no": 403, "/moved": 307}.get(self.path, 200))
            self.send_header("Location", "/hook")
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
    assert send(f"{address}/hook", "Training of 怪物: done", local=True, name="怪物", state="done", steps=40) == ""
    assert heard == [{"text": "Training of 怪物: done", "content": "Training of 怪物: done", "msgtype": "text", "name": "怪物", "state": "done", "steps": 40}]


def test_a_refusal_and_silence_are_sentences(server: tuple[str, list[dict]]) -> None:
    assert send(f"{server[0]}/no", "x", local=True) == "127.0.0.1 answered 403."
    assert "could not be reached" in send("http://127.0.0.1:9/", "x", local=True)


def test_some_services_want_the_text_inside() -> None:
    assert json.loads(message("x", wrapped=True))["text"] == {"content": "x"}


@pytest.mark.parametrize("address", ["ftp://x", "javascript:alert(1)", "no address", "file:///etc/passwd", "http://"])
def test_only_web_addresses_are_taken(address: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        check_address(address)
    with pytest.raises(Exception, match="is not an address"):
        Preferences.check({"webhook": address})


def test_a_redirect_is_not_followed(server: tuple[str, list[dict]]) -> None:
    assert "redirects are not followed" in send(f"{server[0]}/moved", "x", local=True)
    assert len(server[1]) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "LOCALHOST", "0.0.0.0", "2130706433", "127.1", "[::1]", "[::ffff:127.0.0.1]", "[::]", "169.254.169.254", "[fe80::1]"])
def test_this_machine_and_its_link_are_not_told_unless_that_is_wanted(server: tuple[str, list[dict]], host: str) -> None:
    port = server[0].rpartition(":")[2]
    assert "this machine or its own network link" in send(f"http://{host}:{port}/hook", "x")
    assert server[1] == []


def test_addresses_of_this_machine_in_every_form() -> None:
    for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1", "::ffff:169.254.1.1", "64:ff9b::7f00:1", "2002:7f00:1::", "fe80::1%eth0", "0.1.2.3", "::"):
        assert is_local(address), address
    for address in ("192.168.1.5", "10.0.0.1", "93.184.216.34", "2606:4700::1", "fd00::5", "::ffff:8.8.8.8"):
        assert not is_local(address), address
