"""The Train tab: start a training, watch its curve and previews, stop when they look right."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from studio import shelves
from studio.engine import Engine
from studio.jobs import State
from studio.requests import TrainRequest
from studio.requests.train import TextualInversionConfig
from studio.ui.curve import Screen, look
from studio.ui.tabs.painting import Painting
from studio.ui.tabs.preprocess import located
from studio.ui.widgets import REFRESH, Form, Page, asked, embedding_names, note, submit
from studio.ui.words import say, tell

READ = {"preview_prompt": "prompt", "preview_negative_prompt": "negative_prompt", "preview_seed": "seed", "preview_sampler": "sampler", "preview_steps": "steps", "preview_cfg_scale": "cfg_scale"}
"""Preview knobs that can be read from txt2img, with their names there."""

ASKS = {"stop": "Stop and keep", "save": "Save now", "sample": "Sample now"}
"""What can be asked of a running training, and how the button says it."""


@dataclass(frozen=True)
class TrainTab:
    """Parts that other tabs fill or read."""

    form: Form


def build(page: Page, txt2img: Painting) -> TrainTab:
    """The form on the left; curve, figures and previews on the right."""
    form, refused = Form(TextualInversionConfig, "train"), gr.State("")
    with gr.Row():
        with gr.Column(scale=4, min_width=320):
            from_txt2img = _knobs(form)
            start = gr.Button(say("Start training"), variant="primary", interactive=False, elem_id="train_start")
            missing = gr.HTML(elem_id="train_missing", elem_classes=["reason"])
        with gr.Column(scale=7, min_width=360):
            asks: list[gr.Button] = []
            screen = Screen.build("train", lambda: asks.extend(_asks()))

    def run(data: dict[Component, Any]) -> str:
        values = form.values(data)
        if data[from_txt2img]:
            values |= _read({name: data[txt2img.form.parts[there]] for name, there in READ.items()})
        config = {**values, "data": located(page.engine.paths, values["data"]), "checkpoint": data[page.checkpoint] or ""}
        config = {name: "" if value is None and name in ("embedding", "data", "template") else value for name, value in config.items()}
        return submit(page.engine, TrainRequest, {"config": config})[1]

    start.click(run, form.inputs | {from_txt2img, page.checkpoint} | {txt2img.form.parts[there] for there in READ.values()}, refused, show_progress="hidden").then(None, js=REFRESH)
    for button, kind in zip(asks, ASKS, strict=True):
        button.click(_asker(page, kind), None, None, queue=False)
    for name in ("embedding", "data"):
        form.parts[name].change(None, js=REFRESH)
    page.fill(lambda: _last(page, form), list(form.parts.values()))
    page.follow(_watched(page), [*screen.parts, *asks], [refused])
    chosen = [form.parts[name] for name in ("embedding", "data", "template")]
    page.follow(_shelved(page), [*chosen, start, missing], chosen)
    return TrainTab(form)


def _asks() -> list[gr.Button]:
    """What can be asked of the running training."""
    with gr.Row(elem_classes=["buttons"]):
        return [gr.Button(say(text), variant="stop" if kind == "stop" else "secondary", interactive=False, elem_id=f"train_{kind}") for kind, text in ASKS.items()]


def _knobs(form: Form) -> gr.Checkbox:
    """What matters in sight, the rest under More; returns the switch that reads the preview's knobs from txt2img."""
    form.hold("embedding", gr.Dropdown([], allow_custom_value=True, label=say("Embedding"), elem_id="train_embedding"))
    about = say("A data set of the studio, or the path of a folder."), say("File of training prompts; [name] is the embedding, [filewords] the caption.")
    form.hold("data", gr.Dropdown([], allow_custom_value=True, label=say("Data set"), info=about[0], elem_id="train_data"))
    form.hold("template", gr.Dropdown([], allow_custom_value=True, label=say("Prompt template"), info=about[1], elem_id="train_template"))
    form.add("learn_rate")
    with gr.Row():
        form.add("steps", info=None)
        form.add("batch_size", info=None)
    with gr.Row():
        form.add("preview_every", info=None)
        form.add("save_every", info=None)
    form.add("preview_prompt", lines=1)
    from_txt2img = gr.Checkbox(False, label=say("Read preview parameters (prompt, etc...) from txt2img tab"), elem_id="train_from_txt2img")
    with gr.Accordion(say("More"), open=False):
        with gr.Row():
            form.add("width")
            form.add("height")
        with gr.Row():
            form.add("gradient_accumulation", "latent_sampling")
        form.add("shuffle_tags", "drop_out_tags", "preview_negative_prompt", "preview_seed", "preview_sampler", "preview_steps", "preview_cfg_scale", "min_snr_gamma", "clip_skip", "seed")
    return from_txt2img


