"""A job's events folded into what the page shows."""

import pytest

from studio.engine import Engine
from studio.settings import Paths
from studio.ui.live import KEPT, Follower


@pytest.fixture
def engine(root: Paths) -> Engine:
    return Engine(root)


def metric(step: int, loss: float | None = 0.5) -> dict:
    return {"step": step, "total": 100, "loss": loss, "smoothed": loss, "rate": 1.0, "learn_rate": 0.005, "prompt": "p", "norm": 1.0, "distance": 0.0, "eta": 1.0}


def test_a_view_reads_on_from_where_it_was(engine: Engine) -> None:
    job = engine.store.submit("train", {})
    follower = Follower(engine)
    engine.store.emit(job, "metric", metric(1))
    assert [p[0] for p in follower.view(job).points] == [1]
    engine.store.emit(job, "metric", metric(2))
    assert [p[0] for p in follower.view(job).points] == [1, 2]


def test_a_run_that_went_back_draws_its_steps_anew(engine: Engine) -> None:
    job = engine.store.submit("train", {})
    for step in (1, 2, 3, 4, 3, 4, 5):
        engine.store.emit(job, "metric", metric(step, step / 10))
    assert [p[0] for p in Follower(engine).view(job).points] == [1, 2, 3, 4, 5]


def test_a_step_without_a_loss_leaves_the_curve_alone(engine: Engine) -> None:
    job = engine.store.submit("train", {})
    engine.store.emit(job, "metric", metric(1))
    engine.store.emit(job, "metric", metric(2, None))
    view = Follower(engine).view(job)
    assert [p[0] for p in view.points] == [1]
    assert view.metric["step"] == 2


def test_a_preview_of_a_step_is_kept_once_and_a_sketch_is_replaced(engine: Engine) -> None:
    job = engine.store.submit("train", {})
    engine.store.emit(job, "preview", {"step": 0, "path": "a.png", "prompt": "p"})
    engine.store.emit(job, "preview", {"step": 0, "path": "b.png", "prompt": "p"})
    engine.store.emit(job, "preview", {"step": 4, "image": "data:1"})
    engine.store.emit(job, "preview", {"step": 8, "image": "data:2"})
    view = Follower(engine).view(job)
    assert view.previews == [(0, "b.png", "p")]
    assert view.sketch == "data:2"


def test_an_unknown_event_harms_nothing(engine: Engine) -> None:
    job = engine.store.submit("train", {})
    engine.store.emit(job, "of the future", {"x": 1})
    engine.store.emit(job, "warning", {"text": "careful"})
    assert Follower(engine).view(job).log == [("warning", "careful")]


def test_old_views_are_let_go_and_come_back_whole(engine: Engine) -> None:
    follower = Follower(engine)
    jobs = [engine.store.submit("train", {}) for _ in range(KEPT + 3)]
    for job in jobs:
        engine.store.emit(job, "metric", metric(1))
        follower.view(job)
    assert len(follower._views) == KEPT
    assert len(follower.view(jobs[0]).points) == 1


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
