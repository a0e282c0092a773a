"""A studio served as a person starts it, over a root of its own."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil

from studio.jobs import JobStore
from studio.shelves import sample_pictures

REPO = Path(__file__).resolve().parents[2]
SCREENS = REPO / "outputs" / "screens"


class Studio:
    """A web process of its own over a root of its own; its worker outlives it until `end`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Serve, and wait until the page answers."""
        command = [sys.executable, "-m", "studio", "serve", "--root", str(self.root), "--port", str(self.port), "--no-browser"]
        with (self.root / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=REPO, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(REPO)})
        end = time.monotonic() + 300
        while time.monotonic() < end:
            with contextlib.suppress(OSError), urllib.request.urlopen(self.url, timeout=60) as answer:
                if answer.status == 200:
                    return
            time.sleep(0.2)
        raise TimeoutError((self.root / "serve.log").read_text(encoding="utf-8"))

    def kill(self) -> None:
        """kill -9 the web process."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """End the web process and the worker it started."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=120)
        for worker in JobStore(self.root / "outputs" / "studio.db").workers():
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(worker["pid"]).terminate()


def with_pictures(root: Path) -> Studio:
    """A studio over a root of its own, not started yet, with the data set "monster" in it."""
    folder = root / "outputs" / "datasets" / "monster"
    folder.mkdir(parents=True)
    for picture in sorted(sample_pictures().glob("*.png")):
        shutil.copy(picture, folder)
        (folder / picture.name).with_suffix(".txt").write_text("a monster", encoding="utf-8")
    return Studio(root)
