"""Learning rates written as A1111 writes them, "0.005:100, 1e-3:1000", with a warm-up before and a fall over the whole run."""

import math
from dataclasses import dataclass

from studio.errors import InputError
from studio.requests.train import check_schedule


@dataclass(frozen=True)
class Schedule:
    """Rates as (rate, until step), times a rise over `warmup` steps from `start` on, times a fall of `shape` toward the end; training ends where the last rate does."""

    segments: tuple[tuple[float, int], ...]
    shape: str = "constant"
    warmup: int = 0
    start: int = 0

    @classmethod
    def parse(cls, text: str, max_steps: int, start: int = 0, shape: str = "constant", warmup: int = 0) -> "Schedule":
        """The schedule from step `start` on, with A1111's meaning of `text`; `shape` is "constant", "cosine" or "linear". Raises InputError in words.

        A rate without a step, or with -1, lasts until `max_steps` and what follows is ignored; segments that `start` has passed are dropped.
        """
        try:
            pairs = check_schedule(text)
        except ValueError as error:
            raise InputError(f"Learn rate: {error} (got {text!r}).") from error
        segments: list[tuple[float, int]] = []
        last = 0
        for rate, until in pairs:
            if until != -1 and until <= last:
                raise InputError(f"Learn rate: the steps must grow, but {until} comes after {last} (got {text!r}).", "Write for example 0.005:100, 1e-3:1000.")
            end = max_steps if until == -1 else min(until, max_steps)
            if end > max(start, last):
                segments.append((rate, end))
            last = end
            if until == -1 or until >= max_steps:
                break
        if not segments:
            raise InputError(f"Learn rate: {text!r} ends at step {last}, and the training begins at step {start}.", "Add a rate that lasts longer, such as 0.001.")
        return cls(tuple(segments), shape, warmup, start)

    @property
    def end(self) -> int:
        """The step after which training is finished."""
        return self.segments[-1][1]

    def at(self, step: int) -> float:
        """The rate when `step` steps are done and the next one is taken; never 0 before the end."""
        written = next((rate for rate, until in self.segments if step < until), self.segments[-1][0])
        return written * self._risen(step) * self._fallen(step)

    def _risen(self, step: int) -> float:
        """Share of the rate that the warm-up allows: its first step takes one part in `warmup` of it."""
        return min(1.0, (step - self.start + 1) / self.warmup) if self.warmup else 1.0

    def _fallen(self, step: int) -> float:
        """Share of the rate that is left, from 1 where the warm-up ends to 0 at the end; cosine as in Loshchilov & Hutter 2017, equation 5, without restarts."""
        first = min(self.start + self.warmup, self.end - 1)
        gone = min(1.0, max(0.0, (step - first) / (self.end - first)))
        if self.shape == "cosine":
            return (1 + math.cos(math.pi * gone)) / 2
        return 1 - gone if self.shape == "linear" else 1.0
