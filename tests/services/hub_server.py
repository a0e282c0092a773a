"""A server on this machine that answers as the hub does: listings, files with ranges, redirects, and the ways it can fail."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "c0ffee" + "0" * 34


@dataclass
class Hub:
    """What the server has and how it behaves."""

    files: dict[str, bytes]
    repository: str = ""
    address: str = ""
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and range of every request."""
    headers: list[dict[str, str]] = field(default_factory=list)
    cut_after: dict[str, list[int]] = field(default_factory=dict)
    """Bytes after which the connection breaks, by file, one entry for each time."""
    status: dict[str, int] = field(default_factory=dict)
    """Refusals by file, or for the listing under ""."""
    lie: dict[str, bytes] = field(default_factory=dict)
    """Other bytes of the same length than the listing promises."""
    ranges: bool = True
    lengths: bool = True

    def listing(self) -> dict[str, Any]:
        """The answer about the repository."""
        siblings = []
        for name, data in self.files.items():
            entry: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()}
            if name.endswith((".safetensors", ".bin")):
                entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
                entry["blobId"] = "0" * 40
            siblings.append(entry)
        return {"id": self.repository, "sha": COMMIT, "siblings": siblings}

    def ranges_of(self, name: str) -> list[str]:
        """The ranges that were asked of a file."""
        return [wanted for _, path, wanted in self.asked if path.endswith(f"/{name}") and path.startswith("/cdn")]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _plain(self, status: int, body: bytes = b"") -> None:
        """A whole answer."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        """A listing, a redirect to where a file lies, or the file."""
        hub = self.hub
        hub.asked.append(("GET", self.path, self.headers.get("Range", "")))
        hub.headers.append(dict(self.headers))
        path = self.path.partition("?")[0]
        if path == f"/api/models/{hub.repository}/revision/main":
            self._plain(hub.status.get("", 200), json.dumps(hub.listing()).encode())
        elif path.startswith(f"/{hub.repository}/resolve/{COMMIT}/"):
            self.send_response(302)
            self.send_header("Location", f"{hub.address}/cdn/{path.rpartition('/')[2]}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif path.startswith("/cdn/") and (name := path.rpartition("/")[2]) in hub.files:
            if hub.status.get(name, 200) >= 400:
                self._plain(hub.status[name])
            else:
                self._file(name, hub.lie.get(name, hub.files[name]))
        else:
            self._plain(404)

    def _file(self, name: str, data: bytes) -> None:
        """A file or the rest of it, broken off when that is wanted."""
        tag = f'"{hashlib.sha256(data).hexdigest()}"'
        start, wanted = 0, self.headers.get("Range", "")
        same = self.headers.get("If-Range", tag) == tag
        if wanted and self.hub.ranges and same:
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            if start >= len(data):
                self._plain(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("ETag", tag)
        if self.hub.lengths:
            self.send_header("Content-Length", str(len(data) - start))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        cuts = self.hub.cut_after.get(name, [])
        end = start + cuts.pop(0) if cuts else len(data)
        self.wfile.write(data[start:end])
        if end < len(data):
            self.close_connection = True


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """A hub that answers for the length of the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OneHub", (Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
