"""Extra networks that a prompt names: found in the models' folders, put on for a job, and named in the infotext."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from studio import shelves
from studio.diffusion.adapters import Wear, worn
from studio.diffusion.hypernetworks import Blend, blended
from studio.diffusion.model import Model
from studio.formats.adapter import adapter_facts, find_adapter, read_adapter
from studio.formats.hypernetwork import read_hypernetwork
from studio.prompts.networks import Network, networks
from studio.services.desk import Desk

LORA_KINDS = ("lora", "lyco")
HASH_DIGITS = 12


@dataclass
class Worn:
    """What a job wears: sentences about it, embeddings that came along, and hashes for the infotext."""

    notes: list[str] = field(default_factory=list)
    words: dict[str, Tensor] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)


@contextmanager
def dressed(model: Model, prompt: str, desk: Desk) -> Iterator[Worn]:
    """Wear the networks of a prompt for the length of the block; a name that is not there is told in `notes` and left out. Raises InputError for one of another family."""
    _, named = networks(prompt)
    outfit = Worn()
    adapters, others = shelves.loras(desk.paths), shelves.hypernetworks(desk.paths)
    loras = _found([n for n in named if n.kind in LORA_KINDS], lambda name: find_adapter(adapters.values(), name), outfit, "LoRA")
    nets = _found([n for n in named if n.kind == "hypernet"], lambda name: next((p for stem, p in others.items() if stem.lower() == name.lower()), None), outfit, "hypernetwork")
    outfit.notes += [f"<{n.kind}:{n.name}>: there is no kind of network called {n.kind!r}; it was left out." for n in named if n.kind not in (*LORA_KINDS, "hypernet")]
    with ExitStack() as stack:
        wears = [Wear(read_adapter(path), *network.strengths, lbw=network.blocks) for network, path in loras]
        if wears:
            on = stack.enter_context(worn(model, wears))
            outfit.notes += on.warnings
            outfit.words.update(on.words)
        stack.enter_context(blended(model, [Blend(read_hypernetwork(path), network.strengths[0]) for network, path in nets]))
        for network, path in loras:
            outfit.hashes[network.name] = adapter_facts(path).hash[:HASH_DIGITS]
        yield outfit


def _found(named: Sequence[Network], find: Callable[[str], Path | None], outfit: Worn, what: str) -> list[tuple[Network, Path]]:
    """Networks with their files; one that is not there is told."""
    found = []
    for network in named:
        path = find(network.name)
        if path is None:
            outfit.notes.append(f"There is no {what} {network.name!r}; the picture was painted without it.")
        else:
            found.append((network, path))
    return found
