"""A job as the page shows it: its events folded into one view, read on from where the last look ended."""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from studio.engine import Engine
from studio.jobs import Event, Job

KEPT = 32
"""Views kept in memory; an older one is folded again from the journal when somebody looks."""
LOG_LINES = 200


@dataclass
class View:
    """What happened in one job so far."""

    seq: int = 0
    progress: dict[str, Any] = field(default_factory=dict)
    metric: dict[str, Any] = field(default_factory=dict)
    points: list[tuple[int, float, float | None]] = field(default_factory=list)
    previews: list[tuple[int, str, str]] = field(default_factory=list)
    sketch: str = ""
    items: list[dict[str, Any]] = field(default_factory=list)
    saved: list[tuple[int, str]] = field(default_factory=list)
    log: list[tuple[str, str]] = field(default_factory=list)

    def take(self, event: Event) -> None:
        """Fold one event in; a kind this page does not know is left alone."""
        self.seq = event.seq
        fold = getattr(self, f"_{event.kind}", None)
        if fold is not None:
            fold(event.data)

    def _progress(self, data: dict[str, Any]) -> None:
        self.progress = data

    def _metric(self, data: dict[str, Any]) -> None:
        """A figure of the curve; a run that went back to its checkpoint draws the steps after it anew."""
        while self.points and self.points[-1][0] >= data["step"]:
            self.points.pop()
        self.metric = data
        if data.get("loss") is not None:
            self.points.append((data["step"], data["loss"], data.get("smoothed")))

    def _preview(self, data: dict[str, Any]) -> None:
        """A file is kept in the strip, one for each step; a data URI replaces the sketch."""
        if "path" in data:
            self.previews = [p for p in self.previews if p[0] != data["step"]]
            self.previews.append((data["step"], data["path"], data.get("prompt", "")))
        else:
            self.sketch = data["image"]

    def _item(self, data: dict[str, Any]) -> None:
        self.items.append(data)

    def _saved(self, data: dict[str, Any]) -> None:
        self.saved.append((data.get("step", 0), data["path"]))
        self._say("saved", data["path"])

    def _warning(self, data: dict[str, Any]) -> None:
        self._say("warning", data["text"])

    def _log(self, data: dict[str, Any]) -> None:
        self._say("log", data["text"])

    def _state(self, data: dict[str, Any]) -> None:
        self._say(data["state"], data.get("error") or "")

    def _say(self, kind: str, text: str) -> None:
        self.log = [*self.log, (kind, text)][-LOG_LINES:]


class Follower:
    """Views of jobs, shared by all open pages."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._views: OrderedDict[str, View] = OrderedDict()
        self._lock = threading.Lock()

    def view(self, job: str) -> View:
        """The view of a job as of now."""
        with self._lock:
            view = self._views.setdefault(job, View())
            self._views.move_to_end(job)
            while len(self._views) > KEPT:
                self._views.popitem(last=False)
            for event in self.engine.events(job, view.seq):
                view.take(event)
            return view

    def newest(self, kind: str) -> Job | None:
        """The job of a kind to show: the running one, else the newest."""
        return self.engine.active(kind) or next(iter(self.engine.jobs(1, kind)), None)
