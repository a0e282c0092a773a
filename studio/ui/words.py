"""Every word of the page: English in the code, Chinese from the catalogue, chosen by the browser's language."""

import re
from typing import Any

import gradio as gr

from studio.config import label_of
from studio.ui.catalogue import ZH

_I18N = gr.I18n(**{"en": {text: text for text in ZH}, "zh-CN": ZH, "zh": ZH})


def translations() -> gr.I18n:
    """What the page needs to choose the words of a browser's language."""
    return _I18N


def say(text: str) -> Any:
    """A label, hint or button text that follows the browser's language; KeyError when the catalogue lacks it."""
    if text not in ZH:
        raise KeyError(text)
    return _I18N(text)


def language(header: str | None) -> str:
    """`zh` or `en`, from a browser's Accept-Language header."""
    first = (header or "").split(",")[0].strip().lower()
    return "zh" if first.startswith("zh") else "en"


def tell(lang: str, text: str, **values: object) -> str:
    """A sentence in a language, with its `{values}` filled in; KeyError when the catalogue lacks it."""
    translated = ZH[text]
    return re.sub(r"\{(\w+)\}", lambda m: str(values[m[1]]), translated if lang == "zh" else text)


def titled(name: str) -> str:
    """A field's or a job kind's name as a title."""
    return label_of(name)
