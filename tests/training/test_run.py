"""The run's folder: checkpoints that survive damage, and a curve that is cut back."""

import json
from pathlib import Path

import pytest
import torch

from studio.training.run import CURVE, PROBE, Checkpoint, Run


@pytest.fixture
def folder(tmp_path: Path) -> Run:
    """A new run."""
    return Run.open(tmp_path / "runs", "gnarl", "abc123")


def save(folder: Run, *steps: int) -> None:
    """Checkpoints whose vectors tell their step."""
    for step in steps:
        folder.save(Checkpoint(step, {"vectors": torch.full((2, 8), float(step))}, {"first": 0, "average": step / 10}))


def steps_kept(folder: Run, suffix: str = ".json") -> list[int]:
    """Steps of the files that lie there."""
    return sorted(int(p.stem) for p in folder.checkpoints.iterdir() if p.suffix == suffix)


def state_of(folder: Run, step: int) -> Path:
    """The tensors' file of a checkpoint."""
    return folder.checkpoints / f"{step:08d}.safetensors"


def test_a_new_run_has_its_folders_and_no_checkpoint(folder: Run) -> None:
    assert folder.folder.name.endswith("-gnarl-abc123")
    assert all(p.is_dir() for p in (folder.samples, folder.copies, folder.checkpoints))
    assert folder.latest() is None


def test_the_same_job_finds_its_folder_again_and_another_gets_its_own(folder: Run) -> None:
    runs = folder.folder.parent
    old = folder.folder.rename(runs / "2020-01-01-gnarl-abc123")
    assert Run.open(runs, "gnarl", "abc123").folder == old
    assert Run.open(runs, "gnarl", "def456").folder != old


def test_a_checkpoint_comes_back_bit_for_bit(folder: Run) -> None:
    vectors = torch.randn(3, 768, generator=torch.Generator().manual_seed(1))
    folder.save(Checkpoint(7, {"vectors": vectors, "slice": vectors[:, ::2]}, {"average": 0.1 + 0.2, "counted": 7}))
    kept = folder.latest()
    assert kept is not None
    assert kept.step == 7
    assert kept.facts == {"average": 0.1 + 0.2, "counted": 7}
    assert torch.equal(kept.tensors["vectors"], vectors)
    assert torch.equal(kept.tensors["slice"], vectors[:, ::2])


def test_the_newest_two_are_kept(folder: Run) -> None:
    save(folder, 0, 25, 50, 100)
    assert steps_kept(folder) == steps_kept(folder, ".safetensors") == [50, 100]
    assert folder.latest().step == 100


@pytest.mark.parametrize("left", [0, 1, 30, -1])
def test_a_checkpoint_whose_file_was_cut_is_passed_over(folder: Run, left: int) -> None:
    save(folder, 25, 50)
    state_of(folder, 50).write_bytes(state_of(folder, 50).read_bytes()[:left])
    kept = folder.latest()
    assert kept.step == 25
    assert torch.equal(kept.tensors["vectors"], torch.full((2, 8), 25.0))


def test_a_checkpoint_with_one_wrong_bit_is_passed_over(folder: Run) -> None:
    save(folder, 25, 50)
    spoilt = bytearray(state_of(folder, 50).read_bytes())
    spoilt[-3] ^= 1
    state_of(folder, 50).write_bytes(spoilt)
    assert folder.latest().step == 25


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '{"step": 50}', '{"step": "x", "sha256": "", "facts": {}}'])
def test_a_checkpoint_whose_manifest_was_damaged_is_passed_over(folder: Run, text: str) -> None:
    save(folder, 25, 50)
    state_of(folder, 50).with_suffix(".json").write_text(text)
    assert folder.latest().step == 25


def test_tensors_without_a_manifest_are_no_checkpoint(folder: Run) -> None:
    save(folder, 25, 50)
    state_of(folder, 50).with_suffix(".json").unlink()
    assert folder.latest().step == 25


def test_when_every_checkpoint_is_damaged_there_is_none(folder: Run) -> None:
    save(folder, 25, 50)
    for step in (25, 50):
        state_of(folder, step).write_bytes(b"")
    assert folder.latest() is None


def test_a_damaged_checkpoint_does_not_push_a_good_one_out(folder: Run) -> None:
    save(folder, 25, 50)
    state_of(folder, 50).write_bytes(b"")
    save(folder, 75)
    assert {25, 75} <= set(steps_kept(folder))
    state_of(folder, 75).write_bytes(b"")
    assert folder.latest().step == 25


