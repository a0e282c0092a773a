"""The check of the methods: all are in it, what they learned is really used, and a bar that is missed is said."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from studio.tinyworld import __main__ as command
from studio.tinyworld import check_methods as check
from studio.tinyworld.check_methods import Sizes, Taught, check_methods, missed, table, ways
from studio.training.methods import METHODS
from studio.training.methods.lora import LORA
from studio.training.methods.textual_inversion import TEXTUAL_INVERSION

LITTLE = Sizes(steps=2, pictures=2, held=2, questions=2, painting=1)


def row(name: str, after: float) -> Taught:
    """What came of a way that began at a loss of 0.3."""
    return Taught(name, 0.3, after, 0.3, after, 10, 1.0)


def test_every_method_is_taught_the_embedding_first_and_one_nobody_prepared_by_its_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    assert next(way.method for way in ways()) == "textual_inversion"
    assert {way.method for way in ways()} == {method.name for method in METHODS}
    assert {way.name for way in ways() if way.must} == {"LoRA", "LoKr", "DreamBooth", "embedding + LoRA"}
    monkeypatch.setattr(check, "SETTINGS", ())
    assert [(way.method, way.knobs) for way in ways()] == [(method.name, {}) for method in METHODS]


def test_bars_that_are_missed_are_said() -> None:
    rows = [row("embedding", 0.2), row("LoRA", 0.15), row("LoKr", 0.2), row("hypernetwork", 0.25), row("fine-tune", float("nan"))]
    said = missed(rows)
    assert [sentence.split(":")[0] for sentence in said] == ["fine-tune", "LoKr"]
    assert "0.2000" in said[1]
    assert missed([replace(rows[2], after=0.19) if r.name == "LoKr" else r for r in rows[:4]]) == []
    assert "-25.0%" in next(line for line in table(rows).splitlines() if line.startswith("LoRA"))


def test_what_is_learned_is_used_from_its_files(tmp_path: Path) -> None:
    some = [way for way in ways() if way.name in ("hypernetwork", "fine-tune", "embedding + LoRA")]
    rows, sheet = check_methods(tmp_path, LITTLE, some)
    assert [r.steps for r in rows] == [2] * len(some)
    assert rows[0].before == rows[1].before != rows[2].before
    assert len({r.after for r in rows} | {r.before for r in rows}) == len(rows) + 2
    assert sheet.size == (6 * 130, len(some) * 130)


def test_the_command_says_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(check, "QUICK", LITTLE)
    monkeypatch.setattr(check, "METHODS", (TEXTUAL_INVERSION, LORA))
    sheet = tmp_path / "made" / "sheet.png"
    monkeypatch.setattr("sys.argv", ["tinyworld", "check", "--methods", "--quick", "--json", "--out", str(sheet)])
    code = command.main()
    said = json.loads(capsys.readouterr().out)
    assert [method["name"] for method in said["methods"]] == ["embedding", "LoRA"]
    assert code == bool(said["missed"])
    assert Image.open(sheet).size == (6 * 130, 2 * 130)
