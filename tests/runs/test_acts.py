"""Acts on kept runs: nothing is lost, nothing leads out of the run, and every act can be undone."""

from pathlib import Path

import pytest

from studio.errors import Conflict, InputError, NotFound
from studio.jobs import Job, State
from studio.runs import acts, using, weights
from studio.runs.listing import listing
from studio.runs.reading import view
from studio.settings import Paths
from tests.runs.folders import full, lines

RUN = "2026-01-02-hero-abc"


@pytest.fixture
def run(root: Paths) -> Path:
    return full(root.runs / RUN)


def test_a_title_and_a_note_stay_with_the_folder(run: Path) -> None:
    acts.rename(run, "  the  good one ")
    acts.note(run, "第一个好的")
    seen = view(run, None, {})
    assert (seen["id"], seen["name"], seen["note"], seen["embedding"]) == (RUN, "the good one", "第一个好的", "hero")
    with pytest.raises(InputError, match="121"):
        acts.rename(run, "x" * 121)


@pytest.mark.parametrize("path", ["../other/config.json", "/etc/passwd", "embeddings/../../other/config.json", "link.pt", "a\0b", "", "embeddings"])
def test_no_path_leads_out_of_a_run(root: Paths, run: Path, path: str) -> None:
    full(root.runs / "other")
    (run / "link.pt").symlink_to(root.runs / "other/config.json")
    with pytest.raises(NotFound):
        weights.inside(run, path)
    with pytest.raises((NotFound, InputError)):
        using.use(root, run, path)


@pytest.mark.parametrize("name", ["..", ".", "", "../runs", f"x/../{RUN}", "/etc", ".hidden", f"{RUN}\\..", "a\0"])
def test_no_name_leads_out_of_the_runs(root: Paths, run: Path, name: str) -> None:
    with pytest.raises(NotFound):
        acts.run_folder(root, name)
    with pytest.raises(NotFound):
        acts.restore(root, name)


def test_the_trash_gives_back_what_it_took(root: Paths, run: Path) -> None:
    running = Job("abc", "train", {}, State.RUNNING, 1.0, 1.0, None, None, None, 1, None)
    with pytest.raises(Conflict, match="running"):
        acts.trash(root, RUN, [running])
    gone = acts.trash(root, RUN, [])["trashed"]
    assert not run.exists() and acts.trashed(root) == [gone]
    full(run)
    with pytest.raises(Conflict):
        acts.restore(root, gone)
    second = acts.trash(root, RUN, [])["trashed"]
    assert second != gone and acts.restore(root, second) == {"id": RUN}
    assert view(run, None, {})["step"] == 40 and acts.trashed(root) == [gone]


def test_going_on_keeps_what_was_changed_while_it_ran(root: Paths, run: Path) -> None:
    lines(run / "journal.jsonl", {"step": 10, "ask": "change", "data": {"learn_rate": "0.001", "steps": 200}}, {"step": 20, "ask": "pause", "data": {}})
    request = acts.going_on(root, RUN, [], 300)
    assert (request["run"], request["config"]["learn_rate"], request["config"]["steps"], listing(root.runs)[0]["end"]) == (RUN, "0.001", 300, 200)
    with pytest.raises(InputError, match="has taken 40"):
        acts.going_on(root, RUN, [], 40)


def test_a_clone_has_what_the_form_knows(run: Path) -> None:
    text = (run / "config.json").read_text()
    (run / "config.json").write_text(text.replace('"embedding": "hero"', '"embedding": "hero", "of_another_version": 1'))
    assert acts.clone(run) == {"embedding": "hero", "data": "/nowhere/hero", "learn_rate": "0.005", "steps": 100, "preview_prompt": "a [name]", "preview_seed": 7}
    text = (run / "config.json").read_text()
    (run / "config.json").write_text(text.replace("textual_inversion", "lora").replace('"embedding": "hero"', '"name": "hero", "rank": 4'))
    assert acts.clone(run) == {"name": "hero", "rank": 4, "data": "/nowhere/hero", "learn_rate": "0.005", "steps": 100, "preview_prompt": "a [name]", "preview_seed": 7}
    going = acts.going_on(Paths(run.parents[2]), RUN, [], 200)
    assert (going["method"], going["config"]["rank"]) == ("lora", 4)
    (run / "config.json").write_text(text.replace("textual_inversion", "of another version"))
    with pytest.raises(NotFound, match="of another version"):
        acts.clone(run)
