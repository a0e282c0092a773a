"""The Tools tab, which was the Checkpoint Merger: merge, extract, resize, bake and convert model files, and show what a file says about itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from studio import shelves
from studio.config import Config
from studio.errors import StudioError
from studio.jobs import Job, State
from studio.networks.saying import choices, said
from studio.requests.tools import NO_VAE, BakeLoraRequest, ConvertRequest, ExtractLoraRequest, MergeLoraRequest, MergeRequest, MetadataRequest, ResizeLoraRequest
from studio.settings import Paths
from studio.ui.browser import browser_of
from studio.ui.keeping import reset_button
from studio.ui.live import View
from studio.ui.notices import warnings
from studio.ui.widgets import REFRESH, Form, Page, asked, bar, duration, failed, note, progress, refusal, submit, took
from studio.ui.words import choice, language, say, tell

Kept = tuple[gr.Dropdown, Callable[[Paths], list[Any]]]
"""A dropdown and the files it offers."""
LORA_CHOICE = "<lora:{}:1>"


@dataclass(frozen=True)
class Tool:
    """One tool of the tab: its kind of job, request and button, its knobs in rows, and those that choose a checkpoint, a LoRA or an autoencoder."""

    kind: str
    request: type[Config]
    title: str
    button: str
    rows: tuple[tuple[str, ...], ...]
    checkpoints: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    loras: bool = False


END = ("name", "precision", "overwrite")
TOOLS: tuple[Tool, ...] = (
    Tool(
        "merge",
        MergeRequest,
        "Checkpoint Merger",
        "Merge",
        (
            ("primary", "secondary", "tertiary"),
            ("name",),
            ("multiplier", "method"),
            ("blocks",),
            ("bake_in_vae", "precision"),
            ("discard",),
            ("save_metadata", "add_merge_recipe", "copy_metadata_fields", "overwrite"),
        ),
        ("primary", "secondary", "tertiary"),
        ("secondary", "tertiary"),
    ),
    Tool("merge_lora", MergeLoraRequest, "Merge LoRAs", "Merge LoRAs", (("loras",), ("method", "rank", "conv_rank"), ("checkpoint",), END), ("checkpoint",), ("checkpoint",), True),
    Tool("extract_lora", ExtractLoraRequest, "Extract a LoRA", "Extract", (("tuned", "original"), ("rank", "conv_rank"), ("min_difference", "text_encoder"), END), ("tuned", "original")),
    Tool("resize_lora", ResizeLoraRequest, "Resize a LoRA", "Resize", (("lora", "checkpoint"), ("method", "target"), ("rank", "conv_rank"), END), ("checkpoint",), ("checkpoint",)),
    Tool("bake_lora", BakeLoraRequest, "Bake LoRAs into a checkpoint", "Bake", (("checkpoint",), ("loras",), END), ("checkpoint",), (), True),
    Tool("convert", ConvertRequest, "Convert a checkpoint", "Convert", (("checkpoint", "layout"), ("prune", "use_ema"), ("bake_in_vae",), END), ("checkpoint",)),
)
"""Every tool that runs as a job, in the order of the tab."""


def build(page: Page) -> None:
    """One sub-tab for each tool; the checkpoint merger stands first, as in A1111."""
    offers: list[Kept] = []
    with gr.Tabs(elem_id="tools_tabs"):
        for tool in TOOLS:
            with gr.Tab(say(tool.title), id=f"tools_{tool.kind}", elem_id=f"tab_tools_{tool.kind}"):
                _tool(page, tool, offers)
        with gr.Tab(say("Metadata"), id="tools_metadata", elem_id="tab_tools_metadata"):
            _metadata(page, offers)
    for part, offer in offers:
        page.offers.add(part, lambda name, offer=offer: name in offer(page.engine.paths) or Path(name).exists())
    page.follow(lambda lang: [gr.update(choices=offer(page.engine.paths)) for _, offer in offers], [part for part, _ in offers])


def _tool(page: Page, tool: Tool, offers: list[Kept]) -> None:
    """The knobs on the left; the buttons, progress and the result on the right."""
    form, refused = Form(tool.request, f"tools_{tool.kind}"), gr.State("")
    with gr.Row():
        with gr.Column(scale=6, min_width=320):
            for row in tool.rows:
                with gr.Row():
                    for name in row:
                        _knob(page, form, tool, name, offers)
            if tool.loras:
                _lora_picker(page, form, tool, offers)
        with gr.Column(scale=5, min_width=320):
            with gr.Row(elem_classes=["buttons"]):
                start = gr.Button(say(tool.button), variant="primary", elem_id=f"tools_{tool.kind}_start")
                stop = gr.Button(say("Stop"), interactive=False, elem_id=f"tools_{tool.kind}_stop")
                reset = reset_button(f"tools_{tool.kind}", form.parts.values)
            status = gr.HTML(elem_id=f"tools_{tool.kind}_status")

    def run(data: dict[Component, Any], request: gr.Request) -> str:
        values = {name: value if value is not None else "" for name, value in form.values(data).items()}
        return submit(page.engine, tool.request, values, browser_of(request), f"tools_{tool.kind}")[1]

    def halt(request: gr.Request) -> None:
        job = page.engine.active(tool.kind, browser_of(request))
        if job is not None:
            asked(page.engine, job.id, "stop")

    reset()
    start.click(run, form.inputs, refused, show_progress="hidden").then(None, js=REFRESH)
    stop.click(halt, None, None, queue=False)
    needed = [form.parts[name] for name in (*tool.checkpoints, "lora", "loras") if name in form.parts and name not in tool.optional]
    for part in needed:
        part.change(None, js=REFRESH)
    page.follow(_drawer(page, tool), [status, start, stop], [refused, *needed], per_browser=True)


def _knob(page: Page, form: Form, tool: Tool, name: str, offers: list[Kept]) -> None:
    """One knob; files are chosen from the shelves, or typed as a path."""
    if name in tool.checkpoints:
        first = [""] if name in tool.optional else []
        _offered(form, tool, name, lambda paths: [*first, *shelves.checkpoints(paths)], offers)
    elif name == "lora":
        _offered(form, tool, name, lambda paths: list(shelves.loras(paths)), offers)
    elif name == "bake_in_vae":
        _offered(form, tool, name, lambda paths: [choice(NO_VAE), *shelves.vaes(paths)], offers, NO_VAE)
    else:
        form.add(name)


def _offered(form: Form, tool: Tool, name: str, offer: Callable[[Paths], list[Any]], offers: list[Kept], value: str | None = None) -> None:
    """A dropdown of files."""
    field = tool.request.model_fields[name]
    part = gr.Dropdown([choice(value)] if value else [], value=value, allow_custom_value=True, label=say(str(field.title)), info=say(str(field.description)), elem_id=f"tools_{tool.kind}_{name}")
    form.hold(name, part)
    offers.append((part, offer))


def _lora_picker(page: Page, form: Form, tool: Tool, offers: list[Kept]) -> None:
    """A dropdown that writes a LoRA into the text."""
    picker = gr.Dropdown([], value=None, label=say("Add a LoRA"), elem_id=f"tools_{tool.kind}_add")
    offers.append((picker, lambda paths: list(shelves.loras(paths))))

    def add(text: str | None, name: str | None) -> list[Any]:
        return [f"{(text or '').strip()}\n{LORA_CHOICE.format(name)}".strip() if name else gr.skip(), None]

    picker.input(add, [form.parts["loras"], picker], [form.parts["loras"], picker], show_progress="hidden")


def _drawer(page: Page, tool: Tool) -> Callable[..., Sequence[Any]]:
    """What became of the browser's newest job, and whether the tool can be started and stopped; what is missing is said."""

    def draw(lang: str, browser: str, refused: str, *needed: str | None) -> list[Any]:
        job = page.follower.newest(tool.kind, browser)
        missing = "" if all((value or "").strip() for value in needed) else note("", tell(lang, "Choose the files first."))
        running = job is not None and not job.state.over
        text = refused + missing if refused and not running else refused + missing + (_shown(page, lang, job) if job is not None else "")
        return [text, gr.update(interactive=not missing and not running), gr.update(interactive=running)]

    return draw


