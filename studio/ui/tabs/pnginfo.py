"""The PNG Info tab: what is written inside a picture, and buttons that carry it into the other tabs."""

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from studio.errors import StudioError
from studio.ui.tabs.img2img import Img2Img
from studio.ui.tabs.painting import Painting
from studio.ui.tabs.prompting import taken
from studio.ui.widgets import Page, note, refusal
from studio.ui.words import complaint, language, say, tell


def build(page: Page, txt2img: Painting, img2img: Img2Img) -> gr.Image:
    """A picture on the left, what it says on the right; returns the component that takes the picture."""
    text = gr.State("")
    with gr.Row():
        with gr.Column(scale=5, min_width=320):
            picture = gr.Image(type="filepath", sources=["upload", "clipboard"], label=say("Drop a picture here"), elem_id="pnginfo_picture", height=460, format="png")
        with gr.Column(scale=6, min_width=320):
            shown = gr.HTML(elem_id="pnginfo_text")
            with gr.Row(elem_classes=["buttons"]):
                buttons = [
                    gr.Button(say(label), elem_id=f"pnginfo_send_{target}", size="sm")
                    for label, target in (("Send to txt2img", "txt2img"), ("Send to img2img", "img2img"), ("Send to inpaint", "inpaint"))
                ]
    emptied = picture.change(lambda: ("", ""), None, [text, shown], show_progress="hidden")  # also when the new picture cannot be read
    emptied.then(_reader(page), picture, [text, shown], show_progress="hidden")
    buttons[0].click(_carrier(page, txt2img), text, [page.tabs, *txt2img.form.parts.values()])
    for button, mode in ((buttons[1], "img2img"), (buttons[2], "Inpaint")):
        button.click(_onto(page, img2img.painting, mode), [text, picture], [page.tabs, img2img.picture, img2img.mode, *img2img.painting.form.parts.values()])
    return picture


def _reader(page: Page) -> Callable[..., tuple[str, str]]:
    """What a picture says, as text and as HTML."""

    def read(path: str | None, request: gr.Request) -> tuple[str, str]:
        lang = language(request.headers.get("accept-language"))
        if not path:
            return "", ""
        try:
            infotext, items = page.engine.picture_info(Path(path))
        except StudioError as error:
            return "", refusal(error)
        if not items:
            return "", note("warn", tell(lang, "Nothing is written inside this picture."))
        rows = "".join(f'<h4>{escape(key)}</h4><div class="infotext">{escape(value)}</div>' for key, value in items.items())
        return infotext, rows

    return read


def _carrier(page: Page, painting: Painting) -> Callable[[str], list[Any]]:
    """Fill a painting's form from an infotext and open its tab."""

    def carry(text: str) -> list[Any]:
        return [gr.Tabs(selected=painting.name), *painting.form.restore(taken(page, _said(text)))]

    return carry


def _onto(page: Page, painting: Painting, mode: str) -> Callable[[str, str | None], list[Any]]:
    """Put the picture on the canvas, with what it says in the form."""

    def carry(text: str, path: str | None) -> list[Any]:
        if not path:
            raise complaint("There is no picture to send yet: drop one here first.")
        values = taken(page, text) if text else {}
        return [gr.Tabs(selected=painting.name), path, mode, *painting.form.restore(values)]

    return carry


def _said(text: str) -> str:
    """The infotext, or gr.Error when there is none."""
    if not text:
        raise complaint("Nothing is written inside this picture that could be sent.")
    return text
