"""What DreamBooth and the full fine-tune share: the weights of a checkpoint itself learn, in a copy of its own, and become a checkpoint."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from studio.diffusion.folder_writing import save_folder
from studio.diffusion.loading import find_checkpoint, save_model
from studio.diffusion.model import Model
from studio.errors import NotFound
from studio.formats.provenance import Provenance
from studio.requests.train import DreamboothConfig, FineTuneConfig, NamedConfig, TrainConfig
from studio.settings import Paths
from studio.training.averages import Averages
from studio.training.methods.trainable import Group, Trainable, taken

PRECISIONS = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
LAYERS = {"all": ("",), "attention": (".attn1.", ".attn2."), "cross-attention": (".attn2.",)}
"""What the names of the UNet's learning weights hold."""
LOOKED_AT = 1_000_000
"""Numbers that figures look at, spread evenly over all weights."""
FOLDER = "-diffusers"
"""How the name of the diffusers folder beside a checkpoint ends."""


@dataclass(frozen=True)
class Scope:
    """What learns and how it is kept.

    Layers of the UNet, the text encoders' part of the rate (0 = they stay), decay of the average (0 = none), precision of the file, and the result beside
    which a diffusers folder is written (none: "").
    """

    layers: str = "all"
    text: float = 0.0
    decay: float = 0.0
    precision: torch.dtype = torch.float16
    folder_of: str = ""

    @classmethod
    def of(cls, config: DreamboothConfig | FineTuneConfig) -> "Scope":
        """What the knobs say."""
        layers = config.trained_layers if isinstance(config, FineTuneConfig) else "all"
        return cls(layers, config.text_encoder_rate / config.rates[0], config.ema_decay, PRECISIONS[config.save_precision], config.name if config.save_folder else "")


