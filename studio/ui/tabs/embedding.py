"""The Embedding tab: create an embedding, and see which there are."""

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr
from gradio.components import Component

from studio import shelves
from studio.engine import Engine
from studio.jobs import State
from studio.requests import CreateEmbeddingRequest
from studio.ui.widgets import REFRESH, Form, Page, failed, note, submit
from studio.ui.words import say, tell


@dataclass(frozen=True)
class EmbeddingTab:
    """Parts that other tabs fill or read."""

    form: Form
    train: gr.Button


def build(page: Page) -> EmbeddingTab:
    """The form on the left, the shelf on the right."""
    form, refused = Form(CreateEmbeddingRequest, "embedding"), gr.State("")
    with gr.Row():
        with gr.Column(scale=5, min_width=320):
            form.add("name", "initialization_text", "vectors", "overwrite")
            start = gr.Button(say("Create embedding"), variant="primary", elem_id="embedding_create")
            status = gr.HTML(elem_id="embedding_status")
            train = gr.Button(say("Train it"), elem_id="embedding_train")
        with gr.Column(scale=6, min_width=320):
            table = gr.HTML(elem_id="embedding_table")

    def run(data: dict[Component, Any]) -> str:
        return submit(page.engine, CreateEmbeddingRequest, {**form.values(data), "checkpoint": data[page.checkpoint] or ""})[1]

    start.click(run, form.inputs | {page.checkpoint}, refused, show_progress="hidden").then(None, js=REFRESH)
    page.follow(_drawer(page), [status, table], [refused])
    return EmbeddingTab(form, train)


def _drawer(page: Page) -> Callable[..., list[str]]:
    """What became of the newest creation, and the shelf."""

    def draw(lang: str, refused: str) -> list[str]:
        return [refused or _newest(page, lang), _table(page.engine, lang)]

    return draw


def _newest(page: Page, lang: str) -> str:
    """What became of the newest creation."""
    job = page.follower.newest("create_embedding")
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


def _table(engine: Engine, lang: str) -> str:
    """The shelf as a table."""
    cards = shelves.embeddings(engine.paths)
    if not cards:
        return note("", tell(lang, "There is no embedding yet."))
    heads = "".join(f"<th>{tell(lang, h)}</th>" for h in ("Name", "Vectors", "Width", "Steps"))
    rows = ""
    for card in cards:
        facts = f'<td colspan="3">{escape(card.problem)}</td>' if card.problem else "".join(f'<td class="num">{"" if v is None else v}</td>' for v in (card.vectors, card.width, card.step))
        rows += f"<tr><td>{escape(card.name)}</td>{facts}</tr>"
    return f'<table class="plain"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'
