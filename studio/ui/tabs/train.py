"""The Train tab: what will be trained on the left with a forecast beside Start; its screen on the right is drawn by static/run*.js over /studio/v1/training."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from studio import shelves
from studio.engine import Engine
from studio.errors import StudioError
from studio.projects.captions import caption_of, is_captioned
from studio.projects.text_encodings import legacy_encoding
from studio.projects.training_images import training_images
from studio.requests import TrainRequest
from studio.requests.train import config_class, subject_of
from studio.settings import Paths
from studio.ui.browser import browser_of
from studio.ui.catalogue import ZH
from studio.ui.forecasting import forecast_of, forecast_panel
from studio.ui.keeping import reset_button
from studio.ui.method_form import FIRST, MethodForm
from studio.ui.presetting import Changed, Presetting
from studio.ui.tabs.painting import Painting
from studio.ui.tabs.preprocess import located
from studio.ui.widgets import REFRESH, Page, embedding_names, missing_note, note, submit
from studio.ui.words import browser_language, say, tell

READ = {"preview_prompt": "prompt", "preview_negative_prompt": "negative_prompt", "preview_seed": "seed", "preview_sampler": "sampler", "preview_steps": "steps", "preview_cfg_scale": "cfg_scale"}
"""Preview knobs that can be read from txt2img, with their names there."""
ADVANCED: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...] = (
    ("Learning", (("optimizer",), ("rate_shape", "warmup"), ("gradient_accumulation", "devices"), ("clip_grad_mode", "clip_grad_value"))),
    ("Pictures and captions", (("width", "height"), ("buckets", "flip"), ("shuffle_tags",), ("drop_out_tags", "caption_dropout"), ("use_masks", "mask_floor"), ("latent_sampling",))),
    ("Previews", (("preview_images", "preview_seed"), ("preview_negative_prompt",), ("preview_sampler", "preview_steps"), ("preview_cfg_scale",))),
    ("Measuring and stopping", (("probe_every", "patience"), ("stop_rule",), ("tensorboard",))),
    ("Loss and machine", (("min_snr_gamma", "noise_offset"), ("clip_skip", "seed"), ("gradient_checkpointing", "compile"))),
)
"""Groups of knobs below the usual ones: title, and rows of fields."""
LOOKED = 200
"""Images whose captions are looked for while the form is filled in."""
Reason = tuple[str, str, dict[str, Any]]
"""A field or none, a sentence of the catalogue, and its values."""
TEXTS = ("embedding", "name", "start_from", "data", "template")
"""Fields that are empty rather than nothing."""


@dataclass(frozen=True)
class TrainTab:
    """Parts that other tabs fill or read."""

    form: MethodForm


def build(page: Page, txt2img: Painting) -> TrainTab:
    """The form on the left; verdict, curve and previews on the right."""
    refused, current = gr.State(""), gr.State(None)
    with gr.Row():
        with gr.Column(scale=4, min_width=320):
            form = MethodForm("train")
            presets = Presetting(page, form)
            from_txt2img = _knobs(form)
            with gr.Row(elem_classes=["buttons"]):
                reset = reset_button("train", lambda: [*form.restored, presets.intent, from_txt2img])
                ahead = gr.Button(say("Forecast"), interactive=False, elem_id="train_ahead", scale=1)
                start = gr.Button(say("Start training"), variant="primary", interactive=False, elem_id="train_start", scale=2)
            missing = gr.HTML(elem_id="train_missing", elem_classes=["reason"])
            forecast = gr.HTML(elem_id="train_forecast", elem_classes=["reason"])
        with gr.Column(scale=7, min_width=360):
            words = escape(json.dumps(ZH, ensure_ascii=False))
            gr.HTML(f'<div id="train_screen" data-words="{words}"></div>', elem_id="train_place", padding=False)
    cloned = gr.Textbox(elem_id="train_cloned", elem_classes=["unseen"], container=False)
    clone = gr.Button("clone", elem_id="train_clone", elem_classes=["unseen"])

    def asked(data: dict[Component, Any]) -> dict[str, Any]:
        values = form.values(data)
        if data[from_txt2img]:
            values |= _read({name: data[txt2img.form.parts[there]] for name, there in READ.items()})
        config = {**values, "data": located(page.engine.paths, values["data"]), "checkpoint": data[page.checkpoint] or ""}
        return {"method": data[form.method], "config": {name: "" if value is None and name in TEXTS else value for name, value in config.items()}}

    inputs = form.inputs | {from_txt2img, page.checkpoint} | {txt2img.form.parts[there] for there in READ.values()}
    look = "() => { window.studio.refresh(); window.studio.training && window.studio.training.look(); }"

    def changed(data: dict[Component, Any], request: gr.Request) -> list[Any]:
        values = asked(data)
        return [values, forecast_panel(page.engine, browser_language(), browser_of(request), values)]

    def train(data: dict[Component, Any], request: gr.Request) -> str:
        return submit(page.engine, TrainRequest, asked(data), browser_of(request), "train")[1]

    def forecast_settings(data: dict[Component, Any], request: gr.Request) -> str:
        return forecast_of(page.engine, asked(data), browser_of(request))

    start.click(train, inputs, refused, show_progress="hidden").then(None, js=look)
    ahead.click(forecast_settings, inputs, refused, show_progress="hidden").then(None, js=REFRESH)
    form.wire()
    presets.wire(Changed(changed, inputs, [current, forecast], [from_txt2img]))
    reset()
    clone.click(lambda text: [gr.Tabs(selected="train"), *_cloned(form, text)], cloned, [page.tabs, *form.restored], show_progress="hidden").then(None, js=REFRESH)
    for part in (form.method, *(form.parts[name] for name in ("embedding", "name", "data"))):
        part.change(None, js=REFRESH)
    page.copies[form.before] = form.method
    _offer(page, form)
    chosen = [form.parts[name] for name in ("embedding", "data", "template")]
    page.follow(_shelved(page), [*chosen, form.parts["start_from"], start, ahead, missing], [form.method, *chosen, form.parts["name"], refused])
    page.follow(lambda lang, browser, settings, refusal: ["" if refusal else forecast_panel(page.engine, lang, browser, settings)], [forecast], [current, refused], per_browser=True)
    return TrainTab(form)


def _knobs(form: MethodForm) -> gr.Checkbox:
    """What matters in sight, the rest in groups below; returns the switch that reads the preview's knobs from txt2img."""
    form.hold("embedding", gr.Dropdown([], allow_custom_value=True, label=say("Embedding"), elem_id="train_embedding"))
    form.add_own(more=False)
    about = say("A data set of the studio, or the path of a folder."), say("File of training prompts; [name] is the word that is taught, [filewords] the caption.")
    form.hold("data", gr.Dropdown([], allow_custom_value=True, label=say("Data set"), info=about[0], elem_id="train_data"))
    form.hold("template", gr.Dropdown([], allow_custom_value=True, label=say("Prompt template"), info=about[1], elem_id="train_template"))
    form.add("learn_rate")
    with gr.Row():
        form.add("steps", info=None)
        form.add("batch_size", info=None)
    with gr.Row():
        form.add("preview_every", info=None)
        form.add("save_every", info=None)
    form.add("preview_prompt", lines=2)
    from_txt2img = gr.Checkbox(False, label=say("Read preview parameters (prompt, etc...) from txt2img tab"), elem_id="train_from_txt2img")
    with gr.Accordion(say("More"), open=False):
        with gr.Accordion(say("Of this method"), open=False):
            further = say("Go on from"), say("Name of a finished one to train further; empty begins anew.")
            form.hold("start_from", gr.Dropdown([], allow_custom_value=True, label=further[0], info=further[1], elem_id="train_start_from", visible=False))
            form.add_own(more=True)
        for title, rows in ADVANCED:
            with gr.Accordion(say(title), open=False):
                for names in rows:
                    with gr.Row():
                        form.add(*names)
    return from_txt2img


