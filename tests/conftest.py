"""What tests share: an empty studio root, and the tiny world loaded once."""

import functools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from hypothesis import settings
from starlette.testclient import TestClient

from studio.jobs import SilentLane
from studio.settings import Paths

settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile("searching", deadline=None)
settings.load_profile(os.environ.get("STUDIO_HYPOTHESIS", "steady"))
"""A suite that gates changes tries the same examples each time; STUDIO_HYPOTHESIS=searching looks for new ones."""

TestClient.__init__ = functools.partialmethod(TestClient.__init__, base_url="http://127.0.0.1")
"""A served studio answers to the names of this machine; starlette's client would ask for `testserver`."""

LONG = (
    "browser/test_chinese.py",
    "tinyworld/test_check.py",
    "browser/test_sessions.py",
    "services/test_several.py",
    "browser/test_training.py",
    "faults/test_queue.py",
    "browser/test_mistakes.py",
    "faults/test_soak.py",
    "browser/test_journey.py",
    "tests/test_worker.py",
    "browser/test_dataset.py",
    "browser/test_canvas.py",
    "services/test_priors.py",
    "browser/test_first_visit.py",
    "tests/test_serve.py",
    "browser/test_outdated.py",
    "services/test_training.py",
    "browser/test_scripts.py",
    "browser/test_methods.py",
    "services/test_repeats.py",
    "browser/test_typing.py",
    "tests/test_cli_data.py",
    "browser/test_painting.py",
    "services/test_training_watch.py",
    "services/test_memory.py",
    "training/test_matrix.py",
)
"""Files that take longest: begun first, so that no core waits for one of them at the end; those that wait stand beside those that compute."""


def _place(item: pytest.Item) -> int:
    """A test's place in the order of files."""
    path = item.path.as_posix()
    return next((place for place, name in enumerate(LONG) if path.endswith(f"/{name}")), len(LONG))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files; tests within one stay as they are."""
    items.sort(key=_place)


@pytest.fixture
def root(tmp_path: Path) -> Paths:
    """The folders of a new studio; the shipped models are visible through it."""
    return Paths(tmp_path / "studio").prepare()


@pytest.fixture
def lane() -> SilentLane:
    """A lane that keeps its events."""
    return SilentLane()


@pytest.fixture(scope="session")
def tiny_cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    """A ModelCache shared by the whole session."""
    from studio.diffusion.cache import ModelCache

    return ModelCache(Paths(tmp_path_factory.mktemp("tiny")).prepare(), device="cpu")


@pytest.fixture(scope="session")
def tiny(tiny_cache: object) -> Iterator[object]:
    """The tiny world, loaded."""
    with tiny_cache.lend("") as model:
        yield model
