"""Grids of a run: what it learned by several steps against prompts, at one seed, beside what was there before."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from PIL import Image
from torch import Tensor

from studio.cancellation import Stopped
from studio.diffusion.adapters import Wear, worn
from studio.diffusion.hypernetworks import Blend, blended
from studio.diffusion.model import Model
from studio.errors import InputError
from studio.formats.adapter import read_adapter
from studio.formats.carriers import write_picture
from studio.formats.embedding import read_embedding
from studio.formats.hypernetwork import read_hypernetwork
from studio.jobs import Lane
from studio.pasting import write_hashes
from studio.pasting.grammar import append_facts
from studio.prompts.network_schedule import PromptPass, networks_key
from studio.requests.generate import GenerateRequest
from studio.requests.run_grid import MOST_CELLS, RunGridRequest
from studio.requests.scripts import Label
from studio.requests.train import TrainConfig, config_class
from studio.runs.reading import FIRST
from studio.runs.tails import read_object
from studio.runs.weights import noted_shelves, parts_of, whole
from studio.services.desk import Desk
from studio.services.gallery import infotext
from studio.services.generation import Painter, prompt_passes
from studio.services.grids import Words, table
from studio.services.previewing import PROMPT, preview_request
from studio.services.rows import AT_ONCE, Shot, paint_row
from studio.services.run_folders import chosen, config_of, method_of, numbered, run_folder, spread, weights_of
from studio.services.wardrobe import Worn, dressed
from studio.training.run import Run

_WORD = r"\(\s*\[name\]\s*(?::[\d.]+)?\s*\)|\[name\]"
"""The word in a prompt, with the weight it may have."""


@dataclass(frozen=True)
class Column:
    """One moment: what stands above it, how its files are called, the word's vectors [n, d], and the LoRA or hypernetwork in use; `word` False = prompts without the word."""

    label: str
    key: str
    vectors: Tensor | None = None
    lora: Path | None = None
    hypernetwork: Path | None = None
    word: bool = True

    @property
    def network(self) -> Path | None:
        """The file in use."""
        return self.lora or self.hypernetwork

    @contextmanager
    def on(self, model: Model, strength: float) -> Iterator[Mapping[str, Tensor]]:
        """Use the network of this moment for the length of the block; gives the embeddings it brought along, [n, d] by word. Raises InputError, Unreadable."""
        blends = [Blend(read_hypernetwork(self.hypernetwork), strength)] if self.hypernetwork else []
        wears = [Wear(read_adapter(self.lora), strength)] if self.lora else []
        with worn(model, wears) as outfit, blended(model, blends):
            yield outfit.words


@dataclass(frozen=True)
class Row:
    """One prompt, with [name] where the word stands, and a strength: of the network that is worn, else of the word in the prompt; None = as it is."""

    prompt: str
    strength: float | None = None

    def label(self, name: str) -> str:
        """What stands beside the row."""
        text = self.prompt.replace("[name]", name)
        return text if self.strength is None else f"{text}\nstrength {self.strength:g}"

    def cell(self, name: str, number: int, column: Column) -> "Cell":
        """The picture of this row in a column."""
        if not column.word:
            return Cell(number, re.sub(r"\s+([,.])", r"\1", re.sub(r"\s{2,}", " ", re.sub(_WORD, "", self.prompt))).strip(" ,"))
        if column.vectors is not None and column.network is None and self.strength is not None:
            return Cell(number, re.sub(_WORD, f"([name]:{self.strength:g})", self.prompt).replace("[name]", name))
        return Cell(number, self.prompt.replace("[name]", name), self.strength if column.network and self.strength is not None else 1.0)


@dataclass(frozen=True)
class Cell:
    """A picture that is painted: number of its column, its prompt, and the strength of the network it wears."""

    column: int
    text: str
    strength: float = 1.0


Painted = tuple[Image.Image, str]
"""A picture and its infotext."""


def run(request: RunGridRequest, lane: Lane, desk: Desk) -> dict[str, Any]:
    """Paint every cell and the grid into exports/ of the run's folder; a stop keeps the columns that are whole. Raises NotFound and InputError in words."""
    folder = run_folder(desk.paths, request.run)
    if whole(folder):
        raise InputError("A training of a whole checkpoint keeps no copies of its steps, so there are no moments to paint.", "Compare checkpoints by a plot over Checkpoint instead.")
    config = _config(folder)
    columns = _columns(request, folder, lane)
    rows = rows_of(request, config)
    if len(columns) * len(rows) > MOST_CELLS:
        raise InputError(f"The grid would have {len(columns) * len(rows)} pictures ({len(columns)} columns, {len(rows)} rows); {MOST_CELLS} is the most.", "Choose fewer steps or prompts.")
    facts = read_object(folder / "config.json").get("facts")
    checkpoint = str(facts.get("checkpoint") or "") if isinstance(facts, dict) else ""
    with desk.cache.lend(checkpoint or config.checkpoint) as model:
        easel = Easel(model, _base(request, preview_request(config, model, config.word), config.word), config.word, _taught(folder, config), desk, lane)
        painted = easel.paint(columns, rows)
        if not painted:
            return {"images": [], "stopped": True}
        return _saved(folder, easel, (columns, rows), painted)


