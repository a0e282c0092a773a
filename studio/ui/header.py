"""What stands above the tabs: the mark, the checkpoint, the engine chip, and the checklist of a first visit."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from studio import shelves
from studio.default_checkpoint import default_checkpoint
from studio.engine import Engine
from studio.errors import StudioError
from studio.jobs import State
from studio.ui.tabs.embedding import EmbeddingTab
from studio.ui.tabs.painting import Painting
from studio.ui.tabs.preprocess import SHOWN, PreprocessTab
from studio.ui.tabs.train import TrainTab
from studio.ui.theme import icon
from studio.ui.widgets import REFRESH, Page, note
from studio.ui.words import choice, complaint, language, say, tell, titled
from studio.wording import localized

STEPS = (
    ("Pictures", "Drop 10 to 20 pictures of one thing."),
    ("Captions", "Let BLIP or DeepBooru describe them."),
    ("Embedding", "Give the new word a name."),
    ("Train", "Stop when the previews look right."),
    ("Use", "Write the name in a prompt."),
)
"""The way from pictures to a word that paints them."""
SAMPLE_NAME = "mo-teal"
SAMPLE_SET = "sample-monster"
KEPT = ("sd_model_checkpoint", "sd_vae", "CLIP_stop_at_last_layers")
"""Settings that the choices of the bar are kept in."""


@dataclass(frozen=True)
class Top:
    """The bar at the top: what every painting and training uses, and the engine chip."""

    checkpoint: gr.Dropdown
    vae: gr.Dropdown
    clip_skip: gr.Number
    refresh: gr.Button
    chip: gr.HTML
    known: gr.HTML
    trouble: gr.Row
    notice: gr.HTML
    restart: gr.Button

    @classmethod
    def build(cls, engine: Engine) -> "Top":
        """Make it here."""
        names = shelves.checkpoints(engine.paths)
        with gr.Row(elem_id="header"):
            with gr.Column(scale=0, min_width=230):
                gr.HTML(f'<div class="brand" translate="no">{icon()}<span>SD Training Studio</span></div>', elem_id="brand", container=False, padding=False)
            checkpoint = gr.Dropdown(names, value=default_checkpoint(engine.paths), allow_custom_value=True, label=say("Checkpoint"), elem_id="checkpoint", scale=0, min_width=240)
            vae = gr.Dropdown(_vaes(engine), value="Automatic", allow_custom_value=True, label=say("VAE"), elem_id="vae", scale=0, min_width=150)
            clip_skip = gr.Number(1, minimum=1, maximum=12, precision=0, label=say("Clip skip"), elem_id="clip_skip", scale=0, min_width=140)
            refresh = gr.Button("⟳", elem_classes=["tool"], elem_id="refresh_checkpoints")
            with gr.Column(scale=1, min_width=200):
                chip = gr.HTML(elem_id="engine", padding=False)
            known = gr.HTML(elem_id="known_names", elem_classes=["unseen"])
            gr.Button("◐", elem_classes=["tool"], elem_id="theme_switch")
        with gr.Row(visible=False, elem_id="engine_trouble") as trouble:
            notice = gr.HTML(elem_id="engine_notice", padding=False)
            restart = gr.Button(say("Restart the worker"), visible=False, scale=0, min_width=180, elem_id="restart_worker")
        return cls(checkpoint, vae, clip_skip, refresh, chip, known, trouble, notice, restart)

    def wire(self, page: Page) -> None:
        """What is chosen is kept for the next visit; refresh looks at the folders again."""
        engine, parts = page.engine, [self.checkpoint, self.vae, self.clip_skip]
        self.refresh.click(lambda: [gr.update(choices=shelves.checkpoints(engine.paths)), gr.update(choices=_vaes(engine))], None, parts[:2])
        for name, part in zip(KEPT, parts, strict=True):
            part.input(lambda value, name=name: _prefer(engine, name, value), part, None, show_progress="hidden")
        self.restart.click(_restarter(engine), None, self.notice, show_progress="hidden").then(None, None, None, js=REFRESH)
        page.fill(lambda: _chosen(engine), parts)
        page.offers.add(self.checkpoint, lambda name: name in shelves.checkpoints(engine.paths), lambda: _chosen(engine)[0]["value"])
        page.offers.add(self.vae, lambda name: name in _vaes(engine), lambda: "Automatic")
        page.follow(lambda _lang: [_known(engine)], [self.known])


def _known(engine: Engine) -> str:
    """Names that can stand in `<...:1>`, for the page's script."""
    names = [*(f"lora:{name}" for name in shelves.loras(engine.paths)), *(f"hypernet:{name}" for name in shelves.hypernetworks(engine.paths))]
    return f'<i data-names="{escape(json.dumps(names), quote=True)}"></i>'