class Full(Trainable):
    """The weights of a private model; what learns is widened to fp32 and computed with in 16 bits where a graphics card has them.

    `reference` lends the checkpoint as it was before, for as long as a run asks it.
    """

    changes_network = True
    copies = False

    def __init__(self, model: Model, scope: Scope, reference: Callable[[], AbstractContextManager[Model]] | None = None) -> None:
        self.model, self.scope, self.reference = model, scope, reference
        model.dtype = torch.float32
        self.computes = _mixed([model.unet.float(), *(_widened(model) if scope.text else ())], model.device)
        wanted = LAYERS[scope.layers]
        unet = {f"unet.{name}": p for name, p in model.unet.named_parameters() if any(part in f".{name}" for part in wanted)}
        names = [encoder.name for encoder in model.family.text_encoders]
        text = {f"{part}.{name}": p for part, module in zip(names, model.text_encoders, strict=True) for name, p in module.named_parameters()} if scope.text else {}
        self.learning = {**unet, **text}
        for parameter in self.learning.values():
            parameter.requires_grad_(True)
        self._groups = [Group("UNet", tuple(unet.values()))] + ([Group("text encoder", tuple(text.values()), lambda _step: scope.text)] if text else [])
        self._parameters = list(self.learning.values())
        self.changes_reading = bool(text)
        self.average = Averages(self.learning, scope.decay) if scope.decay else None
        self._view = _View(self._parameters)
        self._stack = ExitStack()
        self._base: Model | None = None

    def groups(self) -> list[Group]:
        """The UNet, and the text encoders where they learn."""
        return self._groups

    def parameters(self) -> list[nn.Parameter]:
        """All of them."""
        return self._parameters

    def after_step(self, rate: float) -> None:
        """Take the step into the average."""
        if self.average is not None:
            self.average.update()

    def figures(self) -> dict[str, float]:
        """Root mean square of a weight, and by how many % of its start a matrix has changed, both as means over matrices."""
        norm, distance = self._view.figures()
        return {"norm": norm, "distance": distance}

    def shelve(self, path: Path, step: int) -> None:
        """Write a checkpoint as one file with its autoencoder, and a diffusers folder beside the result where it is wanted."""
        dtype = self._fitting(self.scope.precision)
        save_model(self.model, path, dtype, described(self.provenance))
        if self.scope.folder_of and path.stem == self.scope.folder_of:
            save_folder(self.model, path.with_name(path.stem + FOLDER), dtype)

    @torch.no_grad()
    def _fitting(self, dtype: torch.dtype) -> torch.dtype:
        """The precision of the file: bf16 in the place of fp16 for weights that fp16 cannot hold."""
        largest = torch.stack(torch._foreach_norm([p.detach() for p in self._parameters], torch.inf)).max()
        return torch.bfloat16 if dtype == torch.float16 and float(largest) > torch.finfo(dtype).max else dtype

    def state(self) -> dict[str, Tensor]:
        """Every weight that learns by name, and their average."""
        kept = {name: parameter.detach().to("cpu", copy=True) for name, parameter in self.learning.items()}
        return {**kept, **(self.average.state() if self.average else {})}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up every weight again, in its place."""
        for name, parameter in self.learning.items():
            parameter.copy_(state[name])
        if self.average is not None:
            self.average.restore(state)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """For the length of a run, at whose end the untouched model is given back."""
        try:
            yield
        finally:
            self._base = None
            self._stack.close()

    @contextmanager
    def untouched(self) -> Iterator[Model]:
        """The checkpoint as it was, lent when it is first asked and kept until the run ends."""
        if self._base is None:
            if self.reference is None:
                raise RuntimeError("nobody lends the checkpoint as it was")
            self._base = self._stack.enter_context(self.reference())
        yield self._base

    @contextmanager
    def shown(self) -> Iterator[None]:
        """With the average in the place of the weights, where there is one."""
        with self.average.worn() if self.average is not None else nullcontext():
            yield


def _widened(model: Model) -> list[nn.Module]:
    """The text encoders in fp32."""
    return [encoder.float() for encoder in model.text_encoders]


def _mixed(networks: list[nn.Module], device: torch.device) -> torch.dtype:
    """Let networks whose weights are fp32 compute in 16 bits on an NVIDIA card: bf16, or fp16 where that is missing; returns what they compute in."""
    if device.type != "cuda":
        return torch.float32
    dtype = torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    for network in networks:
        network.forward = partial(_computed, network.forward, device.type, dtype)
    return dtype


def _computed(forward: Callable[..., Any], device: str, dtype: torch.dtype, *inputs: Any, **named: Any) -> Any:
    """What a network says in mixed precision."""
    with torch.autocast(device, dtype):
        return forward(*inputs, **named)


class _View:
    """Looks at some numbers of each matrix, the same at every step, and remembers how they were at first."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        matrices = [p for p in parameters if p.ndim > 1] or parameters
        each = max(64, LOOKED_AT // len(matrices))
        self.views = [p.detach().as_strided((p.numel(),), (1,))[:: max(1, p.numel() // each)] for p in matrices]
        self.start = [view.clone() for view in self.views]
        self.before = torch.stack(torch._foreach_norm(self.start))
        self.roots = torch.tensor([len(view) ** 0.5 for view in self.views], device=self.before.device)

    @torch.no_grad()
    def figures(self) -> tuple[float, float]:
        """Mean root mean square, and mean change in % over the matrices that did not begin as nothing."""
        now, moved = torch.stack(torch._foreach_norm(self.views)), torch.stack(torch._foreach_norm(torch._foreach_sub(self.views, self.start)))
        there = self.before > 0
        change = torch.where(there, 100 * moved / self.before.where(there, 1.0), 0.0).sum() / there.sum().clamp(min=1)
        norm, distance = torch.stack([(now / self.roots).mean(), change]).tolist()
        return norm, distance


def described(origin: Provenance | None) -> dict[str, str]:
    """What modelspec 1.0.1 can say of a trained checkpoint beyond its kind."""
    if origin is None:
        return {}
    width, height = origin.resolution or (0, 0)
    facts = {
        "title": origin.name,
        "description": origin.description or f"{origin.method.replace('_', ' ')} of {origin.checkpoint}, {origin.step} steps",
        "author": origin.author,
        "date": origin.finished.isoformat(timespec="seconds") if origin.finished else "",
        "resolution": f"{width}x{height}" if width else "",
        "trigger_phrase": origin.trigger,
    }
    return {**{f"modelspec.{name}": value for name, value in facts.items() if value}, **origin.extra}


def shelves(paths: Paths, config: TrainConfig) -> dict[str, Path]:
    """Where checkpoints lie."""
    return {".safetensors": paths.checkpoints / f"{config.subject}.safetensors"}


def mistakes(paths: Paths, config: NamedConfig) -> list[str]:
    """A file or folder that would be overwritten, the checkpoint itself among them, and something to go on from that is no checkpoint."""
    shelf = shelves(paths, config)[".safetensors"]
    wrong = taken(shelf, "", config.overwrite)
    folder = shelf.with_name(shelf.stem + FOLDER)
    if not wrong and getattr(config, "save_folder", False) and folder.exists() and not config.overwrite:
        wrong.append(f"Name: {shelf.stem!r} is taken by the folder {folder.parent.name}/{folder.name}. Choose another name, or tick overwrite.")
    if config.start_from.strip():
        wrong.append(f"Go on from: {config.title} goes on from the checkpoint it is trained on; choose {config.start_from.strip()!r} as the checkpoint, and leave this empty.")
    try:
        base = find_checkpoint(paths, config.checkpoint)
    except NotFound:
        return wrong
    if base in (shelf, folder):
        wrong.append(f"Name: {shelf.stem!r} is the checkpoint that is trained on, which must stay as it is until the end. Choose another name.")
    return wrong
