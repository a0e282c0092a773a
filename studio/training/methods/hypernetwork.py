"""Hypernetworks as A1111 trains them: small networks by width of context learn what keys and values are told; no weight of the checkpoint changes."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from studio import shelves
from studio.diffusion.attaching import Attachment
from studio.diffusion.hypernetworks import Chance, begun, hooked, live, misfit, state_of, widths_of
from studio.diffusion.model import Model
from studio.errors import InputError
from studio.formats.hypernetwork import Hypernetwork, read_hypernetwork, write_hypernetwork
from studio.formats.hypernetwork_optim import read_optim, write_optim
from studio.requests.hypernetwork_build import HypernetworkBuild
from studio.requests.train import HypernetworkConfig, TrainConfig
from studio.settings import Paths
from studio.training.methods.trainable import Group, Method, Trainable, taken
from studio.training.methods.trainable import begun as begun_from

COPIED = 1 << 28
"""Bytes; a hypernetwork whose numbers take no more is kept with every preview."""


class LiveHypernetwork(Trainable):
    """A hypernetwork's small networks in fp32, hooked on a model while it is trained; those of widths that the model has not stay as they are. Raises InputError when it has none of them."""

    changes_network = True
    changes_reading = False

    def __init__(self, model: Model, network: Hypernetwork, told: tuple[str, ...] = (), seed: int = 0) -> None:
        self.model, self.network, self.told, self.chance = model, network, told, Chance(seed)
        self.checkpoint = (model.hash[:10] or None, model.checkpoint.removesuffix(".safetensors").removesuffix(".ckpt").replace("/", "_") or None)
        there = widths_of(model)
        self.pairs = {width: tuple(live(width, network, state, self.chance).to(model.device) for state in pair) for width, pair in network.layers.items() if width in there}
        if not self.pairs:
            raise misfit(model, network.name, network.layers)
        self.start = [p.detach().clone() for p in self.parameters()]
        self.copies = sum(p.numel() * p.element_size() for p in self.start) <= COPIED
        self._attachment = Attachment(lambda: hooked(self.model, self.pairs, lambda: 1.0, self.network.name, self.chance))

    @property
    def nets(self) -> list[nn.Sequential]:
        """The networks that learn, in the order of the file."""
        return [net for pair in self.pairs.values() for net in pair]

    def groups(self) -> list[Group]:
        """All numbers at one rate, in A1111's order."""
        return [Group("hypernetwork", tuple(p for net in self.nets for p in net.parameters()))]

    def before_step(self, step: int) -> None:
        """What is left out depends on the step."""
        self.chance.step = step

    def figures(self) -> dict[str, float]:
        """Length of all numbers together, and how far they are from where they began."""
        now = [p.detach() for p in self.parameters()]
        away = torch._foreach_sub(now, [start.to(p.device) for p, start in zip(now, self.start, strict=True)])
        return {name: float(torch.stack(torch._foreach_norm(tensors)).norm()) for name, tensors in (("norm", now), ("distance", away))}

    def shelve(self, path: Path, step: int) -> None:
        """Write A1111's file with the step and the checkpoint."""
        digest, name = self.checkpoint
        write_hypernetwork(path, replace(self.now(), name=path.stem, step=step, checkpoint_hash=digest, checkpoint_name=name))

    def now(self) -> Hypernetwork:
        """What was learned so far: copies on the CPU."""
        return replace(self.network, layers={**self.network.layers, **{width: tuple(state_of(net) for net in pair) for width, pair in self.pairs.items()}})

    def remember(self, path: Path, optimizer: torch.optim.Optimizer) -> None:
        """What AdamW remembers, beside the file."""
        if type(optimizer) is torch.optim.AdamW:
            places, count = self._places()
            write_optim(path, optimizer.state_dict(), places, count)

    def recalled(self, side: Path, start: Path) -> tuple[dict[str, Tensor] | None, str]:
        """What AdamW remembered beside the file it goes on from."""
        return read_optim(side, start, dict(zip(self._places()[0], (tuple(p.shape) for p in self.parameters()), strict=True)))

    def _places(self) -> tuple[list[int], int]:
        """Where the numbers that learn stand among all of the file's, and how many tensors those are."""
        learning = [width in self.pairs for width, pair in self.network.layers.items() for state in pair for _ in state]
        return [place for place, learns in enumerate(learning) if learns], len(learning)

    def state(self) -> dict[str, Tensor]:
        """Every number that learns."""
        return {f"{width}.{side}.{key}": tensor for width, pair in self.pairs.items() for side, net in enumerate(pair) for key, tensor in state_of(net).items()}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up numbers again."""
        for width, pair in self.pairs.items():
            for side, net in enumerate(pair):
                for key, tensor in net.state_dict().items():
                    tensor.copy_(state[f"{width}.{side}.linear.{key}"])

    def warnings(self) -> list[str]:
        """Widths that are left out, and knobs that do not count."""
        return list(self.told)

    def live_hypernetworks(self, name: str) -> Mapping[str, Callable[[], Hypernetwork]]:
        """The networks as they are now."""
        return {name: self.now}

    def attached(self) -> AbstractContextManager[None]:
        """Hooked on for the length of the block."""
        return self._attachment.on()

    def off(self) -> AbstractContextManager[None]:
        """Within `attached`: every hook taken off."""
        return self._attachment.off()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Nothing is left out."""
        before = [net.training for net in self.nets]
        for net in self.nets:
            net.eval()
        try:
            yield
        finally:
            for net, training in zip(self.nets, before, strict=True):
                net.train(training)


