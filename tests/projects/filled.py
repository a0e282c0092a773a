"""Data sets for tests of the journal: pictures with captions, and what they say."""

from pathlib import Path

from studio.projects.facts import Change, Edit
from studio.projects.project import Project


def fill(folder: Path, count: int = 4) -> Project:
    """A data set of so many pictures that say `cat 0`, `cat 1`."""
    for number in range(count):
        (folder / f"{number}.png").write_bytes(b"picture")
        (folder / f"{number}.txt").write_text(f"cat {number}")
    return Project(folder)


def texts(folder: Path) -> dict[str, str]:
    """What the caption files say."""
    return {path.stem: path.read_text() for path in sorted(folder.glob("*.txt"))}


def to_dogs(project: Project) -> list[Change]:
    """A replacement over all captions."""
    return [Change(item.name, "caption", item.caption, item.caption.replace("cat", "dog")) for item in project.items()]


def said(edit: Edit | None) -> tuple[str, int, str]:
    """A step without its number and time."""
    assert edit is not None
    return edit.name, edit.count, edit.state
