"""The page, built over an Engine; never imports torch."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr

from studio import shelves
from studio.engine import Engine
from studio.settings import Paths
from studio.ui import header, theme
from studio.ui.browser import browser_of
from studio.ui.event_errors import explain_errors
from studio.ui.live import Follower
from studio.ui.tabs import dataset, embedding, img2img, pnginfo, preprocess, runs, settings, tools, train, txt2img
from studio.ui.tabs.painting import Painting
from studio.ui.widgets import Page
from studio.ui.words import complaint, say, translations

TICK = 5.0
"""Seconds between two looks that happen even when the journal is still: heartbeats and folders change without it."""
LARGEST_DROP = "2gb"


def mount_options(paths: Paths) -> dict[str, Any]:
    """What mounting the page needs besides the page: its look, its words, and folders whose files it may show."""
    return {
        "allowed_paths": [str(folder) for folder in (paths.images, paths.runs, paths.datasets, paths.uploads, paths.crops, shelves.sample_pictures())],
        "footer_links": [],
        "run_history": False,
        "theme": theme.theme(),
        "css_paths": list(theme.STYLES),
        "head": theme.head(),
        "favicon_path": theme.FAVICON,
        "i18n": translations(),
        "max_file_size": LARGEST_DROP,
        "show_error": False,
    }


def first_script() -> str:
    """What the page runs before gradio's scripts: it settles the language."""
    return f"<script>{(theme.STATIC / 'locale.js').read_text(encoding='utf-8')}</script>"


def build(engine: Engine) -> gr.Blocks:
    """The whole page."""
    with gr.Blocks(title="SD Training Studio", analytics_enabled=False, fill_width=True) as blocks:
        timer = gr.Timer(TICK)
        pulse = gr.Button("pulse", elem_id="pulse", elem_classes=["unseen"])
        top = header.Top.build(engine)
        checklist = header.Checklist.build()
        with gr.Tabs(elem_id="tabs") as tabs:
            page = Page(engine, Follower(engine), blocks, top.checkpoint, top.vae, top.clip_skip, tabs)
            with gr.Tab("txt2img", id="txt2img", elem_id="tab_txt2img"):
                painting = txt2img.build(page)
            with gr.Tab(say("img2img · Inpaint"), id="img2img", elem_id="tab_img2img"):
                repainting = img2img.build(page, painting)
            with gr.Tab(say("Data set"), id="dataset", elem_id="tab_dataset"):
                room = dataset.build(page)
            with gr.Tab(say("Preprocess"), id="preprocess", elem_id="tab_preprocess"):
                preparing = preprocess.build(page)
            with gr.Tab(say("Embedding"), id="embedding", elem_id="tab_embedding"):
                creating = embedding.build(page)
            with gr.Tab(say("Train"), id="train", elem_id="tab_train"):
                training = train.build(page, painting)
            with gr.Tab(say("Runs"), id="runs", elem_id="tab_runs"):
                runs.build(page)
            with gr.Tab("PNG Info", id="pnginfo", elem_id="tab_pnginfo"):
                pnginfo.build(page, painting, repainting)
            with gr.Tab(say("Tools"), id="tools", elem_id="tab_tools"):
                tools.build(page)
            with gr.Tab(say("Settings"), id="settings", elem_id="tab_settings"):
                settings.build(page)
        top.wire(page)
        header.follow(page, top, checklist)
        checklist.offer(page, (preparing, creating, training, painting))
        for sender in (painting, repainting.painting):
            sender.to_preprocess.click(_onto_table(page, sender), [sender.job, sender.chosen], [tabs, preparing.form.parts["source"]])
        preparing.use.click(_newest_set(engine), None, [tabs, training.form.parts["data"]])
        preparing.look.click(_opened(page), None, [tabs, preparing.opened]).then(None, preparing.opened, js="(name) => window.studio.openRoom(name)")
        room.use.click(lambda folder: [gr.Tabs(selected="train"), folder], room.folder, [tabs, training.form.parts["data"]])
        creating.train.click(_newest_embedding(engine), None, [tabs, training.form.method, training.form.parts["embedding"]])
        page.attach(pulse, timer)
        _lighten(blocks, pulse)
        explain_errors(blocks)
    return blocks


def _lighten(blocks: gr.Blocks, unseen: gr.Button) -> None:
    """Tell one part of the page that an event waits, and not every output: gradio's page looks through all of its parts for each one told, at every stage of every event."""
    for event in blocks.fns.values():
        event.show_progress_on = [unseen] if event.show_progress == "hidden" else event.show_progress_on or event.outputs[:1]


def _onto_table(page: Page, painting: Painting) -> Callable[[str, int], list[Any]]:
    """Put a painting's chosen picture into a folder of its own and open the Preprocess tab with it."""

    def send(job: str, chosen: int, request: gr.Request) -> list[Any]:
        picture = painting.picture(job, chosen, browser_of(request))
        if picture is None:
            raise complaint("There is no picture to send yet; press Generate first.")
        folder = page.engine.paths.uploads / f"sent-{Path(picture).stem}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, folder)
        return [gr.Tabs(selected="preprocess"), str(folder)]

    return send


def _newest_set(engine: Engine) -> Callable[[gr.Request], list[Any]]:
    """Open the Train tab with the data set that this browser prepared last."""

    def use(request: gr.Request) -> list[Any]:
        done = [job for job in engine.jobs(20, "preprocess", browser_of(request)) if job.result]
        return [gr.Tabs(selected="train"), done[0].result["destination"] if done and done[0].result else gr.skip()]

    return use


def _opened(page: Page) -> Callable[[gr.Request], list[Any]]:
    """Open the data set room with the set that this browser prepared last."""

    def look(request: gr.Request) -> list[Any]:
        done = [job for job in page.engine.jobs(20, "preprocess", browser_of(request)) if job.result]
        if not done or not done[0].result:
            return [gr.skip(), gr.skip()]
        return [gr.Tabs(selected="dataset"), page.engine.data_sets.open_folder(done[0].result["destination"]).id]

    return look


def _newest_embedding(engine: Engine) -> Callable[[gr.Request], list[Any]]:
    """Open the Train tab with the embedding that this browser created last."""

    def use(request: gr.Request) -> list[Any]:
        done = [job for job in engine.jobs(20, "create_embedding", browser_of(request)) if job.result]
        return [gr.Tabs(selected="train"), "textual_inversion", done[0].result["name"] if done and done[0].result else gr.skip()]

    return use