def attach(model: Model, start: Path | None, config: TrainConfig) -> LiveHypernetwork:
    """The file at `start`, or a new hypernetwork as the knobs say, made trainable on `model`; raises InputError when it acts on no width of the model."""
    if not isinstance(config, HypernetworkConfig):
        raise InputError(f"Method: {config.method} does not train hypernetworks.")
    if start is None:
        return LiveHypernetwork(model, *planted(model, config.name, config, config.seed), config.seed)
    network = read_hypernetwork(start)
    return LiveHypernetwork(model, network, _differences(model, network, config), config.seed)


def planted(model: Model, name: str, build: HypernetworkBuild, seed: int) -> tuple[Hypernetwork, tuple[str, ...]]:
    """A new hypernetwork for a model, and sentences about widths that it does not get: those the model has not; where it has none of those chosen, it gets all that there are."""
    there, asked = widths_of(model), [int(width) for width in build.modules]
    widths = [width for width in asked if width in there]
    missing = ", ".join(str(width) for width in asked if width not in there)
    used = widths or list(there)
    told = [f"{model.checkpoint} has no context of width {missing}; the hypernetwork acts on {', '.join(map(str, used))}."] if missing else []
    unheard = {layer.in_features for path, layer in model.unet.named_modules() if path.endswith(".attn2.to_k")} - {*used}
    if unheard:
        there_too = ", ".join(map(str, sorted(unheard)))
        told.append(f"{model.checkpoint} hears prompts at width {there_too}, which is not among the modules: choose it too, or the hypernetwork leaves them as they are.")
    network = Hypernetwork(
        name=name,
        layers={},
        structure=build.structure,
        activation=build.activation,
        layer_norm=build.layer_norm,
        activate_output=False,
        dropout=build.rates_of_dropout if any(build.rates_of_dropout) else (),
        last_layer_dropout=False,
        initialization=build.weight_init,
    )
    layers = {width: tuple(begun(width, network, seed, side) for side in (0, 1)) for width in used}
    return replace(network, layers=layers), tuple(told)


def _differences(model: Model, network: Hypernetwork, config: HypernetworkConfig) -> tuple[str, ...]:
    """Sentences about knobs that do not count, since the file that is trained further was built otherwise, and about its widths that stay as they are."""
    rates = config.rates_of_dropout if any(config.rates_of_dropout) else ()
    pairs = {
        "layer structure": (network.structure, config.structure),
        "activation function": (network.activation.lower(), config.activation),
        "layer normalization": (network.layer_norm, config.layer_norm),
        "dropout structure": (network.dropout, rates),
    }
    if network.initialization:
        pairs["weights initialization"] = (network.initialization, config.weight_init)
    told = [f"{network.name!r} keeps the {what} it was built with: {_said(own)}." for what, (own, asked) in pairs.items() if own != asked]
    there = widths_of(model)
    asked = [int(width) for width in config.modules if int(width) in there]
    own = [width for width in network.widths if width in there]
    if {*asked} != {*own}:
        told.append(f"{network.name!r} keeps the modules it was built with: {', '.join(map(str, own))}.")
    missing = ", ".join(str(width) for width in network.widths if width not in there)
    return (*told, f"{model.checkpoint} has no context of width {missing}; that part of {network.name!r} stays as it is.") if missing else tuple(told)


def _said(value: object) -> str:
    """A knob's value as a person writes it."""
    if isinstance(value, tuple):
        return ", ".join(f"{number:g}" for number in value) or "none"
    return {True: "on", False: "off"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def shelf_of(paths: Paths, name: str) -> Path:
    """Where the hypernetwork of a name lies, or would lie: prompts do not tell upper from lower case, nor one folder from another."""
    alike = shelves.meant(shelves.hypernetworks(paths).values(), paths.hypernetworks, name)
    return alike[0] if alike else paths.hypernetworks / f"{name}.pt"


def _shelves(paths: Paths, config: TrainConfig) -> dict[str, Path]:
    """A1111's file."""
    return {".pt": shelf_of(paths, config.subject)}


def _start(paths: Paths, config: TrainConfig) -> Path | None:
    """The file to go on from; raises InputError."""
    return begun_from(paths.hypernetworks / f"{config.subject}.pt", config.start_from) if isinstance(config, HypernetworkConfig) else None


def _first(path: Path) -> int:
    """The step a hypernetwork was trained to."""
    return read_hypernetwork(path).step or 0


def _mistakes(paths: Paths, config: TrainConfig) -> list[str]:
    """A name that is taken."""
    return taken(shelf_of(paths, config.name), config.start_from, config.overwrite) if isinstance(config, HypernetworkConfig) else []


HYPERNETWORK = Method(HypernetworkConfig, attach, _shelves, _start, _first, mistakes=_mistakes)
