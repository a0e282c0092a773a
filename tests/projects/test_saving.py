"""Typing, long jobs and the past: captions saved one by one, and brought back to what they said."""

import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from studio.errors import InputError, NotFound
from studio.projects import autosave
from studio.projects.facts import Change
from studio.projects.project import Project
from studio.projects.steps import Changed
from tests.projects.filled import fill, said, texts, to_dogs


def test_typing_is_one_step_that_goes_back_to_before_the_first_letter(tmp_path: Path) -> None:
    project = fill(tmp_path)
    (tmp_path / "0.txt").write_bytes("猫".encode("utf-16"))
    seen = "猫"
    for text in ("猫 a", "猫 ab\0\ud800", "  猫  abc "):
        assert said(project.write_caption("0.png", text, seen)) == ("Caption of 0.png", 1, "done")
        seen = project.item("0.png").caption
    assert (tmp_path / "0.txt").read_bytes() == "  猫  abc ".encode()
    assert project.write_caption("0.png", "猫  abc", seen) is None
    project.write_caption("1.png", "another", "cat 1")
    project.write_caption("0.png", "later", seen)
    assert [edit.name for edit in project.history()] == ["Caption of 0.png", "Caption of 1.png", "Caption of 0.png"]
    for _ in range(3):
        project.undo()
    assert ((tmp_path / "0.txt").read_bytes(), (tmp_path / "1.txt").read_text()) == ("猫".encode("utf-16"), "cat 1")


def test_typing_that_goes_on_for_long_is_several_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = fill(tmp_path)
    project.write_caption("0.png", "one", "cat 0")
    monkeypatch.setattr(autosave, "TOGETHER", -1.0)
    project.write_caption("0.png", "one two", "one")
    assert len(project.history()) == 2
    project.undo()
    assert texts(tmp_path)["0"] == "one"


def test_a_caption_is_not_written_over_what_somebody_else_wrote_meanwhile(tmp_path: Path) -> None:
    project = fill(tmp_path)
    (tmp_path / "0.txt").write_text("theirs")
    with pytest.raises(Changed, match=r"0\.png \(was “cat 0”, is now “theirs”\)") as caught:
        project.write_caption("0.png", "mine", "cat 0")
    assert caught.value.now == {"0.png": "theirs"}
    assert texts(tmp_path)["0"] == "theirs"
    assert project.write_caption("0.png", "theirs", "cat 0") is None
    with pytest.raises(Changed, match="was nothing"):
        project.write_caption("0.png", "mine", None)
    project.write_caption("0.png", "mine", "theirs")
    project.undo()
    assert texts(tmp_path)["0"] == "theirs"
    (tmp_path / "1.txt").unlink()
    with pytest.raises(Changed, match="is now nothing"):
        project.write_caption("1.png", "mine", "cat 1")
    project.write_caption("1.png", "mine", None)
    assert texts(tmp_path)["1"] == "mine"


def test_a_long_job_writes_one_step_and_others_may_edit_meanwhile(tmp_path: Path) -> None:
    project = fill(tmp_path)
    with project.edit_stream("captioning") as stream:
        assert stream.add([Change("0.png", "caption", "cat 0", "a cat")]) == 1
        Project(tmp_path).edit("by hand", [Change("3.png", "caption", "cat 3", "mine")])
        assert [edit.state for edit in project.history()] == ["pending", "done"]
        with pytest.raises(Changed):
            stream.add([Change("3.png", "caption", "cat 3", "a cat")])
        stream.add([Change("1.png", "caption", "cat 1", "a cat"), Change("1.png", "repeats", 1, 2)])
        assert stream.add([Change("1.png", "caption", "a cat", "a cat")]) == 0
    assert [said(edit) for edit in project.history()] == [("captioning", 3, "done"), ("by hand", 1, "done")]
    assert project.item("1.png").choices.repeats == 2
    project.undo()
    assert texts(tmp_path) == {"0": "cat 0", "1": "cat 1", "2": "cat 2", "3": "mine"}
    assert list((tmp_path / ".studio").glob("stream-*")) == []


