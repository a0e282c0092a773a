"""Scripts: every cell of a plot, a matrix or a file through the one path of generation, then the table."""

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from studio.cancellation import Stopped
from studio.diffusion.loading import find_checkpoint, find_vae
from studio.errors import NotFound, StudioError
from studio.files import atomic_write
from studio.formats.carriers import png_info, read_carrier, write_picture
from studio.formats.opening import open_limited
from studio.jobs import Lane
from studio.pasting import facts_of, write_infotext
from studio.pasting.grammar import append_facts, read_infotext
from studio.requests.generate import GenerateRequest
from studio.requests.scripts import Cell, ScriptRequest, Sheet, settled, sheet_of
from studio.services import generation
from studio.services.desk import Desk
from studio.services.grids import Words, table, titled
from studio.settings import Paths


class CellLane:
    """The lane of one cell: its progress is a part of the whole's, everything else goes through."""

    def __init__(self, lane: Lane, before: int, size: int, total: int, words: str) -> None:
        self.lane, self.job = lane, lane.job
        self.before, self.size, self.total, self.words = before, size, total, words
        self.began = time.monotonic()

    def emit(self, kind: str, /, **data: Any) -> None:
        """Write an event, counted in the steps of all cells."""
        if kind in ("progress", "preview") and data.get("total"):
            step = self.before + round(self.size * min(1.0, data["step"] / data["total"]))
            data |= {"step": step, "total": self.total}
            if kind == "progress":
                data["text"] = f"{self.words}: {data.get('text', '')}".rstrip(": ")
                if data.get("rate"):
                    data["eta"] = (self.total - step) / data["rate"]
        self.lane.emit(kind, **data)

    def stopping(self) -> bool:
        """Whether the person asked to stop."""
        return self.lane.stopping()

    def asked(self, kind: str) -> bool:
        """Take one ask of this kind, if there is one."""
        return self.lane.asked(kind)

    def breathe(self) -> None:
        """Let short jobs in."""
        self.lane.breathe()


def run(request: ScriptRequest, lane: Lane, desk: Desk) -> dict[str, Any]:
    """Paint every cell, save each and the table; a stop keeps what is there. Raises the first cell's error when no cell could be painted."""
    request = settled(request, lambda: random.SystemRandom().randrange(2**32))
    sheet = sheet_of(request)
    check_files([cell.request for cell in sheet.cells], desk.paths)
    results, problems = _paint(sheet, lane, desk)
    shown: list[Path] = []
    if results:
        shown = _tables(request, sheet, results, desk.paths)
        for path in shown:
            lane.emit("saved", path=str(path))
    images, seeds, texts = [str(p) for p in shown], [request.base.seed] * len(shown), [read_carrier(p)[0] for p in shown]
    if getattr(request, "include_sub_images", True):
        for number in sorted(results):
            images += results[number]["images"]
            seeds += results[number]["seeds"]
            texts += results[number]["infotexts"]
    done = {"images": images, "seeds": seeds, "infotexts": texts, "grids": len(shown), "problems": problems}
    return {**done, "made": len(results), "cells": len(sheet.cells), "stopped": lane.stopping()}


def check_files(asked: Sequence[GenerateRequest], paths: Paths) -> None:
    """Refuse checkpoints and autoencoders that are not here before anything is painted; raises NotFound naming them all."""
    problems = []
    for checkpoint, vae in dict.fromkeys((request.checkpoint, request.vae) for request in asked):
        try:
            find_vae(paths, find_checkpoint(paths, checkpoint), vae)
        except NotFound as error:
            problems.append(str(error))
    if problems:
        raise NotFound(" ".join(dict.fromkeys(problems)))


