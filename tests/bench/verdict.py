"""Whether the diagnosis is right on 30 trainings: 12 real ones of the tiny world, and 18 simulated curves of known truth.

`python -m tests.bench.verdict [--recorded] [--record FOLDER] [--json]`. The real ones train for some minutes each; `--recorded` takes what they measured when they were last recorded,
`--record` writes that. The distance to the data of a real run is its loss on images that it never saw (tests/bench/verdict_runs.py), of a simulated one its true loss.
Exits 1 when fewer than 28 states are named rightly, when an advised step is more than 5 % farther from the data than the best one, or when advised and best steps correlate by less than 0.8.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from studio.runs.diagnosis import Progress, Rise, Verdict
from studio.runs.smoothing import Point, smoothed
from studio.training.verdict import Movement, judge
from tests.bench.verdict_curves import CURVES

RECORDED = Path(__file__).resolve().parents[1] / "training" / "curves"
"""What real trainings measured, for the suite and for quick looks."""
NAMED, FARTHER, RANKS = 28, 0.05, 0.8
"""Least trainings that are named rightly, how much farther from the data an advised step may be, and the least rank correlation."""


@dataclass(frozen=True)
class Row:
    """One line of the table: a training, the states that are right, its diagnosis, the truly best step, and how much farther from the data the advised one is."""

    name: str
    kind: str
    right: tuple[str, ...]
    found: Verdict
    best: int
    farther: float

    @property
    def named(self) -> bool:
        """Whether the state is right."""
        return self.found.state in self.right

    @property
    def plain(self) -> dict[str, Any]:
        """Fit for JSON."""
        facts = {"state": self.found.state, "right": list(self.right), "named": self.named, "advised": self.found.advised_step, "best": self.best, "farther": self.farther}
        return {"name": self.name, "kind": self.kind, **facts, "sentence": self.found.sentence}


def compact(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a real training measured, as it is kept: measurements, the errors behind them, distances, its learning rate, and the settings it came from."""
    rates = [rate for _, rate in record["rates"]] or [0.0]
    seen = record["measurements"]
    return {
        "name": record["name"],
        "right": list(record["right"]),
        "method": record["method"],
        "config": {name: record["config"][name] for name in ("learn_rate", "rate_shape", "batch_size", "steps", "probe_every", "width", "seed") if name in record["config"]},
        "columns": ["step", "train", "low", "high", "held"],
        "measurements": [[_rounded(m["reading"][name]) for name in ("step", "train", "low", "high", "held")] for m in seen],
        "errors": {line: [[_rounded(error) for error in m["errors"][line]] for m in seen] for line in ("train", "held")},
        "distances": [_rounded(float(np.mean(m["distance"]))) for m in seen],
        "rate": _rounded(rates[-1]),
        "peak": _rounded(max(rates)),
        "naming": (record["movement"] or {}).get("naming", [1, 1]),
        "alarm": record["alarm"],
    }


def _rounded(value: Any) -> Any:
    """A number to seven digits."""
    return float(f"{value:.7g}") if isinstance(value, float) else value


def replayed(record: Mapping[str, Any]) -> Verdict:
    """The diagnosis of a recorded training that has ended; an alarm is what it was."""
    if record["alarm"]:
        return Verdict(**{**record["alarm"], "span": None})
    points = [Point(*row) for row in record["measurements"]]
    progress = Progress(record["rate"], record["peak"], 0.0, True)
    movement = Movement(1.0, 1.0, 0.0 if record["method"] != "textual_inversion" else 1.0, record["rate"], points[-1].step, tuple(record["naming"]))
    movement = movement if movement.ordinary else Movement(0.0, 1.0, 1.0, *(movement.rate, movement.steps, movement.naming))
    return judge(points, movement, progress, _rise(record, "train"), _rise(record, "held"))