def _vaes(engine: Engine) -> list[tuple[str, str]]:
    """What can be chosen as VAE, with labels."""
    return [choice("Automatic"), choice("None"), *((name, name) for name in shelves.vaes(engine.paths))]


def _prefer(engine: Engine, name: str, value: Any) -> None:
    """Keep one choice; one that cannot be kept is told."""
    try:
        engine.prefer({name: value})
    except StudioError as error:
        raise complaint(str(error)) from error


def _chosen(engine: Engine) -> list[Any]:
    """Checkpoint, VAE and clip skip as they were chosen last; what is gone is not chosen any more."""
    kept, names, vaes = engine.preferences(), shelves.checkpoints(engine.paths), _vaes(engine)
    checkpoint = kept.sd_model_checkpoint if kept.sd_model_checkpoint in names else default_checkpoint(engine.paths)
    return [gr.update(choices=names, value=checkpoint), gr.update(choices=vaes, value=kept.sd_vae if kept.sd_vae in [value for _, value in vaes] else "Automatic"), kept.CLIP_stop_at_last_layers]


@dataclass(frozen=True)
class Checklist:
    """Five steps with a mark at each that is done, and a button that fills everything from the sample project."""

    row: gr.Row
    steps: gr.HTML
    sample: gr.Button

    @classmethod
    def build(cls) -> "Checklist":
        """Make it here."""
        with gr.Row(elem_id="checklist") as row:
            steps = gr.HTML(elem_id="checklist_steps")
            sample = gr.Button(say("Try the sample"), variant="primary", elem_id="try_sample")
        return cls(row, steps, sample)

    def offer(self, page: Page, tabs: tuple[PreprocessTab, EmbeddingTab, TrainTab, Painting]) -> None:
        """Connect the button: it fills the forms and opens the first tab of the way."""
        preparing, creating, training, painting = tabs
        knobs = {
            preparing.form.parts["source"]: str(shelves.sample_pictures()),
            preparing.form.parts["destination"]: SAMPLE_SET,
            preparing.form.parts["captioners"]: ["BLIP"],
            creating.form.parts["name"]: SAMPLE_NAME,
            creating.form.parts["initialization_text"]: "monster",
            creating.form.parts["vectors"]: 4,
            training.form.parts["learn_rate"]: "0.01",
            training.form.parts["template"]: "subject",
            training.form.parts["steps"]: 250,
            training.form.parts["batch_size"]: 4,
            training.form.parts["preview_every"]: 50,
            training.form.parts["preview_prompt"]: "a photo of [name] on the beach",
            painting.form.parts["prompt"]: f"a photo of {SAMPLE_NAME} on the beach",
        }
        pictures = [str(p) for p in shelves.images(shelves.sample_pictures())[:SHOWN]]

        def fill() -> dict[Any, Any]:
            return {**knobs, preparing.originals: pictures, page.tabs: gr.Tabs(selected="preprocess")}

        self.sample.click(fill, None, [*knobs, preparing.originals, page.tabs], show_progress="hidden")


def _restarter(engine: Engine) -> Callable[[gr.Request], str]:
    """Restart the worker; says so, or why it can't be."""

    def restart(request: gr.Request) -> str:
        lang = language(request.headers.get("accept-language"))
        try:
            engine.restart_worker()
        except StudioError as error:
            raise complaint(str(error)) from error
        return note("busy", tell(lang, "The worker is being restarted."))

    return restart


def follow(page: Page, top: Top, checklist: Checklist) -> None:
    """Keep the chip, what is wrong with the engine, and the checklist true."""
    page.follow(lambda lang: _engine(lang, page.engine), [top.chip, top.trouble, top.notice, top.restart], first=True)
    page.follow(_progress(page.engine), [checklist.row, checklist.steps])


