"""The img2img tab: a picture to begin from, with coloured strokes over it or a mask; inpainting lives here."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from studio.ui.browser import browser_of
from studio.ui.tabs.painting import Painting
from studio.ui.widgets import Page
from studio.ui.words import choice, complaint, say

NAME = "img2img"
MODES = {"img2img": "plain", "Sketch": "paint", "Inpaint": "mask", "Inpaint sketch": "sketch"}
"""Mode of the tab, and what the canvas does in it."""
CARRIED = ("prompt", "negative_prompt", "styles", "sampler", "scheduler", "steps", "cfg_scale", "seed")
"""Fields that come along from txt2img."""
SHOW = f"(path) => window.studio.show('{NAME}', path)"
SWITCH = f"(mode) => window.studio.mode('{NAME}', ({MODES})[mode])"


@dataclass(frozen=True)
class Img2Img:
    """The tab's painting, the picture's path and the mode, for those who send something here."""

    painting: Painting
    picture: gr.Textbox
    mode: gr.Radio


def build(page: Page, source: Painting) -> Img2Img:
    """Canvas, mask knobs and pictures; `source` is the tab that can send its picture here."""
    painting = Painting(page, NAME)
    painting.prompting.build(painting.fields)
    with gr.Row():
        with gr.Column(scale=5, min_width=320):
            mode = gr.Radio(list(map(choice, MODES)), value="Inpaint", label=say("Mode"), elem_id=f"{NAME}_mode")
            gr.HTML(f'<div class="mask-canvas" data-canvas="{NAME}" data-mode="mask" data-modes="{escape(json.dumps(MODES))}"></div>', elem_id=f"{NAME}_canvas", padding=False)
            picture = gr.Textbox("", elem_id=f"{NAME}_picture", elem_classes=["unseen"], show_label=False, container=False)
            mask = gr.Textbox("", elem_id=f"{NAME}_mask", elem_classes=["unseen"], show_label=False, container=False)
            _mask_knobs(painting, mode)
            painting.knobs()
            painting.extras()
        with gr.Column(scale=6, min_width=320, elem_classes=["results"]):
            painting.results()
    for part in (picture, mask):
        page.offers.add(part, lambda path: _is_shown(page, Path(path)), lambda: "")
    mode.change(None, mode, None, js=SWITCH)
    picture.change(None, picture, None, js=SHOW)

    def prepare(values: dict[str, Any], data: dict[Component, Any]) -> dict[str, Any]:
        """Picture and strokes as files of the studio's own, so that the job can be done at any time."""
        return {**values, **_kept(page, data[picture], data[mask], data[mode])}

    painting.wire(prepare, {picture, mask, mode})
    tab = Img2Img(painting, picture, mode)
    parts = [painting.form.parts[name] for name in CARRIED]
    for sender, fields in ((source, [source.form.parts[name] for name in CARRIED]), (painting, parts)):
        for button, target in ((sender.to_img2img, "img2img"), (sender.to_inpaint, "Inpaint")):
            button.click(_sent(sender, target), [sender.job, sender.chosen, *fields], [picture, mode, page.tabs, *parts])
    return tab


def _mask_knobs(painting: Painting, mode: gr.Radio) -> None:
    """What happens to the picture, and what happens under the mask."""
    add = painting.form.add
    add("denoising_strength", info=None)
    add("resize_mode", info=None)
    with gr.Group() as masked:
        with gr.Row():
            add("mask_blur", info=None)
            add("mask_mode", info=None)
        add("masked_content", info=None)
        with gr.Row():
            add("inpaint_area", info=None)
            add("padding", info=None)
        with gr.Accordion(say("Soft inpainting"), open=False, elem_id=f"{NAME}_soft"):
            add("soft_inpainting")
            with gr.Row():
                add("soft_schedule_bias", "soft_preservation", "soft_contrast", info=None)
            with gr.Row():
                add("soft_mask_influence", "soft_difference_threshold", "soft_difference_contrast", info=None)
        add("inpainting_mask_weight")
    add("color_correction")
    add("background_color")
    engine = painting.page.engine
    painting.page.fill(lambda: [engine.preferences().img2img_background_color], [painting.form.parts["background_color"]])
    mode.change(lambda chosen: gr.update(visible=chosen.startswith("Inpaint")), mode, masked, show_progress="hidden")


def _sent(painting: Painting, mode: str) -> Callable[..., list[Any]]:
    """A handler that puts a painting's chosen picture on the canvas, opens the tab and carries the knobs along."""

    def send(request: gr.Request, job: str, chosen: int, *knobs: Any) -> list[Any]:
        picture = painting.picture(job, chosen, browser_of(request))
        if picture is None:
            raise complaint("There is no picture to send yet; press Generate first.")
        return [picture, mode, gr.Tabs(selected=NAME), *knobs]

    return send


def _kept(page: Page, picture: str, strokes: str, mode: str) -> dict[str, str]:
    """Copies of the canvas's picture and strokes as fields of a request; raises gr.Error in words when something is missing."""
    if not picture:
        raise complaint("There is no picture to begin from yet: drop one on the canvas, or send one from txt2img.")
    folder = page.engine.paths.uploads / f"{NAME}-{time.strftime('%Y%m%d-%H%M%S')}-{time.monotonic_ns() % 10**6:06d}"
    folder.mkdir(parents=True)
    kept = {"init_image": _copy(page, picture, folder, "picture"), "mask": "", "sketch": ""}
    if mode.startswith("Inpaint") and not strokes:
        raise complaint("There is no mask: paint over the part that should change.")
    if strokes and mode != "img2img":
        copy = _copy(page, strokes, folder, "strokes")
        kept["mask"] = copy if mode.startswith("Inpaint") else ""
        kept["sketch"] = copy if mode in ("Sketch", "Inpaint sketch") else ""
    return kept


def _is_shown(page: Page, path: Path) -> bool:
    """Whether a file was sent to the page or made by it."""
    source, folders = path.resolve(), (Path(page.blocks.GRADIO_CACHE), page.engine.paths.images, page.engine.paths.uploads)
    return source.is_file() and any(folder.resolve() in source.parents for folder in folders)


def _copy(page: Page, path: str, folder: Path, name: str) -> str:
    """A copy of a file that was sent to the page or made by it; raises gr.Error for any other file of the machine."""
    source = Path(path).resolve()
    if not _is_shown(page, source):
        raise complaint("The picture on the canvas is not there any more; open it again.")
    return str(shutil.copy(source, folder / f"{name}{source.suffix.lower()}"))
