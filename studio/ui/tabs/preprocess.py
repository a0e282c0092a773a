"""The Preprocess tab: from raw pictures to a training set that can be looked at."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from studio import shelves
from studio.config import controls
from studio.jobs import State
from studio.projects.captioner_shelf import available
from studio.requests import PreprocessRequest
from studio.settings import Paths
from studio.ui.browser import browser_of
from studio.ui.keeping import reset_button
from studio.ui.widgets import REFRESH, Form, Page, asked, failed, note, progress, submit, took
from studio.ui.words import language, say, tell
from studio.wording import localized

SHOWN = 60
"""Pictures shown in a gallery; the folder holds all of them."""


@dataclass(frozen=True)
class PreprocessTab:
    """Parts that other tabs fill or read."""

    form: Form
    originals: gr.Gallery
    use: gr.Button
    look: gr.Button
    opened: gr.Textbox


def build(page: Page) -> PreprocessTab:
    """Source and knobs on the left, prepared pictures on the right."""
    form, refused = Form(PreprocessRequest, "preprocess"), gr.State("")
    with gr.Row():
        with gr.Column(scale=5, min_width=320):
            dropped = gr.File(label=say("Drop pictures here, or one .zip"), file_count="multiple", elem_id="preprocess_drop", height=130)
            took_in = gr.HTML(elem_id="preprocess_took_in")
            form.add("source", info=say("Filled by what you drop; or type the path of a folder or .zip. Nothing in it is changed."))
            form.add("destination", label=say("Name of the data set"), info=say("A name, or the path of a folder, that receives pictures and captions."), value="my-pictures")
            _knobs(form, page)
            with gr.Row(elem_classes=["buttons"]):
                start = gr.Button(say("Preprocess"), variant="primary", elem_id="preprocess_start")
                stop = gr.Button(say("Stop"), interactive=False, elem_id="preprocess_stop")
                reset = reset_button("preprocess", form.parts.values)
        with gr.Column(scale=6, min_width=320):
            status = gr.HTML(elem_id="preprocess_status")
            result = gr.Gallery(label=say("Prepared pictures with their captions"), columns=4, height=330, object_fit="contain", elem_id="preprocess_gallery", format="png", interactive=False)
            originals = gr.Gallery(label=say("Where each original is cut"), columns=4, height=330, object_fit="contain", elem_id="preprocess_crops", interactive=False)
            with gr.Row(elem_classes=["buttons"]):
                use = gr.Button(say("Train with these pictures"), interactive=False, elem_id="preprocess_use")
                look = gr.Button(say("Open in the data set room"), interactive=False, elem_id="preprocess_look")
            opened = gr.Textbox(visible=False)

    def run(data: dict[Component, Any], request: gr.Request) -> str:
        values = form.values(data)
        values["destination"] = destination(page.engine.paths, values["destination"])
        values["source"] = located(page.engine.paths, values["source"])
        return submit(page.engine, PreprocessRequest, values, browser_of(request), "preprocess")[1]

    reset()
    start.click(run, form.inputs, refused, show_progress="hidden").then(None, js=REFRESH)
    stop.click(_stopper(page), None, None, queue=False)
    form.parts["source"].input(lambda: ("", []), None, [took_in, originals], show_progress="hidden")  # what was dropped is not what is typed now
    dropped.upload(_taker(page.engine.paths), dropped, [form.parts["source"], took_in, originals])
    page.follow(_drawer(page), [status, result, originals, stop, use, look], [refused], per_browser=True)
    return PreprocessTab(form, originals, use, look, opened)


def _knobs(form: Form, page: Page) -> None:
    """Size, crop and captions; the rest in folds. Captioners that are not on the shelf are not offered."""
    with gr.Row():
        form.add("width", info=None)
        form.add("height", info=None)
    there = {shelved.kind: shelved for shelved in reversed(available(page.engine.paths))}
    kinds = next(control.choices for control in controls(PreprocessRequest) if control.name == "captioners")
    with gr.Row():
        form.add("captioners", choices=[(say(there[kind].title) if there[kind].tiny else kind, kind) for kind in kinds if kind in there])
        form.add("flip")
    with gr.Accordion(say("Crop, split and background"), open=False):
        form.add("crop", "face_weight", "edges_weight", "entropy_weight", "split", "split_threshold", "overlap_ratio", "flips", "background", "background_colour", "debug")
    with gr.Accordion(say("Size and shape"), open=False):
        form.add("sizing", "resize_mode", "bucket_step", "bucket_smallest", "bucket_largest")
        form.add("auto_smallest", "auto_largest", "auto_least_area", "auto_most_area", "auto_objective", "auto_threshold")
    with gr.Accordion(say("Captions in detail"), open=False):
        form.add("existing_captions", "threshold", "general_threshold", "character_threshold", "trigger", "tag_spaces", "tag_escape", "tag_sort", "tag_scores", "tag_limit", "tag_exclude")
        form.add("sentence_min", "sentence_max", "sentence_beams", "sentence_start", "florence_task", "clip_phrases")


def destination(paths: Paths, text: str | None) -> str:
    """The folder meant by a name (a data set of the studio) or a path."""
    text = (text or "").strip()
    plain = text and not any(c in text for c in "/\\:") and text not in (".", "..")
    return str(paths.datasets / text) if plain else located(paths, text)


def located(paths: Paths, text: str | None) -> str:
    """A path as typed; one that is not absolute begins at the root, for the page and for the worker alike."""
    text = (text or "").strip()
    return str(paths.root / text) if text else ""


def take_in(files: list[str], uploads: Path) -> tuple[str, int]:
    """Put dropped files into a folder of their own, under their own names; returns the source to use and how many files it holds. Names that meet get a number."""
    if len(files) == 1 and files[0].lower().endswith(".zip"):
        folder = _new_folder(uploads)
        return str(shutil.copy(files[0], folder / Path(files[0]).name)), 1
    folder = _new_folder(uploads)
    for file in files:
        path, number = folder / Path(file).name, 2
        while path.exists():
            path, number = folder / f"{Path(file).stem}-{number}{Path(file).suffix}", number + 1
        shutil.copy(file, path)
    return str(folder), len(files)


def _new_folder(uploads: Path) -> Path:
    """A folder for one drop."""
    folder = uploads / f"{time.strftime('%Y%m%d-%H%M%S')}-{time.monotonic_ns() % 10**6:06d}"
    folder.mkdir(parents=True)
    return folder


def _taker(paths: Paths) -> Any:
    """The handler of a drop."""

    def take(files: list[str] | None, request: gr.Request) -> list[Any]:
        lang = language(request.headers.get("accept-language"))
        if not files:
            return [gr.skip(), "", gr.skip()]
        source, count = take_in(files, paths.uploads)
        zipped = source.lower().endswith(".zip")
        sentence = "The .zip is taken in; press Preprocess." if zipped else "{count} files are taken in; press Preprocess."
        shown = [] if zipped else [str(p) for p in shelves.images(Path(source))[:SHOWN]]
        return [source, note("good", tell(lang, sentence, count=count)), shown]

    return take


def _stopper(page: Page) -> Callable[[gr.Request], None]:
    """What asks the browser's preparing job to stop."""

    def stop(request: gr.Request) -> None:
        job = page.engine.active("preprocess", browser_of(request))
        if job is not None:
            asked(page.engine, job.id, "stop")

    return stop


