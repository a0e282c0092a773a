"""The Data set tab: the room where pictures are cropped, captioned, cleaned and written; its inside is drawn by static/room*.js over /studio/v1/datasets."""

import json
from dataclasses import dataclass
from html import escape

import gradio as gr

from studio.ui.catalogue_knobs import DOCTOR, KNOBS
from studio.ui.catalogue_presets import ADVISED
from studio.ui.catalogue_room import SCRIPTED
from studio.ui.catalogue_words import WORDS
from studio.ui.widgets import Page


@dataclass(frozen=True)
class DatasetTab:
    """What the room hands to other tabs: a folder to train on, and the press that opens Train with it."""

    folder: gr.Textbox
    use: gr.Button


def build(page: Page) -> DatasetTab:
    """The room's place in the page."""
    words = json.dumps({**KNOBS, **DOCTOR, **ADVISED, **WORDS, **SCRIPTED}, ensure_ascii=False)
    gr.HTML(f'<div id="room" data-words="{escape(words)}"></div>', elem_id="room_place", padding=False)
    folder = gr.Textbox(elem_id="room_train", elem_classes=["unseen"], container=False)
    use = gr.Button("use", elem_id="room_use", elem_classes=["unseen"])
    return DatasetTab(folder, use)
