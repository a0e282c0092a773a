"""Extra networks that a prompt names: found in the models' folders or in a training, put on for a job, and named in the infotext."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from studio import shelves
from studio.diffusion.adapters import Wear, worn
from studio.diffusion.hypernetworks import Blend, blended
from studio.diffusion.model import Model
from studio.formats.adapter import Adapter, adapter_facts, find_adapter, read_adapter
from studio.formats.hypernetwork import Hypernetwork, read_hypernetwork
from studio.prompts.networks import Network, networks
from studio.services.desk import Desk

LORA_KINDS = ("lora", "lyco")
HASH_DIGITS = 12
Kind = TypeVar("Kind")
Find = Callable[[str], tuple[Path | None, Callable[[], Kind]] | None]
"""From a name to a file, if it is one, and what gives the network; None when there is none."""


@dataclass
class Worn:
    """What a job wears: sentences about it, embeddings that came along, and hashes for the infotext."""

    notes: list[str] = field(default_factory=list)
    words: dict[str, Tensor] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)


@contextmanager
def dressed(model: Model, prompt: str, desk: Desk) -> Iterator[Worn]:
    """Wear the networks of a prompt for the length of the block; a name that is not there is told in `notes` and left out. Raises InputError for one of another family.

    What is being trained goes before a file of its name and has no hash.
    """
    _, named = networks(prompt)
    outfit = Worn()
    loras = _found([n for n in named if n.kind in LORA_KINDS], _adapter(desk), outfit, "LoRA")
    nets = _found([n for n in named if n.kind == "hypernet"], _hypernetwork(desk), outfit, "hypernetwork")
    outfit.notes += [f"<{n.kind}:{n.name}>: there is no kind of network called {n.kind!r}; it was left out." for n in named if n.kind not in (*LORA_KINDS, "hypernet")]
    with ExitStack() as stack:
        wears = [Wear(get(), *network.strengths, lbw=network.blocks) for network, _, get in loras]
        if wears:
            on = stack.enter_context(worn(model, wears))
            outfit.notes += on.warnings
            outfit.words.update(on.words)
        stack.enter_context(blended(model, [Blend(get(), network.strengths[0]) for network, _, get in nets]))
        for network, path, _ in loras:
            if path is not None:
                outfit.hashes[network.name] = adapter_facts(path).hash[:HASH_DIGITS]
        yield outfit


def _adapter(desk: Desk) -> Find[Adapter]:
    """Finds a LoRA by name: in a training, else among the files."""
    files = list(shelves.loras(desk.paths).values())
    return lambda name: _either(_alike(desk.live_adapters, name), find_adapter(files, name), read_adapter)


def _hypernetwork(desk: Desk) -> Find[Hypernetwork]:
    """Finds a hypernetwork by name: in a training, else among the files."""
    files = shelves.hypernetworks(desk.paths)
    return lambda name: _either(_alike(desk.live_hypernetworks, name), _alike(files, name), read_hypernetwork)


def _either(live: Callable[[], Kind] | None, path: Path | None, read: Callable[[Path], Kind]) -> tuple[Path | None, Callable[[], Kind]] | None:
    """What is being trained, without a path; else a file and how it is read; None when there is neither."""
    if live is not None:
        return None, live
    return None if path is None else (path, lambda: read(path))


def _alike(known: Mapping[str, Kind], name: str) -> Kind | None:
    """What is known by a name, the exact one first, then letter case aside."""
    return known.get(name, next((value for key, value in known.items() if key.lower() == name.lower()), None))


def _found(named: Sequence[Network], find: Find[Kind], outfit: Worn, what: str) -> list[tuple[Network, Path | None, Callable[[], Kind]]]:
    """Networks with their file, if any, and what gives them; one that is not there is told."""
    found = []
    for network in named:
        place = find(network.name)
        if place is None:
            outfit.notes.append(f"There is no {what} {network.name!r}; the picture was painted without it.")
        else:
            found.append((network, *place))
    return found
