"""Which extra networks of a prompt are active at which step: prompt editing and alternation around `<lora:...>` switch them, an extension of A1111's language."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from studio.prompts.networks import Network, marked, networks
from studio.prompts.parts import positive, without_comments

_FIRST = 0xF0000
"""Where Unicode's private letters begin, one of which stands for each network while a schedule is read."""


@dataclass(frozen=True)
class PromptPass:
    """The prompt of one sampling pass and how editing is counted in it.

    `looks` are the steps times the sampler's evaluations of the first pass, `hires_looks` those of the second one when this is the hires pass, else 0.
    `old` means A1111's prompt editing from before 1.6.
    """

    prompt: str
    looks: int = 1
    hires_looks: int = 0
    old: bool = False


@dataclass(frozen=True)
class NetworkSchedule:
    """The networks of a pass in the order they stand, and for each look, counted from 0, the numbers of those that are active; beyond the last look, the last set."""

    networks: tuple[Network, ...]
    active: tuple[frozenset[int], ...]

    @property
    def changes(self) -> bool:
        """Whether the set of active networks changes on the way."""
        return len(set(self.active)) > 1


def network_schedule(one: PromptPass) -> NetworkSchedule:
    """The networks of a pass; in A1111 all are active throughout, here those inside `[from:to:when]` and `[a|b]` only while the prompt shows them.

    With AND a network is active while any part shows it. Raises InputError for a prompt that is too long.
    """
    plain = without_comments(one.prompt)
    letters = _letters(plain)
    text, found = marked(plain, lambda _: next(letters))
    numbers = {letter: number for number, letter in zip(range(len(found)), _letters(plain), strict=False)}
    everything = frozenset(range(len(found)))
    if not found or "[" not in plain:
        return NetworkSchedule(tuple(found), (everything,))
    parts = positive(text, one.looks, one.hires_looks, one.old)
    sets = {shown: frozenset(numbers[letter] for letter in shown if letter in numbers) for part in parts for _, shown in part.texts}
    active = [frozenset().union(*(sets[part.at(look)] for part in parts)) for look in range((one.hires_looks or one.looks) + 1)]
    return NetworkSchedule(tuple(found), tuple(active) if len(set(active)) > 1 else (active[0],))


def networks_key(prompt: str) -> str:
    """A text that is the same for prompts that use the same networks at the same steps: their tags, or the whole prompt where brackets may switch them."""
    found = networks(without_comments(prompt))[1]
    return prompt if found and "[" in prompt else "".join(network.tag for network in found)


def _letters(text: str) -> Iterator[str]:
    """Private letters that a text does not hold, always in the same order."""
    return (letter for letter in map(chr, count(_FIRST)) if letter not in text)
