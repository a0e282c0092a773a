"""Presets in the Train tab: what is advised for an intent, what of the form differs from it, and settings taken over from other trainings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gradio as gr
from gradio.components import Component

from studio import shelves
from studio.config import controls
from studio.errors import InputError, StudioError
from studio.networks.shelf import checkpoint_family
from studio.presets.compare import differences
from studio.presets.fitting import fits
from studio.presets.importing import imported
from studio.presets.intents import FAMILIES, INTENTS, Preset, preset
from studio.presets.seen import batching_of
from studio.projects.captions import is_captioned
from studio.projects.training_images import learned_images, repeats_of
from studio.requests.train import config_class
from studio.ui.catalogue_choices import CHOICES
from studio.ui.method_form import MethodForm
from studio.ui.reasons import told
from studio.ui.tabs.preprocess import located
from studio.ui.widgets import REFRESH, Page, note, refusal
from studio.ui.words import language, say, tell

NOTHING: Mapping[str, Any] = MappingProxyType({})
CAPTIONS_LOOKED_AT = 200
"""Pictures whose captions are looked for: more than half of them must have one, as in the data set's check."""

OPENED = (".safetensors", ".json", ".toml")
"""Files whose settings can be taken over."""
TITLES = {"person": "A person", "object": "An object", "style": "A style", "character": "A character"}
"""Intents as a person reads them."""


@dataclass(frozen=True)
class Changed:
    """What else is drawn when the form changes: from `inputs` into `outputs`, also when one of `further` changes."""

    draw: Callable[[dict[Component, Any], gr.Request], list[Any]]
    inputs: set[Component]
    outputs: list[Component]
    further: list[Any]


class Presetting:
    """The row of presets above a form; `wire` comes when the form is whole."""

    def __init__(self, page: Page, form: MethodForm) -> None:
        self.page, self.form = page, form
        with gr.Row(elem_classes=["presets"]):
            choices = [(say(TITLES[intent]), intent) for intent in INTENTS]
            self.intent = gr.Dropdown([("–", ""), *choices], value="", label=say("Preset for"), elem_id="train_intent", min_width=120, scale=2)
            self.apply = gr.Button(say("Apply"), elem_id="train_apply", min_width=80, scale=1)
            self.file = gr.UploadButton(say("Train like a file …"), file_types=list(OPENED), elem_id="train_like", min_width=140, scale=2)
        self.taken = gr.HTML(elem_id="train_taken", elem_classes=["reason"])
        self.said = gr.HTML(elem_id="train_preset", elem_classes=["reason"])

    @property
    def _inputs(self) -> set[Component]:
        """What a preset is chosen and compared by."""
        return {self.intent, self.page.checkpoint, *self.form.inputs}

    def wire(self, changed: Changed) -> None:
        """Apply, compare whenever something changes, take over a file; `changed` draws what else follows from the form."""
        options: dict[str, Any] = {"show_progress": "hidden"}
        self.apply.click(self._applied, self._inputs, [*self.form.restored, self.taken], **options).then(None, js=REFRESH)
        changes = [part.change for part in (self.intent, self.page.checkpoint, self.form.method, *self.form.parts.values(), *changed.further)]
        compared = self._compared()

        def draw(data: dict[Component, Any], request: gr.Request) -> list[Any]:
            return [compared(data, request), *changed.draw(data, request)]

        gr.on(changes, draw, self._inputs | changed.inputs, [self.said, *changed.outputs], trigger_mode="always_last", **options)
        self.file.upload(self._taken(), self.file, [*self.form.restored, self.taken], **options).then(None, js=REFRESH)

    def _preset(self, data: dict[Component, Any], values: Mapping[str, Any] = NOTHING) -> Preset | None:
        """The preset of what is chosen, its steps and rates for the batch of a form's values; None where none is."""
        intent = data[self.intent]
        if not intent:
            return None
        family = checkpoint_family(self.page.engine.paths, data[self.page.checkpoint] or "") or FAMILIES[0]
        count, captions, images = self._pictures(str(data[self.form.parts["data"]] or ""))
        return preset(intent, family, data[self.form.method], count, captions, batching_of(values, images))

    def _pictures(self, name: str) -> tuple[int, bool, int]:
        """How many pictures the data set holds, whether they have captions, and the images of an epoch with repeats counted; a usual number where there is none yet."""
        try:
            pictures = learned_images(Path(located(self.page.engine.paths, name))) if name.strip() else []
            images = sum(repeats_of(pictures).values())
        except StudioError:
            pictures, images = [], 0
        looked = pictures[:CAPTIONS_LOOKED_AT]
        return len(pictures) or 15, not pictures or sum(map(is_captioned, looked)) * 2 > len(looked), images

    def _applied(self, data: dict[Component, Any]) -> list[Any]:
        """The form with the preset's values."""
        found = self._preset(data)
        method = data[self.form.method]
        return [*(self.form.restore_all(method, found.values) if found else [gr.skip()] * len(self.form.restored)), ""]

    def _compared(self) -> Callable[..., str]:
        """What draws the differences."""

        def draw(data: dict[Component, Any], request: gr.Request) -> str:
            lang = language(request.headers.get("accept-language"))
            values = self.form.values(data)
            found = self._preset(data, values)
            if found is None:
                return ""
            return _said(lang, found, values)

        return draw

    def _taken(self) -> Callable[..., list[Any]]:
        """What takes over the settings of a file."""

        def take(path: str, request: gr.Request) -> list[Any]:
            lang = language(request.headers.get("accept-language"))
            try:
                found = imported(Path(path), shelves.checkpoints(self.page.engine.paths), Path(path).name)
            except (StudioError, InputError) as error:
                return [*[gr.skip()] * len(self.form.restored), refusal(error)]
            lines = "".join(f"<li>{escape(told(lang, reason))}</li>" for reason in found.notes)
            title = config_class(found.method).title
            head = tell(lang, "Settings taken over: {method}, {count} knobs.", method=tell(lang, title), count=len(found.values))
            return [*self.form.restore_all(found.method, dict(found.values)), note("good", head, f"<ul>{lines}</ul>" if lines else "")]

        return take


def _said(lang: str, found: Preset, values: dict[str, Any]) -> str:
    """A preset's reasons, what differs from it, and whether it fits a card of 8 GB."""
    labels = {control.name: control.label for control in controls(config_class(found.case.method))}
    rows = "".join(
        f"<li><b>{escape(tell(lang, labels[knob]))}</b> {escape(_short(lang, value))} · <span class='small'>{escape(tell(lang, 'preset {value}', value=_short(lang, wanted)))}</span></li>"
        for knob, wanted, value in differences(values, found)
    )
    other = (
        f"<div class='differs'>{escape(tell(lang, 'Differs from the preset:'))}<ul>{rows}</ul></div>" if rows else f"<div class='small'>{escape(tell(lang, 'The form is as the preset has it.'))}</div>"
    )
    reasons = "".join(f"<li>{escape(told(lang, choice.reason))}</li>" for choice in found.choices)
    why = f"<details><summary class='small'>{escape(tell(lang, 'Why these values'))}</summary><ul>{reasons}</ul></details>"
    return f"<div class='small'>{escape(told(lang, fits(found.case.method, found.case.family, None)))}</div>{other}{why}"


def _short(lang: str, value: Any) -> str:
    """A value in a line, a choice by its label."""
    text = str(CHOICES.get(value, value) if lang == "zh" and isinstance(value, str) else value).replace("\n", " · ")
    return text if len(text) <= 60 else text[:57] + "…"
