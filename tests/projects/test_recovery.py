"""What a dead process, a full disk or another window does to a step: it is whole or not there."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from studio.errors import Conflict, OutOfSpace, StudioError
from studio.projects import sidecar, staging
from studio.projects.facts import Change
from studio.projects.project import Project
from studio.projects.steps import Changed
from tests.projects.filled import fill, said, texts, to_dogs


def test_a_disk_that_refuses_one_file_gets_all_others_back(tmp_path: Path) -> None:
    project = fill(tmp_path, 40)
    (tmp_path / "39.txt").unlink()
    (tmp_path / "39.txt").mkdir()
    with pytest.raises(StudioError, match="nothing was changed"):
        project.edit("cat to dog", [*to_dogs(project)[:39], Change("39.png", "caption", None, "dog 39"), Change("0.png", "flipped", False, True)])
    assert {path.name: path.read_text() for path in tmp_path.glob("*.txt") if path.is_file()} == {f"{n}.txt": f"cat {n}" for n in range(39)}
    assert (project.history(), project.item("0.png").choices.flipped) == ([], False)
    assert Project(tmp_path).recovered == []


@pytest.mark.parametrize("limit", [2_000, 60_000])
def test_a_file_that_cannot_be_written_whole_changes_nothing(tmp_path: Path, limit: int) -> None:
    fill(tmp_path)
    code = (
        "import resource, signal, sys; from pathlib import Path; from studio.projects.project import Project; from studio.projects.facts import Change; from studio.errors import StudioError\n"
        "project = Project(Path(sys.argv[1])); resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)\n"
        "try: project.edit('big', [Change('0.png', 'caption', 'cat 0', 'dog'), Change('1.png', 'caption', 'cat 1', 'dog ' * 20000)])\n"
        "except StudioError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path), str(limit)], capture_output=True, text=True, check=False)
    assert "nothing was changed" in done.stdout, done.stderr
    assert texts(tmp_path) == {str(n): f"cat {n}" for n in range(4)}
    assert (Project(tmp_path).history(), list((tmp_path / ".studio").glob("staging/*"))) == ([], [])


def test_a_full_disk_is_said_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = fill(tmp_path)
    flush, left = os.fsync, [2]

    def refuse(handle: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        flush(handle)

    monkeypatch.setattr(staging.os, "fsync", refuse)
    with pytest.raises(OutOfSpace, match="nothing was changed"):
        project.edit("cat to dog", to_dogs(project))
    monkeypatch.undo()
    assert texts(tmp_path) == {str(n): f"cat {n}" for n in range(4)}
    assert project.history() == []


class Killed(BaseException):
    """The end of a process at a chosen place."""


def cut_short(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object], after: int) -> None:
    """Run an act whose process dies before its file number `after` is switched; the lock goes as it does with a process."""
    switch, left = os.replace, [after]

    def die(source: Path, target: Path) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        switch(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(staging.os, "replace", die)
        with pytest.raises(Killed):
            act()


def test_a_step_cut_short_is_completed_and_what_was_written_since_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = fill(tmp_path)
    cut_short(monkeypatch, lambda: project.edit("cat to dog", [*to_dogs(project), Change("0.png", "flipped", False, True)]), 2)
    assert texts(tmp_path) == {"0": "dog 0", "1": "dog 1", "2": "cat 2", "3": "cat 3"}
    (tmp_path / "1.txt").write_text("a bird")
    (tmp_path / "3.txt").write_text("a fish")
    again = Project(tmp_path)
    assert [(said(edit), edit.kept) for edit in again.recovered] == [(("cat to dog", 5, "done"), ("1.png", "3.png"))]
    assert texts(tmp_path) == {"0": "dog 0", "1": "a bird", "2": "dog 2", "3": "a fish"}
    assert again.item("0.png").choices.flipped
    with pytest.raises(Changed, match=r"2 pictures .*1\.png.*3\.png"):
        again.undo()


@pytest.mark.parametrize("way", ["undo", "redo"])
def test_an_undo_or_redo_cut_short_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    project = fill(tmp_path)
    project.edit("cat to dog", to_dogs(project))
    if way == "redo":
        project.undo()
    cut_short(monkeypatch, getattr(project, way), 1)
    assert len({text[:3] for text in texts(tmp_path).values()}) == 2
    again = Project(tmp_path)
    word, state = ("cat", "undone") if way == "undo" else ("dog", "done")
    assert [said(edit) for edit in again.recovered] == [("cat to dog", 4, state)]
    assert texts(tmp_path) == {str(n): f"{word} {n}" for n in range(4)}
    assert said(again.redo() if way == "undo" else again.undo()) == ("cat to dog", 4, "done" if way == "undo" else "undone")


def test_the_next_edit_of_an_open_project_completes_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = fill(tmp_path), Project(tmp_path)
    cut_short(monkeypatch, lambda: there.edit("cat to dog", to_dogs(there)), 2)
    here.edit("flip", [Change("0.png", "flipped", False, True)])
    assert texts(tmp_path) == {str(n): f"dog {n}" for n in range(4)}
    assert [said(edit) for edit in here.recovered] == [("cat to dog", 4, "done")]


def test_a_step_in_the_middle_of_which_another_opens_the_data_set_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = fill(tmp_path)
    inside, go_on = threading.Event(), threading.Event()
    switch = os.replace

    def slow(source: Path, target: Path) -> None:
        inside.set()
        assert go_on.wait(20)
        switch(source, target)

    monkeypatch.setattr(staging.os, "replace", slow)
    thread = threading.Thread(target=project.edit, args=("cat to dog", to_dogs(project)))
    thread.start()
    assert inside.wait(20)
    code = (
        "import sys; from pathlib import Path; from studio.projects.project import Project; p = Project(Path(sys.argv[1])); print(p.recovered, [e.state for e in p.history()], p.item('0.png').caption)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    monkeypatch.setattr(sidecar, "WAIT", 0.1)
    with pytest.raises(Conflict, match="changing this data set"):
        Project(tmp_path).edit("flip", [Change("0.png", "flipped", False, True)])
    go_on.set()
    thread.join()
    assert done.stdout.strip() == "[] ['pending'] cat 0", done.stderr
    assert texts(tmp_path) == {str(n): f"dog {n}" for n in range(4)}


def test_many_who_edit_at_once_come_one_after_the_other(tmp_path: Path) -> None:
    fill(tmp_path)
    threads = [threading.Thread(target=lambda n=n: Project(tmp_path).edit(f"step {n}", [Change(f"{n % 4}.png", "caption", f"cat {n % 4}", f"dog {n}")] if n < 4 else [])) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts(tmp_path) == {str(n): f"dog {n}" for n in range(4)}
    assert sorted(edit.name for edit in Project(tmp_path).history()) == [f"step {n}" for n in range(4)]


def test_typing_cut_short_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = fill(tmp_path)
    project.write_caption("0.png", "one", "cat 0")
    cut_short(monkeypatch, lambda: project.write_caption("0.png", "one two", "one"), 0)
    again = Project(tmp_path)
    assert [said(edit) for edit in again.recovered] == [("Caption of 0.png", 1, "done")]
    assert texts(tmp_path)["0"] == "one two"
    again.undo()
    assert texts(tmp_path)["0"] == "cat 0"
