"""What txt2img and img2img share: prompts, knobs, the running picture, the finished ones."""

import zipfile
from collections.abc import Callable
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from studio.errors import NotFound, StudioError
from studio.jobs import Job, State
from studio.requests import GenerateRequest
from studio.ui.browser import browser_of
from studio.ui.notices import warnings
from studio.ui.tabs.prompting import Prompting
from studio.ui.tabs.scripting import Scripting
from studio.ui.widgets import REFRESH, Form, Page, asked, embedding_names, failed, note, progress, took
from studio.ui.words import complaint, say, tell

LOOKED_BACK = 50
"""Jobs among which the newest picture is sought when a page opens."""
KINDS = ("generate", "plot", "prompt_matrix", "prompts_from_file", "sd_upscale")
"""Kinds of jobs that paint."""
HEADER = ("checkpoint", "vae", "clip_skip")
"""Fields that stand in the page's header."""


class Painting:
    """Prompts above, knobs on the left, pictures on the right; `name` is txt2img or img2img."""

    def __init__(self, page: Page, name: str) -> None:
        self.page, self.name = page, name
        self.form = Form(GenerateRequest, name)
        self.prompting = Prompting(page, self.form, name)
        self.scripting = Scripting(page, name)
        self.job = gr.State("")
        self.chosen = gr.State(0)
        self.refused = gr.State("")

    def fields(self) -> list[Component]:
        """All fields of the tab, those of its scripts too."""
        return [*self.form.parts.values(), *self.scripting.inputs]

    def knobs(self) -> None:
        """Sampler, size, strength and seed, in A1111's order."""
        add = self.form.add
        with gr.Row():
            add("sampler", "scheduler", info=None)
            add("steps", info=None)
        with gr.Row():
            add("width")
            add("height")
            self.swap = gr.Button("⇅", elem_classes=["tool"], elem_id=f"{self.name}_swap")
        with gr.Row():
            add("batch_count", info=None)
            add("batch_size", info=None)
        add("cfg_scale", info=None)
        with gr.Row(elem_classes=["seeds"]):
            add("seed")
            self.reuse = gr.Button(say("Seed of the last picture"), elem_id=f"{self.name}_reuse_seed", size="sm")
            self.dice = gr.Button(say("Random seed"), elem_id=f"{self.name}_random_seed", size="sm")

    def extras(self) -> None:
        """What is rarely touched: variation, noise, how prompts are read."""
        add = self.form.add
        with gr.Accordion(say("Variation and size of the seed"), open=False, elem_id=f"{self.name}_variation"):
            with gr.Row():
                add("variation_seed", info=None)
                add("variation_strength")
            with gr.Row():
                add("seed_width", info=None)
                add("seed_height", info=None)
        with gr.Accordion(say("More"), open=False):
            with gr.Row():
                add("noise_source", "emphasis")
            with gr.Row():
                add("ensd", "eta")
            with gr.Row():
                add("s_churn", "s_tmin", "s_tmax", "s_noise", info=None)
            with gr.Row():
                add("comma_backtrack", "preview_every", "tiling", "old_prompt_editing")
        self.scripting.build()

    def results(self) -> None:
        """The state of the job, its pictures and their infotext, and the buttons that carry one on."""
        self.status = gr.HTML(elem_id=f"{self.name}_status")
        self.gallery = gr.Gallery(label=say("Pictures"), columns=4, height=460, object_fit="contain", preview=True, elem_id=f"{self.name}_gallery", format="png", interactive=False)
        self.infotext = gr.HTML(elem_id=f"{self.name}_infotext")
        with gr.Row(elem_classes=["buttons"]):
            self.to_img2img = gr.Button(say("Send to img2img"), elem_id=f"{self.name}_send_to_img2img", size="sm")
            self.to_inpaint = gr.Button(say("Send to inpaint"), elem_id=f"{self.name}_send_to_inpaint", size="sm")
            self.to_preprocess = gr.Button(say("Send to preprocess"), elem_id=f"{self.name}_send_to_preprocess", size="sm")
            self.zip = gr.DownloadButton(say("All as .zip"), elem_id=f"{self.name}_zip", size="sm")

    def wire(self, prepare: Callable[[dict[str, Any], dict[Component, Any]], dict[str, Any]] | None = None, extra: set[Component] | None = None) -> None:
        """Connect everything; `prepare(values, data)` may add to what is asked, from the `extra` components."""
        form, page = self.form, self.page
        header = {name: getattr(page, name) for name in HEADER}

        def generate(data: dict[Component, Any], request: gr.Request) -> dict[Component, Any]:
            values = {**form.values(data), **{name: data[part] for name, part in header.items()}}
            values = {**values, "styles": tuple(values.get("styles") or ()), "checkpoint": values["checkpoint"] or ""}
            job, refused = self.scripting.submit(prepare(values, data) if prepare else values, data, browser_of(request))
            return {self.refused: refused, **({self.job: job, self.chosen: 0} if job else {})}

        inputs = form.inputs | set(header.values()) | self.scripting.inputs | (extra or set())
        self.prompting.wire()
        self.prompting.start.click(generate, inputs, [self.job, self.refused, self.chosen], show_progress="hidden", concurrency_limit=8).then(None, js=REFRESH)
        for button, kind in ((self.prompting.stop, "stop"), (self.prompting.skip, "skip"), (self.prompting.decode, "decode")):
            button.click(self._asker(kind), self.job, None, queue=False)
        self.gallery.select(_index, None, self.chosen, show_progress="hidden").then(None, js=REFRESH)
        self.dice.click(lambda: -1, None, form.parts["seed"])
        self.swap.click(lambda w, h: (h, w), [form.parts["width"], form.parts["height"]], [form.parts["width"], form.parts["height"]])
        self.reuse.click(self._seed, [self.job, self.chosen], form.parts["seed"])
        self.zip.click(self._zipped, self.job, self.zip, show_progress="hidden")
        outputs = [self.status, self.gallery, self.infotext, self.prompting.stop, self.prompting.skip, self.prompting.decode, self.prompting.words, form.parts["styles"]]
        page.follow(self._draw, outputs, [self.job, self.chosen, self.refused], per_browser=True)

    def _asker(self, kind: str) -> Callable[[str, gr.Request], None]:
        """What asks the shown job for something; it is always one of this browser's own."""

        def ask(job_id: str, request: gr.Request) -> None:
            job = self._shown(job_id, browser_of(request))
            if job is not None:
                asked(self.page.engine, job.id, kind)

        return ask

    def _shown(self, job: str, browser: str) -> Job | None:
        """The job this page started, else the browser's newest of this kind of painting, so that a page that is opened again shows its own."""
        if job:
            with suppress(NotFound):
                return self.page.engine.job(job)
        jobs = (j for j in self.page.engine.jobs(LOOKED_BACK, browser=browser) if j.kind in KINDS)
        return next((j for j in jobs if bool(_base(j).get("init_image")) == (self.name == "img2img")), None)

    def _draw(self, lang: str, browser: str, job_id: str, chosen: int, refused: str) -> list[Any]:
        """Status, pictures, infotext, the buttons that end it, and the embeddings and styles to pick from."""
        picks = [gr.update(choices=embedding_names(self.page.engine)), gr.update(choices=self.page.engine.style_names())]
        job = self._shown(job_id, browser)
        still = [gr.update(interactive=False)] * 3
        if job is None:
            return [refused or note("", tell(lang, "The pictures will appear here.")), gr.skip(), "", *still, *picks]
        if not job.state.over:
            view = self.page.follower.view(job.id)
            sketch = f'<img class="sketch" alt="" src="{view.sketch}">' if view.sketch else ""
            return [refused + progress(lang, job, view, self.page.engine) + sketch, gr.skip(), "", gr.update(interactive=True), *[gr.update(interactive=job.state is State.RUNNING)] * 2, *picks]
        if job.result is None:
            ended = failed(lang, job) if job.state is State.FAILED else note("", tell(lang, "Stopped before it began."))
            return [refused or ended, gr.skip(), "", *still, *picks]
        images, texts = _pictures(job), job.result["infotexts"]
        early = "Stopped early; the picture is what was there by then." if images else "Stopped before it began."
        sentence = early if job.result.get("stopped") else "Done in {time}."
        text = texts[_place(job, chosen, len(texts))] if texts else ""
        warned = warnings(lang, [*job.result.get("notes", ()), *job.result.get("problems", ())])
        return [
            refused or note("good", tell(lang, sentence, time=took(job))) + warned,
            gr.update(value=images, selected_index=0 if images else None),
            f'<div class="infotext">{escape(text)}</div>',
            *still,
            *picks,
        ]

    def _seed(self, job_id: str, index: int, request: gr.Request) -> int:
        """The seed of the chosen finished picture; -1 when there is none."""
        job = self._shown(job_id, browser_of(request))
        seeds = (job.result["seeds"] or [-1]) if job is not None and job.result else [-1]
        return int(seeds[_place(job, index, len(seeds))]) if job is not None else -1

    def picture(self, job_id: str, index: int, browser: str) -> str | None:
        """The path of the chosen finished picture."""
        job = self._shown(job_id, browser)
        images = _pictures(job) if job is not None and job.result else []
        return str(images[min(index, len(images) - 1)]) if images else None

    def _zipped(self, job_id: str, request: gr.Request) -> str:
        """All pictures of the shown job in one file."""
        job = self._shown(job_id, browser_of(request))
        images = [Path(p) for p in _pictures(job)] if job is not None and job.result else []
        if job is None or not images:
            raise complaint("There is no picture to pack yet; press Generate first.")
        target = self.page.engine.paths.uploads / f"pictures-{job.id}.zip"
        try:
            with zipfile.ZipFile(target, "w") as packed:
                for image in images:
                    packed.write(image, image.name)
        except OSError as error:
            raise StudioError(f"The pictures could not be packed ({error}).") from error
        return str(target)


def _base(job: Job) -> dict[str, Any]:
    """The painting that a job asks for, also inside a script."""
    return job.request.get("base", job.request)


def _pictures(job: Job) -> list[str]:
    """A finished job's pictures, a grid first."""
    result = job.result or {}
    return [*filter(None, [result.get("grid")]), *result.get("images", ())]


def _place(job: Job, index: int, count: int) -> int:
    """Which picture a place in the gallery is; a grid stands before them and counts as the first."""
    return min(max(0, index - bool((job.result or {}).get("grid"))), count - 1)


def _index(event: gr.SelectData) -> int:
    """Which picture of a gallery was clicked."""
    return int(event.index)
