"""An embedding and a LoRA that learn together: at once with rates of their own, or one after the other (pivotal tuning, Roich et al. 2021, as cloneofsimo applied it)."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import torch
from torch import Tensor

from studio.diffusion.beginnings import initial_vectors
from studio.diffusion.model import Model
from studio.errors import InputError
from studio.formats.adapter import Adapter
from studio.formats.adapter_writing import write_adapter
from studio.formats.embedding import Embedding
from studio.requests.train import TogetherConfig, TrainConfig
from studio.settings import Paths
from studio.training.methods.lora import Lora, grow, recipe_of
from studio.training.methods.textual_inversion import TextualInversion
from studio.training.methods.trainable import Group, Method, Trainable, taken

WORDS = ".pt"
"""How the embedding's file ends, for every family, so that it does not stand in the LoRA's place."""


class Together(Trainable):
    """Words and a LoRA: `word_share` is the words' part of the written rate, and `order` says who learns when."""

    changes_network = True

    def __init__(self, words: TextualInversion, lora: Lora, config: TogetherConfig) -> None:
        self.model, self.vectors, self.lora, self.config = lora.model, words, lora, config
        self.copies = lora.copies
        self.change_over = round(config.switch * config.steps)

    def groups(self) -> list[Group]:
        """The words' parameter first, then the LoRA's, each with the steps at which it learns."""
        share = self.config.embedding_rate / self.config.rates[0]
        words = [Group(group.name, group.parameters, lambda step: share * self._words_learn(step)) for group in self.vectors.groups()]
        return [*words, *(Group(group.name, group.parameters, lambda step, own=group.share: own(step) * self._lora_learns(step)) for group in self.lora.groups())]

    def _words_learn(self, step: int) -> bool:
        """Whether the words learn in the step after `step`."""
        if self.config.words_end and step >= self.config.words_end:
            return False
        return {"joint": True, "words first": step < self.change_over, "LoRA first": step >= self.change_over}[self.config.order]

    def _lora_learns(self, step: int) -> bool:
        """Whether the LoRA learns in the step after `step`."""
        return {"joint": True, "words first": step >= self.change_over, "LoRA first": step < self.change_over}[self.config.order]

    def words(self) -> Mapping[str, Tensor]:
        """The live vectors."""
        return self.vectors.words()

    def before_step(self, step: int) -> None:
        """What the LoRA's dropout leaves out depends on the step."""
        self.lora.before_step(step)

    def figures(self) -> dict[str, float]:
        """Those of the words, which have a usual length; where only the LoRA moved, its distance."""
        words, lora = self.vectors.figures(), self.lora.figures()
        return {"norm": words["norm"], "distance": words["distance"] or lora["distance"]}

    def shelve(self, path: Path, step: int) -> None:
        """Write the LoRA to `path` and the embedding onto its own shelf or beside it; on the shelf, where it is wanted, both in one more file, <name>-bundle."""
        self.lora.provenance = self.provenance
        self.lora.shelve(path, step)
        target = self.beside(path, WORDS)
        self.vectors.shelve(target, step)
        if self.config.bundle and path in self.shelves.values():
            held = {self.vectors.name: Embedding(self.vectors.name, self.vectors.vectors.detach(), step, *self.vectors.checkpoint, first=self.vectors.first)}
            bundle = path.with_name(f"{path.stem}-bundle{path.suffix}")
            write_adapter(bundle, self.lora.grown.adapter(bundle.stem), self.provenance, self.lora.precision, held)

    def state(self) -> dict[str, Tensor]:
        """Both, the words' tensors under names of their own."""
        return {**self.lora.state(), **{f"word.{name}": tensor for name, tensor in self.vectors.state().items()}}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up both again."""
        self.lora.restore(state)
        self.vectors.restore({name.removeprefix("word."): tensor for name, tensor in state.items() if name.startswith("word.")})

    def live_adapters(self, name: str) -> Mapping[str, Callable[[], Adapter]]:
        """The LoRA as it is when it is asked for."""
        return self.lora.live_adapters(name)

    def attached(self) -> AbstractContextManager[None]:
        """The LoRA on the model."""
        return self.lora.attached()

    def off(self) -> AbstractContextManager[None]:
        """The checkpoint as it is."""
        return self.lora.off()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Without dropout."""
        with self.lora.shown():
            yield


def attach(model: Model, start: Path | None, config: TrainConfig) -> Together:
    """A new word and a new LoRA on `model`; raises InputError when the knobs do not fit."""
    if not isinstance(config, TogetherConfig):
        raise InputError(f"The knobs of {config.title} are not those of an embedding and a LoRA.", "Choose the method Embedding + LoRA.")
    vectors, _ = initial_vectors(model, config.initialization_text, config.vectors)
    first = model.widths[0] if len(model.widths) > 1 else None
    words = TextualInversion(model, Embedding(_word(config), vectors.to(torch.float32), first=first))
    return Together(words, grow(model, None, config, recipe_of(config)), config)


def _word(config: TrainConfig) -> str:
    """The embedding's name: the trigger word, else the name; the class word is an ordinary one."""
    return str(getattr(config, "trigger", "")).strip() or config.subject


def shelves(paths: Paths, config: TrainConfig) -> dict[str, Path]:
    """The LoRA among LoRAs, the embedding among embeddings."""
    return {".safetensors": paths.lora / f"{config.subject}.safetensors", WORDS: paths.embeddings / f"{_word(config)}{WORDS}"}


def mistakes(paths: Paths, config: TrainConfig) -> list[str]:
    """Files that would be overwritten, and a start that there is not."""
    found = [sentence for shelf in shelves(paths, config).values() for sentence in taken(shelf, "", bool(getattr(config, "overwrite", False)))]
    if str(getattr(config, "start_from", "")).strip():
        found.append("Go on from: an embedding and a LoRA begin anew together. Leave it empty, or train the one or the other further by its own method.")
    return found


TOGETHER = Method(TogetherConfig, attach, shelves, lambda _paths, _config: None, mistakes=mistakes)