def test_the_same_step_may_be_saved_again(folder: Run) -> None:
    save(folder, 25)
    folder.save(Checkpoint(25, {"vectors": torch.ones(1)}, {}))
    assert folder.latest().tensors["vectors"].tolist() == [1.0]


def test_the_curve_is_cut_back_to_the_step_the_run_goes_on_from(folder: Run) -> None:
    folder.curve.write_text(CURVE + "1,a\n2,b\n3,c\n4,d\n")
    folder.cut_back(2)
    assert folder.curve.read_text() == CURVE + "1,a\n2,b\n"


def test_a_half_written_last_line_goes_even_when_its_step_is_early(folder: Run) -> None:
    folder.curve.write_text(CURVE + "1,a\n2,0.1")
    folder.cut_back(5)
    assert folder.curve.read_text() == CURVE + "1,a\n"


@pytest.mark.parametrize("before", [None, "", "step,lo", CURVE])
def test_a_curve_that_was_not_begun_begins_with_its_head(folder: Run, before: str | None) -> None:
    if before is not None:
        folder.curve.write_text(before)
    folder.cut_back(0)
    assert folder.curve.read_text() == CURVE


def test_facts_are_noted_and_damage_reads_as_nothing(folder: Run) -> None:
    assert folder.noted("data") is None
    folder.note("data", [{"key": "k", "caption": "møñster"}])
    assert folder.noted("data") == [{"key": "k", "caption": "møñster"}]
    assert json.loads((folder.folder / "data.json").read_text(encoding="utf-8"))[0]["key"] == "k"
    (folder.folder / "data.json").write_text("[{")
    assert folder.noted("data") is None


def test_every_log_is_cut_back_but_the_journal(folder: Run) -> None:
    for step in (1, 2, 3):
        folder.tell("previews", {"step": step, "path": "samples/x.png"})
        folder.tell("journal", {"step": step, "ask": "change", "data": {}})
        folder.count("probe", (step, -0.1 * step, None))
    (folder.folder / "log.jsonl").write_text('{"step": 1}\nrubbish\n{"step": 2, "te')
    folder.note("result", {"state": "done"})
    folder.cut_back(2)
    assert [json.loads(line)["step"] for line in (folder.folder / "previews.jsonl").read_text().splitlines()] == [1, 2]
    assert (folder.folder / "probe.csv").read_text() == PROBE + "1,-0.1,\n2,-0.2,\n"
    assert (folder.folder / "log.jsonl").read_text() == '{"step": 1}\n'
    assert len(folder.journal.read_text().splitlines()) == 3
    assert folder.noted("result") is None


def test_checkpoints_after_the_step_a_run_goes_back_to_are_taken_away(folder: Run) -> None:
    save(folder, 25, 50)
    folder.cut_back(25)
    assert steps_kept(folder) == steps_kept(folder, ".safetensors") == [25]


def test_the_newest_good_checkpoint_outlives_doubtful_ones(folder: Run) -> None:
    save(folder, 0, 10)
    for step in (20, 30, 40):
        folder.save(Checkpoint(step, {"vectors": torch.ones(1)}, {}, good=False))
    assert steps_kept(folder) == [10, 30, 40]
    assert folder.latest().step == 40
    assert folder.latest(good=True).step == 10


def test_checkpoints_that_were_passed_over_are_named(folder: Run) -> None:
    save(folder, 25, 50)
    state_of(folder, 50).write_bytes(bytes(state_of(folder, 50).stat().st_size))
    assert folder.damaged() == [50]


def test_a_job_that_went_on_with_a_run_finds_it_after_its_folder_got_another_name(folder: Run) -> None:
    runs = folder.folder.parent
    folder.note("run", {**folder.noted("run"), "title": "mine"})
    assert Run.open(runs, "gnarl", "def456", folder.folder.name).folder == folder.folder
    other = folder.folder.rename(runs / "renamed")
    assert Run.open(runs, "gnarl", "def456", folder.folder.name).folder == other
    assert Run.open(runs, "gnarl", "abc123").folder == other
    assert folder.__class__(other).noted("run") == {"jobs": ["abc123", "def456"], "title": "mine"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
def test_a_line_that_does_not_fit_is_told(folder: Run) -> None:
    (folder.folder / "curve.csv").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        folder.count("curve", (1, 0.5))
