"""The txt2img tab."""

import gradio as gr

from studio.ui.tabs.painting import Painting
from studio.ui.widgets import Page
from studio.ui.words import say


def build(page: Page) -> Painting:
    """Prompts, knobs and pictures."""
    painting = Painting(page, "txt2img")
    painting.prompts()
    with gr.Row():
        with gr.Column(scale=5, min_width=320):
            painting.knobs()
        with gr.Column(scale=6, min_width=320):
            painting.results(say("Send to inpaint"))
    painting.wire()
    return painting
