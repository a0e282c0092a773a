"""The Tools tab: what is missing, how far a job is and what came of it are said, and nothing that a file says becomes HTML."""

import pytest

from studio.engine import Engine
from studio.jobs import State
from studio.requests.tools import MergeRequest
from studio.settings import Paths
from studio.ui.live import Follower
from studio.ui.tabs import tools
from studio.ui.widgets import Page

BROWSER = "b" * 20


@pytest.fixture
def page(root: Paths) -> Page:
    engine = Engine(root)
    return Page(engine, Follower(engine), *[None] * 5)  # type: ignore[arg-type]


def test_a_merge_from_the_first_look_to_its_end(page: Page) -> None:
    engine, draw = page.engine, tools._drawer(page, tools.TOOLS[0])
    text, start, stop = draw("en", BROWSER, "", None)
    assert "Choose the files first." in text and not start["interactive"] and not stop["interactive"]
    name = engine.submit(MergeRequest(primary="a", secondary="b"), BROWSER)
    engine.store.claim("w", ("merge",))
    engine.store.emit(name, "progress", {"step": 3, "total": 9, "unit": "MB"})
    text, start, stop = draw("zh", BROWSER, "", "a")
    assert "MB" not in draw("zh", "another browser", "", "a")[0]
    assert "3 / 9 MB" in text and not start["interactive"] and stop["interactive"]
    engine.store.emit(name, "warning", {"text": "<b>careful</b>"})
    engine.store.finish(name, State.DONE, {"path": "/x/<i>", "name": "n<u>", "rank": 4, "kept": 0.5, "report": ["<s>"]})
    text, start, stop = draw("en", BROWSER, "", "a")
    assert "n&lt;u&gt; is ready" in text and "50.0% of each change" in text and start["interactive"] and not stop["interactive"]
    assert not any(tag in text for tag in ("<b>", "<i>", "<u>", "<s>"))


def test_every_knob_has_its_place() -> None:
    for tool in tools.TOOLS:
        assert sorted(name for row in tool.rows for name in row) == sorted(tool.request.model_fields), tool.kind
