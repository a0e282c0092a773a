"""How far a job over many pictures is: progress with pictures per second and seconds left."""

import time
from typing import Protocol

from studio.jobs import Lane


class Paced(Protocol):
    """One run over pictures: `step` of `total` are done with, `looked` of them since it `began` (monotonic seconds)."""

    lane: Lane
    total: int
    step: int
    looked: int
    began: float


def tell_pace(walk: Paced, name: str) -> None:
    """One more picture is done with."""
    walk.step += 1
    walk.looked += 1
    rate = walk.looked / max(1e-9, time.monotonic() - walk.began)
    walk.lane.emit("progress", step=walk.step, total=walk.total, text=name, rate=round(rate, 3), left=round((walk.total - walk.step) / rate, 1))
