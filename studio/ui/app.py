"""The page, built over an Engine; never imports torch."""

import os
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr

from studio.engine import Engine
from studio.errors import StudioError
from studio.jobs import State
from studio.requests import GenerateRequest
from studio.settings import Paths


def mount_options(paths: Paths) -> dict[str, Any]:
    """What mounting the page needs besides the page: folders whose files it may show."""
    return {"allowed_paths": [str(paths.outputs)], "footer_links": []}


def build(engine: Engine) -> gr.Blocks:
    """The whole page."""
    with gr.Blocks(title="SD Training Studio", analytics_enabled=False) as page, gr.Tab("txt2img"):
        prompt = gr.Textbox(label="Prompt", lines=2)
        steps = gr.Slider(1, 150, 20, step=1, label="Sampling steps")
        seed = gr.Number(-1, label="Seed", precision=0)
        start = gr.Button("Generate", variant="primary")
        gallery = gr.Gallery(label="Pictures")

        def generate(prompt: str, steps: int, seed: int) -> list[str]:
            try:
                job = engine.wait(engine.submit(GenerateRequest.check({"prompt": prompt, "steps": steps, "seed": seed})))
            except StudioError as error:
                raise gr.Error(str(error)) from error
            if job.state is State.FAILED or job.result is None:
                raise gr.Error(job.error or "It was stopped.")
            return list(job.result["images"])

        start.click(generate, [prompt, steps, seed], gallery)
    return page
