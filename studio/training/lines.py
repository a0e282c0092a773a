"""Log files of a run: lines that are added whole or not at all, and cut back to the step a run goes on from."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from studio.files import atomic_write


def append(path: Path, line: str) -> None:
    """Add one line in one write; when it does not fit, the part that was written is taken back and OSError raised."""
    data = (line + "\n").encode()
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
    try:
        size, written = os.fstat(handle).st_size, 0
        try:
            while written < len(data):
                written += os.write(handle, data[written:])
        except OSError:
            if written:
                os.ftruncate(handle, size)
            raise
    finally:
        os.close(handle)


def keep(path: Path) -> None:
    """Make what was added survive a power cut; nothing where there is no such file."""
    if path.is_file():
        with path.open("rb+") as file:
            os.fsync(file.fileno())


def object_line(facts: dict[str, Any]) -> str:
    """Plain facts as one line of JSON."""
    return json.dumps(facts, ensure_ascii=False)


def objects(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file's whole lines; what is damaged is passed over."""
    found = []
    for line in _whole_lines(path):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def cut_csv(path: Path, heading: str, step: int) -> None:
    """Keep the heading and the lines up to `step`; a half-written last line goes too."""
    _cut(path, heading + "\n", lambda line: line.split(",")[0].isdigit() and int(line.split(",")[0]) <= step)


def cut_objects(path: Path, step: int) -> None:
    """Keep the JSON lines whose step is at most `step`, and not what was said when the run had ended; a file that is not there stays away."""

    def stays(line: str) -> bool:
        try:
            said = json.loads(line)
            return int(said["step"]) <= step and said.get("ended") is not True
        except (ValueError, KeyError, TypeError, AttributeError):
            return False

    if path.exists():
        _cut(path, "", stays)


def mend(path: Path) -> None:
    """Take away a last line that was written by half only."""
    if path.exists():
        _cut(path, "", lambda line: True)


def replace(path: Path, facts: list[dict[str, Any]]) -> None:
    """Write a file of JSON lines anew, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text("".join(object_line(fact) + "\n" for fact in facts), encoding="utf-8")


def _cut(path: Path, heading: str, stays: Callable[[str], bool]) -> None:
    """Write a file again with its heading and the lines that stay; left alone when that is what it holds."""
    text = heading + "".join(line for line in _whole_lines(path) if stays(line))
    data = text.encode()
    if not path.is_file() or path.read_bytes() != data:
        with atomic_write(path) as temporary:
            temporary.write_bytes(data)


def _whole_lines(path: Path) -> list[str]:
    """Lines that end, with their ends; none where there is no file."""
    try:
        text = path.read_bytes().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return [line + "\n" for line in text.split("\n")[:-1]]
