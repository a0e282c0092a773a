"""Every method on every family: small random checkpoints in the original layout, trained, stopped, gone on with, saved, read again, used and taken off through the real services.

`python -m tests.training.matrix [--only WORD] [--every]` prints what was seen of each. A method that is added to METHODS is in it by itself; exits 1 when anything is not as it should be.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file
from torch import Tensor

from studio.diffusion.cache import ModelCache
from studio.diffusion.conditioning import Reading, condition
from studio.diffusion.model import Model
from studio.formats.adapter import read_adapter
from studio.formats.embedding import read_embedding
from studio.formats.hypernetwork import read_hypernetwork
from studio.formats.keys import UNET
from studio.jobs import SilentLane
from studio.prompts.networks import networks
from studio.requests.train import CreateEmbeddingRequest, PriorConfig, TrainConfig, TrainRequest, config_class
from studio.services.class_pictures import Class
from studio.services.desk import Desk
from studio.services.library import create_embedding
from studio.services.training import run
from studio.services.wardrobe import dressed
from studio.settings import Paths
from studio.training.methods import METHODS, method_of
from studio.training.run import Run
from tests.diffusion.originals import KINDS, make, original, write

_ONE: dict[str, Any] = {"widths": (32, 64), "depths": (1, 1), "levels": (True, False), "text_widths": (16,), "text_layers": (2,)}
_TWO: dict[str, Any] = {**_ONE, "heads": (1, 1), "text_layers": (3,)}
_XL: dict[str, Any] = {**_TWO, "levels": (False, True), "text_widths": (16, 24), "text_layers": (2, 2)}
SMALL = {kind.name: replace(kind, **changes) for name, changes in {"SD1": _ONE, "SD2": _TWO, "SD2 v": _TWO, "SDXL": _XL}.items() for kind in KINDS if kind.name == name}
"""Checkpoints of two levels, with attention in one of them: the least that the layout allows."""
STEPS, STOP = 3, 2
"""Steps of a whole run, and after how many the other one is asked to stop."""
CLASS = {"class_word": "ball", "text_encoder_rate": 1e-4}
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "lycoris": {name: {"algorithm": name} for name in ("LoCon", "LoHa", "LoKr", "(IA)3")},
    "dreambooth": {"checkpoint": {**CLASS, "class_pictures": 1}, "LoRA": {**CLASS, "result": "LoRA", "prior": "prediction"}},
    "fine_tune": {"": {"trained_layers": "attention"}},
}
"""What a method is trained with, by what the table calls it; one without an entry is trained as it comes."""
QUICK = {"steps": STEPS, "width": 64, "height": 64, "save_every": 0, "preview_every": 0, "preview_steps": 1, "probe_every": 0, "learn_rate": "1e-3", "rank": 4, "save_precision": "fp32"}
"""What makes a run short and its file exact, as far as the method has it."""


@dataclass(frozen=True)
class Cell:
    """One method, or one variant of it, on one family; `place` tells the cells apart."""

    method: str
    variant: str
    family: str
    place: int

    def __str__(self) -> str:
        """As the table and the tests call it."""
        return "-".join(part for part in (self.method, self.variant, self.family) if part)


def cells(every: bool) -> list[Cell]:
    """Every method on every family, its variants taking turns; with `every` all variants on all families, SD2 for epsilon among them."""
    found = []
    for method in METHODS:
        variants, families = list(VARIANTS.get(method.name, ("",))), [name for name in SMALL if every or name != "SD2"]
        turns = range(max(len(variants), len(families)))
        pairs = [(v, f) for v in variants for f in families] if every else [(variants[turn % len(variants)], families[turn % len(families)]) for turn in turns]
        found += [(method.name, *pair) for pair in pairs]
    return [Cell(*named, place) for place, named in enumerate(found)]


@dataclass
class Seen:
    """What was seen in a cell, in the order of the table."""

    fresh: str = ""
    stop: str = ""
    resume: str = ""
    export: str = ""
    read: str = ""
    apply: str = ""
    off: str = ""
    seconds: float = 0.0


@dataclass
class Visited(SilentLane):
    """A lane on which another job comes by after each step."""

    visit: Callable[["Visited", int], None] = lambda lane, step: None
    steps: int = 0

    def breathe(self) -> None:
        """Let it in."""
        self.steps += 1
        self.visit(self, self.steps)


class World:
    """A studio with the checkpoint of every family and two pictures; what its models weigh is kept, so that a trace can be found."""

    def __init__(self, root: Path) -> None:
        self.paths = Paths(root).prepare()
        self.desk = Desk(self.paths, ModelCache(self.paths, device="cpu"))
        self.data = root / "pictures"
        self.data.mkdir()
        for number, colour in enumerate(("red", "green")):
            image = Image.new("RGB", (64, 64), "white")
            ImageDraw.Draw(image).ellipse((10 + 9 * number, 15, 50, 55), fill=colour)
            image.save(self.data / f"{number}.png")
            (self.data / f"{number}.txt").write_text(f"{colour}, round")
        self._traces: dict[str, tuple[list[tuple[int, Tensor]], list[tuple[str, int, bool]]]] = {}

    def checkpoint(self, family: str) -> str:
        """The name of a family's checkpoint, which is made when it is first asked for."""
        name = f"{family.replace(' ', '-').lower()}.safetensors"
        if not (self.paths.checkpoints / name).exists():
            write(self.paths.checkpoints / name, original(make(SMALL[family])), SMALL[family].metadata)
        return name

    def remember(self, name: str) -> None:
        """Keep what a checkpoint is before anything was done to it, once somebody has used it (transformers' own hooks come then)."""
        if name not in self._traces:
            with self.desk.cache.lend(name) as model:
                self._traces[name] = [(place, p.detach().clone()) for place, p in _weights(model)], _hooks(model)

    def untouched(self, name: str) -> bool:
        """Whether every weight is where and what it was, and nobody new listens to the networks."""
        weights, hooks = self._traces[name]
        with self.desk.cache.lend(name) as model:
            return hooks == _hooks(model) and all(a == b and torch.equal(p, q) and not p.requires_grad for (a, p), (b, q) in zip(_weights(model), weights, strict=True))


