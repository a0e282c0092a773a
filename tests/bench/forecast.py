"""How near the forecast of a training comes to the training: the same knobs forecast and then run through the real service, side by side.

`python -m tests.bench.forecast [--quick] [--json]`: the sample project on the tiny world, in a folder of its own, with and without previews and
measurements. Exits 1 when a forecast is off by more than 15 %.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from studio.diffusion.cache import ModelCache
from studio.jobs import SilentLane
from studio.requests.forecast import ForecastRequest
from studio.requests.train import CreateEmbeddingRequest, TrainRequest
from studio.services import forecast, training
from studio.services.desk import Desk
from studio.services.library import create_embedding
from studio.settings import Paths
from studio.shelves import sample_pictures

BAR = 0.15
"""Largest difference allowed, as a share of what the training took."""
CASES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("steps alone", {"preview_every": 0, "probe_every": 0}),
    ("batch of 4, probe", {"preview_every": 0, "batch_size": 4}),
    ("previews and probe", {"preview_every": 25, "preview_prompt": "a photo of [name]\n[name] in the snow", "batch_size": 2}),
)
"""Name of a case and its knobs."""


def measured(desk: Desk, name: str, knobs: dict[str, Any], steps: int) -> dict[str, Any]:
    """Forecast and training of one case, in seconds."""
    create_embedding(CreateEmbeddingRequest(name="gnarl", initialization_text="monster", vectors=2, overwrite=True), desk)
    config = {"embedding": "gnarl", "data": str(sample_pictures()), "template": "subject", "steps": steps, "save_every": 0, **knobs}
    began = time.monotonic()
    said = forecast.run(ForecastRequest(config=config), SilentLane(), desk)
    asked = time.monotonic() - began
    began = time.monotonic()
    training.run(TrainRequest(config=config), SilentLane(job=name.replace(" ", "-").replace(",", "")), desk)
    took = time.monotonic() - began
    return {"case": name, "steps": steps, "forecast": said["seconds"], "took": round(took, 2), "off": round(said["seconds"] / took - 1, 4), "asking": round(asked, 2), "parts": said["parts"]}


def main() -> int:
    """Measure, print, and say whether the bar was met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under a minute")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = Paths(Path(folder)).prepare()
        desk = Desk(paths, ModelCache(paths))
        rows = [measured(desk, name, knobs, 50 if options.quick else 400) for name, knobs in CASES]
    passed = all(abs(row["off"]) <= BAR for row in rows)
    if options.json:
        print(json.dumps({"bar": BAR, "passed": passed, "rows": rows}, indent=2))
        return 0 if passed else 1
    print(f"{'case':<22}{'steps':>6}{'forecast':>11}{'took':>9}{'off':>8}{'asking':>9}   of the forecast")
    for row in rows:
        parts = ", ".join(f"{part} {seconds:.1f}" for part, seconds in row["parts"].items() if seconds >= 0.05)
        print(f"{row['case']:<22}{row['steps']:>6}{row['forecast']:>9.1f} s{row['took']:>7.1f} s{100 * row['off']:>+6.1f} %{row['asking']:>7.1f} s   {parts}")
    print(f"{'passed' if passed else 'FAILED'}: the bar is {100 * BAR:.0f} %")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
