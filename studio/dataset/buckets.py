"""Aspect buckets: which size a picture is trained at, and which pictures stand together in a batch. Pure arithmetic."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from studio.dataset.dice import BUCKET, ITEM, order
from studio.projects.cropping import buckets
from studio.projects.facts import Size

STEP = 64
"""Sides of buckets are multiples of so many pixels: what every UNet of the family can halve as often as it must."""


def bucket_sizes(width: int, height: int) -> tuple[Size, ...]:
    """Sizes of about that area, from half the shorter side to twice the longer; raises InputError when none fits."""
    return tuple(buckets((width, height), STEP, max(STEP, min(width, height) // 2), 2 * max(width, height)))


@dataclass(frozen=True)
class Rota:
    """Which pictures stand in which batch, for ever; `groups` are the numbers of the pictures of each bucket, a picture with repeats more than once.

    Each bucket deals its pictures in rounds: every one comes once before any comes again, and a batch that a round does not fill takes from the next round's order.
    After r rounds a bucket of n pictures has given ceil(r n / size) batches, so that no picture is ever more than a batch ahead of one in another bucket.
    With a single bucket this is one endless deal, cut into batches.
    """

    groups: tuple[tuple[int, ...], ...]
    size: int
    seed: int

    def at(self, batch: int) -> tuple[int, ...]:
        """Numbers of the pictures in the batch that is the `batch`-th of all."""
        group, turn = self._turn(batch)
        members = self.groups[group]
        dealt = (divmod(place, len(members)) for place in range(turn * self.size, (turn + 1) * self.size))
        return tuple(members[order(self.seed, ITEM, round_, len(members), group)[at]] for round_, at in dealt)

    def _turn(self, batch: int) -> tuple[int, int]:
        """Which bucket a batch is of, and which of that bucket's batches it is."""
        if len(self.groups) == 1:
            return 0, batch
        counts = tuple(map(len, self.groups))
        round_ = bisect_right(range((batch + 1) * self.size + 1), batch, key=lambda r: sum(_given(counts, self.size, r))) - 1
        given = _given(counts, self.size, round_)
        return _turns(counts, self.size, self.seed, round_)[batch - sum(given)]


def _given(counts: Sequence[int], size: int, rounds: int) -> list[int]:
    """Batches that each bucket has given after so many rounds."""
    return [-(-rounds * count // size) for count in counts]


@lru_cache(maxsize=16)
def _turns(counts: tuple[int, ...], size: int, seed: int, round_: int) -> tuple[tuple[int, int], ...]:
    """The batches of one round as (bucket, its how manieth batch), shuffled; a bucket's own batches stay in their order."""
    before, after = _given(counts, size, round_), _given(counts, size, round_ + 1)
    slots = [group for group in range(len(counts)) for _ in range(after[group] - before[group])]
    turns, next_ = [], list(before)
    for slot in order(seed, BUCKET, round_, len(slots)):
        group = slots[slot]
        turns.append((group, next_[group]))
        next_[group] += 1
    return tuple(turns)