def _rise(record: Mapping[str, Any], line: str) -> Rise | None:
    """How far a line lies above its lowest point, over paired items, as the appraiser has it."""
    errors = [np.asarray(one, dtype=np.float64).reshape(-1, 2).sum(1) for one in record["errors"][line]]
    if not len(errors) or not len(errors[-1]):
        return None
    values = smoothed([row[1 if line == "train" else 4] for row in record["measurements"]])
    at = min(range(len(values)), key=values.__getitem__)
    paired = 100 * (errors[-1] - errors[at]) / np.maximum(errors[at], 1e-12)
    return Rise(record["measurements"][at][0], float(paired.mean()), float(paired.std(ddof=1)) / len(paired) ** 0.5)


def real(record: Mapping[str, Any]) -> Row:
    """The row of a real training, from its compact record."""
    found, steps = replayed(record), [row[0] for row in record["measurements"]]
    distance = dict(zip(steps, record["distances"], strict=True))
    best = min(distance, key=distance.__getitem__)
    return Row(record["name"], "real", tuple(record["right"]), found, best, distance[found.advised_step or 0] / distance[best] - 1)


def simulated() -> Iterator[Row]:
    """The rows of the simulated ones."""
    for curve in CURVES:
        found = curve.judged()
        best = curve.true_best([point.step for point in curve.points()])
        yield Row(curve.name, "simulated", curve.right, found, best, curve.distance(found.advised_step or 0) / curve.distance(best) - 1)


def recorded() -> list[dict[str, Any]]:
    """The records that are kept."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RECORDED.glob("*.json"))]


def measured(folder: Path | None) -> Iterator[dict[str, Any]]:
    """Train all real ones, each in a root of its own; `folder` gets their records."""
    import torch

    from tests.bench.verdict_runs import RUNS, trained

    torch.set_num_threads(1)
    for number, staged in enumerate(RUNS):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as root:
            record = compact(trained(staged, Path(root)))
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number + 1:02d}.json").write_text(json.dumps(record, ensure_ascii=False), encoding="utf-8")
        sys.stderr.write(f"{staged.name}: trained\n")
        yield record


def ranks(rows: Sequence[Row]) -> float:
    """Spearman's correlation of advised and truly best steps, over trainings where a step is advised and one is better than the start."""
    pairs = [(row.found.advised_step, row.best) for row in rows if row.found.advised_step is not None and row.best > 0]
    return float(spearmanr([a for a, _ in pairs], [b for _, b in pairs]).statistic)


def missed(rows: Sequence[Row]) -> list[str]:
    """The bars that were missed, in words."""
    named, correlation = sum(row.named for row in rows), ranks(rows)
    found = [f"{named} of {len(rows)} states are right, the bar is {NAMED}"] if named < NAMED else []
    found += [f"{row.name}: step {row.found.advised_step} is {row.farther:.1%} farther from the data than step {row.best}, the bar is {FARTHER:.0%}" for row in rows if row.farther > FARTHER]
    return found + ([f"advised and best steps correlate by {correlation:.2f}, the bar is {RANKS}"] if not correlation >= RANKS else [])


def table(rows: Sequence[Row]) -> str:
    """The rows for a person."""
    lines = [f"{'':<36}{'':<11}{'state':<14}{'right':<24}{'advised':>9}{'best':>7}{'farther':>9}"]
    for row in rows:
        mark = "" if row.named else "  WRONG"
        lines.append(f"{row.name:<36}{row.kind:<11}{row.found.state:<14}{' or '.join(row.right):<24}{row.found.advised_step or '-':>9}{row.best:>7}{row.farther:>9.1%}{mark}")
    worst = max(row.farther for row in rows)
    lines.append(f"{sum(row.named for row in rows)} of {len(rows)} named rightly; at most {worst:.1%} farther than the best step; rank correlation {ranks(rows):.2f}")
    return "\n".join(lines)


def main() -> int:
    """Print the table; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recorded", action="store_true", help="take the recorded measurements of the real trainings")
    parser.add_argument("--record", type=Path, metavar="FOLDER", help="write what the real trainings measure")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = [*map(real, recorded() if options.recorded else measured(options.record)), *simulated()]
    wrong = missed(rows)
    text = json.dumps({"rows": [row.plain for row in rows], "ranks": ranks(rows), "missed": wrong}, indent=1, ensure_ascii=False) if options.json else "\n".join([table(rows), *wrong])
    sys.stdout.write(text + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