def _config(folder: Path) -> TrainConfig:
    """What the run was asked for; raises InputError when that cannot be read."""
    try:
        return cast(TrainConfig, config_class(method_of(folder)).check(config_of(folder)))
    except (InputError, ValueError) as error:
        raise InputError(f"What the run {folder.name!r} was asked for cannot be read: {error}", "Its config.json is missing or damaged.") from error


def _taught(folder: Path, config: TrainConfig) -> str:
    """The word whose vectors a run taught; empty when it taught none."""
    if config.method == FIRST:
        return config.word
    return next((Path(path).stem for path in noted_shelves(folder).values() if path.startswith("embeddings/")), "")


def _base(request: RunGridRequest, preview: GenerateRequest, name: str) -> GenerateRequest:
    """What every cell has in common: the run's previews, with what was asked otherwise."""
    negative = None if request.negative_prompt is None else request.negative_prompt.replace("[name]", name)
    asked = {"negative_prompt": negative, "seed": request.seed, "sampler": request.sampler, "steps": request.sampling_steps, "cfg_scale": request.cfg_scale}
    return preview.model_copy(update={name: value for name, value in asked.items() if value is not None})


def _columns(request: RunGridRequest, folder: Path, lane: Lane) -> list[Column]:
    """The base, then the steps; raises InputError when the run has no weights."""
    weights = weights_of(folder)
    facts = read_object(folder / "config.json").get("facts")
    first = facts.get("first_step", 0) if isinstance(facts, dict) else 0
    base = _before(request.base, weights.get(first), folder, lane)
    later = [step for step in weights if step != first or request.base != "initialization"]
    steps = chosen(weights, request.steps) if request.steps else {step: weights[step] for step in spread(later, request.most)}
    if not steps:
        raise InputError(f"The run {folder.name!r} has no weights of a step to compare.", "Let it save or preview more often.")
    return [*base, *(_moment(folder, f"step {step}", f"{step:06d}", path) for step, path in steps.items())]


def _moment(folder: Path, label: str, key: str, file: Path) -> Column:
    """The column of a copy: the word in it, the network in it, or both of what was kept together."""
    column = Column(label, key)
    for end, part in parts_of(folder, file).items():
        home = noted_shelves(folder).get(end, "embeddings/")
        if home.startswith("embeddings/"):
            column = replace(column, vectors=read_embedding(part).vectors)
        elif column.network is None:
            column = _using(column, part, home)
    return column


def _using(column: Column, file: Path, home: str) -> Column:
    """The column with a network of a shelf."""
    return replace(column, hypernetwork=file) if home.startswith("models/hypernetworks/") else replace(column, lora=file)


def _before(wanted: str, untouched: Path | None, folder: Path, lane: Lane) -> list[Column]:
    """What the steps are compared with."""
    if wanted == "none":
        return []
    if wanted == "initialization" and untouched is not None:
        return [_moment(folder, "before", "before", untouched)]
    if wanted == "initialization" and method_of(folder) != FIRST:
        began = next(iter(sorted((folder / "start").glob("*"))), None)
        before = Column("before", "before")
        return [before if began is None else _using(before, began, next(iter(noted_shelves(folder).values()), ""))]
    if wanted == "initialization":
        kept = Run(folder).latest()
        start = kept.tensors.get("start") if kept else None
        if start is not None:
            return [Column("before", "before", start)]
        lane.emit("warning", text="The run kept no weights from before its first step, so the first column shows the prompts without the word.")
    return [Column("without the word", "without", word=False)]


def rows_of(request: RunGridRequest, config: TrainConfig) -> list[Row]:
    """Every prompt at every strength; the word itself in a prompt stands for [name], but in the name of a network. Tags of the network that was taught are left out: each column uses its own."""
    lines = [line.strip() for line in (request.prompts.strip() or config.preview_prompt.strip() or PROMPT).splitlines() if line.strip()]
    if config.method != FIRST:
        own = re.compile(rf"\s*<(?:lora|lyco|hypernet):{re.escape(config.subject)}(?::[^>]*)?>", re.IGNORECASE)
        lines = [own.sub("", line).strip() for line in lines]
    word = re.compile(rf"(<[^>]*>)|(?<![\w-]){re.escape(config.word)}(?![\w-])", re.IGNORECASE)
    prompts = [word.sub(lambda match: match[1] or "[name]", line) for line in lines]
    return [Row(prompt, strength) for prompt in prompts for strength in (request.strengths or (None,))]