def _paint(sheet: Sheet, lane: Lane, desk: Desk) -> tuple[dict[int, dict[str, Any]], list[str]]:
    """What generation gave for each cell by number, and what went wrong; cells of one checkpoint follow each other."""
    order = sorted(range(len(sheet.cells)), key=lambda i: (sheet.cells[i].request.checkpoint, sheet.cells[i].request.vae))
    sizes = [_steps(cell.request) for cell in sheet.cells]
    results: dict[int, dict[str, Any]] = {}
    problems: list[str] = []
    first: StudioError | None = None
    for done, number in enumerate(order):
        if lane.stopping():
            break
        cell = sheet.cells[number]
        inner = CellLane(lane, sum(sizes[i] for i in order[:done]), sizes[number], sum(sizes), f"{done + 1} / {len(order)}")
        try:
            result = generation.run(cell.request, inner, desk)
        except Stopped:
            break
        except StudioError as error:
            first = first or error
            problems.append(f"{_place(sheet, cell)}: {error}")
            lane.emit("warning", text=problems[-1])
            continue
        if result["images"]:
            results[number] = _told(result, sheet.facts)
        lane.breathe()
    if first is not None and not results:
        raise first
    return results, problems


def _steps(request: GenerateRequest) -> int:
    """How much work a cell is, in steps."""
    return request.batch_count * (request.steps + (request.hires_steps or request.steps if request.hires else 0))


def _place(sheet: Sheet, cell: Cell) -> str:
    """Where a cell stands, in words."""
    labels = (*sheet.columns[cell.column], *sheet.rows[cell.row], *sheet.layers[cell.layer])
    return ", ".join(label.text for label in labels if label.active) or f"Picture {sheet.cells.index(cell) + 1}"


def _told(result: dict[str, Any], facts: dict[str, str]) -> dict[str, Any]:
    """The same pictures, their infotexts saying which script they belong to; files that would lose by being written again stay as they are."""
    texts = []
    for name, text in zip(result["images"], result["infotexts"], strict=True):
        path = Path(name)
        if path.suffix.lower() == ".png":
            text = append_facts(text, facts)
            with open_limited(path) as image:
                image.load()
                with atomic_write(path) as temporary:
                    image.save(temporary, "PNG", pnginfo=png_info(text))
        texts.append(text)
    return {**result, "infotexts": texts}


def _tables(request: ScriptRequest, sheet: Sheet, results: dict[int, dict[str, Any]], paths: Paths) -> list[Path]:
    """Draw and save the table, and with several layers and the wish for it, each layer's own."""
    legend = getattr(request, "draw_legend", True)
    words = Words(sheet.columns, sheet.rows) if legend else Words()
    shape = (len(sheet.columns), len(sheet.rows))
    tables = []
    for layer in range(len(sheet.layers)):
        numbers = {number: cell for number, cell in enumerate(sheet.cells) if cell.layer == layer and number in results}
        tables.append(table({(cell.column, cell.row): _cell_picture(results[number]["images"]) for number, cell in numbers.items()}, shape, words, request.margin))
    pictures = tables if len(tables) == 1 else [titled(tables, sheet.layers if legend else [()] * len(tables))]
    pictures += tables if len(tables) > 1 and getattr(request, "include_sub_grids", False) else []
    text = _grid_text(request, sheet, results[min(results)]["infotexts"][0])
    return [_save(paths, picture, text) for picture in pictures]


def _cell_picture(names: Sequence[str]) -> Image.Image:
    """The picture of a cell; a small table when a batch gave several."""
    pictures = []
    for name in names:
        with open_limited(name) as image:
            pictures.append(image.convert("RGB"))
    if len(pictures) == 1:
        return pictures[0]
    columns = round(len(pictures) ** 0.5)
    return table({(i % columns, i // columns): picture for i, picture in enumerate(pictures)}, (columns, -(-len(pictures) // columns)))


def _grid_text(request: ScriptRequest, sheet: Sheet, example: str) -> str:
    """The infotext of a table: what was asked before anything was varied, by which model, and the script."""
    found = read_infotext(example)
    model = {key: found[key] for key in ("Size", "Model hash", "Model", "VAE hash", "VAE", "TI hashes", "Lora hashes") if key in found}
    return write_infotext(request.base.prompt, request.base.negative_prompt, facts_of(request.base, {**model, **sheet.facts}))


def _save(paths: Paths, image: Image.Image, text: str) -> Path:
    """Write a table under the next free number of its day."""
    folder = paths.images / time.strftime("%Y-%m-%d")
    folder.mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(p.name[5:10]) for p in folder.glob("grid-[0-9][0-9][0-9][0-9][0-9].png")), default=-1)
    path = folder / f"grid-{number:05d}.png"
    write_picture(image, path, text)
    return path
