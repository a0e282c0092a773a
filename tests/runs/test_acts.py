"""Acts on kept runs: nothing is lost, nothing leads out of the run, and every act can be undone."""

from pathlib import Path

import pytest

from studio.errors import Conflict, InputError, NotFound
from studio.jobs import Job, State
from studio.runs import acts
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
        acts.inside(run, path)
    with pytest.raises((NotFound, InputError)):
        acts.use(root, RUN, path)


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


def test_weights_go_to_the_shelf_and_what_lay_there_comes_back(root: Paths, run: Path) -> None:
    shelf = root.embeddings / "hero.pt"
    shelf.write_bytes(b"by hand")
    used = acts.use(root, RUN, 20)
    assert shelf.read_bytes() == b"weights at 20" and used["replaced"] != used["hash"]
    best = acts.use(root, RUN, "best")
    assert shelf.read_bytes() == b"the best"
    acts.undo_use(root, best["kept"])
    assert shelf.read_bytes() == b"weights at 20"
    acts.undo_use(root, used["kept"])
    assert shelf.read_bytes() == b"by hand"
    acts.use(root, RUN, "embeddings/hero-0.pt", "hero-untaught")
    assert (root.embeddings / "hero-untaught.pt").read_bytes() == b"weights at 0" and shelf.read_bytes() == b"by hand"
    for which, new, wrong in ((21, "", NotFound), ("config.json", "", InputError), (0, "hero-untaught", Conflict), (0, "a/b", InputError)):
        with pytest.raises(wrong):
            acts.use(root, RUN, which, new)
    with pytest.raises(NotFound):
        acts.undo_use(root, "../../../settings.json")


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
