"""Which step the plain name of a run stands for: told by the files, after an end, a choice, an undo, and a change by hand."""

import json
import shutil
from pathlib import Path

import pytest

from studio.errors import NotFound
from studio.runs import using, weights
from studio.runs.in_use import in_use
from studio.runs.reading import view
from studio.settings import Paths
from tests.runs.folders import full


@pytest.fixture
def run(root: Paths) -> Path:
    """A run of 40 steps whose best was step 20 and whose last weights lie on the shelf."""
    folder = full(root.runs / "2026-01-02-hero-abc")
    noted = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**noted, "facts": {**noted["facts"], "shelves": {".pt": "embeddings/hero.pt"}}}))
    (folder / "embeddings/hero-40.pt").write_bytes(b"weights at 40")
    shutil.copy(folder / "embeddings/hero-40.pt", root.embeddings / "hero.pt")
    return folder


def told(root: Paths, run: Path) -> tuple[str, int | None, str]:
    """What is in use, and the sentence."""
    seen = view(run, None, {})
    found = in_use(root.root, run, seen["step"], seen["usage"])
    assert found is not None
    return found["which"], found["step"], found["text"].format(**found["values"])


def test_the_name_means_the_last_step_until_another_is_chosen(root: Paths, run: Path) -> None:
    assert told(root, run) == ("last", 40, "In prompts, hero now means step 40 (last).")
    used = using.use(root, run, None)
    assert (used["step"], used["best"]) == (20, True), "the best is what is used where nobody chose"
    assert told(root, run) == ("best", 20, "In prompts, hero now means step 20 (best).")
    using.undo_use(root, run, used["kept"])
    assert told(root, run)[:2] == ("last", 40)
    assert using.use(root, run, 0)["best"] is False
    assert told(root, run) == ("step", 0, "In prompts, hero now means step 0.")
    assert using.use(root, run, "last")["step"] == 40
    assert told(root, run)[:2] == ("last", 40)
    (root.embeddings / "hero.pt").write_bytes(b"by hand")
    assert told(root, run) == ("other", None, "In prompts, hero now means a file that is not from this run.")
    (root.embeddings / "hero.pt").unlink()
    assert told(root, run) == ("none", None, "The file of hero is no longer there.")


def test_a_best_step_that_is_the_last_is_both(root: Paths, run: Path) -> None:
    (run / "best.json").write_text(json.dumps({"step": 40, "value": -4.0, "path": "embeddings/hero-best.pt"}))
    assert told(root, run) == ("both", 40, "In prompts, hero now means step 40 (best and last).")


def test_large_files_are_told_apart_by_parts_of_them(root: Paths, run: Path) -> None:
    large = bytes(range(256)) * 4000
    (run / "embeddings/hero-40.pt").write_bytes(large)
    (root.embeddings / "hero.pt").write_bytes(large[:500_000] + b"\xff" * 70_000 + large[570_000:])
    assert told(root, run)[0] == "other"
    shutil.copy(run / "embeddings/hero-40.pt", root.embeddings / "hero.pt")
    assert told(root, run)[:2] == ("last", 40)


def test_where_nothing_was_measured_the_last_weights_are_used(root: Paths, run: Path) -> None:
    (run / "best.json").unlink()
    assert using.use(root, run, None)["step"] == 40
    with pytest.raises(NotFound, match="no best measurement"):
        using.use(root, run, "best")
    for file in (run / "embeddings").iterdir():
        file.unlink()
    assert weights.default_of(run) == "last"
    with pytest.raises(NotFound, match="kept no weights of its last step"):
        using.use(root, run, None)
