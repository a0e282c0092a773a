"""Rhythm: how often a run becomes one that can go on."""

from dataclasses import dataclass

QUICK, SPARE = 0.5, 20.0
"""A checkpoint that is written within so many seconds is written as often as wanted; a slower one takes a twentieth of the time at most."""


@dataclass(frozen=True)
class Rhythm:
    """How often a run becomes one that can go on, in steps and in seconds: a killed run loses at most this much."""

    steps: int = 25
    seconds: float = 10.0

    def due(self, step: int, saving: float) -> bool:
        """Whether a checkpoint is due by count; one that takes long to write comes by the clock alone."""
        return step % self.steps == 0 and saving < QUICK

    def wait(self, saving: float) -> float:
        """Seconds after which one is due by the clock, when writing one takes `saving` seconds."""
        return max(self.seconds, SPARE * saving)
