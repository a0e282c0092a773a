"""Every word of the page: English in the code, Chinese from the catalogue, chosen by the browser's language."""

import re
from typing import Any

import gradio as gr
from gradio.context import LocalContext

from studio.config import Config, controls, label_of
from studio.preferences import Preferences
from studio.requests import REQUESTS
from studio.requests.train import CONFIGS
from studio.ui.catalogue import ZH
from studio.ui.catalogue_choices import CHOICES
from studio.wording import LABELS, language, localized

KEY = "studio: "
"""Begins every key of the page's translations: gradio's page also translates the *value* of a component when it is such a key, so no key may be a possible value."""
CHOICE_KEY = "studio choice: "
"""The same for labels of choices, which have a catalogue of their own: a word may mean something else as a choice."""


def _keys(words: dict[str, str], choices: dict[str, str]) -> dict[str, str]:
    """Translations by key."""
    return {KEY + text: said for text, said in words.items()} | {CHOICE_KEY + value: said for value, said in choices.items()}


_CHINESE = _keys(ZH, CHOICES)
_I18N = gr.I18n(**{"en": _keys({text: text for text in ZH}, {value: value for value in CHOICES}), "zh-CN": _CHINESE, "zh": _CHINESE})


def translations() -> gr.I18n:
    """What the page needs to choose the words of a browser's language."""
    return _I18N


def say(text: str) -> Any:
    """A label, hint or button text that follows the browser's language; KeyError when the catalogue lacks it."""
    if text not in ZH:
        raise KeyError(text)
    return _I18N(KEY + text)


def choice(value: str) -> tuple[str, str]:
    """A choice as a dropdown or radio takes it: a label that follows the browser's language, and the value, which never does."""
    return (str(_I18N(CHOICE_KEY + value)) if value in CHOICES else value), value


_TAIL = re.compile(r"(?<=[\u4e00-\u9fff]) [A-Za-z][A-Za-z -]*$")
"""The English term beside a Chinese label, which a sentence does without."""


def _labels() -> dict[str, str]:
    """Labels of fields as errors name them, in Chinese: by the name of the field and by its title."""
    classes: list[type[Config]] = [*(cls for _, cls in REQUESTS), *CONFIGS, Preferences]
    found = [(control, ZH.get(control.label) or ZH.get(label_of(control.name))) for cls in classes for control in controls(cls)]
    return {name: _TAIL.sub("", said) for control, said in reversed(found) if said for name in (control.label, label_of(control.name))}


LABELS.update(_labels())


def browser_language() -> str:
    """`zh` or `en`: the language of the browser whose event is being handled; English outside of one."""
    request = LocalContext.request.get(None)
    return language(request.headers.get("accept-language") if request is not None else None)


def complaint(text: str) -> gr.Error:
    """An error that is shown as a toast, in the browser's language; raise it."""
    return gr.Error(localized(browser_language(), text), print_exception=False)


def tell(lang: str, text: str, **values: object) -> str:
    """A sentence in a language, with its `{values}` filled in; KeyError when the catalogue lacks it."""
    translated = ZH[text]
    return re.sub(r"\{(\w+)\}", lambda m: str(values[m[1]]), translated if lang == "zh" else text)


def titled(name: str) -> str:
    """A field's or a job kind's name as a title."""
    return label_of(name)
