"""What the soak runs on: a disk of its own where the system lets one be made, and a real web process with its worker."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
from safetensors.torch import load_file, save_file

from studio.settings import SHIPPED_ROOT, Paths

REPO = Path(__file__).resolve().parents[2]
DISK = 3072
"""Size of the soak's own disk in MB."""
PATIENCE = 240.0
"""Seconds within which the studio answers, recovers and finishes."""
TINY_WORLD = SHIPPED_ROOT / "models" / "Stable-diffusion" / "tiny-world"
SECOND_MODEL = "second-model"
"""A copy of the tiny world whose file is replaced while it is in use."""


HOOK = """
import os, time
real, real_ns, state = time.time, time.time_ns, [0.0, 0]
def jump():
    if time.monotonic() - state[0] > 0.5:
        state[0] = time.monotonic()
        try:
            with open(os.environ["SOAK_CLOCK"]) as file:
                state[1] = int(file.read() or 0)
        except (OSError, ValueError):
            pass
    return state[1]
time.time = lambda: real() + jump()
time.time_ns = lambda: real_ns() + jump() * 10**9
"""
"""What Python runs at the start of both processes, so that their clock can jump. libfaketime moves the clock of `time.sleep` too, which then fails (EINVAL) at random."""


@contextmanager
def own_disk() -> Iterator[tuple[Path, bool]]:
    """A folder, and whether it is a disk of its own that may be filled and made read-only (needs root, loop devices and mkfs.ext4)."""
    with tempfile.TemporaryDirectory(prefix="soak-") as place:
        image, disk = Path(place) / "disk.img", Path(place) / "disk"
        disk.mkdir()
        with image.open("wb") as file:
            file.truncate(DISK * 2**20)
        mounted = bool(shutil.which("mkfs.ext4")) and _runs("mkfs.ext4", "-q", "-m", "0", str(image)) and _runs("mount", "-o", "loop", str(image), str(disk))
        try:
            yield disk, mounted
        finally:
            if mounted:
                _runs("chattr", "-R", "-i", str(disk))
                for _ in range(50):
                    if _runs("umount", str(disk)):
                        break
                    time.sleep(0.2)


def _runs(*command: str) -> bool:
    """Whether a command exists and succeeds."""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


class Studio:
    """A web process over a root of its own and the worker it keeps."""

    def __init__(self, disk: Path, own: bool) -> None:
        self.disk, self.own = disk, own
        self.paths = Paths(disk / "studio").prepare()
        self.clock = disk.parent / "clock"
        self.clock.write_text("0")
        self.hook = disk.parent / "hook"
        self.hook.mkdir()
        (self.hook / "sitecustomize.py").write_text(HOOK, encoding="utf-8")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60)
        self.process: subprocess.Popen[bytes] | None = None
        self.model = self.paths.checkpoints / SECOND_MODEL
        shutil.copytree(TINY_WORLD, self.model)
        self.version = 0
        self.drawn: dict[int, bytes] = {}
        """The picture that each version of the second model draws."""

    def start(self) -> None:
        """Start the web process and wait until it answers."""
        env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(self.hook), str(REPO))), "SOAK_CLOCK": str(self.clock), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "studio", "serve", "--root", str(self.paths.root), "--port", str(self.port), "--no-browser"]
        with (self.disk.parent / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=REPO, stdout=log, stderr=log, env=env)
        end = time.monotonic() + PATIENCE
        while self.ask("GET", "/studio/v1/pulse")[0] != 200:
            if time.monotonic() > end or self.process.poll() is not None:
                raise TimeoutError((self.disk.parent / "serve.log").read_text(encoding="utf-8")[-2000:])
            time.sleep(0.2)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and JSON (or text) of an answer; status 0 when nobody answers."""
        try:
            answer = self.http.request(method, path, json=body)
        except httpx.HTTPError as error:
            return 0, str(error)
        try:
            return answer.status_code, answer.json()
        except ValueError:
            return answer.status_code, answer.text

    def generate(self, body: dict[str, Any]) -> dict[str, Any]:
        """The finished job of a picture; AssertionError when it isn't accepted, or isn't done in time."""
        status, answer = self.ask("POST", "/studio/v1/jobs/generate", body)
        if status != 200:
            raise AssertionError(f"a picture was refused: {status} {answer}")
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            status, job = self.ask("GET", f"/studio/v1/jobs/{answer['id']}")
            if status == 200 and job["state"] in ("done", "stopped", "failed"):
                if job["state"] == "done":
                    return dict(job)
                raise AssertionError(f"a picture ended as {job['state']}: {job['error']}")
            time.sleep(0.3)
        raise AssertionError(f"a picture was not done within {PATIENCE:.0f} s")

    def replace_model(self) -> int:
        """Put the other one of two versions in the place of the second model's file; its number."""
        self.version = 1 - self.version
        file = self.model / "unet" / "diffusion_pytorch_model.safetensors"
        tensors = load_file(TINY_WORLD / file.relative_to(self.model))
        tensors["conv_out.weight"] = tensors["conv_out.weight"] * (1.0 + self.version / 2)
        save_file(tensors, file.with_suffix(".new"))
        file.with_suffix(".new").replace(file)
        return self.version

    def worker(self) -> psutil.Process | None:
        """The worker of this root, found without the database."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if "studio.worker" in process.cmdline() and process.environ().get("STUDIO_ROOT") == str(self.paths.root) and process.status() != psutil.STATUS_ZOMBIE:
                    return process
        return None

    def kill_web(self) -> None:
        """kill -9 the web process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def end(self) -> None:
        """End both processes."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=30)
            self.kill_web()
        self.http.close()
        while (worker := self.worker()) is not None:
            for process in (*worker.children(recursive=True), worker):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)
            psutil.wait_procs([worker], timeout=10)