def _shown(page: Page, lang: str, job: Job) -> str:
    """A job's progress, or what came of it."""
    view = page.follower.view(job.id)
    if not job.state.over:
        return _progress(page, lang, job, view)
    if job.state is State.FAILED or job.result is None:
        return failed(lang, job)
    if job.state is State.STOPPED:
        return note("warn", tell(lang, "Stopped; no file was written."))
    result = job.result
    more = f'<div class="small">{escape(result["path"])}</div>' + _report(lang, result)
    warned = warnings(lang, [str(event.data.get("text", "")) for event in page.engine.events(job.id, kinds=("warning",))])
    return note("good", tell(lang, "{name} is ready ({time}).", name=result["name"], time=took(job)), more) + warned


def _progress(page: Page, lang: str, job: Job, view: View) -> str:
    """Where a job is: MB of a file, or layers."""
    facts = view.progress
    if job.state in (State.QUEUED, State.INTERRUPTED) or "unit" not in facts:
        return progress(lang, job, view, page.engine)
    sentence = "{step} of {total} layers" if facts["unit"] == "layers" else "{step} of {total} MB"
    text = tell(lang, sentence, step=facts["step"], total=facts["total"])
    if job.state is State.STOPPING:
        text = tell(lang, "Stopping; nothing will be written.")
    return note("busy", f"{text} · {took(job)}" if job.started else f"{text} · {duration(0)}", bar(facts["step"], facts["total"]))


def _report(lang: str, result: dict[str, Any]) -> str:
    """Rank and kept share, and each layer's in a fold."""
    text = ""
    if "kept" in result:
        text = f"<div>{escape(tell(lang, 'Rank up to {rank}; on average {share} of each change is kept.', rank=result['rank'], share=format(result['kept'], '.1%')))}</div>"
    if result.get("report"):
        text += f'<details><summary>{escape(tell(lang, "Layer by layer"))}</summary><div class="small">{"<br>".join(map(escape, result["report"]))}</div></details>'
    return text


def _metadata(page: Page, offers: list[Kept]) -> None:
    """A file on the left, what it says below."""
    form = Form(MetadataRequest, "tools_metadata")
    field = MetadataRequest.model_fields["file"]
    file = gr.Dropdown([], value=None, allow_custom_value=True, label=say(str(field.title)), info=say(str(field.description)), elem_id="tools_metadata_file")
    form.hold("file", file)
    offers.append((file, lambda paths: list(choices(paths))))
    shown = gr.HTML(elem_id="tools_metadata_shown")

    def show(name: str | None, request: gr.Request) -> str:
        lang = language(request.headers.get("accept-language"))
        if not (name or "").strip():
            return ""
        try:
            found = said(page.engine.paths, str(name))
        except StudioError as error:
            return refusal(error, "tools_metadata")
        hashed = page.engine.checkpoint_hashes().get(found.path.name)
        rows = [*found.rows(), *([("model hash", hashed)] if hashed else [])]
        table = "".join(f"<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>" for key, value in rows)
        empty = "" if found.texts else note("warn", tell(lang, "The file says nothing about itself."))
        return f'{empty}<table class="plain"><tbody>{table}</tbody></table>'

    file.change(show, file, shown, show_progress="hidden")
