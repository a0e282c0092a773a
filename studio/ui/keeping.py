"""What a person typed: each browser keeps the values of its fields (static/forms.js) and gets those that are still valid back when the page opens.

A field is kept by its `elem_id`, without being named here. For each input of an event gradio's page searches through all of its parts, so an event with
all fields takes a third of a second on a slow machine, and an event for each field doubles the page. Therefore the fields are saved in groups: the script
notices what was touched and, some time after the last key, presses the unseen button of that group, whose event needs no server.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from studio.ui.catalogue import ZH
from studio.ui.words import KEY, say, tell

FIELDS = (gr.Textbox, gr.Number, gr.Slider, gr.Checkbox, gr.CheckboxGroup, gr.Radio, gr.Dropdown)
"""Components that hold what a person typed or chose."""
HIDDEN_BUT_KEPT = ("img2img_picture", "img2img_mask")
"""Fields out of sight that hold what a person painted: paths of files of the server."""
NOT_KEPT = ("txt2img_embeddings", "img2img_embeddings", "runs_job", "room_trash", *(f"tools_{kind}_add" for kind in ("merge_lora", "bake_lora")))
"""Fields that are emptied by use, or follow what the studio holds."""
STUDIO_WIDE = "settings_"
"""Begins the ids of fields whose values belong to the studio: what another browser applied must not be undone by what this one typed once."""
LONGEST = 200_000
"""Characters of one kept text."""
GROUP = 12
"""Fields that are read at a time."""


@dataclass
class Offers:
    """What a field whose choices change may hold; anything else is replaced, with a notice."""

    valid: dict[Component, Callable[[str], bool]] = field(default_factory=dict)
    otherwise: dict[Component, Callable[[], Any]] = field(default_factory=dict)

    def add(self, part: Component, valid: Callable[[str], bool], otherwise: Callable[[], Any] = lambda: None) -> None:
        """`valid(value)` says whether a value (each one of several) can be chosen now; `otherwise()` is what stands in for one that cannot."""
        self.valid[part], self.otherwise[part] = valid, otherwise


def kept_fields(blocks: gr.Blocks) -> dict[str, Component]:
    """The fields of a page that are kept, by their ids."""
    found = (part for part in blocks.blocks.values() if isinstance(part, FIELDS) and part.elem_id)
    return {str(part.elem_id): part for part in found if isinstance(part, Component) and _is_kept(part)}


def _is_kept(part: Component) -> bool:
    """Whether a field holds something of the person's."""
    name = str(part.elem_id)
    if name in HIDDEN_BUT_KEPT:
        return True
    hidden = "unseen" in (part.elem_classes or ()) or (part.visible is False and not name.startswith("train_"))
    return not (hidden or name in NOT_KEPT or name.startswith(STUDIO_WIDE))


def kept_tabs(blocks: gr.Blocks) -> dict[str, gr.Tabs]:
    """Groups of tabs whose open one is kept, by their ids."""
    return {str(part.elem_id): part for part in blocks.blocks.values() if isinstance(part, gr.Tabs) and part.elem_id}


@dataclass
class Restored:
    """What a browser kept, as far as it is valid: values by part, those that stand in for one that is not by field id, and a sentence for each of these."""

    values: dict[Any, Any] = field(default_factory=dict)
    replaced: dict[str, Any] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)


def restore(blocks: gr.Blocks, offers: Offers, text: str, lang: str) -> Restored:
    """Read what a browser kept; whatever else stands in `text` is left alone."""
    kept = _read(text)
    found = Restored()
    values = found.values
    for name, part in kept_fields(blocks).items():
        if name not in kept:
            continue
        value = kept[name]
        if valid(part, value, offers):
            values[part] = int(value) if isinstance(part, gr.Number | gr.Slider) and part.precision == 0 and value is not None else value
            continue
        values[part] = found.replaced[name] = _instead(part, value, offers)
        found.notices.append(_notice(lang, part, value, values[part]))
    for name, tabs in kept_tabs(blocks).items():
        if kept.get(name) in [tab.id for tab in tabs.children if isinstance(tab, gr.Tab)]:
            values[tabs] = gr.Tabs(selected=kept[name])
    return found