def _values(text: str) -> dict[str, Any]:
    """Settings of a run that a form shall take; what is no object leaves the form as it is."""
    try:
        values = json.loads(text)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def _cloned(form: MethodForm, text: str) -> list[Any]:
    """The form with the settings of a run; `method` among them says of which kind."""
    values = _values(text)
    return form.restore_all(str(values.pop("method", FIRST)), values)


def _offer(page: Page, form: MethodForm) -> None:
    """What the form's dropdowns of files may hold."""
    paths, parts = page.engine.paths, form.parts
    page.offers.add(parts["embedding"], lambda name: name in embedding_names(page.engine), lambda: next(iter(embedding_names(page.engine)), None))
    page.offers.add(parts["data"], lambda name: _is_folder(paths, name))
    page.offers.add(parts["template"], lambda name: name in shelves.templates(paths))
    page.offers.add(parts["start_from"], lambda name: name in (*shelves.loras(paths), *shelves.hypernetworks(paths)), lambda: "")


def _is_folder(paths: Paths, name: str) -> bool:
    """Whether a data set is there; `name` is its path, or one that begins at the root."""
    try:
        return Path(located(paths, name)).is_dir()
    except (StudioError, OSError):
        return False


def _read(values: dict[str, Any]) -> dict[str, Any]:
    """Preview knobs as txt2img has them; a random seed there is the usual preview seed here, the same at every step."""
    if values["preview_seed"] is None or values["preview_seed"] < 0:
        del values["preview_seed"]
    return values


