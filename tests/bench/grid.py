"""How fast the grid of a data set answers, and what it costs: a served studio, real files, real requests; a part of `python -m tests.bench.preprocess`."""

import json
import statistics
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from studio.dataset.examine import examine
from studio.projects.project import Project
from tests.browser.served import Studio

BAR_MS = 300.0
"""Milliseconds within which every page of the grid must be answered."""
BAR_MB = 300.0
"""Megabytes by which the server may grow while it shows everything."""
WORDS = ("red", "blue", "hat", "smile", "outdoors", "long hair", "standing", "night", "cat", "tree")


def make(folder: Path, count: int) -> None:
    """A data set of `count` pictures of 192x256 with captions of tags, measured as the room measures them."""
    draw = np.random.default_rng(7)
    folder.mkdir(parents=True)
    kinds = []
    for kind in range(50):
        path = folder / f"kind-{kind}.jpg"
        Image.fromarray(draw.integers(0, 255, (256, 192, 3), dtype=np.uint8)).save(path, quality=80)
        kinds.append((path.read_bytes(), examine(path)))
        path.unlink()
    found = []
    for number in range(count):
        data, facts = kinds[number % 50]
        (folder / f"picture {number:05d}.jpg").write_bytes(data)
        tags = draw.choice(WORDS, 6, replace=False)
        (folder / f"picture {number:05d}.txt").write_text(", ".join(tags) + f", number {number}", encoding="utf-8")
        found.append((f"picture {number:05d}.jpg", facts))
    Project(folder).put_facts(found)


@dataclass(frozen=True)
class Row:
    """One thing a page asks: median and worst time in milliseconds, and whether the bar holds for it."""

    what: str
    median: float
    worst: float
    barred: bool


@dataclass(frozen=True)
class Found:
    """What was measured; times in milliseconds, growth in megabytes."""

    pictures: int
    opened: float
    rows: tuple[Row, ...]
    grown: float


def measure(count: int = 5000, rounds: int = 12) -> Found:
    """Serve a data set of `count` pictures and ask for it as a page does."""
    with tempfile.TemporaryDirectory() as root:
        make(Path(root) / "outputs" / "datasets" / "many", count)
        studio = Studio(Path(root))
        studio.start()
        try:
            return _asked(studio, count, rounds)
        finally:
            studio.end()


def _asked(studio: Studio, count: int, rounds: int) -> Found:
    """Ask as a page does."""
    base = f"{studio.url}studio/v1/datasets/many/"
    assert studio.process is not None
    server = psutil.Process(studio.process.pid)

    def get(path: str, **query: object) -> bytes:
        """One answer."""
        with urllib.request.urlopen(f"{base}{path}?{urllib.parse.urlencode(query)}", timeout=60) as answer:
            return bytes(answer.read())

    def put(number: int) -> None:
        """One caption kept."""
        body = json.dumps({"name": f"picture {number:05d}.jpg", "text": f"changed {time.time()}", "force": True}).encode()
        urllib.request.urlopen(urllib.request.Request(f"{base}caption", body, {"Content-Type": "application/json"}, method="PUT"), timeout=60).read()

    begun = time.perf_counter()
    assert json.loads(get("room"))["total"] == count
    opened = 1000 * (time.perf_counter() - begun)
    before = server.memory_info().rss / 2**20
    acts: tuple[tuple[Any, ...], ...] = (
        ("a page of the grid", True, lambda i: get("room", offset=60 * (i * 7 % (count // 60)))),
        ("a caption is kept", True, put),
        ("the page after a caption was kept", True, lambda i: get("room"), put),
        ("filter tag:red NOT hat", True, lambda i: get("room", filter="tag:red NOT hat", offset=60 * (i % 5))),
        ("tokens:>15, most tokens first", True, lambda i: get("room", filter="tokens:>15", order="tokens")),
        ("is anything new", True, lambda i: get("pulse")),
        ("all tags with counts", False, lambda i: get("tags")),
        ("a thumbnail that is made", False, lambda i: get("thumb", picture=f"picture {i:05d}.jpg")),
        ("a thumbnail that is there", True, lambda i: get("thumb", picture=f"picture {i:05d}.jpg")),
    )
    rows = tuple(_row(*act, rounds=rounds) for act in acts)
    return Found(count, opened, rows, server.memory_info().rss / 2**20 - before)


def _row(what: str, barred: bool, act: Callable[[int], object], first: Callable[[int], object] | None = None, rounds: int = 1) -> Row:
    """Median and worst time of an act; what comes `first` each time is not counted."""
    times = []
    for i in range(rounds):
        if first is not None:
            first(i)
        begun = time.perf_counter()
        act(i)
        times.append(1000 * (time.perf_counter() - begun))
    return Row(what, statistics.median(times), max(times), barred)
