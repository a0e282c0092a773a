"""A job as the page shows it: its events folded into one view, read on from where the last look ended."""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from studio.engine import Engine
from studio.jobs import Event, Job

KEPT = 32
"""Views kept in memory; an older one is folded again from the journal when somebody looks."""


@dataclass
class View:
    """What happened in one job so far."""

    seq: int = 0
    progress: dict[str, Any] = field(default_factory=dict)
    sketch: str = ""
    items: list[dict[str, Any]] = field(default_factory=list)

    def take(self, event: Event) -> None:
        """Fold one event in; a kind this page does not show is left alone."""
        self.seq = event.seq
        if event.kind == "progress":
            self.progress = event.data
        elif event.kind == "preview" and "image" in event.data:
            self.sketch = event.data["image"]
        elif event.kind == "item":
            self.items.append(event.data)


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

    def newest(self, kind: str, browser: str | None = None) -> Job | None:
        """The job of a kind to show, of one browser or all: the running one, else the newest."""
        return self.engine.active(kind, browser) or next(iter(self.engine.jobs(1, kind, browser)), None)
