"""A job's events folded into what the page shows."""

import pytest

from studio.engine import Engine
from studio.settings import Paths
from studio.ui.live import KEPT, Follower


@pytest.fixture
def engine(root: Paths) -> Engine:
    return Engine(root)


def test_a_view_reads_on_from_where_it_was(engine: Engine) -> None:
    job = engine.store.submit("preprocess", {})
    follower = Follower(engine)
    engine.store.emit(job, "item", {"name": "a"})
    assert [item["name"] for item in follower.view(job).items] == ["a"]
    engine.store.emit(job, "item", {"name": "b"})
    engine.store.emit(job, "progress", {"step": 2})
    view = follower.view(job)
    assert [item["name"] for item in view.items] == ["a", "b"]
    assert view.progress == {"step": 2}


def test_a_sketch_is_replaced_and_a_file_is_none(engine: Engine) -> None:
    job = engine.store.submit("generate", {})
    for data in ({"step": 4, "image": "data:1"}, {"step": 8, "image": "data:2"}, {"step": 0, "path": "a.png"}):
        engine.store.emit(job, "preview", data)
    assert Follower(engine).view(job).sketch == "data:2"


def test_an_unknown_event_harms_nothing(engine: Engine) -> None:
    job = engine.store.submit("preprocess", {})
    engine.store.emit(job, "of the future", {"x": 1})
    engine.store.emit(job, "item", {"name": "a"})
    assert len(Follower(engine).view(job).items) == 1


def test_old_views_are_let_go_and_come_back_whole(engine: Engine) -> None:
    follower = Follower(engine)
    jobs = [engine.store.submit("preprocess", {}) for _ in range(KEPT + 3)]
    for job in jobs:
        engine.store.emit(job, "item", {"name": "a"})
        follower.view(job)
    assert len(follower._views) == KEPT
    assert len(follower.view(jobs[0]).items) == 1


def test_the_pulse_changes_with_every_event_and_state(engine: Engine) -> None:
    seen = {engine.pulse()}
    job = engine.store.submit("train", {})
    seen.add(engine.pulse())
    engine.store.claim("w")
    seen.add(engine.pulse())
    engine.store.emit(job, "log", {"text": "x"})
    seen.add(engine.pulse())
    assert len(seen) == 4
    assert engine.pulse() in seen