def _engine(lang: str, engine: Engine) -> list[Any]:
    """The chip, and below it what is wrong, with a button where one helps."""
    facts = engine.device()
    text = _trouble(lang, engine, facts)
    return [_chip(lang, facts), gr.update(visible=bool(text)), text, gr.update(visible=bool(facts["unresponsive"]))]


def _trouble(lang: str, engine: Engine, facts: dict[str, Any]) -> str:
    """What keeps jobs from running, or what happened to the queue's database within the last day; empty when all is well."""
    if facts["problem"]:
        return note(
            "bad",
            tell(
                lang,
                "The queue's database can't be written ({reason}). Jobs wait and continue on their own once it works again."
                " Close programs that hold outputs/studio.db (a backup, a database browser), or free some disk space.",
                reason=localized(lang, facts["problem"]),
            ),
        )
    if facts["unresponsive"]:
        return note(
            "bad",
            tell(
                lang,
                "The worker has given no sign of life for {seconds} s; the graphics driver may be stuck. Restart it: a training continues from its last checkpoint.",
                seconds=facts["unresponsive"] // 10 * 10,
            ),
        )
    for one in engine.notices()[:1]:
        if one.kind == "damaged":
            return note("warn", tell(lang, "The queue's database was damaged. It was moved to outputs/{file} and a new one was started; runs, images and models are untouched.", file=one.file))
        return note(
            "warn",
            tell(lang, "The queue's database outputs/{file} was deleted or emptied while the studio was running; a new one was started. Runs, images and models are untouched.", file=one.file),
        )
    return ""


def _chip(lang: str, facts: dict[str, Any]) -> str:
    """The engine in a line: device, memory, what it does, how many wait."""
    if not facts["alive"] or facts["device"] in ("", "starting") or facts["problem"] or facts["unresponsive"]:
        return f'<div class="chip"><i class="dot off"></i>{escape(_off(lang, facts))}</div>'
    parts = [f"<b>{escape(facts['device'])}</b>", escape(facts["memory"])]
    parts.append(escape(tell(lang, titled(facts["job"]))) if facts["job"] else escape(tell(lang, "ready")))
    if facts["waiting"]:
        parts.append(escape(tell(lang, "{count} waiting", count=facts["waiting"])))
    loaded = escape("\n".join(facts["loaded"]) or tell(lang, "No model is loaded."), quote=True)
    return f'<div class="chip" title="{loaded}"><i class="dot {"busy" if facts["job"] else "on"}"></i><span>{" · ".join(p for p in parts if p)}</span></div>'


def _off(lang: str, facts: dict[str, Any]) -> str:
    """Why nothing runs at the moment."""
    if facts["problem"]:
        return tell(lang, "The queue's database can't be written")
    return tell(lang, "The worker doesn't respond") if facts["unresponsive"] else tell(lang, "The engine is starting …")


def _progress(engine: Engine) -> Callable[[str], list[Any]]:
    """The checklist's marks; it steps aside once something was trained and used."""

    def draw(lang: str) -> list[Any]:
        done = finished_steps(engine)
        if all(done):
            return [gr.update(visible=False), ""]
        items = "".join(_item(lang, number, ok) for number, ok in enumerate(done, 1))
        return [gr.update(visible=True), f'<ol class="steps">{items}</ol>']

    return draw


def _item(lang: str, number: int, done: bool) -> str:
    """One step of the way."""
    head, text = (escape(tell(lang, words)) for words in STEPS[number - 1])
    return f'<li class="{"done" if done else ""}"><span class="mark">{"✓" if done else number}</span><span><b>{head}</b><span class="small">{text}</span></span></li>'


def finished_steps(engine: Engine) -> list[bool]:
    """Which of the five steps were done in this studio."""
    sets = [folder for _, folder, count in shelves.datasets(engine.paths) if count]
    names = [card.name.lower() for card in shelves.embeddings(engine.paths)]
    trained = any(job.state in (State.DONE, State.STOPPED) and job.result for job in engine.jobs(50, "train"))
    used = any(name in str(job.request.get("prompt", "")).lower() for job in engine.jobs(50, "generate") if job.result for name in names)
    return [bool(sets), any(next(folder.glob("*.txt"), None) for folder in sets), bool(names), trained, used]
