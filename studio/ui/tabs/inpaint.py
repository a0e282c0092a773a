"""The Inpaint tab: paint over what should change."""

import shutil
import time
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from studio.ui.tabs.painting import Painting
from studio.ui.widgets import Page
from studio.ui.words import say

CARRIED = ("prompt", "negative_prompt", "sampler", "steps", "cfg_scale", "seed", "clip_skip")
"""Fields that come along from txt2img."""


def build(page: Page, source: Painting) -> Painting:
    """Canvas, mask knobs and pictures; `source` is the tab that can send its picture here."""
    painting = Painting(page, "inpaint")
    painting.prompts()
    with gr.Row():
        with gr.Column(scale=5, min_width=320):
            canvas = gr.ImageEditor(
                label=say("Picture: paint over the part that should change"),
                type="filepath",
                format="png",
                image_mode="RGBA",
                layers=False,
                sources=["upload", "clipboard"],
                transforms=(),
                brush=gr.Brush(default_size=24, colors=["#ffffff"], color_mode="fixed"),
                height=460,
                elem_id="inpaint_canvas",
            )
            _mask_knobs(painting)
            painting.knobs()
        with gr.Column(scale=6, min_width=320):
            painting.results(say("Paint on this picture next"))

    def prepare(values: dict[str, Any], data: dict[Component, Any]) -> dict[str, Any]:
        """Picture and mask as files of the studio's own, so that the job can be done at any time."""
        picture, mask = _kept(data[canvas] or {}, page.engine.paths.uploads)
        return {**values, "init_image": picture, "mask": mask}

    painting.wire(prepare, {canvas})
    parts = [painting.form.parts[name] for name in CARRIED]
    source.send.click(_sent(source), [source.job, source.chosen, *(source.form.parts[name] for name in CARRIED)], [canvas, page.tabs, *parts])
    painting.send.click(_sent(painting), [painting.job, painting.chosen, *parts], [canvas, page.tabs, *parts])
    return painting


def _mask_knobs(painting: Painting) -> None:
    """What happens under the mask."""
    add = painting.form.add
    with gr.Row():
        add("denoising_strength", info=None)
        add("mask_blur", info=None)
    with gr.Row():
        add("mask_mode", info=None)
        add("inpaint_area", info=None)
    add("masked_content", info=None)
    add("padding", info=None)


def _sent(painting: Painting) -> Any:
    """A handler that puts a painting's chosen picture on the canvas, opens the tab and carries the knobs along."""

    def send(job: str, chosen: int, *knobs: Any) -> list[Any]:
        picture = painting.picture(job, chosen)
        if picture is None:
            raise gr.Error("There is no picture to send yet; press Generate first.", print_exception=False)
        return [{"background": picture, "layers": [], "composite": picture}, gr.Tabs(selected="inpaint"), *knobs]

    return send


def _kept(drawn: dict[str, Any], uploads: Path) -> tuple[str, str]:
    """Copies of the canvas's picture and mask; raises gr.Error in words when there is no picture."""
    background = drawn.get("background")
    layers = [layer for layer in drawn.get("layers") or () if layer]
    if not background:
        raise gr.Error("There is no picture to repaint yet: drop one on the canvas, or send one from txt2img.", print_exception=False)
    folder = uploads / f"inpaint-{time.strftime('%Y%m%d-%H%M%S')}-{time.monotonic_ns() % 10**6:06d}"
    folder.mkdir(parents=True)
    picture = shutil.copy(background, folder / f"picture{Path(background).suffix}")
    mask = shutil.copy(layers[0], folder / f"mask{Path(layers[0]).suffix}") if layers else ""
    return str(picture), str(mask)