def test_a_long_job_that_fails_or_does_nothing(tmp_path: Path) -> None:
    project = fill(tmp_path)

    def fail() -> None:
        with project.edit_stream("captioning") as stream:
            stream.add([Change("0.png", "caption", "cat 0", "a cat")])
            raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        fail()
    with project.edit_stream("nothing"):
        pass
    assert [said(edit) for edit in project.history()] == [("captioning", 1, "done")]


def test_a_long_job_that_was_killed_leaves_what_it_did_as_a_step(tmp_path: Path) -> None:
    fill(tmp_path)
    code = (
        "import os, signal, sys; from pathlib import Path; from studio.projects.project import Project; from studio.projects.facts import Change\n"
        "with Project(Path(sys.argv[1])).edit_stream('captioning') as stream:\n"
        "    for n in range(2): stream.add([Change(f'{n}.png', 'caption', f'cat {n}', 'a cat')])\n"
        "    print(Project(Path(sys.argv[1])).recovered, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (-9, "[]"), done.stderr
    (tmp_path / "0.txt").write_text("cat 0")
    project = Project(tmp_path)
    assert [said(edit) for edit in project.recovered] == [("captioning", 2, "done")]
    assert texts(tmp_path)["0"] == "cat 0"
    project.undo()
    assert texts(tmp_path)["1"] == "cat 1"


def test_captions_as_of_a_time_come_back_as_a_step(tmp_path: Path) -> None:
    project = fill(tmp_path)
    moments = []
    for word in ("dog", "bird", "fish"):
        moments.append(time.time())
        time.sleep(0.01)
        project.edit(word, [Change(item.name, "caption", item.caption, f"{word} {item.name[0]}") for item in project.items()[:3]])
    project.undo()
    (tmp_path / "0.txt").unlink()
    moments.append(time.time())
    for moment, word in zip(moments, ("cat", "dog", "bird", None), strict=True):
        project.restore(moment)
        assert texts(tmp_path) == {**{str(n): f"{word or 'bird'} {n}" for n in range(3)}, "3": "cat 3"}
    assert project.history()[0].name.startswith("Captions as of ")
    project.undo()
    assert texts(tmp_path)["2"] == "dog 2"
    assert project.restore(time.time()) is None


def test_what_a_caption_said_is_listed(tmp_path: Path) -> None:
    project = fill(tmp_path)
    project.edit("dogs", to_dogs(project))
    project.undo()
    project.redo()
    project.edit("none", [Change("0.png", "caption", "dog 0", None)])
    found = project.revisions("0.png")
    assert [(name, text) for _, name, text in found] == [("none", None), ("Redo: dogs", "dog 0"), ("Undo: dogs", "cat 0"), ("dogs", "dog 0"), ("", "cat 0")]
    assert [at for at, _, _ in found] == sorted((at for at, _, _ in found), reverse=True)
    assert project.revisions("3.png")[-1] == (0.0, "", "cat 3")
    with pytest.raises(NotFound):
        project.revisions("9.png")


def test_a_caption_of_many_megabytes_is_not_put_into_the_journal(tmp_path: Path) -> None:
    project = fill(tmp_path)
    (tmp_path / "0.txt").write_bytes(b"cat, " * 300_000)
    with pytest.raises(InputError, match=r"0\.txt is 1,500,000 bytes"):
        project.write_caption("0.png", "dog", None)
    (tmp_path / "0.txt").write_bytes(b"cat, " * 200_000)
    project.write_caption("0.png", "dog", project.item("0.png").caption)
    project.undo()
    assert (tmp_path / "0.txt").read_bytes() == b"cat, " * 200_000
    assert sqlite3.connect(tmp_path / ".studio" / "project.db").execute("PRAGMA integrity_check").fetchone()[0] == "ok"
