"""What txt2img and inpainting share: prompts, knobs, the running picture, the finished ones."""

from collections.abc import Callable
from html import escape
from typing import Any

import gradio as gr
from gradio.components import Component

from studio.jobs import Job, State
from studio.requests import GenerateRequest
from studio.ui.widgets import REFRESH, Form, Page, asked, embedding_names, failed, note, progress, submit, took
from studio.ui.words import say, tell

LOOKED_BACK = 50
"""Jobs among which the newest picture is sought when a page opens."""


class Painting:
    """Prompts above, knobs on the left, pictures on the right; `name` is txt2img or inpaint."""

    def __init__(self, page: Page, name: str) -> None:
        self.page, self.name = page, name
        self.form = Form(GenerateRequest, name)
        self.job = gr.State("")
        self.chosen = gr.State(0)
        self.refused = gr.State("")

    def prompts(self) -> None:
        """Prompt, negative prompt, the embedding picker, Generate and Interrupt."""
        with gr.Row():
            with gr.Column(scale=6):
                self.form.add("prompt", info=None, placeholder=say("What to paint; press Ctrl+Enter to start"), elem_classes=["prompt"], lines=2)
                self.form.add("negative_prompt", info=None, placeholder=say("What to keep out"), elem_classes=["prompt"], lines=1)
            with gr.Column(scale=2, min_width=220):
                self.start = gr.Button(say("Generate"), variant="primary", elem_id=f"{self.name}_generate")
                self.stop = gr.Button(say("Interrupt"), interactive=False, elem_id=f"{self.name}_interrupt")
                self.words = gr.Dropdown([], label=say("Insert an embedding"), elem_id=f"{self.name}_embeddings", interactive=True)

    def knobs(self) -> None:
        """Sampler, size, strength and seed, in A1111's order."""
        add = self.form.add
        with gr.Row():
            add("sampler", info=None)
            add("steps", info=None)
        with gr.Row():
            add("width")
            add("height")
        with gr.Row():
            add("cfg_scale", info=None)
            add("batch_size", info=None)
        with gr.Row(elem_classes=["seeds"]):
            add("seed")
            self.reuse = gr.Button(say("Seed of the last picture"), elem_id=f"{self.name}_reuse_seed", size="sm")
            self.dice = gr.Button(say("Random seed"), elem_id=f"{self.name}_random_seed", size="sm")
        with gr.Accordion(say("More"), open=False):
            add("clip_skip", "preview_every")

    def results(self, send: Any) -> None:
        """The state of the job, its pictures and their infotext, and the button that carries one on."""
        self.status = gr.HTML(elem_id=f"{self.name}_status")
        self.gallery = gr.Gallery(label=say("Pictures"), columns=4, height=460, object_fit="contain", preview=True, elem_id=f"{self.name}_gallery", format="png", interactive=False)
        self.infotext = gr.HTML(elem_id=f"{self.name}_infotext")
        self.send = gr.Button(send, elem_id=f"{self.name}_send_to_inpaint")

    def wire(self, prepare: Callable[[dict[str, Any], dict[Component, Any]], dict[str, Any]] | None = None, extra: set[Component] | None = None) -> None:
        """Connect everything; `prepare(values, data)` may add to what is asked, from the `extra` components."""
        engine, form = self.page.engine, self.form

        def generate(data: dict[Component, Any]) -> dict[Component, Any]:
            values = {**form.values(data), "checkpoint": data[self.page.checkpoint] or ""}
            job, refused = submit(engine, GenerateRequest, prepare(values, data) if prepare else values)
            return {self.refused: refused, **({self.job: job, self.chosen: 0} if job else {})}

        self.start.click(generate, form.inputs | {self.page.checkpoint} | (extra or set()), [self.job, self.refused, self.chosen], show_progress="hidden", concurrency_limit=8).then(None, js=REFRESH)
        self.stop.click(self._interrupt, self.job, None, queue=False)
        self.words.input(_inserted, [form.parts["prompt"], self.words], [form.parts["prompt"], self.words], show_progress="hidden")
        self.gallery.select(_index, None, self.chosen, show_progress="hidden").then(None, js=REFRESH)
        self.dice.click(lambda: -1, None, form.parts["seed"])
        self.reuse.click(self._seed, [self.job, self.chosen], form.parts["seed"])
        self.page.fill(self._last, list(form.parts.values()))
        self.page.follow(self._draw, [self.status, self.gallery, self.infotext, self.stop, self.words], [self.job, self.chosen, self.refused])

    def _interrupt(self, job_id: str) -> None:
        """Ask the shown job to stop."""
        job = self._shown(job_id)
        if job is not None:
            asked(self.page.engine, job.id, "stop")

    def _last(self) -> list[Any]:
        """The form as it was when this tab was used last."""
        job = self._shown("")
        return self.form.restore({} if job is None else job.request)

    def _shown(self, job: str) -> Job | None:
        """The job this page started, else the newest of this kind of painting."""
        if job:
            return self.page.engine.job(job)
        jobs = self.page.engine.jobs(LOOKED_BACK, "generate")
        return next((j for j in jobs if bool(j.request.get("init_image")) == (self.name == "inpaint")), None)

    def _draw(self, lang: str, job_id: str, chosen: int, refused: str) -> list[Any]:
        """Status, pictures, infotext, the stop button and the embeddings to pick from."""
        names = gr.update(choices=embedding_names(self.page.engine))
        job = self._shown(job_id)
        if job is None:
            return [refused or note("", tell(lang, "The pictures will appear here.")), gr.skip(), "", gr.update(interactive=False), names]
        stop = gr.update(interactive=not job.state.over)
        if not job.state.over:
            view = self.page.follower.view(job.id)
            sketch = f'<img class="sketch" alt="" src="{view.sketch}">' if view.sketch else ""
            return [refused + progress(lang, job, view) + sketch, gr.skip(), "", stop, names]
        if job.result is None:
            ended = failed(lang, job) if job.state is State.FAILED else note("", tell(lang, "Stopped before it began."))
            return [refused + ended, gr.skip(), "", stop, names]
        images, texts = job.result["images"], job.result["infotexts"]
        sentence = "Stopped early; the picture is what was there by then." if job.result.get("stopped") else "Done in {time}."
        text = texts[min(chosen, len(texts) - 1)] if texts else ""
        return [refused + note("good", tell(lang, sentence, time=took(job))), gr.update(value=images, selected_index=0), f'<div class="infotext">{escape(text)}</div>', stop, names]

    def _seed(self, job_id: str, index: int) -> int:
        """The seed of the chosen finished picture; -1 when there is none."""
        job = self._shown(job_id)
        seeds = job.result["seeds"] if job is not None and job.result else [-1]
        return int(seeds[min(index, len(seeds) - 1)])

    def picture(self, job_id: str, index: int) -> str | None:
        """The path of the chosen finished picture."""
        job = self._shown(job_id)
        images = job.result["images"] if job is not None and job.result else []
        return str(images[min(index, len(images) - 1)]) if images else None


def _index(event: gr.SelectData) -> int:
    """Which picture of a gallery was clicked."""
    return int(event.index)


def _inserted(prompt: str, name: str | None) -> tuple[str, None]:
    """A prompt with an embedding's name at its end, and the picker empty again."""
    return f"{prompt.rstrip()} {name or ''}".strip(), None
