"""Data sets on the command line: one real worker does every act on a real folder, results are JSON, exit codes say how it went, and every knob is an option."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from studio import cli, shelves
from studio.cli.data import JOBS
from studio.config import Config
from studio.engine import Engine
from studio.requests.caption import CaptionRequest
from studio.requests.room import RoomSettings
from studio.settings import Paths
from tests.projects.small_pictures import lay, said

PATIENCE = 240.0


@pytest.fixture
def engine(root: Paths) -> Iterator[Engine]:
    """An engine whose worker is ended with it."""
    engine = Engine(root)
    yield engine
    engine.close()
    for worker in engine.store.workers():
        if worker["facts"].get("role") == "worker":
            os.kill(worker["pid"], signal.SIGKILL)


def studio(engine: Engine, *words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    run = [sys.executable, "-m", "studio", *map(str, words), "--root", str(engine.paths.root)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=PATIENCE, check=False, cwd=cwd, env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])})
    assert "Traceback" not in done.stderr, done.stderr
    return done


def told(engine: Engine, *words: object, code: int = 0) -> dict[str, Any]:
    """What a command says as JSON, run in this process."""
    said, wrong = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(wrong):
        returned = cli.main([*map(str, words), "--root", str(engine.paths.root), "--json"])
    assert returned == code, wrong.getvalue() + said.getvalue()
    return json.loads(said.getvalue())


def refused(arguments: list[object], root: Paths, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command says on stderr that is refused at the door."""
    assert cli.main([*map(str, arguments), "--root", str(root.root)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def test_a_data_set_from_its_import_to_its_export(engine: Engine, tmp_path: Path) -> None:
    source, room = tmp_path / "source", engine.paths.datasets / "room"
    lay(source, {"readme.png": "no picture"})
    for number, picture in enumerate(shelves.images(shelves.sample_pictures())[:5]):
        shutil.copy(picture, source / f"{number}{picture.suffix}")
    engine.keep_worker("test")
    came = told(engine, "dataset", "import", room, source)
    assert (came["state"], came["added"], [one["source"] for one in came["skipped"]]) == ("done", 5, ["readme.png"])
    assert told(engine, "dataset", "list") == [{"id": "room", "name": "room", "folder": str(room), "pictures": 5}]
    assert told(engine, "dataset", "examine", room, "--again")["examined"] == 5

    captioned = told(engine, "caption", room, "--trigger", "hero")
    assert captioned["state"] == "done"
    assert all(caption.startswith("hero, ") for caption in said(room).values())
    sentence = said(room)["0.png"]
    told(engine, "caption", room, "--captioners", "DeepBooru", "--threshold", "0.01", "--names", "0.png")
    assert said(room)["0.png"] != sentence
    assert "hero" not in said(room)["0.png"]

    report = told(engine, "dataset", "doctor", room)
    assert (report["problems"], report["unexamined"], bool(report["advice"])) == (0, 0, True)
    (room / "bad.png").write_text("no picture")
    report = told(engine, "dataset", "doctor", room, "--trigger", "hero", code=1)
    assert report["problems"] == 1
    bad = next(finding for finding in report["findings"] if finding["severity"] == "problem")
    assert bad["items"] == ["bad.png"]
    plain = studio(engine, "dataset", "doctor", room)
    assert (plain.returncode, f"PROBLEM: {bad['sentence']}" in plain.stdout) == (1, True)

    written = told(engine, "dataset", "write", room, "--width", "64", "--height", "64", "--flip")
    assert written["destination"] == str(room / "exports" / "64x64")
    assert len(list((room / "exports" / "64x64").glob("*.png"))) == 10
    done = studio(engine, "dataset", "export", room, "out.zip", "--layout", "kohya", "--tokens", "ohwx cat", cwd=tmp_path)
    assert (done.returncode, f"destination: {tmp_path / 'out.zip'}" in done.stdout) == (0, True), done.stderr
    again = told(engine, "dataset", "import", tmp_path / "again", tmp_path / "out.zip")
    assert again["added"] == 5
    assert said(tmp_path / "again") == {name: caption for name, caption in said(room).items() if name != "bad.png"}
    failed = told(engine, "dataset", "import", tmp_path / "again", tmp_path / "out.zip", code=1)
    assert (failed["state"], "already there" in failed["error"]) == ("failed", True)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["dataset", "import", "FOLDER", "nowhere"], "does not exist"),
        (["dataset", "import", "FILE", "FOLDER"], "cannot be made a folder"),
        (["dataset", "examine", "nowhere"], "is not a folder"),
        (["dataset", "write", "nowhere"], "is not a folder"),
        (["dataset", "write", "FOLDER", "--width", "wide"], "Width"),
        (["dataset", "write", "FOLDER", "--masks", "alpha", "--format", "jpg"], "no alpha channel"),
        (["dataset", "export", "FOLDER", "out", "--layout", "square"], "Layout"),
        (["dataset", "doctor", "nowhere"], "is not a folder"),
        (["dataset", "doctor", "FOLDER", "--method", "magic"], "Method"),
        (["dataset", "mask", "FILE"], "is not a folder"),
        (["caption", "FOLDER", "--threshold", "2"], "Threshold"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_a_mistake_is_refused_before_anything_is_done(root: Paths, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], reason: str) -> None:
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    file.write_text("x")
    said = refused([{"FOLDER": folder, "FILE": file, "nowhere": tmp_path / "nowhere"}.get(word, word) for word in words], root, capsys)
    assert reason in said
    assert Engine(root).jobs() == []
    assert not (tmp_path / "nowhere").exists()


def test_a_data_set_without_pictures_is_looked_at_without_a_worker(root: Paths, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["dataset", "doctor", str(tmp_path), "--json", "--root", str(root.root)])
    report = json.loads(capsys.readouterr().out)
    assert code == (1 if report["problems"] else 0)
    assert Engine(root).jobs() == []


def test_names_in_another_encoding_are_printed(root: Paths, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = root.datasets / os.fsdecode(b"caf\xe9")
    folder.mkdir(parents=True)
    for words in (["list"], ["list", "--json"], ["doctor", str(folder)], ["doctor", str(folder), "--json"]):
        cli.main(["dataset", *words, "--root", str(root.root)])
        capsys.readouterr().out.encode()


@pytest.mark.parametrize(
    ("words", "request_", "places"),
    [(["dataset", act], request, {"folder", *places}) for act, request, _, places in JOBS] + [(["dataset", "doctor"], RoomSettings, {"folder"}), (["caption"], CaptionRequest, {"folder"})],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_help_names_every_option_and_says_what_it_does(capsys: pytest.CaptureFixture[str], words: list[str], request_: type[Config], places: set[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0
    for place in places:
        assert f" {place} " in text
    for name, field in request_.model_fields.items():
        if name not in places:
            assert f"--{name.replace('_', '-')} " in text
            assert " ".join((field.description or "").split()) in text
    assert "--json" in text


def test_every_data_set_act_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["dataset", "--help"])
    text = capsys.readouterr().out
    assert [act for act in ("list", "import", "examine", "mask", "write", "doctor", "export") if f"    {act} " not in text] == []
    with pytest.raises(SystemExit) as ended:
        cli.main(["dataset", "dance"])
    assert ended.value.code == 2
