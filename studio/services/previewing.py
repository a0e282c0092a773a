"""Previews of a training: the same path as every other picture, with the live words and fixed seeds."""

import copy
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from torch import Tensor

from studio.diffusion.conditioning import used_embeddings
from studio.diffusion.model import Model
from studio.diffusion.offload import is_out_of_memory
from studio.errors import OutOfSpace, StudioError
from studio.files import atomic_write
from studio.formats.infotext import png_info
from studio.pasting import write_hashes
from studio.prompts.network_schedule import networks_key
from studio.prompts.networks import marked
from studio.requests.generate import GenerateRequest
from studio.requests.train import TrainConfig
from studio.services import generation
from studio.services.desk import Desk
from studio.services.encoding import size_of
from studio.services.gallery import infotext
from studio.services.rows import AT_ONCE, Shot, paint_row
from studio.services.run_folders import numbered
from studio.services.wardrobe import Worn, dressed

PROMPT = "a photo of [name]"
"""What is painted where no prompt is given."""
ASKED = -1
"""Column of a picture that a person asked for."""


@dataclass(frozen=True)
class Painted:
    """One preview: its file, the prompt and seed it was painted from, and its column, which is ASKED for one that a person asked for."""

    path: Path
    prompt: str
    column: int
    seed: int


@dataclass
class Previews:
    """Paints the live words of a training into `folder`; what a picture alone is to blame for is told, not raised. Raises OutOfSpace.

    `learner_words` gives the vectors as they are now; `others` are words that prompts may use beside them. With a `desk`, prompts may also use
    any embedding and LoRA of the shelf, and memory is made where it is missing. `seconds` is what the last row took.
    """

    config: TrainConfig
    model: Model
    learner_words: Callable[[], Mapping[str, Tensor]]
    others: Mapping[str, Tensor]
    folder: Path
    desk: Desk | None = None
    tell: Callable[[str], None] = lambda _text: None
    seconds: float = 0.0
    at_once: int = AT_ONCE
    _said: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        """What stands for [name]: the word that learns, as it is written on the shelf, or the trigger word."""
        return next((word for word in self.learner_words() if word.lower() == self.config.word.lower()), self.config.word)

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompts of a row, the word filled in."""
        lines = [line.strip() for line in self.config.preview_prompt.splitlines() if line.strip()]
        return tuple(self._filled(line) for line in lines or [PROMPT])

    def with_prompts(self, text: str) -> "Previews":
        """The same previews with other prompts, one in each line; they keep what was learned of cost and memory."""
        other = copy.copy(self)
        other.config = self.config.model_copy(update={"preview_prompt": text})
        return other

    def paint(self, step: int) -> list[Painted]:
        """Paint a row: every prompt at the seed and those after it, as <step>-<column>.png; nothing when it could not be painted, which is told."""
        seeds = [(self.config.preview_seed + i) % generation.SEED_LIMIT for i in range(self.config.preview_images)]
        pairs = [(prompt, seed) for prompt in self.prompts for seed in seeds]
        row = [Painted(self.folder / f"{step:06d}-{column}.png", prompt, column, seed) for column, (prompt, seed) in enumerate(pairs)]
        started = time.monotonic()
        done = self._tried(step, row)
        self.seconds = time.monotonic() - started
        return done

    def sample(self, step: int, prompt: str = "", seed: int | None = None) -> Painted | None:
        """Paint what a person asked for as <step>-asked-<n>.png: empty for the first prompt of a row, a seed below 0 for a drawn one. None when it could not be painted, which is told."""
        seed = self.config.preview_seed if seed is None else seed
        drawn = secrets.randbelow(generation.SEED_LIMIT) if seed < 0 else seed % generation.SEED_LIMIT
        wanted = Painted(numbered(self.folder, f"{step:06d}-asked", ".png"), self._filled(prompt.strip()) or self.prompts[0], ASKED, drawn)
        return next(iter(self._tried(step, [wanted])), None)

    def _filled(self, text: str) -> str:
        """A prompt with the word in the place of [name]."""
        return text.replace("[name]", self.name)

    def _tried(self, step: int, row: Sequence[Painted]) -> list[Painted]:
        """Paint and save pictures; nothing, and a warning, when that failed."""
        try:
            self._painted(row)
        except OutOfSpace:
            raise
        except StudioError as error:
            said, short = str(error), error.code == "out_of_memory"
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            said, short = "The device is out of memory.", True
        else:
            return list(row)
        self.at_once = 1 if short else self.at_once
        self.tell(f"The preview of step {step} could not be painted; the training goes on. {said}")
        return []

    def _painted(self, row: Sequence[Painted]) -> None:
        """Paint and save pictures, those that wear the same networks together."""
        outfits: dict[str, list[Painted]] = {}
        for painted in row:
            outfits.setdefault(networks_key(painted.prompt), []).append(painted)
        for alike in outfits.values():
            self._dressed(alike)

    def _dressed(self, row: Sequence[Painted]) -> None:
        """Paint and save pictures whose prompts name the same networks."""
        if self.desk is None:
            self._save(row, Worn())
            return
        request = _asked(self.config, self.model, self.name, row[0]).model_copy(update={"prompt": self._without_own(row[0].prompt)})
        with dressed(self.model, generation.prompt_passes(request), self.desk) as outfit:
            for note in outfit.notes:
                self._once(note)
            self._save(row, outfit)

    def _without_own(self, prompt: str) -> str:
        """A prompt without the tags of the network that is trained: it is on the model already, and would act twice."""
        return marked(prompt, lambda network: "" if network.name.lower() == self.config.subject.lower() else network.tag)[0]

    def _save(self, row: Sequence[Painted], outfit: Worn) -> None:
        """Paint pictures in what the model wears, and write them with their infotext."""
        requests = [_asked(self.config, self.model, self.name, painted) for painted in row]
        words = self._words("\n".join(f"{r.prompt}\n{r.negative_prompt}" for r in requests), outfit)
        painter = generation.Painter(self.model, {}, room=self.desk and self.desk.cache, tell=self._once, networks=outfit)
        pictures, self.at_once = paint_row(painter, [Shot(request, words) for request in requests], self.at_once)
        for painted, request, picture in zip(row, requests, pictures, strict=True):
            write(painted.path, picture, infotext(self.model, request, self._hashes(request, words, outfit)))

    def _once(self, text: str) -> None:
        """Tell what would else be told at every row."""
        if text not in self._said:
            self._said.add(text)
            self.tell(text)

    def _words(self, text: str, outfit: Worn) -> Mapping[str, Tensor]:
        """Every word that a text may hold; the one that learns as it is now, before any file of its name."""
        live = {name: vectors.detach().clone() for name, vectors in self.learner_words().items()}
        taken = {name.lower() for name in live}
        shelf = self.desk.words(text) if self.desk else {}
        found = {**self.others, **shelf, **outfit.words}
        return {**{name: vectors for name, vectors in found.items() if name.lower() not in taken}, **live}

    def _hashes(self, request: GenerateRequest, words: Mapping[str, Tensor], outfit: Worn) -> dict[str, object]:
        """Hashes of what came from files."""
        if self.desk is None:
            return {}
        names = used_embeddings((request.prompt, request.negative_prompt), [name for name in words if name not in self.learner_words()], request.steps)
        found = {"Lora hashes": outfit.hashes, "TI hashes": self.desk.word_hashes(names)}
        return {key: write_hashes(hashes) for key, hashes in found.items() if hashes}


def _asked(config: TrainConfig, model: Model, name: str, painted: Painted) -> GenerateRequest:
    """What one preview asks of the generation."""
    return preview_request(config, model, name).model_copy(update={"prompt": painted.prompt, "seed": painted.seed})


def write(path: Path, picture: Image.Image, text: str) -> None:
    """Write a picture as PNG with its infotext, whole or not at all."""
    with atomic_write(path) as temporary:
        picture.save(temporary, format="PNG", pnginfo=png_info(text))


def preview_request(config: TrainConfig, model: Model, name: str) -> GenerateRequest:
    """What a preview paints."""
    width, height = size_of(config, model)
    return GenerateRequest(
        prompt=(config.preview_prompt or PROMPT).replace("[name]", name),
        negative_prompt=config.preview_negative_prompt.replace("[name]", name),
        checkpoint=config.checkpoint,
        sampler=config.preview_sampler,
        steps=config.preview_steps,
        cfg_scale=config.preview_cfg_scale,
        seed=config.preview_seed,
        width=width,
        height=height,
        clip_skip=config.clip_skip,
        preview_every=0,
    )
