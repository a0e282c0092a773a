"""The Settings tab: what is set once for the whole studio."""

from typing import Any

import gradio as gr
from gradio.components import Component

from studio.errors import StudioError
from studio.preferences import Preferences
from studio.ui.widgets import Form, Page, note, refusal
from studio.ui.words import language, say, tell

ELSEWHERE = (
    *("sd_model_checkpoint", "sd_vae", "CLIP_stop_at_last_layers", "emphasis", "comma_padding_backtrack", "use_old_scheduling", "randn_source", "eta_noise_seed_delta"),
    *("img2img_background_color", "show_progress_every_n_steps"),
)
"""Settings that stand in the page's header, or beside the prompt they belong to; clients of the API set them by name."""


def build(page: Page) -> None:
    """The knobs, and a button that keeps them."""
    form = Form(Preferences, "settings")
    names = [name for name in Preferences.model_fields if name not in ELSEWHERE]
    with gr.Row():
        for half in (names[::2], names[1::2]):
            with gr.Column(min_width=320):
                form.add(*half)
    apply = gr.Button(say("Apply settings"), variant="primary", elem_id="settings_apply")
    told = gr.HTML(elem_id="settings_status")

    def keep(data: dict[Component, Any], request: gr.Request) -> str:
        lang = language(request.headers.get("accept-language"))
        try:
            page.engine.prefer(form.values(data))
        except StudioError as error:
            return refusal(error, "settings")
        return note("good", tell(lang, "Kept. What concerns loaded models counts from the next job on."))

    apply.click(keep, form.inputs, told, show_progress="hidden")
    page.fill(lambda: form.restore(page.engine.preferences().model_dump()), list(form.parts.values()))
