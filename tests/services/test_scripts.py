"""Scripts on the tiny world: every cell is the picture that one press of Generate gives, tables are labelled and saved, stops and failures keep the rest."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from studio.diffusion.cache import ModelCache
from studio.errors import NotFound, StudioError
from studio.formats.carriers import infotext_of
from studio.jobs import SilentLane
from studio.pasting import read_infotext, request_values
from studio.requests.generate import GenerateRequest
from studio.requests.scripts import PlotRequest, PromptMatrixRequest, PromptsFromFileRequest
from studio.services import generation, scripts
from studio.services.desk import Desk
from studio.settings import Paths

BASE = {"prompt": "a red monster", "negative_prompt": "dark", "steps": 2, "seed": 5, "preview_every": 0, "width": 64, "height": 64}


@pytest.fixture
def desk(root: Paths, tiny_cache: ModelCache) -> Desk:
    """A desk over an empty root."""
    return Desk(root, tiny_cache)


def plot(**values: Any) -> PlotRequest:
    """A small plot."""
    base = {**BASE, **values.pop("base", {})}
    return PlotRequest.check({"base": base, "x_axis": "Seed", "x_values": "5, 6", **values})  # type: ignore[return-value]


def pixels(path: str | Path) -> np.ndarray:
    """A picture as numbers."""
    return np.array(Image.open(path).convert("RGB")).astype(int)


def events(lane: SilentLane, kind: str) -> list[dict[str, Any]]:
    """What was told of a kind."""
    return [data for name, data in lane.events if name == kind]


def test_a_plot_is_a_labelled_table_of_the_pictures_one_press_gives(desk: Desk, lane: SilentLane) -> None:
    result = scripts.run(plot(y_axis="Steps", y_values="1, 2", include_sub_images=True), lane, desk)
    grid, *subs = result["images"]
    assert (result["grids"], result["made"], result["cells"], result["stopped"], result["problems"]) == (1, 4, 4, False, [])
    assert len(result["images"]) == len(result["seeds"]) == len(result["infotexts"]) == 5
    alone = [pixels(generation.run(GenerateRequest(**{**BASE, "steps": steps, "seed": seed}), SilentLane(), desk)["images"][0]) for steps in (1, 2) for seed in (5, 6)]
    assert all(np.array_equal(pixels(path), one) for path, one in zip(subs, alone, strict=True))
    sheet = pixels(grid)
    left, top = sheet.shape[1] - 128, sheet.shape[0] - 128
    assert min(left, top) > 0
    for i, one in enumerate(alone):
        x, y = left + i % 2 * 64, top + i // 2 * 64
        assert np.array_equal(sheet[y : y + 64, x : x + 64], one)
    assert [e["path"] for e in events(lane, "saved")][-1] == grid


def test_infotexts_say_which_script_and_still_give_the_picture(desk: Desk, lane: SilentLane) -> None:
    result = scripts.run(plot(include_sub_images=True), lane, desk)
    assert [infotext_of(Path(p)) for p in result["images"]] == result["infotexts"]
    grid, sub = (read_infotext(text) for text in result["infotexts"][:2])
    for found in (grid, sub):
        assert {key: found[key] for key in ("Script", "X Type", "X Values", "Fixed X Values")} == {"Script": "X/Y/Z plot", "X Type": "Seed", "X Values": "5, 6", "Fixed X Values": "5, 6"}
    assert (grid["Prompt"], grid["Negative prompt"], grid["Seed"], sub["Seed"]) == ("a red monster", "dark", "5", "5")
    values, notes = request_values(result["infotexts"][2])
    again = generation.run(GenerateRequest.check({**BASE, **values}), SilentLane(), desk)  # type: ignore[arg-type]
    assert np.array_equal(pixels(again["images"][0]), pixels(result["images"][2]))
    assert notes == []


def test_without_a_legend_there_are_pictures_only(desk: Desk, lane: SilentLane) -> None:
    result = scripts.run(plot(draw_legend=False, margin=6), lane, desk)
    assert Image.open(result["images"][0]).size == (134, 64)
    assert len(result["images"]) == 1


def test_tables_of_z_stand_side_by_side(desk: Desk, lane: SilentLane) -> None:
    result = scripts.run(plot(z_axis="CFG Scale", z_values="1, 5", draw_legend=False, include_sub_grids=True), lane, desk)
    assert [Image.open(p).size for p in result["images"]] == [(256, 64), (128, 64), (128, 64)]
    whole, first, second = (pixels(p) for p in result["images"])
    assert np.array_equal(whole, np.concatenate([first, second], axis=1))


def test_progress_counts_every_step_of_every_cell(desk: Desk, lane: SilentLane) -> None:
    scripts.run(plot(y_axis="Steps", y_values="1, 3"), lane, desk)
    told = events(lane, "progress")
    assert {e["total"] for e in told} == {8}
    assert [e["step"] for e in told] == sorted(e["step"] for e in told)
    assert told[-1]["step"] == 8
    assert told[-1]["text"].startswith("4 / 4")


def test_a_stop_keeps_what_is_there(desk: Desk) -> None:
    class Stopping(SilentLane):
        def breathe(self) -> None:
            self.stop = True

    result = scripts.run(plot(include_sub_images=True), Stopping(), desk)
    assert (result["stopped"], result["made"], result["grids"]) == (True, 1, 1)
    assert all(Path(p).is_file() for p in result["images"])
    nothing = scripts.run(plot(), SilentLane(stop=True), desk)
    assert (nothing["images"], nothing["made"], nothing["stopped"]) == ([], 0, True)


def test_a_cell_that_fails_is_told_and_left_white(desk: Desk, lane: SilentLane, monkeypatch: pytest.MonkeyPatch) -> None:
    real = generation.run

    def failing(request: GenerateRequest, *rest: Any) -> dict[str, Any]:
        if request.seed == 5:
            raise StudioError("The device is out of memory.", "Use a smaller size.")
        return real(request, *rest)

    monkeypatch.setattr(generation, "run", failing)
    result = scripts.run(plot(draw_legend=False), lane, desk)
    assert result["problems"] == ["Seed: 5: The device is out of memory. Use a smaller size."]
    assert events(lane, "warning") == [{"text": result["problems"][0]}]
    assert (pixels(result["images"][0])[:, :64] == 255).all()
    with pytest.raises(StudioError, match="out of memory"):
        scripts.run(plot(x_values="5, 5"), lane, desk)


def test_files_that_are_not_here_are_all_named_before_anything_is_painted(desk: Desk, lane: SilentLane) -> None:
    with pytest.raises(NotFound) as caught:
        scripts.run(plot(x_axis="Checkpoint name", x_values="tiny-world, gone, lost", y_axis="VAE", y_values="None, missing.pt"), lane, desk)
    for name in ("gone", "lost", "missing.pt"):
        assert repr(name) in str(caught.value)
    assert lane.events == []


def test_cells_of_one_checkpoint_follow_each_other(desk: Desk, lane: SilentLane, monkeypatch: pytest.MonkeyPatch) -> None:
    real, seen = generation.run, []

    def watching(request: GenerateRequest, *rest: Any) -> dict[str, Any]:
        seen.append(request.checkpoint)
        return real(request, *rest)

    monkeypatch.setattr(generation, "run", watching)
    (desk.paths.checkpoints / "other").symlink_to(desk.paths.shipped.checkpoints / "tiny-world")
    desk.cache.paths, before = desk.paths, desk.cache.paths
    try:
        scripts.run(plot(x_axis="Checkpoint name", x_values="tiny-world, other", y_axis="Steps", y_values="1, 2"), lane, desk)
    finally:
        desk.cache.paths = before
    assert sum(a != b for a, b in itertools.pairwise(seen)) == 1
    assert len(seen) == 4


def test_a_batch_in_a_cell_is_a_small_table(desk: Desk, lane: SilentLane) -> None:
    result = scripts.run(plot(base={"batch_size": 2}, draw_legend=False, include_sub_images=True), lane, desk)
    assert Image.open(result["images"][0]).size[0] * Image.open(result["images"][0]).size[1] == 4 * 64 * 64
    assert len(result["images"]) == 5


def test_random_seeds_are_shared(desk: Desk, lane: SilentLane) -> None:
    result = scripts.run(plot(base={"seed": -1}, x_axis="Steps", x_values="1, 2", include_sub_images=True), lane, desk)
    assert len(set(result["seeds"])) == 1
    assert result["seeds"][0] >= 0


def test_a_prompt_matrix(desk: Desk, lane: SilentLane) -> None:
    request = PromptMatrixRequest.check({"base": {**BASE, "prompt": "a monster|red|dark"}})
    result = scripts.run(request, lane, desk)  # type: ignore[arg-type]
    assert [read_infotext(text)["Prompt"] for text in result["infotexts"]] == ["a monster|red|dark", "a monster", "a monster, red", "a monster, dark", "a monster, red, dark"]
    assert {read_infotext(text)["Script"] for text in result["infotexts"]} == {"Prompt matrix"}


def test_prompts_from_a_file(desk: Desk, lane: SilentLane) -> None:
    request = PromptsFromFileRequest.check({"base": {**BASE, "prompt": ""}, "text": "a red monster\n--prompt 'a blue one' --steps 1 --seed 9"})
    result = scripts.run(request, lane, desk)  # type: ignore[arg-type]
    assert [read_infotext(text)["Prompt"] for text in result["infotexts"][1:]] == ["a red monster", "a blue one"]
    assert result["seeds"][1:] == [5, 9]
