"""The Embedding tab: create an embedding, see which there are, and the room of a chosen one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from studio import embedding_shelf as shelf
from studio import shelves
from studio.jobs import State
from studio.requests import CreateEmbeddingRequest
from studio.ui.browser import browser_of
from studio.ui.embedding_figures import shelf_table
from studio.ui.keeping import reset_button
from studio.ui.tabs import embedding_room
from studio.ui.widgets import REFRESH, Form, Page, failed, note, submit
from studio.ui.words import say, tell


@dataclass(frozen=True)
class EmbeddingTab:
    """Parts that other tabs fill or read."""

    form: Form
    train: gr.Button


def build(page: Page) -> EmbeddingTab:
    """Build the tab: the form on the left, the list of embeddings on the right, the editor of the chosen one below."""
    form, refused = Form(CreateEmbeddingRequest, "embedding"), gr.State("")
    with gr.Row():
        with gr.Column(scale=5, min_width=320):
            form.add("name", "initialization_text", "vectors", "overwrite")
            start = gr.Button(say("Create embedding"), variant="primary", elem_id="embedding_create")
            status = gr.HTML(elem_id="embedding_status")
            train = gr.Button(say("Train it"), elem_id="embedding_train")
            reset = reset_button("embedding", form.parts.values)
        with gr.Column(scale=6, min_width=320):
            table = gr.HTML(elem_id="embedding_table")
    embedding_room.build(page)

    def run(data: dict[Component, Any], request: gr.Request) -> str:
        return submit(page.engine, CreateEmbeddingRequest, {**form.values(data), "checkpoint": data[page.checkpoint] or ""}, browser_of(request), "embedding")[1]

    reset()
    start.click(run, form.inputs | {page.checkpoint}, refused, show_progress="hidden").then(None, js=REFRESH)
    page.follow(_drawer(page), [status, table], [refused], per_browser=True)
    return EmbeddingTab(form, train)


def _drawer(page: Page) -> Callable[..., list[str]]:
    """What became of the browser's newest creation, and the shelf."""

    def draw(lang: str, browser: str, refused: str) -> list[str]:
        return [refused or _newest(page, lang, browser), shelf_table(lang, [shelf.told(card) for card in shelves.embeddings(page.engine.paths)])]

    return draw


def _newest(page: Page, lang: str, browser: str) -> str:
    """What became of the browser's newest creation."""
    job = page.follower.newest("create_embedding", browser)
    if job is None:
        return ""
    if not job.state.over:
        return note("busy", tell(lang, "Creating …"))
    if job.state is State.FAILED or job.result is None:
        return failed(lang, job)
    text = note("good", tell(lang, "{name} is created with {vectors} vectors. Train it next; until then it means its initialization text.", **job.result))
    if job.result.get("dropped"):
        text += note("warn", tell(lang, "There was no room for: {dropped}", **job.result))
    return text