def _last(page: Page, form: Form) -> list[Any]:
    """The form as it was for the newest training."""
    job = page.follower.newest("train")
    return form.restore({} if job is None else job.request["config"])


def _read(values: dict[str, Any]) -> dict[str, Any]:
    """Preview knobs as txt2img has them; a random seed there is the usual preview seed here, the same at every step."""
    if values["preview_seed"] is None or values["preview_seed"] < 0:
        del values["preview_seed"]
    return values


def _asker(page: Page, kind: str) -> Callable[[], None]:
    """A handler that asks something of the running training."""

    def ask() -> None:
        job = page.engine.active("train")
        if job is not None:
            asked(page.engine, job.id, kind)

    return ask


def _watched(page: Page) -> Callable[..., Sequence[Any]]:
    """The newest training and the buttons that ask something of it."""

    def draw(lang: str, refused: str) -> list[Any]:
        job = page.follower.newest("train")
        if job is None:
            empty = look(lang, None, None)
            return [refused + note("", tell(lang, "Curve and previews of the training will appear here.")), *empty[1:], *[gr.update(interactive=False)] * 3]
        shown = look(lang, job, page.follower.view(job.id))
        running = job.state in (State.RUNNING, State.PAUSED)
        buttons = [gr.update(interactive=running or job.state is State.QUEUED), gr.update(interactive=running), gr.update(interactive=running)]
        return [refused + shown[0], *shown[1:], *buttons]

    return draw


def _shelved(page: Page) -> Callable[..., Sequence[Any]]:
    """What can be chosen, whether a training can start, and if not, why."""

    def draw(lang: str, embedding: str | None, data: str | None, template: str | None) -> list[Any]:
        names = embedding_names(page.engine)
        sets = [(f"{name} ({count})", str(folder)) for name, folder, count in shelves.datasets(page.engine.paths) if count]
        lines = shelves.templates(page.engine.paths)
        first = lines[0] if lines else None
        updates = [
            _choices(names, embedding, names[0] if names else None),
            _choices(sets, data, sets[0][1] if sets else None),
            _choices(lines, template, "subject_filewords" if "subject_filewords" in lines else first),
        ]
        reasons = _missing(page.engine, embedding, data)
        text = note("", " ".join(tell(lang, reason) for reason in reasons)) if reasons else ""
        return [*updates, gr.update(interactive=not reasons), text]

    return draw


def _choices(choices: list[Any], chosen: str | None, default: str | None) -> Any:
    """A dropdown's choices, and a first choice while there is none."""
    return gr.update(choices=choices) if chosen else gr.update(choices=choices, value=default)


def _missing(engine: Engine, embedding: str | None, data: str | None) -> list[str]:
    """What keeps a training from starting, in words."""
    reasons = []
    if not embedding:
        reasons.append("Create an embedding first.")
    if not (data or "").strip():
        reasons.append("Prepare pictures first.")
    elif not shelves.images(Path(located(engine.paths, data))):
        reasons.append("There is no picture in this data set.")
    if engine.active("train") is not None:
        reasons.append("A training is running; a new one can start when it has ended.")
    return reasons
