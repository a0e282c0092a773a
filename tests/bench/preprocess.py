"""Images per second of the studio's preprocessing against the same pipeline written plainly with Pillow in one process.

`python -m tests.bench.preprocess [--quick] [--json]`: photographs made for it (JPEG, 1500x1000 to 3000x2000) are opened, cut around their focus, brought
to 512x512 and written as PNG with a caption. Both ways must give the same pixels. Starting the processes counts. Exits 1 when a bar is missed.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from studio.dataset.crew import Crew, cores
from studio.dataset.examine import measure
from studio.dataset.prepare import PACKING, Task, prepare
from studio.dataset.sizing import Sizing
from studio.errors import StudioError
from studio.projects.cropping import Weights, box_of, suggest
from tests.bench import grid

SIZE = (512, 512)
BARS = {1: None, 2: 1.6, 3: 1.6}
"""Smallest ratio by number of cores."""
BAR = 2.5
"""The same on four cores and more."""
COUNT, QUICK = 160, 72
"""Pictures of each round."""
ROUNDS = 2
"""Each way is timed so often, in turns, and its best time counts; once when it must be quick."""


@dataclass(frozen=True)
class Line:
    """One line of the table; `bar` is what the value must reach, or stay under when `below`, None where there is none."""

    what: str
    value: float
    unit: str
    bar: float | None = None
    below: bool = False
    note: str = ""

    @property
    def good(self) -> bool:
        """Whether the bar is reached."""
        return self.bar is None or (self.value <= self.bar if self.below else self.value >= self.bar)


def photographs(folder: Path, count: int) -> list[Path]:
    """So many photographs of noise, gradients and shapes, with captions beside them; the same ones each time."""
    rng = np.random.default_rng(7)
    scenes = [_scene(rng) for _ in range(min(count, 6))]
    made = []
    for number in range(count):
        scale = rng.uniform(0.5, 1.0)
        width, height = round(3000 * scale), round(2000 * scale)
        scene = scenes[number % len(scenes)]
        left, top = int(rng.integers(0, 3000 - width + 1)), int(rng.integers(0, 2000 - height + 1))
        image = scene.crop((left, top, left + width, top + height))
        path = folder / f"{number:04d}.jpg"
        (image if number % 3 else image.transpose(Image.Transpose.ROTATE_90)).save(path, quality=90)
        path.with_suffix(".txt").write_text(f"a scene, number {number}", encoding="utf-8")
        made.append(path)
    return made


def _scene(rng: np.random.Generator) -> Image.Image:
    """One large picture: soft colours, some shapes, the grain of a sensor."""
    soft = Image.fromarray(rng.integers(40, 215, (12, 18, 3), dtype=np.uint8)).resize((3000, 2000), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(soft)
    for _ in range(40):
        x, y, side = int(rng.integers(0, 2800)), int(rng.integers(0, 1800)), int(rng.integers(20, 400))
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        (draw.ellipse if rng.random() < 0.5 else draw.rectangle)((x, y, x + side, y + side), fill=colour)
    grain = rng.normal(0, 6, (2000, 3000, 1))
    return Image.fromarray(np.clip(np.asarray(soft) + grain, 0, 255).astype(np.uint8))


def plainly(pictures: list[Path], out: Path, **packing: int) -> None:
    """The pipeline as anyone would write it: one picture after the other."""
    for path in pictures:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file).convert("RGB")
        box = box_of(image.size, SIZE, suggest(measure(image), SIZE, Weights()))
        image.crop(box).resize(SIZE, Image.Resampling.LANCZOS).save(out / f"{path.stem}.png", **packing)
        (out / f"{path.stem}.txt").write_text(path.with_suffix(".txt").read_text(encoding="utf-8"), encoding="utf-8")


def plainly_packed(pictures: list[Path], out: Path) -> None:
    """The same with the studio's way of packing PNGs, which tells apart what packing and what processes gain."""
    plainly(pictures, out, compress_type=PACKING)


