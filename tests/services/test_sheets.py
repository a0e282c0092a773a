"""Sheets and films of a run's previews: every picture in its place, evenly chosen, nothing from outside the run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence

from studio.errors import InputError, NotFound
from studio.jobs import SilentLane
from studio.requests.sheet import SheetRequest
from studio.services.sheets import run, strip_of
from studio.settings import Paths
from studio.worker import Bench

RUN = "2026-01-01-gnarl-job"
STEPS = range(0, 110, 10)
PROMPTS = ("a photo of gnarl", "一只怪兽 in a forest")


def shade(column: int, step: int) -> tuple[int, int, int]:
    """The colour of a preview, by which it is known again."""
    return (step * 2, 200 if column else 0, 100)


@pytest.fixture
def bench(root: Paths) -> Bench:
    """A run with previews of two prompts at eleven steps, and lines that cannot be used."""
    folder = root.runs / RUN
    (folder / "samples").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"config": {"embedding": "gnarl"}}))
    lines: list[dict[str, Any]] = []
    for step in STEPS:
        for column, prompt in enumerate(PROMPTS):
            path = f"samples/{step:06d}-{column}.png"
            Image.new("RGB", (96, 64), shade(column, step)).save(folder / path)
            lines.append({"step": step, "path": path, "prompt": prompt, "column": column, "seed": 1, "weights": None})
    Image.new("RGB", (96, 64), "white").save(root.runs / "secret.png")
    strange = [{"step": 5, "path": "samples/gone.png", "column": 0}, {"step": 6, "path": "../secret.png", "column": 0}, {"step": 7, "path": lines[0]["path"], "column": -1}, {"step": "x"}]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines + strange)
    (folder / "previews.jsonl").write_text(text + '{"step": 8, "pa', encoding="utf-8")
    return Bench(root)


def places(image: Image.Image, color: tuple[int, int, int]) -> tuple[int, int, int, int] | None:
    """Where a colour lies in a picture."""
    return Image.fromarray((np.array(image.convert("RGB")) == color).all(axis=2)).getbbox()


def test_a_sheet_has_steps_below_each_other_and_prompts_side_by_side(bench: Bench, lane: SilentLane) -> None:
    result = run(SheetRequest(run=RUN, rows=3, size=0), lane, bench)
    path = Path(result["path"])
    assert path == bench.paths.runs / RUN / "exports" / "sheet-1.png"
    assert (result["steps"], result["columns"]) == ([0, 50, 100], [0, 1])
    image = Image.open(path)
    boxes = {(column, step): places(image, shade(column, step)) for column in (0, 1) for step in (0, 50, 100)}
    assert all(box and (box[2] - box[0], box[3] - box[1]) == (96, 64) for box in boxes.values())
    assert boxes[0, 0][0] == boxes[0, 100][0] < boxes[1, 0][0] == boxes[1, 100][0]
    assert boxes[0, 0][1] == boxes[1, 0][1] < boxes[0, 50][1] < boxes[0, 100][1]
    assert boxes[0, 0][0] > 40  # words beside
    assert boxes[0, 0][1] > 20  # words above
    assert places(image, shade(0, 10)) is None
    assert lane.events[-1] == ("saved", {"path": str(path)})
    assert Path(run(SheetRequest(run=RUN), lane, bench)["path"]).name == "sheet-2.png"


@pytest.mark.parametrize("format", ["GIF", "WebP"])
def test_a_film_shows_one_prompt_step_after_step_and_rests_at_the_end(bench: Bench, lane: SilentLane, format: str) -> None:
    result = run(SheetRequest(run=RUN, format=format, columns=(1,), rows=4, size=48, seconds=0.2), lane, bench)
    with Image.open(result["path"]) as image:
        assert (image.format, image.n_frames, image.info.get("loop")) == (format.upper(), 4, 0)
        seen = [(frame.convert("RGB").getpixel((image.width // 2, image.height - 8)), frame.info["duration"]) for frame in ImageSequence.Iterator(image)]
    assert [duration for _, duration in seen] == [200, 200, 200, 600]
    assert result["steps"] == [0, 30, 70, 100]
    for (color, _), step in zip(seen, result["steps"], strict=True):
        assert max(abs(a - b) for a, b in zip(color, shade(1, step), strict=True)) < 12


def test_seeds_are_named_where_a_prompt_has_several(bench: Bench) -> None:
    folder = bench.paths.runs / RUN
    line = {"step": 0, "path": "samples/000000-0.png", "prompt": PROMPTS[0], "column": 2, "seed": 9}
    (folder / "previews.jsonl").write_text((folder / "previews.jsonl").read_text(encoding="utf-8") + "\n" + json.dumps(line), encoding="utf-8")
    assert strip_of(folder, SheetRequest(run=RUN)).heads == {0: f"{PROMPTS[0]}\nseed 1", 1: PROMPTS[1], 2: f"{PROMPTS[0]}\nseed 9"}


def test_an_older_run_without_a_list_and_a_hurt_picture_still_give_a_sheet(bench: Bench, lane: SilentLane) -> None:
    folder = bench.paths.runs / RUN
    (folder / "previews.jsonl").unlink()
    for number, file in enumerate(sorted((folder / "samples").glob("*-0.png"))[:3]):
        file.rename(file.with_name(f"{number:06d}.png"))
    (folder / "samples" / "000001.png").write_bytes(b"hello")
    assert run(SheetRequest(run=RUN), lane, bench)["steps"] == [0, 1, 2]
    (warning,) = [data for kind, data in lane.events if kind == "warning"]
    assert warning["name"] == "000001.png"


def test_what_cannot_be_shown_is_said(bench: Bench, lane: SilentLane) -> None:
    with pytest.raises(InputError, match=r"no column 4, 5 \(there are 0, 1\)"):
        run(SheetRequest(run=RUN, columns=(0, 4, 5)), lane, bench)
    with pytest.raises(NotFound, match="no 'nowhere'"):
        run(SheetRequest(run="nowhere"), lane, bench)
    with pytest.raises(NotFound, match="no 'nnn"):
        run(SheetRequest(run="n" * 300), lane, bench)
    (bench.paths.runs / RUN / "previews.jsonl").write_text("")
    with pytest.raises(InputError, match="has no previews"):
        run(SheetRequest(run=RUN), lane, bench)
    assert not (bench.paths.runs / RUN / "exports").exists()
