"""What the browser is told: one part of the page for each event that waits, and at the start only what differs from the page as it was built."""

from pathlib import Path

import gradio as gr
import pytest

from studio.engine import Engine
from studio.settings import Paths
from studio.ui.app import build
from studio.ui.widgets import _news


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> gr.Blocks:
    root: Path = tmp_path_factory.mktemp("page")
    return build(Engine(Paths(root).prepare()))


def test_an_event_that_waits_tells_one_part_of_the_page(page: gr.Blocks) -> None:
    told = [len(event["show_progress_on"]) if event["show_progress_on"] else len(event["outputs"]) for event in page.config["dependencies"]]
    assert len(told) > 100
    assert max(told) == 1


def test_events_without_a_wait_to_show_tell_a_part_that_is_never_seen(page: gr.Blocks) -> None:
    (pulse,) = (part["id"] for part in page.config["components"] if part["props"].get("elem_id") == "pulse")
    hidden = [event for event in page.config["dependencies"] if event["show_progress"] == "hidden"]
    assert hidden
    assert all(event["show_progress_on"] == [pulse] for event in hidden)


def test_only_what_the_page_does_not_show_yet_is_sent() -> None:
    with gr.Blocks():
        number, choice, button, tabs = gr.Number(3), gr.Dropdown(["a", "b"], value="a"), gr.Button("x", interactive=True), gr.Tabs()
    assert _news(number, 3) == gr.skip()
    assert _news(number, 4) == gr.update(value=4)
    assert _news(number, None) == gr.update(value=None)
    assert _news(number, gr.skip()) == gr.skip()
    assert _news(choice, gr.update(choices=["a", "b"], value="b")) == gr.update(value="b")
    assert _news(choice, gr.update(choices=["a", "b"], value="a")) == gr.skip()
    assert _news(choice, gr.update(choices=[("A", "a")])) == gr.update(choices=[("A", "a")])
    assert _news(button, gr.update(interactive=False)) == gr.update(interactive=False)
    with gr.Blocks():
        changed = gr.Tabs(selected="one")
    assert _news(tabs, changed) is changed