def _weights(model: Model) -> list[tuple[int, Tensor]]:
    """Where every weight of a model lies, and what it is."""
    return [(p.data_ptr(), p) for part in (model.unet, model.vae, *model.text_encoders) for p in part.parameters()]


def _hooks(model: Model) -> list[tuple[str, int, bool]]:
    """How many listen to each module, and whether its forward was replaced."""
    found = (named for part in (model.unet, *model.text_encoders) for named in part.named_modules())
    return [(name, len(module._forward_hooks) + len(module._forward_pre_hooks), "forward" in vars(module)) for name, module in found]


def answer(model: Model, prompt: str, words: Mapping[str, Tensor]) -> Tensor:
    """What a model says to a fixed noisy picture [1, 4, 8, 8] under a prompt."""
    with torch.no_grad():
        said = condition(model, [prompt], words, Reading(size=(64, 64)))
        return model.predict(torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3)), torch.tensor(400), said)


@dataclass
class Trial:
    """One cell that is being looked at."""

    world: World
    cell: Cell
    seen: Seen = field(default_factory=Seen)

    def __post_init__(self) -> None:
        """Write the knobs, and what is asked of a model later."""
        knobs = VARIANTS.get(self.cell.method, {"": {}})[self.cell.variant]
        name = f"gnarl{self.cell.place}"
        cls = config_class(self.cell.method)
        values = {**QUICK, **knobs, "name": name, "embedding": name, "data": str(self.world.data), "checkpoint": self.world.checkpoint(self.cell.family)}
        self.config: TrainConfig = cls.check({key: value for key, value in values.items() if key in cls.model_fields})
        self.method = method_of(self.cell.method)
        self.prompt = f"a photo of {name}"

    @property
    def shelves(self) -> dict[str, Path]:
        """Where the results go."""
        return self.method.shelves(self.world.paths, self.config)

    def begin(self) -> None:
        """Have what a training of this method begins from, as new: its embedding, and class pictures as an earlier training would have left them."""
        if "embedding" in type(self.config).model_fields:
            create_embedding(CreateEmbeddingRequest(name=self.config.subject, initialization_text="ball", vectors=2, overwrite=True, checkpoint=self.config.checkpoint), self.world.desk)
        if isinstance(self.config, PriorConfig) and self.config.prior == "class pictures":
            with self.model() as model:
                painted = Class(self.config.prior_prompt, self.config.class_pictures, self.config.clip_skip, model, self.world.desk).files
            for path in painted:
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(self.world.data / "0.png", path)
                path.with_suffix(".txt").write_text(self.config.prior_prompt)

    def train(self, lane: SilentLane, folder: str = "", **knobs: Any) -> dict[str, Any]:
        """Run, or go on with the run in `folder`."""
        return run(TrainRequest(method=self.cell.method, config=self.config.model_copy(update=knobs), run=folder), lane, self.world.desk)

    @contextmanager
    def model(self, private: bool = False) -> Iterator[Model]:
        """The checkpoint."""
        with self.world.desk.cache.lend(self.config.checkpoint, private=private) as model:
            yield model

    def plain(self) -> Tensor:
        """What the checkpoint says."""
        with self.model() as model:
            return answer(model, self.prompt, {})

    def live(self, folder: Path) -> tuple[Tensor, list[int]]:
        """What the network that learned says, taken up from the run's checkpoint, and how many things each of its files must hold."""
        kept = Run(folder).latest()
        assert kept is not None
        with self.model(self.method.private(self.config)) as model:
            learner = self.method.attach(model, next(iter(sorted((folder / "start").glob("*"))), None), self.config)
            learner.restore(kept.tensors)
            name, words = self.config.subject, {word: vectors.detach() for word, vectors in learner.words().items()}
            held = [len(get().modules) for get in learner.live_adapters(name).values()] + [len(get().layers) for get in learner.live_hypernetworks(name).values()]
            held += [len(vectors) for vectors in words.values()]
            with learner.attached(), learner.shown():
                return answer(model, self.prompt, words), held or [len(model.unet.state_dict())]

    def applied(self) -> Tensor:
        """What a person gets who uses the files: a checkpoint by name, everything else by a prompt."""
        paths, found = self.world.paths, self.shelves.values()
        called = [f"<lora:{path.stem}:1>" for path in found if path.parent == paths.lora] + [f"<hypernet:{path.stem}:1>" for path in found if path.parent == paths.hypernetworks]
        base = next((path.name for path in found if path.parent == paths.checkpoints), self.config.checkpoint)
        prompt = " ".join([self.prompt, *called])
        with self.world.desk.cache.lend(base) as model, dressed(model, prompt, self.world.desk) as outfit:
            assert not outfit.notes, outfit.notes
            return answer(model, networks(prompt)[0], {**self.world.desk.words(prompt), **outfit.words})

    def end(self) -> None:
        """Take away what was made."""
        for path in self.shelves.values():
            path.unlink(missing_ok=True)
        shutil.rmtree(self.world.paths.runs)
        self.world.paths.runs.mkdir()


