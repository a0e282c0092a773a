"""The Script box: X/Y/Z plot, prompt matrix, and prompts from a file or text box."""

from typing import Any

import gradio as gr
from gradio.components import Component

from studio import shelves
from studio.config import Config
from studio.requests import GenerateRequest
from studio.requests.scripts import PlotRequest, PromptMatrixRequest, PromptsFromFileRequest
from studio.requests.sd_upscale import SdUpscaleRequest
from studio.ui.widgets import Form, Page, submit
from studio.ui.words import choice, say

SCRIPTS: tuple[tuple[str, type[Config] | None], ...] = (
    ("None", None),
    ("Prompt matrix", PromptMatrixRequest),
    ("Prompts from file or textbox", PromptsFromFileRequest),
    ("X/Y/Z plot", PlotRequest),
    ("SD upscale", SdUpscaleRequest),
)
"""Name in the list, and the request that carries it."""


class Scripting:
    """The choice of a script and its knobs; `name` is the tab's."""

    def __init__(self, page: Page, name: str) -> None:
        self.page, self.name = page, name
        self.scripts = {title: cls for title, cls in SCRIPTS if cls is not SdUpscaleRequest or name == "img2img"}
        self.forms = {title: Form(cls, f"{name}_{title.split()[0].lower().replace('/', '')}") for title, cls in self.scripts.items() if cls is not None}

    def build(self) -> None:
        """Make the components here."""
        self.choice = gr.Dropdown(list(map(choice, self.scripts)), value="None", label=say("Script"), elem_id=f"{self.name}_script")
        boxes = []
        for title, form in self.forms.items():
            with gr.Group(visible=False, elem_id=f"{form.prefix}_box") as box:
                if title == "SD upscale":
                    _upscale(form, shelves.upscalers(self.page.engine.paths, latent=False))
                else:
                    _PANELS[title](form)
            boxes.append(box)
        self.choice.change(lambda chosen: [gr.update(visible=title == chosen) for title in self.forms], self.choice, boxes, show_progress="hidden")

    @property
    def inputs(self) -> set[Component]:
        """What an event that reads the script takes as its inputs."""
        return {self.choice}.union(*(form.inputs for form in self.forms.values()))

    def submit(self, values: dict[str, Any], data: dict[Component, Any], browser: str) -> tuple[str, str]:
        """Queue a painting of a browser, alone or inside the chosen script; returns the job's id and a note to show."""
        title = data[self.choice]
        cls = self.scripts[title]
        if cls is None:
            return submit(self.page.engine, GenerateRequest, values, browser, self.name)
        return submit(self.page.engine, cls, {**self.forms[title].values(data), "base": values}, browser, self.forms[title].prefix)


def _plot(form: Form) -> None:
    """Three axes with their values, and how the grid is drawn."""
    for axis in "xyz":
        with gr.Row():
            form.add(f"{axis}_axis", info=None)
            form.add(f"{axis}_values", info=None, scale=2)
    with gr.Row():
        form.add("draw_legend", "keep_random_seeds", "include_sub_images", "include_sub_grids", info=None)
    form.add("margin", info=None)


def _matrix(form: Form) -> None:
    """How the parts of the prompt are combined."""
    with gr.Row():
        form.add("put_at_start", "different_seeds", info=None)
    with gr.Row():
        form.add("prompt_type", "delimiter", info=None)
    form.add("margin", info=None)


def _lines(form: Form) -> None:
    """One prompt a line."""
    with gr.Row():
        form.add("iterate_seed", "same_seed", info=None)
    form.add("position", info=None)
    form.add("text", lines=5)
    form.add("margin", info=None)


def _upscale(form: Form, upscalers: list[str]) -> None:
    """What enlarges the image, how much, and how far tiles overlap."""
    form.hold("upscaler", gr.Dropdown(list(map(choice, upscalers)), value="None", label=say("Upscaler"), elem_id=f"{form.prefix}_upscaler"))
    with gr.Row():
        form.add("overlap", "scale")


_PANELS = {"Prompt matrix": _matrix, "Prompts from file or textbox": _lines, "X/Y/Z plot": _plot}
