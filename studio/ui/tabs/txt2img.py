"""The txt2img tab."""

import gradio as gr

from studio import shelves
from studio.ui.tabs.painting import Painting
from studio.ui.widgets import Page
from studio.ui.words import choice, say


def build(page: Page) -> Painting:
    """Prompts, knobs and pictures."""
    painting = Painting(page, "txt2img")
    painting.prompting.build(painting.fields)
    with gr.Row():
        with gr.Column(scale=5, min_width=320):
            painting.knobs()
            _hires(page, painting)
            painting.extras()
        with gr.Column(scale=6, min_width=320, elem_classes=["results"]):
            painting.results()
    painting.wire()
    return painting


def _hires(page: Page, painting: Painting) -> None:
    """The second, larger pass."""
    add = painting.form.add
    with gr.Accordion(say("Hires. fix"), open=False, elem_id="txt2img_hires_box"):
        add("hires")
        with gr.Row():
            painting.form.hold("hires_upscaler", gr.Dropdown(list(map(choice, shelves.upscalers(page.engine.paths))), value="Latent", label=say("Upscaler"), elem_id="txt2img_hires_upscaler"))
            add("hires_steps")
        with gr.Row():
            add("hires_denoising_strength", info=None)
            add("hires_scale", info=None)
        with gr.Row():
            add("hires_width", info=None)
            add("hires_height", info=None)
        with gr.Row():
            add("hires_sampler", "hires_scheduler", info=None)
        add("hires_prompt", "hires_negative_prompt", lines=1, info=None)