def tensors_of(path: Path) -> dict[str, Tensor]:
    """Every tensor of a result by name, through the reader of its kind; raises StudioError."""
    if path.parent.name == "embeddings":
        return {"vectors": read_embedding(path).vectors}
    if path.parent.name == "hypernetworks":
        return {f"{width}.{side}.{key}": tensor for width, pair in read_hypernetwork(path).layers.items() for side, state in enumerate(pair) for key, tensor in state.items()}
    return load_file(path)


def counted(path: Path) -> tuple[int, str]:
    """How many things a result holds, and what they are; of a checkpoint, the UNet's tensors."""
    if path.parent.name == "Lora":
        return len(read_adapter(path).modules), "modules"
    if path.parent.name == "embeddings":
        return len(read_embedding(path).vectors), "vectors"
    if path.parent.name == "hypernetworks":
        return len(read_hypernetwork(path).layers), "widths"
    return sum(key.startswith(UNET.root) for key in load_file(path)), "tensors"


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    """Whether two sets of tensors are the same to the bit."""
    return a.keys() == b.keys() and all(torch.equal(value, b[key]) for key, value in a.items())


def look(world: World, cell: Cell, seen: Seen | None = None) -> Seen:
    """Go through a cell, noting what is seen; AssertionError says what is not as it should be."""
    trial = Trial(world, cell, seen or Seen())
    began = time.monotonic()
    try:
        _look(trial)
    finally:
        trial.seen.seconds = time.monotonic() - began
        trial.end()
    return trial.seen


