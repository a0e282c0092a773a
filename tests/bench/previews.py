"""What a row of previews costs when its pictures walk together, against one by one, and how far the pixels of both ways differ.

`python -m tests.bench.previews [--quick] [--json]`: on the tiny world, the ways taken in turns, the least time of each counted. Exits 1 when walking
together is slower, or when a pixel differs by more than rounding.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from studio.diffusion.cache import ModelCache
from studio.requests.train import TextualInversionConfig
from studio.services.library import initial_vectors
from studio.services.previewing import Painted, Previews
from studio.services.rows import AT_ONCE
from studio.settings import Paths

SLOWER, APART = 1.0, 2
"""Bars: time together over time one by one, and the largest difference of a pixel of 255."""
PROMPTS = ("a photo of [name]", "[name] in a forest", "a drawing of [name]", "[name] at night")


@dataclass(frozen=True)
class Row:
    """One line of the table: pictures of the row, seconds together and one by one, largest difference of a pixel."""

    pictures: int
    together: float
    alone: float
    apart: int


def numbers(row: Sequence[Painted]) -> np.ndarray:
    """The pixels of a row."""
    return np.stack([np.array(Image.open(painted.path)).astype(int) for painted in row])


def measure(previews: Previews, pictures: int, rounds: int) -> Row:
    """Paint a row both ways, in turns."""
    together, alone, apart = [], [], 0
    for step in range(rounds + 1):
        previews.at_once = AT_ONCE
        whole = numbers(previews.paint(2 * step))
        together.append(previews.seconds)
        previews.at_once = 1
        apart = max(apart, int(np.abs(whole - numbers(previews.paint(2 * step + 1))).max()))
        alone.append(previews.seconds)
    return Row(pictures, min(together[1:]), min(alone[1:]), apart)


def table(quick: bool) -> list[Row]:
    """Rows of 2, 4 and 8 pictures; of 4 alone when it has to be quick."""
    with tempfile.TemporaryDirectory() as folder:
        paths = Paths(Path(folder) / "studio").prepare()
        with ModelCache(paths).lend("") as model:
            vectors = initial_vectors(model, "monster", 4)[0]
            rows = []
            for prompts, images in ((4, 1),) if quick else ((2, 1), (4, 1), (4, 2)):
                config = TextualInversionConfig(embedding="gnarl", data="unused", preview_prompt="\n".join(PROMPTS[:prompts]), preview_images=images)
                previews = Previews(config, model, lambda: {"gnarl": vectors}, {}, Path(folder) / "samples")
                rows.append(measure(previews, prompts * images, 2 if quick else 6))
        return rows


def main() -> int:
    """Print the table; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one row, fewer rounds")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args()
    rows = table(asked.quick)
    if asked.json:
        print(json.dumps([asdict(row) for row in rows]))
    else:
        print(f"{'pictures':>8} {'together':>10} {'one by one':>11} {'ratio':>6} {'pixels':>7}")
        for row in rows:
            print(f"{row.pictures:8d} {row.together:8.2f} s {row.alone:9.2f} s {row.together / row.alone:6.2f} {row.apart:7d}")
    return int(any(row.together > SLOWER * row.alone or row.apart > APART for row in rows))


if __name__ == "__main__":
    sys.exit(main())