UNSURE = (
    "These images don't look like the tiny world, which is all that BLIP (tiny world) knows, so the captions are probably wrong. Download another captioner in the dataset under Captions, More models."
)


def _drawer(page: Page) -> Any:
    """The view of the browser's newest preparing job."""

    def draw(lang: str, browser: str, refused: str) -> list[Any]:
        job = page.follower.newest("preprocess", browser)
        if job is None:
            return [
                refused or note("", tell(lang, "Prepared pictures will appear here.")),
                gr.skip(),
                gr.skip(),
                gr.update(interactive=False),
                gr.update(interactive=False),
                gr.update(interactive=False),
            ]
        view = page.follower.view(job.id)
        made = [(i["path"], i["caption"] or Path(i["path"]).name) for i in view.items[-SHOWN:]]
        cuts = [(i["drawn"], Path(i["source"]).name) for i in view.items[-SHOWN:] if i.get("drawn")]
        stop, use = gr.update(interactive=not job.state.over), gr.update(interactive=job.state.over and bool(view.items))
        if not job.state.over:
            return [refused + progress(lang, job, view), made or gr.skip(), cuts or gr.skip(), stop, use, use]
        if job.state is State.FAILED or job.result is None:
            return [refused or failed(lang, job), made or gr.skip(), cuts or gr.skip(), stop, use, use]
        sentence = "{written} pictures are ready ({time})." if job.state is State.DONE else "Stopped: {written} pictures are ready ({time})."
        left_out = "".join(note("warn", f"{s['source']}: {localized(lang, s['reason'])}") for s in job.result["skipped"])
        text = note("good", tell(lang, sentence, written=job.result["written"], time=took(job)), f'<div class="small">{escape(job.result["destination"])}</div>')
        if job.result.get("unsure"):
            text += note("warn", tell(lang, UNSURE))
        if view.items and not any(item["caption"] for item in view.items):
            bare = "None of the {count} images has a caption. Choose a captioner, or write captions in the dataset; training would use file names."
            text += note("warn", tell(lang, bare, count=job.result["written"]))
        return [refused or text + left_out, made, cuts, stop, use, use]

    return draw
