"""One worker for all tests of the API: it loads the tiny world once."""

import os
import signal
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from studio.api.app import bare_app
from studio.engine import Engine
from studio.settings import Paths
from tests.api.served import Client


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine with a worker, ended with the session."""
    engine = Engine(Paths(tmp_path_factory.mktemp("served") / "studio").prepare())
    engine.keep_worker("test")
    yield engine
    engine.close()
    for worker in engine.store.workers():
        if worker["facts"].get("role") == "worker":
            os.kill(worker["pid"], signal.SIGKILL)


@pytest.fixture(scope="session")
def client(served: Engine) -> Iterator[Client]:
    """A client of that engine's server."""
    with TestClient(bare_app(served)) as http:
        yield Client(http)