def _read(text: str) -> dict[str, Any]:
    """What a browser kept; nothing where it is not an object."""
    try:
        kept = json.loads(text or "{}")
    except ValueError:
        return {}
    return kept if isinstance(kept, dict) else {}


def valid(part: Component, value: Any, offers: Offers) -> bool:
    """Whether a field can hold a value now."""
    if isinstance(part, gr.Checkbox):
        return isinstance(value, bool)
    if isinstance(part, gr.Number | gr.Slider):
        return _is_number(part, value)
    if isinstance(part, gr.CheckboxGroup) or (isinstance(part, gr.Dropdown) and part.multiselect):
        return isinstance(value, list) and all(isinstance(one, str) and _can_be_chosen(part, one, offers) for one in value)
    if isinstance(part, gr.Dropdown | gr.Radio):
        return not value if value is None or value == "" else isinstance(value, str) and _can_be_chosen(part, value, offers)
    return isinstance(value, str) and len(value) <= LONGEST and (not value or part not in offers.valid or offers.valid[part](value))


def _is_number(part: gr.Number | gr.Slider, value: Any) -> bool:
    """Whether a number lies within a field's limits; a number box may be empty."""
    if value is None:
        return isinstance(part, gr.Number)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    return (part.minimum is None or value >= part.minimum) and (part.maximum is None or value <= part.maximum)


def _can_be_chosen(part: Any, value: str, offers: Offers) -> bool:
    """Whether a value is among the choices, or on offer where the choices change."""
    if part in offers.valid:
        return len(value) <= LONGEST and offers.valid[part](value)
    return value in [choice for _, choice in part.choices] or (isinstance(part, gr.Dropdown) and part.allow_custom_value)


def _instead(part: Component, value: Any, offers: Offers) -> Any:
    """What stands in for a value that is not valid: of several the valid ones, else what is on offer, else what the page was built with."""
    if isinstance(value, list):
        return [one for one in value if valid(part, [one], offers)]
    return offers.otherwise[part]() if part in offers.otherwise else part.value


def _notice(lang: str, part: Component, value: Any, instead: Any) -> str:
    """What is said about a value that was replaced."""
    label = str(getattr(part.label, "key", part.label) or part.elem_id).removeprefix(KEY)
    said = {"label": ZH.get(label, label) if lang == "zh" else label, "value": _short(value)}
    if instead in (None, "", []) or isinstance(instead, list):
        return tell(lang, "{label}: {value} is not available any more.", **said)
    return tell(lang, "{label}: {value} is not available any more; using {instead}.", **said, instead=_short(instead))


def _short(value: Any) -> str:
    """A value in a line."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def save_fields(blocks: gr.Blocks) -> list[list[str]]:
    """Wire the saving of all fields, and return their ids in the groups that are saved together; call it when all other events are there."""
    fields = kept_fields(blocks)
    _watch_fills(blocks, {part._id: name for name, part in fields.items()})
    names = list(fields)
    groups = [names[at : at + GROUP] for at in range(0, len(names), GROUP)]
    for number, group in enumerate(groups):
        button = gr.Button("keep", elem_id=f"keep_{number}", elem_classes=["unseen"])
        button.click(None, [fields[name] for name in group], None, js=f"(...values) => window.studio.forms.save({json.dumps(group)}, values)", api_visibility="private")
    return groups


def _watch_fills(blocks: gr.Blocks, names: dict[int, str]) -> None:
    """Tell the script which fields an event has filled. Events that follow a change only show or hide fields."""
    for index, event in list(blocks.fns.items()):
        filled = [names[part._id] for part in event.outputs if part._id in names]
        if filled and not any(kind == "change" for _, kind in event.targets):
            Dependency(None, {}, index, None).then(None, None, None, js=f"() => window.studio.forms.touch({json.dumps(filled)})", api_visibility="private")


def reset_button(name: str, parts: Callable[[], Sequence[Component]]) -> Callable[[], None]:
    """A button, made here, that gives fields the values they were built with; `parts()` is asked when the returned function wires it, with the form whole."""
    button = gr.Button(say("Reset form"), elem_id=f"{name}_reset", size="sm", min_width=90, scale=0)

    def wire() -> None:
        fields = list(parts())
        button.click(lambda: [part.value for part in fields], None, fields, show_progress="hidden").then(None, js="() => window.studio.refresh()")

    return wire