def _look(trial: Trial) -> None:
    """A whole run; one that is stopped and goes on; what they leave, and what that does."""
    seen, plain = trial.seen, trial.plain()
    trial.world.remember(trial.config.checkpoint)
    trial.begin()
    whole = trial.train(SilentLane("whole"), preview_every=STEPS)
    curve = (Path(whole["run"]) / "curve.csv").read_text().splitlines()[1:]
    losses = [float(line.split(",")[1]) for line in curve]
    assert len(losses) == STEPS == whole["steps"] and not whole["stopped"] and all(0 < loss < 100 for loss in losses), (whole, losses)
    painted = list((Path(whole["run"]) / "samples").glob("*.png"))
    assert len(painted) == 2, f"previews: {painted}"
    seen.fresh = f"loss {losses[0]:.2f}"
    results = {path: tensors_of(path) for path in trial.shelves.values()}
    live, held = trial.live(Path(whole["run"]))

    for path in results:
        path.unlink()
    trial.begin()
    _stopped(trial, plain)
    folder = next(path for path in trial.world.paths.runs.iterdir() if path != Path(whole["run"]))
    again = trial.train(SilentLane("further"), folder.name)
    ends = [Run(Path(made["run"])).latest() for made in (whole, again)]
    assert same(ends[0].tensors, ends[1].tensors), "what learns, or its optimiser, is not what one run gives"
    assert all(same(tensors, tensors_of(path)) for path, tensors in results.items()), "a result is not what one run gives"
    seen.resume = f"{STOP}+{STEPS - STOP} = {STEPS}, {len(ends[0].tensors)} tensors"

    seen.export = ", ".join(f"{path.parent.name}/*{path.suffix} {path.stat().st_size / 1e6:.2f} MB" for path in results)
    counts = [counted(path) for path in results]
    assert [count for count, _ in counts] == held, f"files hold {counts}, and {held} was learned"
    seen.read = ", ".join(f"{count} {things}" for count, things in counts)
    applied = trial.applied()
    change, error = (float((applied - other).abs().max()) for other in (plain, live))
    assert change > 1e-4, f"the result changes the prediction by {change:g} only"
    assert error < change / 200, f"the result says something else than the live network: {error:g} off, of a change of {change:g}"
    seen.apply = f"{change:.4f} +- {error:.0e}"
    assert torch.equal(trial.plain(), plain), "the checkpoint says something else than before"
    assert trial.world.untouched(trial.config.checkpoint), "the checkpoint's weights are not what they were"
    seen.off = "bit-equal"


def _stopped(trial: Trial, plain: Tensor) -> None:
    """A run that is stopped in the middle, while another job uses the model."""

    def visit(lane: Visited, step: int) -> None:
        """Look at the model as other jobs find it, and ask to stop when the time has come."""
        assert torch.equal(trial.plain(), plain), "others find another model while it learns"
        lane.stop = step == STOP

    lane = Visited("stopped", visit=visit)
    made = trial.train(lane)
    assert (made["steps"], made["stopped"]) == (STOP, True), made
    saved = [data["path"] for name, data in lane.events if name == "saved"]
    assert str(Path(made["path"])) in saved and all(path.exists() for path in trial.shelves.values()), f"not saved: {saved}"
    trial.seen.stop = f"saved at {STOP}"


def main(words: Sequence[str] | None = None) -> int:
    """Look at the cells that are wanted, and print; 1 when anything is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cells whose name holds this")
    parser.add_argument("--every", action="store_true", help="all variants on all families; two minutes")
    arguments = parser.parse_args(words)
    torch.set_num_threads(1)
    rows, wrong = [("method", "family", *(f.name for f in fields(Seen)))], []
    with tempfile.TemporaryDirectory() as place:
        world = World(Path(place))
        for cell in (cell for cell in cells(arguments.every) if arguments.only in str(cell)):
            seen = Seen()
            try:
                look(world, cell, seen)
            except AssertionError as error:
                wrong.append(f"{cell}: {error}")
            rows.append((f"{cell.method} {cell.variant}".strip(), cell.family, *(f"{v:.1f}" if isinstance(v, float) else v or "-" for v in vars(seen).values())))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        sys.stdout.write("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() + "\n")
    sys.stdout.write("".join(f"WRONG {sentence}\n" for sentence in wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
