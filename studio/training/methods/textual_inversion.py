"""Textual inversion (Gal et al. 2022): only a word's vectors learn; the networks and the vocabulary stay as they are."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from studio.diffusion.model import Model
from studio.errors import InputError
from studio.formats.embedding import Embedding, read_embedding, write_embedding
from studio.requests.train import TextualInversionConfig
from studio.training.methods.trainable import Method


class TextualInversion:
    """An embedding's vectors [n, d] as one fp32 parameter, spliced into prompts where its name stands."""

    def __init__(self, model: Model, embedding: Embedding) -> None:
        self.name = embedding.name
        self.checkpoint = (model.hash[:10] or None, model.checkpoint.removesuffix(".safetensors").removesuffix(".ckpt") or None)
        self.vectors = nn.Parameter(embedding.vectors.to(model.device).clone())
        self.start = self.vectors.detach().clone()

    def parameters(self) -> list[nn.Parameter]:
        """The one parameter that learns."""
        return [self.vectors]

    def words(self) -> Mapping[str, Tensor]:
        """The live vectors under the embedding's name."""
        return {self.name: self.vectors}

    def figures(self) -> dict[str, float]:
        """Mean length of a vector, and mean distance from where it started."""
        now = self.vectors.detach()
        return {"norm": float(now.norm(dim=1).mean()), "distance": float((now - self.start).norm(dim=1).mean())}

    def shelve(self, path: Path, step: int) -> None:
        """Write the embedding with its step and the checkpoint it was trained on."""
        name = path.stem if path.stem.startswith(self.name) else self.name
        write_embedding(path, Embedding(name, self.vectors, step, *self.checkpoint))

    def state(self) -> dict[str, Tensor]:
        """Vectors now and at the start."""
        return {"vectors": self.vectors.detach().cpu().clone(), "start": self.start.cpu().clone()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up vectors and start again."""
        self.vectors.data.copy_(state["vectors"])
        self.start.copy_(state["start"])


def attach(model: Model, path: Path) -> TextualInversion:
    """The embedding file at `path` made trainable on `model`; raises InputError when it belongs to another kind of model."""
    embedding = read_embedding(path)
    if embedding.width != model.width:
        raise InputError(
            f"Embedding: {embedding.name!r} has vectors of width {embedding.width}, but {model.checkpoint} needs {model.width}.",
            "Choose the checkpoint it was made for, or create a new embedding.",
        )
    return TextualInversion(model, embedding)


TEXTUAL_INVERSION = Method("textual_inversion", TextualInversionConfig, attach)
