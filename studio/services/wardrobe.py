"""Extra networks that a prompt names: found in the models' folders or in a training, put on for a job, and named in the infotext."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from studio import shelves
from studio.cancellation import raise_if_stopped
from studio.diffusion import adapters
from studio.diffusion.adapters import Wear, worn
from studio.diffusion.denoiser import Guidance, Guide
from studio.diffusion.hypernetworks import Blend, blended
from studio.diffusion.model import Model
from studio.formats.adapter import find_adapters, read_adapter
from studio.formats.hypernetwork import read_hypernetwork
from studio.prompts.network_schedule import NetworkSchedule, PromptPass, network_schedule
from studio.prompts.networks import Network
from studio.prompts.notices import AMBIGUOUS, MISSING, MISSING_NEAR, UNKNOWN_KIND
from studio.prompts.problems import nearest
from studio.prompts.words import fold
from studio.services.desk import Desk

LORA_KINDS = ("lora", "lyco")
HASH_DIGITS = 12
LABELS = {"lora": "LoRA", "lyco": "LoRA", "hypernet": "hypernetwork"}
SHOWN = 5
"""Files of one name that are listed."""


@dataclass(frozen=True)
class _Active:
    """Which LoRAs and which hypernetworks are active at one look, by their places."""

    loras: frozenset[int] = frozenset()
    hypernetworks: frozenset[int] = frozenset()


@dataclass
class Worn:
    """What a job wears: sentences about it, embeddings that came along, and hashes for the infotext."""

    notes: list[str] = field(default_factory=list)
    words: dict[str, Tensor] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    passes: list[tuple[_Active, ...]] = field(default_factory=list)
    on: adapters.Worn | None = None
    now: list[_Active] = field(default_factory=lambda: [_Active()])
    """The one set that is active now, in a list that the hypernetworks look into."""

    def guidance(self, number: int, make: Callable[[], Guidance]) -> Guidance:
        """The guidance of a pass (0: the first, 1: that of hires. fix) under its own networks.

        Where the prompt switches networks on the way, they are applied and removed at the looks it says; `make`, which encodes the prompts, is called under each set that changes a text encoder.
        """
        if number >= len(self.passes):
            return make()
        active = self.passes[number]
        if len(active) == 1:
            self._use(active[0])
            return make()
        text = self.on.text_places if self.on is not None else frozenset()
        made: dict[frozenset[int], Guidance] = {}
        for one in active:
            key = one.loras & text
            if key not in made:
                self._use(one, text=True)
                made[key] = make()

        def guide(look: int) -> Guide:
            one = active[min(look, len(active) - 1)]
            self._use(one, text=False)
            return made[one.loras & text](look)

        return guide

    def _use(self, one: _Active, text: bool | None = None) -> None:
        """Apply one set, to the text encoders, the UNet, or both (None)."""
        if self.on is not None:
            self.on.select(one.loras, text)
        self.now[0] = one


@contextmanager
def dressed(model: Model, prompt: str | Sequence[PromptPass], desk: Desk) -> Iterator[Worn]:
    """Wear the networks of a prompt, or of the prompts of several passes, for the length of the block; those of the first pass are on at first.

    A name that is not there is told in `notes` and left out. Tags of one file add up. What is being trained goes before a file of its name and has no hash. Raises InputError for a network of
    another family, and for prompts that cannot be read, Stopped between files and layers.
    """
    passes = [PromptPass(prompt)] if isinstance(prompt, str) else prompt
    outfit = Worn()
    found = _Found(desk, outfit)
    outfit.passes = [found.placed(network_schedule(one)) for one in passes]
    with ExitStack() as stack:
        if found.wears:
            outfit.on = stack.enter_context(worn(model, found.wears, outfit.passes[0][0].loras))
            outfit.notes += outfit.on.warnings
            outfit.words.update(outfit.on.words)
        stack.enter_context(blended(model, found.blends))
        outfit.now[0] = outfit.passes[0][0]
        yield outfit


class _Found:
    """The networks that prompts name, each read once: `wears` and `blends` in the order of their places."""

    def __init__(self, desk: Desk, outfit: Worn) -> None:
        self.desk, self.outfit = desk, outfit
        self.wears: list[Wear] = []
        self.blends: list[Blend] = []
        self._places: dict[tuple[Any, ...], int] = {}
        self._read: dict[tuple[str, object], Any] = {}
        self._named: dict[tuple[str, str], object] = {}
        self._files = {"LoRA": list(shelves.loras(desk.paths).values()), "hypernetwork": list(shelves.hypernetworks(desk.paths).values())}
        self._homes = {"LoRA": desk.paths.lora, "hypernetwork": desk.paths.hypernetworks}
        self._live: dict[str, Mapping[str, Callable[[], Any]]] = {"LoRA": desk.live_adapters, "hypernetwork": desk.live_hypernetworks}

    def placed(self, schedule: NetworkSchedule) -> tuple[_Active, ...]:
        """Which places are active at each look of a pass. Tags of one file with the same blocks and times are one network, whose strengths are summed."""
        times: dict[int, list[int]] = {number: [] for number in range(len(schedule.networks))}
        for look, active in enumerate(schedule.active):
            for number in active:
                times[number].append(look)
        summed: dict[tuple[str, object, str, tuple[int, ...]], tuple[float, float]] = {}
        for network, looks in zip(schedule.networks, times.values(), strict=True):
            label = LABELS.get(network.kind)
            source = self._source(network, label) if looks else None
            if label is None or source is None:
                continue
            self._load(label, source, network)
            te, unet = network.strengths if label == "LoRA" else (network.strengths[0],) * 2
            key = (label, source, network.blocks, tuple(looks))
            before = summed.get(key, (0.0, 0.0))
            summed[key] = (before[0] + te, before[1] + unet)
        places = self._take(summed)
        return tuple(_Active(*(frozenset(place for kind, place, looks in places if kind == label and look in looks) for label in ("LoRA", "hypernetwork"))) for look in range(len(schedule.active)))

    def _take(self, summed: Mapping[tuple[str, object, str, tuple[int, ...]], tuple[float, float]]) -> list[tuple[str, int, frozenset[int]]]:
        """Kind, place and looks of each network; one that another pass uses as strongly has the same place."""
        places = []
        taken: set[tuple[str, int]] = set()
        for (label, source, blocks, looks), (te, unet) in summed.items():
            count = 0
            while (label, self._place(label, source, (te, unet), blocks, count)) in taken:
                count += 1
            place = self._place(label, source, (te, unet), blocks, count)
            taken.add((label, place))
            places.append((label, place, frozenset(looks)))
        return places

    def _place(self, label: str, source: object, strengths: tuple[float, float], blocks: str, count: int) -> int:
        """The place of a network that is used so strongly; a new one when there is none yet."""
        key = (label, source, strengths, blocks, count)
        if key not in self._places:
            network = self._read[label, source]
            if label == "LoRA":
                self.wears.append(Wear(network, *strengths, lbw=blocks))
                self._places[key] = len(self.wears) - 1
            else:
                number = len(self.blends)
                self.blends.append(Blend(network, strengths[0], lambda: number in self.outfit.now[0].hypernetworks))
                self._places[key] = number
        return self._places[key]

    def _load(self, label: str, source: object, network: Network) -> None:
        """Read a network that was not read yet, or take what is being trained; raises Stopped when the person stopped the job."""
        if (label, source) not in self._read:
            raise_if_stopped()
            read: Callable[[Path], Any] = read_adapter if label == "LoRA" else read_hypernetwork
            self._read[label, source] = read(source) if isinstance(source, Path) else self._live[label][str(source)]()
        if label == "LoRA" and isinstance(source, Path):
            self.outfit.hashes[network.name] = self._read[label, source].hash[:HASH_DIGITS]

    def _source(self, network: Network, label: str | None) -> object:
        """The file that a network means, or the name of what is being trained; None for one that is not there, which is told once."""
        key = (network.kind, network.name)
        if key not in self._named:
            self._named[key] = self._search(network, label)
        return self._named[key]

    def _search(self, network: Network, label: str | None) -> object:
        """The same, looked for."""
        if label is None:
            self._tell(UNKNOWN_KIND.format(kind=network.kind, name=network.name))
            return None
        live = next((name for same in (str, fold) for name in self._live[label] if same(name) == same(network.name)), None)
        if live is not None:
            return live
        files = self._files[label]
        alike = shelves.meant(files, self._homes[label], network.name)
        if not alike and label == "LoRA":
            alike = find_adapters(files, network.name)
        if not alike:
            near = nearest(network.name, {fold(name): name for name in (*(path.stem for path in files), *self._live[label])})
            self._tell((MISSING_NEAR if near else MISSING).format(kind=label, name=network.name, near=near))
            return None
        if len(alike) > 1:
            names = [path.relative_to(self._homes[label]).as_posix() for path in alike]
            other = f"{network.kind}:{_without_suffix(names[1], names)}:1"
            self._tell(AMBIGUOUS.format(kind=label, name=network.name, files=", ".join(names[:SHOWN]), taken=names[0], tag=other))
        return alike[0]

    def _tell(self, sentence: str) -> None:
        """Say a sentence once."""
        if sentence not in self.outfit.notes:
            self.outfit.notes.append(sentence)


def _without_suffix(name: str, names: Sequence[str]) -> str:
    """The path of a file as short as it can be told from others."""
    short = name.rpartition(".")[0]
    return short if sum(other.rpartition(".")[0] == short for other in names) == 1 else name
