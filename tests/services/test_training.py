"""Training on the tiny world: it learns, stops, goes on bit for bit, tells what happens, and names every mistake."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from studio.diffusion.cache import ModelCache
from studio.diffusion.model import Model
from studio.errors import InputError
from studio.formats.embedding import Embedding, read_embedding, write_embedding
from studio.formats.embedding_optim import optim_path, write_optim
from studio.formats.infotext import infotext_of, read_infotext
from studio.jobs import SilentLane
from studio.requests.train import CreateEmbeddingRequest, TrainRequest
from studio.services.desk import Desk
from studio.services.library import create_embedding
from studio.services.training import run
from studio.settings import Paths
from studio.training.run import Run
from studio.training.watch import Rhythm
from tests.services.trainings import Acting, Cut, Cutting, curve, events, request, shelf


@pytest.fixture
def desk(root: Paths, tiny_cache: ModelCache) -> Desk:
    """A desk with the embedding gnarl, of two vectors."""
    desk = Desk(root, tiny_cache)
    create_embedding(CreateEmbeddingRequest(name="gnarl", initialization_text="monster", vectors=2), desk)
    return desk


@pytest.fixture
def data(captioned: Path) -> Path:
    """Three pictures with captions."""
    return captioned


def test_the_vectors_move_and_the_file_says_its_step_and_checkpoint(desk: Desk, data: Path, lane: SilentLane, tiny: Model) -> None:
    before = shelf(desk)
    result = run(request(data), lane, desk)
    after = shelf(desk)
    assert result["steps"] == 6
    assert result["stopped"] is False
    assert result["embedding"] == str(desk.paths.embeddings / "gnarl.pt")
    assert (after.step, after.checkpoint_name, after.checkpoint_hash) == (6, "tiny-world", tiny.hash)
    assert after.vectors.shape == before.vectors.shape
    moved = (after.vectors - before.vectors).norm(dim=1)
    assert bool((moved > 0.01).all())
    assert before.step is None


def test_the_networks_and_the_vocabulary_stay_as_they_are(desk: Desk, data: Path, lane: SilentLane, tiny: Model) -> None:
    parts = (tiny.unet, tiny.vae, tiny.text_encoder)
    before = [p.detach().clone() for part in parts for p in part.parameters()]
    run(request(data, steps=2), lane, desk)
    assert all(torch.equal(a, b) for a, b in zip(before, (p for part in parts for p in part.parameters()), strict=True))
    assert all(p.grad is None for part in parts for p in part.parameters())


def test_the_curve_has_one_line_for_each_step(desk: Desk, data: Path, lane: SilentLane) -> None:
    lines = curve(run(request(data, steps=5, learn_rate="0.01:2, 0.001"), lane, desk))
    assert [line["step"] for line in lines] == ["1", "2", "3", "4", "5"]
    assert [float(line["learn_rate"]) for line in lines] == [0.01, 0.01, 0.001, 0.001, 0.001]
    assert all(0 < float(line["loss"]) < 10 for line in lines)
    assert float(lines[0]["smoothed"]) == pytest.approx(float(lines[0]["loss"]))
    distances = [float(line["distance"]) for line in lines]
    assert 0 < distances[0] < distances[-1]


def test_metrics_previews_and_saves_are_told(desk: Desk, data: Path, lane: SilentLane) -> None:
    run(request(data, steps=4, preview_every=2, save_every=2), lane, desk)
    last = events(lane, "metric")[-1]
    assert (last["step"], last["total"]) == (4, 4)
    assert last["loss"] > 0
    assert "gnarl" in last["prompt"]
    assert [e["step"] for e in events(lane, "preview")] == [0, 2, 4]
    assert [(Path(e["path"]).name, e["step"]) for e in events(lane, "saved")] == [("gnarl-2.pt", 2), ("gnarl.pt", 4)]
    assert events(lane, "progress")[-1]["step"] == 4
    assert events(lane, "warning") == []


def test_previews_differ_from_step_to_step_and_carry_their_infotext(desk: Desk, data: Path, lane: SilentLane) -> None:
    result = run(request(data, steps=4, preview_every=2, preview_steps=3, learn_rate="0.2", preview_prompt="[name] in a forest", preview_seed=9), lane, desk)
    paths = [Path(e["path"]) for e in events(lane, "preview")]
    assert [p.name for p in paths] == ["000000-0.png", "000002-0.png", "000004-0.png"]
    assert all(p.parent == Path(result["run"]) / "samples" for p in paths)
    pictures = [np.array(Image.open(p)) for p in paths]
    assert not np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[1], pictures[2])
    said = read_infotext(infotext_of(paths[0]))
    assert (said["Prompt"], said["Seed"], said["Steps"]) == ("gnarl in a forest", "9", "3")


def test_previews_change_nothing_of_what_is_learned(desk: Desk, data: Path) -> None:
    start = shelf(desk)
    run(request(data, steps=3, preview_every=1), SilentLane("with"), desk)
    with_previews = shelf(desk).vectors
    write_embedding(desk.paths.embeddings / "gnarl.pt", start)
    run(request(data, steps=3), SilentLane("without"), desk)
    assert torch.equal(shelf(desk).vectors, with_previews)


def test_copies_are_kept_as_often_as_asked(desk: Desk, data: Path, lane: SilentLane) -> None:
    folder = Path(run(request(data, steps=6, save_every=2, probe_every=0), lane, desk)["run"])
    assert sorted(p.name for p in (folder / "embeddings").iterdir()) == ["gnarl-2.pt", "gnarl-4.pt", "gnarl-6.pt"], "and at the end"
    two, four = (read_embedding(folder / "embeddings" / f"gnarl-{step}.pt") for step in (2, 4))
    assert (two.step, four.step) == (2, 4)
    assert not torch.equal(two.vectors, four.vectors)


def test_a_stop_saves_and_returns(desk: Desk, data: Path) -> None:
    before, lane = shelf(desk).vectors, Acting()
    lane.at = 3
    result = run(request(data, steps=50), lane, desk)
    assert (result["steps"], result["stopped"]) == (3, True)
    assert shelf(desk).step == 3
    assert not torch.equal(shelf(desk).vectors, before)
    assert len(curve(result)) == 3
    assert events(lane, "metric")[-1]["step"] == 3
    assert desk.live == {}


def test_a_stop_before_the_first_step_leaves_the_vectors(desk: Desk, data: Path, lane: SilentLane) -> None:
    before = shelf(desk).vectors
    lane.stop = True
    result = run(request(data), lane, desk)
    assert (result["steps"], result["stopped"]) == (0, True)
    assert torch.equal(shelf(desk).vectors, before)


def test_an_embedding_that_was_trained_goes_on_from_its_step(desk: Desk, data: Path) -> None:
    run(request(data, steps=3), SilentLane("one"), desk)
    between = shelf(desk).vectors
    result = run(request(data, steps=5), SilentLane("two"), desk)
    assert [line["step"] for line in curve(result)] == ["4", "5"]
    assert shelf(desk).step == 5
    assert not torch.equal(shelf(desk).vectors, between)


@pytest.mark.parametrize(("cut", "ten"), [(1, False), (4, True)])
def test_a_run_that_was_killed_goes_on_to_the_same_bits_and_the_same_curve(desk: Desk, data: Path, cut: int, ten: bool) -> None:
    rhythm = Rhythm(3 if ten else 25)
    knobs = {"steps": 5, "shuffle_tags": True, "drop_out_tags": 0.2, "latent_sampling": "random", "learn_rate": "0.02:3, 0.005", "gradient_accumulation": 2, "batch_size": 1}
    start = shelf(desk)
    whole = run(request(data, **knobs), SilentLane("whole"), desk, rhythm)
    wanted = shelf(desk)
    write_embedding(desk.paths.embeddings / "gnarl.pt", start)
    lane = Cutting("killed")
    lane.left = cut
    with pytest.raises(Cut):
        run(request(data, **knobs), lane, desk, rhythm)
    assert torch.equal(shelf(desk).vectors, start.vectors)
    assert desk.live == {}
    again = SilentLane("killed")
    result = run(request(data, **knobs), again, desk, rhythm)
    assert torch.equal(shelf(desk).vectors, wanted.vectors)
    assert shelf(desk).step == 5
    assert (Path(result["run"]) / "curve.csv").read_bytes() == (Path(whole["run"]) / "curve.csv").read_bytes()
    assert events(again, "log")[0]["text"] == f"Going on from step {3 if ten else 0}."


def test_a_run_goes_on_when_its_folder_and_template_are_gone(desk: Desk, data: Path) -> None:
    template = desk.paths.templates / "own.txt"
    template.write_text("a photo of [name]")
    start = shelf(desk)
    run(request(data, template="own", steps=4), SilentLane("whole"), desk)
    wanted = shelf(desk).vectors
    write_embedding(desk.paths.embeddings / "gnarl.pt", start)
    lane = Cutting("killed")
    lane.left = 2
    with pytest.raises(Cut):
        run(request(data, template="own", steps=4), lane, desk)
    template.unlink()
    for file in data.iterdir():
        file.unlink()
    data.rmdir()
    run(request(data, template="own", steps=4), SilentLane("killed"), desk)
    assert torch.equal(shelf(desk).vectors, wanted)


def test_the_memory_of_another_programs_optimiser_is_taken_up(desk: Desk, data: Path, lane: SilentLane) -> None:
    shelf = desk.paths.embeddings / "gnarl.pt"
    vectors = torch.nn.Parameter(read_embedding(shelf).vectors.clone())
    other = torch.optim.AdamW([vectors], lr=0.01)
    vectors.grad = torch.ones_like(vectors)
    other.step()
    write_optim(optim_path(shelf), read_embedding(shelf).vectors, other.state_dict())
    told = run(request(data, steps=1), lane, desk)
    assert "The optimiser goes on from gnarl.pt.optim." in [e["text"] for kind, e in lane.events if kind == "log"]
    kept = Run(Path(told["run"])).latest()
    assert kept is not None
    assert kept.tensors["optimizer.0.step"] == 2  # one step there, one here


def test_a_run_that_is_over_gives_the_same_again(desk: Desk, data: Path, lane: SilentLane) -> None:
    first = run(request(data, steps=3), lane, desk)
    wanted = shelf(desk).vectors
    again = run(request(data, steps=3), SilentLane(lane.job), desk)
    assert again == first
    assert torch.equal(shelf(desk).vectors, wanted)
    assert len(curve(again)) == 3


def test_save_is_served_while_training_goes_on(desk: Desk, data: Path) -> None:
    lane = Acting()
    lane.at, lane.what = 2, "save"
    run(request(data, steps=5), lane, desk)
    assert [e["step"] for e in events(lane, "saved")] == [3, 5]
    assert lane.asks == []


def test_a_sample_is_painted_when_asked(desk: Desk, data: Path) -> None:
    lane = Acting()
    lane.at, lane.what = 2, "sample"
    result = run(request(data, steps=4), lane, desk)
    assert [e["step"] for e in events(lane, "preview")] == [3]
    assert (Path(result["run"]) / "samples" / "000003-asked-1.png").is_file()
    assert lane.asks == []


def test_live_vectors_can_be_used_in_prompts_while_training_goes_on(desk: Desk, data: Path) -> None:
    seen: list[torch.Tensor] = []

    class Looking(SilentLane):
        """Reads the word as a prompt would."""

        def breathe(self) -> None:
            """Keep what a prompt gets."""
            seen.append(desk.words("a photo of gnarl")["gnarl"].clone())

    before = shelf(desk).vectors
    run(request(data, steps=2), Looking(), desk)
    assert len(seen) == 2
    assert not torch.equal(seen[0], before)
    assert torch.equal(seen[1], shelf(desk).vectors)
    assert desk.live == {}


def test_all_mistakes_are_told_at_once(desk: Desk, data: Path, lane: SilentLane) -> None:
    with pytest.raises(InputError) as raised:
        run(request(data, embedding="nobody", data=str(data / "nowhere"), template="nothing"), lane, desk)
    said = str(raised.value)
    assert "Embedding: there is no 'nobody'" in said
    assert "Dataset directory:" in said
    assert "nowhere" in said
    assert "Prompt template: there is no 'nothing'; choose one of" in said
    assert "subject_filewords" in said


def test_max_steps_that_are_reached_already_are_told(desk: Desk, data: Path, lane: SilentLane) -> None:
    write_embedding(desk.paths.embeddings / "gnarl.pt", Embedding("gnarl", shelf(desk).vectors, step=40))
    with pytest.raises(InputError, match=r"Max steps: 'gnarl' has been trained to step 40 already, and Max steps is 40; enter a number above 40"):
        run(request(data, steps=40), lane, desk)


def test_a_folder_without_a_picture_is_told(desk: Desk, tmp_path: Path, lane: SilentLane) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match="Dataset directory: there is no picture"):
        run(request(tmp_path / "none"), lane, desk)


def test_a_picture_that_cannot_be_read_is_left_out_with_a_warning(desk: Desk, data: Path, lane: SilentLane) -> None:
    (data / "bad.png").write_bytes(b"hello")
    result = run(request(data, steps=1), lane, desk)
    assert result["steps"] == 1
    (warning,) = events(lane, "warning")
    assert warning["text"].startswith("bad.png was left out:")
    assert len(json.loads((Path(result["run"]) / "data.json").read_text())) == 3


def test_a_folder_where_no_picture_can_be_read_is_told(desk: Desk, tmp_path: Path, lane: SilentLane) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "bad.png").write_bytes(b"hello")
    with pytest.raises(InputError, match="none of the 1 files"):
        run(request(tmp_path / "bad"), lane, desk)


def test_a_template_without_the_name_warns_and_the_word_stays(desk: Desk, data: Path, lane: SilentLane) -> None:
    (desk.paths.templates / "own.txt").write_text("a photo of [filewords]")
    before = shelf(desk).vectors
    run(request(data, template="own", steps=2), lane, desk)
    (warning,) = events(lane, "warning")
    assert warning["text"] == "No training prompt holds 'gnarl': nothing can be learned. Choose a template with [name]."
    assert torch.equal(shelf(desk).vectors, before)


def test_a_template_that_names_the_word_only_sometimes_warns_how_often(desk: Desk, data: Path, lane: SilentLane) -> None:
    (desk.paths.templates / "own.txt").write_text("a photo of [filewords]\na photo of [name]\n")
    run(request(data, template="own", steps=1), lane, desk)
    assert [e["text"] for e in events(lane, "warning")] == ["Only 3 of 6 training prompts hold 'gnarl'; the others teach it nothing."]


@pytest.mark.parametrize("rate", ["0", "-1", "1001", "1e38", "nan", "inf", "0.005:10, 1e38"])
def test_a_learning_rate_no_run_can_use_is_told_before_it_starts(data: Path, rate: str) -> None:
    with pytest.raises(InputError, match=r"Learn rate: the rate '.*' must be greater than 0 and at most 1000"):
        TrainRequest.check({"config": {"embedding": "gnarl", "data": str(data), "learn_rate": rate}})


def test_an_embedding_of_another_width_is_told(desk: Desk, data: Path, lane: SilentLane) -> None:
    write_embedding(desk.paths.embeddings / "gnarl.pt", Embedding("gnarl", torch.ones(1, 768)))
    with pytest.raises(InputError, match=r"Embedding: 'gnarl' has vectors of width 768, but tiny-world needs 128"):
        run(request(data), lane, desk)


def test_the_run_notes_what_it_is_made_of(desk: Desk, data: Path, lane: SilentLane, tiny: Model) -> None:
    folder = Path(run(request(data, steps=2, seed=11), lane, desk)["run"])
    noted = json.loads((folder / "config.json").read_text())
    assert noted["config"]["seed"] == 11
    assert noted["config"]["embedding"] == "gnarl"
    assert noted["facts"]["checkpoint_hash"] == tiny.hash


def test_a_lora_whose_trigger_is_an_embedding_learns_on_top_of_it_as_prompts_will_read_it(desk: Desk, data: Path) -> None:
    losses = []
    lanes = (SilentLane("one"), SilentLane("two"), SilentLane("three"))
    for trigger, lane in zip(("gnarl", "Gnarl", "other"), lanes, strict=True):
        knobs = {"name": f"lora-{trigger.swapcase()}", "trigger": trigger, "data": str(data), "steps": 1, "preview_every": 0, "save_every": 0, "probe_every": 0, "rank": 2}
        run(TrainRequest.check({"method": "lora", "config": knobs}), lane, desk)
        losses.append(curve(next(desk.paths.runs.glob(f"*-lora-{trigger.swapcase()}-*")))[0]["loss"])
    assert losses[0] == losses[1] != losses[2]
