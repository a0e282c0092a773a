"""Textual inversion (Gal et al. 2022): only a word's vectors learn; the networks and the vocabulary stay as they are."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from studio.diffusion.model import Model
from studio.embedding_shelf import file_of
from studio.errors import InputError
from studio.formats.embedding import Embedding, read_embedding, write_embedding
from studio.formats.embedding_optim import read_optim
from studio.requests.train import TextualInversionConfig, TrainConfig
from studio.settings import Paths
from studio.training.methods.trainable import Group, Method, Trainable


class TextualInversion(Trainable):
    """An embedding's vectors [n, d] as one fp32 parameter, spliced into prompts where its name stands; `relaxation` 0..1 draws their lengths to those of words."""

    def __init__(self, model: Model, embedding: Embedding, relaxation: float = 0.0) -> None:
        self.model, self.name = model, embedding.name
        self.checkpoint = (model.hash[:10] or None, model.checkpoint.removesuffix(".safetensors").removesuffix(".ckpt").replace("/", "_") or None)
        self.first = model.widths[0] if len(model.widths) > 1 else None
        self.vectors = nn.Parameter(embedding.vectors.to(model.device).clone())
        self.start = self.vectors.detach().clone()
        self.relaxation = relaxation
        self.lengths = tuple(zip(model.widths, model.median_norms, strict=True)) if relaxation else ()

    def groups(self) -> list[Group]:
        """The one parameter that learns."""
        return [Group("vectors", (self.vectors,))]

    def words(self) -> Mapping[str, Tensor]:
        """The live vectors under the embedding's name."""
        return {self.name: self.vectors}

    @torch.no_grad()
    def after_step(self, rate: float) -> None:
        """Draw the length of each vector toward that of an ordinary word, in each text encoder's columns apart; directions stay.

        The share of the way is relaxation * min(1, 100 * rate), which at full strength is cloneofsimo's clip_ti_decay with the encoder's own median length for its 0.4.
        """
        share = self.relaxation * min(1.0, 100 * rate)
        columns = self.vectors.detach().split([width for width, _ in self.lengths], 1) if share else ()
        for part, (_, usual) in zip(columns, self.lengths, strict=True):
            length = part.norm(dim=1, keepdim=True)
            part.mul_(torch.where(length > 0, (length + share * (usual - length)) / length.clamp(min=1e-12), 1.0))

    def figures(self) -> dict[str, float]:
        """Mean length of a vector, and mean distance from where it started."""
        now = self.vectors.detach()
        return {"norm": float(now.norm(dim=1).mean()), "distance": float((now - self.start).norm(dim=1).mean())}

    def shelve(self, path: Path, step: int) -> None:
        """Write the embedding with its step and the checkpoint it was trained on."""
        name = path.stem if path.stem.startswith(self.name) else self.name
        write_embedding(path, Embedding(name, self.vectors, step, *self.checkpoint, first=self.first))

    def recalled(self, side: Path, start: Path) -> tuple[Mapping[str, Tensor] | None, str]:
        """What A1111's optimiser remembered of the vectors."""
        return read_optim(side, start)

    def state(self) -> dict[str, Tensor]:
        """Vectors now and at the start."""
        return {"vectors": self.vectors.detach().cpu().clone(), "start": self.start.cpu().clone()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up vectors and start again."""
        self.vectors.data.copy_(state["vectors"])
        self.start.copy_(state["start"])


def attach(model: Model, start: Path | None, config: TrainConfig | None = None) -> TextualInversion:
    """The embedding file at `start` made trainable on `model` with the knobs of `config`; raises InputError when it belongs to another kind of model."""
    if start is None:
        raise InputError("No embedding is selected.", "Create one first.")
    embedding = read_embedding(start)
    if embedding.width != model.width:
        raise InputError(
            f"Embedding: {embedding.name!r} has vectors of width {embedding.width}, but {model.checkpoint} needs {model.width}.",
            "Choose the checkpoint it was made for, or create a new embedding.",
        )
    return TextualInversion(model, embedding, config.norm_relaxation if isinstance(config, TextualInversionConfig) else 0.0)


def _start(paths: Paths, config: TrainConfig) -> Path:
    """The embedding's file; raises NotFound."""
    return file_of(paths, config.subject)


def _shelves(paths: Paths, config: TrainConfig) -> dict[str, Path]:
    """The same file."""
    shelf = file_of(paths, config.subject)
    return {shelf.suffix: shelf}


def _first(path: Path) -> int:
    """The step an embedding was trained to."""
    return read_embedding(path).step or 0


TEXTUAL_INVERSION = Method(TextualInversionConfig, attach, _shelves, _start, _first)