@dataclass
class Easel:
    """What the cells of a grid are painted with; `taught` is the word whose vectors come from the run and from no file, empty when none was taught."""

    model: Model
    base: GenerateRequest
    name: str
    taught: str
    desk: Desk
    lane: Lane
    at_once: int = AT_ONCE

    def paint(self, columns: Sequence[Column], rows: Sequence[Row]) -> dict[Cell, Painted]:
        """Pictures with their infotext, those that wear the same networks together; what a stop cut short is left out."""
        cells = dict.fromkeys(row.cell(self.name, number, column) for number, column in enumerate(columns) for row in rows)
        outfits: dict[tuple[Path | None, float, str], list[Cell]] = {}
        for cell in cells:
            outfits.setdefault((columns[cell.column].network, cell.strength, networks_key(cell.text)), []).append(cell)
        painted: dict[Cell, Painted] = {}
        for (_, strength, _), alike in outfits.items():
            with suppress(Stopped), columns[alike[0].column].on(self.model, strength) as words, dressed(self.model, self._passes(alike[0].text), self.desk) as outfit:
                for note in outfit.notes:
                    self.lane.emit("warning", text=note)
                for at in range(0, len(alike), AT_ONCE):
                    self.lane.emit("progress", step=len(painted), total=len(cells), text=f"Picture {len(painted) + 1} of {len(cells)}")
                    some = self._some(alike[at : at + AT_ONCE], columns, replace(outfit, words={**words, **outfit.words}))
                    if self.lane.stopping():
                        return painted
                    painted.update(some)
        self.lane.emit("progress", step=len(cells), total=len(cells), text="")
        return painted

    def _passes(self, text: str) -> list[PromptPass]:
        """A prompt and how its editing is counted."""
        return prompt_passes(self.base.model_copy(update={"prompt": text}))

    def _some(self, cells: Sequence[Cell], columns: Sequence[Column], outfit: Worn) -> dict[Cell, Painted]:
        """Some cells with their infotexts."""
        shots = [self._shot(cell.text, columns[cell.column].vectors, outfit) for cell in cells]
        painter = Painter(self.model, {}, lambda *_: not self.lane.stopping(), self.desk.cache, lambda text: self.lane.emit("warning", text=text), networks=outfit)
        pictures, self.at_once = paint_row(painter, shots, self.at_once)
        more: dict[str, object] = {"Lora hashes": write_hashes(outfit.hashes)} if outfit.hashes else {}
        texts = [append_facts(infotext(self.model, shot.request, more), _facts(columns[cell.column], cell)) for shot, cell in zip(shots, cells, strict=True)]
        return dict(zip(cells, zip(pictures, texts, strict=True), strict=True))

    def _shot(self, text: str, vectors: Tensor | None, outfit: Worn) -> Shot:
        """One picture; the word's vectors of its moment go before any file of that name."""
        found = {**self.desk.words(f"{text}\n{self.base.negative_prompt}"), **outfit.words}
        others = {word: value for word, value in found.items() if word.lower() != self.taught.lower()}
        return Shot(self.base.model_copy(update={"prompt": text}), others if vectors is None else {**others, self.taught: vectors})


def _facts(column: Column, cell: Cell) -> dict[str, object]:
    """What a picture's infotext says of its moment."""
    return {"Script": "Run grid", "Moment": column.label, **({"Strength": f"{cell.strength:g}"} if column.network else {})}


def _saved(folder: Path, easel: Easel, shape: tuple[Sequence[Column], Sequence[Row]], painted: Mapping[Cell, Painted]) -> dict[str, Any]:
    """Write every picture and the grid; returns where they are."""
    columns, rows = shape
    place = numbered(folder / "exports", "grid")
    shown: dict[tuple[int, int], Image.Image] = {}
    images: list[str] = []
    texts: list[str] = []
    for across, column in enumerate(columns):
        for down, row in enumerate(rows):
            cell = row.cell(easel.name, across, column)
            if cell in painted:
                shown[across, down], text = painted[cell]
                images.append(str(place / f"{column.key}-{down}.png"))
                texts.append(text)
                write_picture(shown[across, down], Path(images[-1]), text)
    grid = table(shown, (len(columns), len(rows)), Words([(Label(column.label),) for column in columns], [(Label(row.label(easel.name)),) for row in rows]))
    path = place.with_suffix(".png")
    write_picture(grid, path, append_facts(infotext(easel.model, easel.base), {"Script": "Run grid", "Moments": ", ".join(column.label for column in columns)}))
    easel.lane.emit("saved", path=str(path))
    return {"images": images, "grid": str(path), "infotexts": texts, "seeds": [easel.base.seed] * len(images), "stopped": len(shown) < len(columns) * len(rows)}