def _shelved(page: Page) -> Callable[..., Sequence[Any]]:
    """What can be chosen, whether a training can start, and if not, why."""

    def draw(lang: str, *chosen: str | None) -> list[Any]:
        method, embedding, data, template, name, refused = (each or "" for each in chosen)
        names = embedding_names(page.engine)
        sets = [(f"{title} ({count})", str(folder)) for title, folder, count in shelves.datasets(page.engine.paths) if count]
        lines = shelves.templates(page.engine.paths)
        first = lines[0] if lines else None
        updates = [
            _choices(names, embedding, names[0] if names else None),
            _choices(sets, data, sets[0][1] if sets else None),
            _choices(lines, template, "subject_filewords" if "subject_filewords" in lines else first),
            gr.update(choices=["", *_begun(page.engine, method)]),
        ]
        reasons = _missing(page.engine, embedding if "embedding" in config_class(method).model_fields else name, data, method)
        text = missing_note("train", [(field, tell(lang, reason, **values)) for field, reason, values in reasons])
        text += _caption_note(page.engine, lang, data, template)
        waits = "" if reasons or page.engine.active("train") is None else f'<div class="small">{escape(tell(lang, "A training is running; another one waits until it has ended."))}</div>'
        return [*updates, gr.update(interactive=not reasons), gr.update(interactive=not reasons), refused + text + waits]

    return draw


def _caption_note(engine: Engine, lang: str, data: str, template: str) -> str:
    """What an artist should know of the captions before a training starts: that there are none though the template asks for them, or that their encoding is a guess."""
    try:
        images = training_images(Path(located(engine.paths, data))) if data.strip() else []
        asked = "[filewords]" in engine.template_text(template) if template else False
    except StudioError:
        return ""
    if images and asked and not any(map(is_captioned, images[:LOOKED])):
        bare = "No image has a caption, so file names are used: “{example}”. Caption them first, or choose a template without [filewords]."
        return note("warn", tell(lang, bare, example=caption_of(images[0])[:60]))
    encoding = next(filter(None, map(legacy_encoding, {image.parent for image in images})), "")
    guessed = "Some captions aren't Unicode and are read as {encoding}. If they look wrong in the dataset, choose the encoding under Check."
    return note("warn", tell(lang, guessed, encoding=tell(lang, encoding))) if encoding else ""


def _begun(engine: Engine, method: str) -> list[str]:
    """What a training by this method could go on from."""
    return list(shelves.hypernetworks(engine.paths) if method == "hypernetwork" else shelves.loras(engine.paths))


def _choices(choices: list[Any], chosen: str | None, default: str | None) -> Any:
    """A dropdown's choices, and a first choice while there is none."""
    return gr.update(choices=choices) if chosen else gr.update(choices=choices, value=default)


def _missing(engine: Engine, subject: str | None, data: str | None, method: str) -> list[Reason]:
    """What keeps a training from starting: the field it stands at, a sentence, and its values."""
    reasons: list[Reason] = []
    if not (subject or "").strip():
        reasons.append(("", "Create an embedding first." if "embedding" in config_class(method).model_fields else "Give it a name.", {}))
    if not (data or "").strip():
        reasons.append(("", "Prepare pictures first.", {}))
    else:
        reasons += _wrong_folder(Path(located(engine.paths, data)))
    running = engine.active("train")
    if running is not None and subject_of(running.request["config"]) == subject and running.request.get("method", FIRST) == method:
        reasons.append(("", "This is being trained; it can be trained further when that has ended.", {}))
    return reasons


def _wrong_folder(folder: Path) -> list[Reason]:
    """Why a folder cannot be trained on."""
    if not folder.is_dir():
        return [("data", "The folder {folder} does not exist.", {"folder": folder})]
    try:
        return [] if training_images(folder) else [("data", "There is no picture in this data set.", {})]
    except StudioError:
        return [("data", "There is no picture in this data set.", {})]
