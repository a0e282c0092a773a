"""Kill a bulk edit of thousands of captions, its undo or its redo at a random moment: what is left must be whole or rolled back, and undo must bring every byte back.

`python -m tests.faults.undo [--times N] [--captions N] [--seed N] [--quick] [--json]`. Half of the kills fall at a random time, half at the moment at which
a random caption has changed. Exits 1 when captions were left torn, a byte did not come back, or the data set could not go on.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from studio.errors import StudioError
from studio.projects.facts import Change
from studio.projects.project import Project
from studio.settings import SHIPPED_ROOT

ACTS = ("replace", "undo", "redo")
ENCODINGS = ("utf-8", "gbk", "utf-16", "utf-8-sig")
PATIENCE = 120.0


@dataclass(frozen=True)
class Kill:
    """One kill: what was running, how much of it was in the files, what came of it, and what is wrong (nothing, if all is well)."""

    act: str
    switched: int
    outcome: str
    wrong: str = ""


def main() -> int:
    """Kill, look, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=30)
    parser.add_argument("--captions", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="9 kills of 1,000 captions; under a minute")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs=2, metavar=("ACT", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return child(arguments.child[0], Path(arguments.child[1]))
    times, captions = (9, 1000) if arguments.quick else (arguments.times, arguments.captions)
    kills = faults(times, captions, arguments.seed)
    broken = [kill for kill in kills if kill.wrong]
    if arguments.json:
        print(json.dumps({"captions": captions, "kills": [asdict(kill) for kill in kills], "broken": len(broken)}, indent=1))
        return 1 if broken else 0
    print(f"{len(kills)} kills in the middle of a step over {captions} captions")
    print(f"{'':10}{'cut short':>12}{'completed':>12}{'rolled back':>13}{'was done':>10}{'broken':>8}")
    for act in ACTS:
        mine = [kill for kill in kills if kill.act == act]
        count = Counter(kill.outcome for kill in mine)
        torn = sum(0 < kill.switched < captions for kill in mine)
        print(f"{act:10}{torn:>12}{count['completed']:>12}{count['rolled back']:>13}{count['was done']:>10}{sum(bool(kill.wrong) for kill in mine):>8}")
    for kill in broken:
        print(f"BROKEN: {kill.act} with {kill.switched} captions switched: {kill.wrong}")
    return 1 if broken else 0


def child(act: str, folder: Path) -> int:
    """Do one step in a process that may be killed: says `go` before it and `done` after it."""
    project = Project(folder)
    changes = replacement(project) if act == "replace" else []
    print("go", flush=True)
    if act == "replace":
        project.edit("cat to dog", changes)
    else:
        getattr(project, act)()
    print("done", flush=True)
    return 0


def replacement(project: Project) -> list[Change]:
    """The bulk edit: cats become dogs everywhere."""
    return [Change(item.name, "caption", item.caption, item.caption.replace("cat", "dog")) for item in project.items()]


def faults(times: int, captions: int, seed: int) -> list[Kill]:
    """Kill so many times, each act in its turn."""
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory() as place:
        spans = {act: _span(_filled(Path(place) / f"span-{act}", captions, act)[0], act) for act in ACTS}
        kills = []
        for number in range(times):
            act = ACTS[number % len(ACTS)]
            folder, before, after = _filled(Path(place) / str(number), captions, act)
            watched = dice.randrange(captions) if number // len(ACTS) % 2 else None
            kills.append(_kill(folder, act, (before, after), dice.uniform(0, spans[act]) if watched is None else watched))
        return kills


def _filled(folder: Path, captions: int, act: str) -> tuple[Path, dict[str, bytes], dict[str, bytes]]:
    """A data set that is ready for an act, and the bytes of its captions before and after the replacement."""
    folder.mkdir()
    before, after = {}, {}
    for number in range(captions):
        text = f"窗台 number {number}, a cat\r\n on a mat " if number % 5 else f"a cat, {number}, 窗台"
        name = f"{number:05d}.txt"
        (folder / f"{number:05d}.png").write_bytes(b"picture")
        before[name] = text.encode(ENCODINGS[number % len(ENCODINGS)])
        after[name] = text.strip().replace("cat", "dog").encode()
        (folder / name).write_bytes(before[name])
    project = Project(folder)
    if act != "replace":
        project.edit("cat to dog", replacement(project))
    if act == "redo":
        project.undo()
    return folder, before, after


def _start(folder: Path, act: str) -> subprocess.Popen[str]:
    """A child that is about to do its step."""
    running = subprocess.Popen([sys.executable, "-m", "tests.faults.undo", "--child", act, str(folder)], cwd=SHIPPED_ROOT, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None and running.stdout.readline() == "go\n"
    return running


def _span(folder: Path, act: str) -> float:
    """Seconds that a step takes when nobody kills it."""
    running = _start(folder, act)
    began = time.monotonic()
    running.communicate(timeout=PATIENCE)
    return time.monotonic() - began


def _kill(folder: Path, act: str, bytes_of: tuple[dict[str, bytes], dict[str, bytes]], moment: float | int) -> Kill:
    """Kill a step after so many seconds, or when the caption of that number has changed, and look at what is left."""
    old, new = bytes_of if act != "undo" else bytes_of[::-1]
    running = _start(folder, act)
    if isinstance(moment, int):
        name = f"{moment:05d}.txt"
        end = time.monotonic() + PATIENCE
        while (folder / name).read_bytes() == old[name] and running.poll() is None and time.monotonic() < end:
            time.sleep(0.0002)
    else:
        time.sleep(moment)
    running.send_signal(signal.SIGKILL)
    said, _ = running.communicate()
    found = _read(folder)
    switched = sum(found.get(name) == data for name, data in new.items())
    try:
        outcome, wrong = _look(folder, bytes_of, (old, new), "done" in said)
    except StudioError as error:
        outcome, wrong = "refused", str(error)
    return Kill(act, switched, outcome, wrong)


def _look(folder: Path, bytes_of: tuple[dict[str, bytes], dict[str, bytes]], way: tuple[dict[str, bytes], dict[str, bytes]], done: bool) -> tuple[str, str]:
    """Open the data set again: what came of the step, and what is wrong with that."""
    project = Project(folder)
    found = _read(folder)
    if found != way[0] and found != way[1]:
        torn = sum(found.get(name) != data for name, data in way[1].items())
        return "torn", f"{torn} captions are not as the step wanted and {sum(found.get(name) != data for name, data in way[0].items())} not as before"
    outcome = "was done" if done else "completed" if found == way[1] else "rolled back"
    if project.trouble or any(edit.kept for edit in project.recovered):
        return outcome, project.trouble or "captions were taken for changed from outside"
    if found == bytes_of[1]:
        project.undo()
        if _read(folder) != bytes_of[0]:
            return outcome, "undo did not bring every byte back"
    elif project.redo() is None:
        project.edit("cat to dog", replacement(project))
    left = [path.name for path in folder.iterdir() if path.suffix not in (".png", ".txt") and path.name != ".studio"] + [path.name for path in folder.glob(".studio/staging/*")]
    return outcome, f"files were left over: {left[:5]}" if left else ""


def _read(folder: Path) -> dict[str, bytes]:
    """The bytes of all captions."""
    return {path.name: path.read_bytes() for path in folder.glob("*.txt")}


if __name__ == "__main__":
    raise SystemExit(main())
