"""Runs on the command line: what it says, as words and as JSON, and exit codes of mistakes."""

import json
from pathlib import Path
from typing import Any

import pytest

from studio import cli
from studio.settings import Paths
from tests.runs.folders import full

HERO, OTHER = "2026-01-02-hero-abc", "2026-01-03-hero-def"


@pytest.fixture
def runs(root: Paths) -> Paths:
    full(root.runs / HERO)
    full(root.runs / OTHER, learn_rate="0.001")
    return root


def said(root: Paths, capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    """What a command says as JSON."""
    assert cli.main(["runs", *words, "--root", str(root.root), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_runs_are_told(runs: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    assert {row["id"] for row in said(runs, capsys, "list")} == {HERO, OTHER}
    assert said(runs, capsys, "show", "abc")["best"]["step"] == 20
    assert [row["name"] for row in said(runs, capsys, "compare", HERO, "2026-01-03")["settings"]] == ["learn_rate"]
    assert cli.main(["runs", "show", "abc", "--root", str(runs.root)]) == 0
    assert "Still improving: 4 %. Keep training." in capsys.readouterr().out


def test_runs_are_used_trashed_and_given_away(runs: Paths, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert said(runs, capsys, "use", "abc")["step"] == 20 and (runs.embeddings / "hero.pt").read_bytes() == b"the best"
    assert cli.main(["runs", "use", "abc", "last", "--root", str(runs.root)]) == 0
    assert "(step 20, best)" in capsys.readouterr().out, "the newest copy is of the same step as the best"
    said(runs, capsys, "use", "abc", "20", "--name", "mine")
    assert (runs.embeddings / "mine.pt").read_bytes() == b"weights at 20"
    for kind in ("zip", "png"):
        made = said(runs, capsys, "export", "abc", str(tmp_path / f"card.{kind}"))["path"]
        assert said(runs, capsys, "import", made)["values"]["embedding"] == "hero"
    gone = said(runs, capsys, "trash", "abc")["trashed"]
    assert said(runs, capsys, "trashed") == [gone] and len(said(runs, capsys, "list")) == 1
    assert said(runs, capsys, "restore", gone) == {"id": HERO}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["show", "nobody"], "list"),
        (["show", "2026"], "2 runs"),
        (["use", "abc", "21"], "no weights of step 21"),
        (["use", "abc", "config.json"], "no weights of this run"),
        (["export", "abc", "card.txt"], "neither"),
        (["import", "nothing.zip"], "no file"),
        (["extend", "abc", "40"], "leaves nothing to do"),
        (["compare", "abc"], "1 runs"),
    ],
)
def test_mistakes_are_told(runs: Paths, capsys: pytest.CaptureFixture[str], words: list[str], told: str) -> None:
    assert cli.main(["runs", *words, "--root", str(runs.root)]) == 2
    assert told in capsys.readouterr().err
