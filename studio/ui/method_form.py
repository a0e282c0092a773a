"""The form of a training: a method, the knobs all methods share, and the method's own, which come and go with it."""

from dataclasses import replace
from typing import Any

import gradio as gr
from gradio.components import Component

from studio.config import Control, controls
from studio.requests.train import CONFIGS, TrainConfig, config_class
from studio.ui.catalogue import ZH
from studio.ui.widgets import Form, component
from studio.ui.words import say

SHARED = frozenset(TrainConfig.model_fields)
"""Knobs of every method."""
FIRST = CONFIGS[0].method
RATE = "learn_rate"
"""What is right for one method is wrong for another, whoever wrote it."""


def own_controls() -> dict[str, tuple[Control, frozenset[str]]]:
    """Every knob that only some methods have, as its first method declares it, and those methods."""
    found: dict[str, tuple[Control, set[str]]] = {}
    for cls in CONFIGS:
        for control in controls(cls):
            if control.name not in SHARED:
                found.setdefault(control.name, (control, set()))[1].add(cls.method)
    return {name: (control, frozenset(methods)) for name, (control, methods) in found.items()}


def defaults(method: str) -> dict[str, Any]:
    """What the knobs of a method are when nobody touched them, as components hold it."""
    return {
        control.name: "" if control.kind == "text" and control.default is None else list(control.default) if control.kind == "choices" else control.default
        for control in controls(config_class(method))
    }


class MethodForm(Form):
    """A form whose method can be changed; knobs that a person touched keep their values."""

    def __init__(self, prefix: str) -> None:
        super().__init__(TrainConfig, prefix)
        self.own = own_controls()
        self.method = gr.Dropdown([(str(_said(cls.title)), cls.method) for cls in CONFIGS], value=FIRST, label=say("Method"), elem_id=f"{prefix}_method")
        self.before = gr.State(FIRST)

    def add_own(self, more: bool) -> None:
        """Make the components of the methods' own knobs here that are not made yet: the usual ones, or the finer ones, two in a row."""
        waiting = [name for name, (control, _) in self.own.items() if control.more == more and name not in self.parts]
        for at in range(0, len(waiting), 2):
            with gr.Row(elem_classes=["own-row"]):
                for name in waiting[at : at + 2]:
                    control, methods = self.own[name]
                    plain = replace(control, maximum=None) if control.kind in ("integer", "number") else control  # a slider needs more room
                    said = {"label": _said(control.label), "info": _said(control.help) if control.help else None}
                    self.parts[name] = component(plain, f"{self.prefix}_{name}", visible=FIRST in methods, min_width=140, **said)

    def wire(self) -> None:
        """Let the knobs follow the method."""
        self.method.change(self._seen, self.method, [self.parts[name] for name in self.own], show_progress="hidden")
        self.method.select(self._switched, {self.method, self.before, *self.parts.values()}, [self.before, *self.parts.values()], show_progress="hidden")

    def _seen(self, method: str) -> list[Any]:
        """Which of the methods' own knobs are there."""
        return [gr.update(visible=method in methods) for _, methods in self.own.values()]

    def _switched(self, data: dict[Component, Any]) -> list[Any]:
        """The new method's values for knobs that still had the old one's, and its rate."""
        method, old, new = data[self.method], defaults(data[self.before]), defaults(data[self.method])
        other = {name: value for name, value in new.items() if name in old and value != old[name]}
        return [method, *(gr.update(value=other[name]) if name in other and (name == RATE or data[part] == old[name]) else gr.skip() for name, part in self.parts.items())]

    def values(self, data: dict[Component, Any]) -> dict[str, Any]:
        """The knobs of the chosen method, out of what an event delivers."""
        fields = config_class(data[self.method]).model_fields
        return {name: data[part] for name, part in self.parts.items() if name in fields}

    @property
    def inputs(self) -> set[Component]:
        """What an event that reads the form takes as its inputs."""
        return {self.method, *self.parts.values()}

    @property
    def restored(self) -> list[Component]:
        """What `restore_all` gives values for."""
        return [self.method, self.before, *self.parts.values()]

    def restore_all(self, method: str, values: dict[str, Any]) -> list[Any]:
        """Updates that put a former training's method and values back; what it does not name stays. An unknown method leaves the form as it is."""
        if method not in [cls.method for cls in CONFIGS]:
            return [gr.skip()] * len(self.restored)
        seen = self._seen(method)
        updates = dict(zip(self.parts, self.restore(values), strict=True))
        for name, update in zip(self.own, seen, strict=True):
            updates[name] = gr.update(**{**_plain(updates[name]), **_plain(update)})
        return [method, method, *updates.values()]


def _said(text: str) -> Any:
    """Words that follow the browser's language; those of a method that was just added, and not put into Chinese yet, stay as they are."""
    return say(text) if text in ZH else text


def _plain(update: Any) -> dict[str, Any]:
    """An update's own entries."""
    return {key: value for key, value in update.items() if key != "__type__"} if isinstance(update, dict) else {}
