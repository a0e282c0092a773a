"""Journal: what a person changed while a run went on, by step, written durably when it is taken, so that a run that goes on does it again at the same steps."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from studio.errors import StudioError
from studio.requests.continuing import CONTINUABLE
from studio.training import lines
from studio.training.course import Course

RESTS = ("pause", "alarm")
"""Entries after which a run rests, until one of `GOES_ON` follows."""
GOES_ON = ("resume", "rollback")


@dataclass
class Journal:
    """journal.jsonl of a run: entries {step, ask, data} in the order in which they were taken."""

    path: Path
    entries: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def open(cls, path: Path) -> "Journal":
        """What was written before; a line cut short by a kill was never taken."""
        lines.mend(path)
        return cls(path, [e for e in lines.objects(path) if isinstance(e.get("step"), int) and isinstance(e.get("data"), dict)])

    def write(self, step: int, ask: str, data: dict[str, Any] | None = None, halvings: int = 0) -> None:
        """Take an entry: on the disk before it counts. `halvings` is how often the rate was halved by then."""
        entry = {"step": step, "ask": ask, "data": data or {}, **({"halvings": halvings} if halvings else {})}
        lines.append(self.path, lines.object_line(entry))
        lines.keep(self.path)
        self.entries.append(entry)

    def upto(self, step: int) -> int:
        """How many entries are in force after `step` steps."""
        return sum(entry["step"] <= step for entry in self.entries)

    def at(self, step: int) -> bool:
        """Whether something was taken after exactly this step."""
        return any(entry["step"] == step for entry in self.entries)

    def course(self, base: Course, step: int | None = None) -> Course:
        """The course after `step` steps, or after everything; an entry that cannot be used any more is passed over."""
        course = base
        for entry in self.entries:
            if step is not None and entry["step"] > step:
                continue
            if entry["ask"] == "rollback":
                course = replace(course, factor=course.factor * float(entry["data"].get("factor", 1.0)))
            elif entry["ask"] == "change":
                try:
                    course = course.changed(entry["data"], entry["step"], int(entry.get("halvings", 0)), CONTINUABLE)
                except StudioError:
                    continue
        return course

    @property
    def resting(self) -> dict[str, Any] | None:
        """The pause or alarm that nobody answered yet."""
        last = next((e for e in reversed(self.entries) if e["ask"] in (*RESTS, *GOES_ON)), None)
        return last if last is not None and last["ask"] in RESTS else None

    @property
    def discarded(self) -> bool:
        """Whether a person gave up what this run learned."""
        return any(entry["ask"] == "discard" for entry in self.entries)

    @property
    def newest(self) -> int:
        """Step of the newest change; 0 when there is none."""
        return max((entry["step"] for entry in self.entries if entry["ask"] == "change"), default=0)

    def roll_back(self, step: int, came_from: int, factor: float) -> None:
        """Go back to `step` with the rate times `factor`: rates that were chosen after it are undone, other changes stay and count from `step` on."""
        kept = [entry for entry in self.entries if entry["step"] <= step]
        for entry in self.entries[:]:
            data = {k: v for k, v in entry["data"].items() if k != "learn_rate"}
            if entry["step"] > step and entry["ask"] == "change" and data:
                kept.append({**entry, "step": step, "data": data})
        kept.append({"step": step, "ask": "rollback", "data": {"from": came_from, "factor": factor}})
        lines.replace(self.path, kept)
        self.entries = kept
