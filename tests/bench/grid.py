"""How fast the grid of a data set answers, and what it costs: a served studio, real files, real requests."""

import argparse
import json
import statistics
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

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


def measure(count: int = 5000, rounds: int = 12) -> dict[str, object]:
    """Latencies in milliseconds of what a page asks, and how the server's memory grows."""
    with tempfile.TemporaryDirectory() as root:
        make(Path(root) / "outputs" / "datasets" / "many", count)
        studio = Studio(Path(root))
        studio.start()
        try:
            return _asked(studio, count, rounds)
        finally:
            studio.end()


def _asked(studio: Studio, count: int, rounds: int) -> dict[str, object]:
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
        name = f"picture {number:05d}.jpg"
        body = json.dumps({"name": name, "text": f"changed {time.time()}", "force": True}).encode()
        urllib.request.urlopen(urllib.request.Request(f"{base}caption", body, {"Content-Type": "application/json"}, method="PUT"), timeout=60).read()

    begun = time.perf_counter()
    first = json.loads(get("room"))
    opened = 1000 * (time.perf_counter() - begun)
    assert first["total"] == count
    before = server.memory_info().rss / 2**20
    acts: tuple[tuple[str, Callable[[int], object]], ...] = (
        ("a page of the grid", lambda i: get("room", offset=60 * (i * 7 % (count // 60)))),
        ("a page after a caption was changed", lambda i: (put(i), get("room"))[1]),
        ("filter tag:red NOT hat", lambda i: get("room", filter="tag:red NOT hat", offset=60 * (i % 5))),
        ("filter tokens:>15, most tokens first", lambda i: get("room", filter="tokens:>15", order="tokens")),
        ("is anything new", lambda i: get("pulse")),
        ("tags with counts", lambda i: get("tags")),
        ("a thumbnail, made", lambda i: get("thumb", picture=f"picture {i:05d}.jpg")),
        ("a thumbnail, kept", lambda i: get("thumb", picture=f"picture {i:05d}.jpg")),
    )
    rows = [_row(name, act, rounds) for name, act in acts]
    grown = server.memory_info().rss / 2**20 - before
    slowest = max(float(row["worst_ms"]) for row in rows[:5])
    return {"pictures": count, "opened_ms": round(opened, 1), "rows": rows, "grown_mb": round(grown, 1), "slowest_grid_ms": slowest, "passed": slowest <= BAR_MS and grown <= BAR_MB}


def _row(name: str, act: Callable[[int], object], rounds: int) -> dict[str, object]:
    """Median and worst time of an act."""
    times = []
    for i in range(rounds):
        begun = time.perf_counter()
        act(i)
        times.append(1000 * (time.perf_counter() - begun))
    return {"what": name, "median_ms": round(statistics.median(times), 1), "worst_ms": round(max(times), 1)}


def show(result: dict[str, object]) -> None:
    """The result as a table."""
    print(f"\n{result['pictures']} pictures over HTTP: opened in {result['opened_ms']} ms")
    for row in result["rows"]:  # type: ignore[attr-defined]
        print(f"  {row['what']:<40} median {row['median_ms']:>7} ms   worst {row['worst_ms']:>7} ms")
    print(f"  the server grew by {result['grown_mb']} MB (bar {BAR_MB:.0f}); slowest answer of the grid {result['slowest_grid_ms']} ms (bar {BAR_MS:.0f})")


def main() -> int:
    """Measure, print, and say whether the bars were met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    result = measure(rounds=5 if arguments.quick else 25)
    if arguments.json:
        print(json.dumps(result))
    else:
        show(result)
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