def by_crew(pictures: list[Path], out: Path) -> None:
    """The same as the studio does it."""
    rules = Sizing(SIZE, weights=Weights())
    with Crew() as crew:
        tasks = (Task(path, out, rules, (path.stem,), caption=path.with_suffix(".txt").read_text(encoding="utf-8")) for path in pictures)
        for _, made in crew.run(prepare, tasks):
            if isinstance(made, StudioError):
                raise made


def differences(first: Path, second: Path) -> list[str]:
    """Pictures and captions that are not the same in both folders."""
    names = sorted({p.name for folder in (first, second) for p in folder.iterdir()})
    return [name for name in names if _content(first / name) != _content(second / name)]


def _content(path: Path) -> object:
    """The pixels of a picture or the words of a caption; None when it is missing."""
    if not path.is_file():
        return None
    if path.suffix != ".png":
        return path.read_text(encoding="utf-8")
    with Image.open(path) as image:
        return image.size, image.mode, image.tobytes()


def throughput(quick: bool) -> list[Line]:
    """Images per second both ways and their ratio; raises RuntimeError when they do not make the same pictures."""
    with tempfile.TemporaryDirectory() as root:
        source = Path(root, "source")
        source.mkdir()
        pictures = photographs(source, QUICK if quick else COUNT)
        best: dict[Callable[[list[Path], Path], None], float] = dict.fromkeys((plainly, plainly_packed, by_crew), float("inf"))
        for round_ in range(1 if quick else ROUNDS):
            outs = {way: _folder(root, f"{way.__name__} {round_}") for way in best}
            for way, out in outs.items():
                begun = time.perf_counter()
                way(pictures, out)
                best[way] = min(best[way], time.perf_counter() - begun)
            if wrong := differences(outs[plainly], outs[by_crew]):
                raise RuntimeError(f"The two ways differ in {', '.join(wrong[:5])}.")
    bar = BARS.get(cores(), BAR)
    note = "one core: nothing to gain, so there is no bar" if bar is None else f"{cores()} cores"
    rates = [
        Line(what, len(pictures) / best[way], "images/s") for what, way in (("plain Pillow, one process", plainly), ("the same, PNGs packed as ours", plainly_packed), ("the studio's crew", by_crew))
    ]
    return [*rates, Line("ratio", best[plainly] / best[by_crew], "x", bar, note=note)]


def _folder(root: str, name: str) -> Path:
    """A new folder."""
    Path(root, name).mkdir()
    return Path(root, name)


def grid_latencies(quick: bool) -> list[Line]:
    """How fast a served data set of 5,000 pictures answers what a page asks, the slowest of several times, and what the server grows by."""
    found = grid.measure(rounds=4 if quick else 25)
    lines = [Line(row.what, row.worst, "ms", grid.BAR_MS if row.barred else None, True, f"median {row.median:.0f} ms") for row in found.rows]
    return [*lines, Line(f"{found.pictures} pictures, first answer", found.opened, "ms"), Line("memory the server grew by", found.grown, "MB", grid.BAR_MB, True)]


PARTS: tuple[Callable[[bool], list[Line]], ...] = (throughput, grid_latencies)
"""What is measured; each part gives its lines, quickly when asked."""


def main() -> int:
    """Measure, print the table, and say by the exit code whether all bars are reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer pictures, under a minute")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    lines = [line for part in PARTS for line in part(arguments.quick)]
    good = all(line.good for line in lines)
    if arguments.json:
        print(json.dumps({"lines": [{**asdict(line), "good": line.good} for line in lines], "good": good}))
        return 0 if good else 1
    for line in lines:
        bar = "" if line.bar is None else f"{'at most' if line.below else 'at least'} {line.bar:g} {line.unit} {'' if line.good else 'MISSED'}"
        print(f"{line.what:38} {line.value:9.2f} {line.unit:10} {bar:24} {line.note}".rstrip())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
