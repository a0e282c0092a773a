"""What stands above the knobs of a painting: prompts with their token counters, styles, embeddings, the buttons that start and end it, and cards of networks."""

import json
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import gradio as gr
from gradio.components import Component

from studio.errors import StudioError
from studio.ui.browser import browser_of
from studio.ui.catalogue import ZH
from studio.ui.catalogue_cards import CARDS, SHARED
from studio.ui.keeping import reset_button
from studio.ui.notices import translated, warnings
from studio.ui.widgets import Form, Page
from studio.ui.words import browser_language, complaint, language, say


class Prompting:
    """Prompt and negative prompt; `name` is the tab's."""

    def __init__(self, page: Page, form: Form, name: str) -> None:
        self.page, self.form, self.name = page, form, name

    def build(self, reset: Callable[[], Sequence[Component]]) -> None:
        """Make the components here; `reset` gives the fields that are put back to their defaults together."""
        with gr.Row():
            with gr.Column(scale=6):
                self._prompt("prompt", say("What to paint; press Ctrl+Enter to start"), 2)
                self._prompt("negative_prompt", say("What to keep out"), 1)
                self._cards()
            with gr.Column(scale=2, min_width=240):
                self.start = gr.Button(say("Generate"), variant="primary", elem_id=f"{self.name}_generate")
                with gr.Row(elem_classes=["tight"]):
                    self.stop = gr.Button(say("Interrupt"), interactive=False, elem_id=f"{self.name}_interrupt", min_width=90)
                    self.skip = gr.Button(say("Skip"), interactive=False, elem_id=f"{self.name}_skip", min_width=90)
                    self.decode = gr.Button(say("Full preview"), interactive=False, elem_id=f"{self.name}_decode", min_width=90)
                with gr.Row(elem_classes=["tight"]):
                    self.paste = gr.Button("↙", elem_classes=["tool"], elem_id=f"{self.name}_paste")
                    self.clear = gr.Button("🗑", elem_classes=["tool"], elem_id=f"{self.name}_clear")
                    self.words = gr.Dropdown([], allow_custom_value=True, label=say("Insert an embedding"), elem_id=f"{self.name}_embeddings", interactive=True, min_width=150)
                self.form.hold("styles", gr.Dropdown([], multiselect=True, allow_custom_value=True, label=say("Styles"), elem_id=f"{self.name}_styles", interactive=True))
                self.reset = reset_button(self.name, reset)

    def _cards(self) -> None:
        """The place of the cards of networks, which static/cards.js draws over /studio/v1/networks."""
        words = escape(json.dumps({text: ZH[text] for text in (*CARDS, *SHARED)}, ensure_ascii=False))
        gr.HTML(f'<div class="cards-room" data-tab="{self.name}" data-words="{words}"></div>', elem_id=f"{self.name}_cards", padding=False)

    def _prompt(self, field: str, placeholder: Any, lines: int) -> None:
        """A prompt, and below it how many of its tokens are used."""
        self.form.add(field, info=None, placeholder=placeholder, elem_classes=["prompt"], lines=lines)
        setattr(self, f"{field}_count", gr.HTML("0/75", elem_id=f"{self.name}_{field}_count", elem_classes=["counter"], padding=False))

    def wire(self) -> None:
        """Connect what needs nothing but the prompts."""
        prompt = self.form.parts["prompt"]
        self.page.offers.add(self.form.parts["styles"], lambda name: name in self.page.engine.style_names())
        self.words.input(_inserted, [prompt, self.words], [prompt, self.words], show_progress="hidden")
        for field in ("prompt", "negative_prompt"):
            count = self._count_negative if field == "negative_prompt" else self._count
            self.form.parts[field].change(count, self.form.parts[field], getattr(self, f"{field}_count"), show_progress="hidden", trigger_mode="always_last", queue=False)
        self.reset()
        self.clear.click(lambda: ["", ""], None, [prompt, self.form.parts["negative_prompt"]])
        self.paste.click(self._pasted, prompt, list(self.form.parts.values()), show_progress="hidden")

    def _count(self, text: str, request: gr.Request, negative: bool = False) -> str:
        """Used and free places of the prompt's chunks, and below what should be known of the names in it."""
        engine, lang = self.page.engine, language(request.headers.get("accept-language"))
        used, limit = engine.token_count(text or "")
        return f"{used}/{limit}{warnings(lang, engine.prompt_problems(text or '', negative))}"

    def _count_negative(self, text: str, request: gr.Request) -> str:
        """The same for the negative prompt."""
        return self._count(text, request, negative=True)

    def _pasted(self, text: str, request: gr.Request) -> list[Any]:
        """The form as an infotext in the prompt says, or as that of the browser's newest picture does."""
        engine = self.page.engine
        if "Steps: " not in text:
            done = next((j for j in engine.jobs(20, "generate", browser_of(request)) if j.result and j.result.get("infotexts")), None)
            text = done.result["infotexts"][0] if done is not None and done.result else ""
        if not text:
            raise complaint("There is no infotext to paste: put one into the prompt, or paint a picture first.")
        return self.form.restore(taken(self.page, text))


def taken(page: Page, text: str) -> dict[str, Any]:
    """The fields that an infotext sets; what could not be taken over is shown as a warning."""
    try:
        values, notes = page.engine.pasted(text)
    except StudioError as error:
        raise complaint(str(error)) from error
    for sentence in notes:
        gr.Warning(translated(browser_language(), sentence))
    return values


def _inserted(prompt: str, name: str | None) -> tuple[str, None]:
    """A prompt with an embedding's name at its end, and the picker empty again."""
    return f"{prompt.rstrip()} {name or ''}".strip(), None
