"""The room of a chosen embedding: what its vectors are like, and what can be done to it; every button that is off says why."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.parse import quote

import gradio as gr
from gradio.components import Component

from studio import embedding_shelf as shelf
from studio import shelves
from studio.errors import Conflict, StudioError
from studio.jobs import Job, State
from studio.requests.embedding_room import EditEmbeddingRequest, InspectEmbeddingRequest
from studio.ui.browser import browser_of
from studio.ui.embedding_figures import figures
from studio.ui.widgets import REFRESH, Page, failed, note, refusal, submit
from studio.ui.words import choice, language, say, tell
from studio.wording import localized

QUIET: dict[str, Any] = {"show_progress": "hidden"}
LAYOUTS = [("A1111 .pt", "pt"), (".safetensors", "safetensors"), ("PNG", "png"), choice("diffusers")]
EDITS = ("prune", "convert", "merge")
"""Acts that the worker does."""
BUTTONS = ("rename", "duplicate", "delete", "prune", "convert", "merge", "restore")
INPUTS = ("chosen", "to", "replace", "keep", "others", "how", "weights", "layout", "on_shelf", "trash")
_LABELS = {"rename": "Rename", "duplicate": "Duplicate", "delete": "Delete to the trash", "prune": "Prune", "convert": "Convert", "merge": "Merge", "restore": "Bring it back"}


@dataclass(frozen=True)
class Room:
    """The parts of the room."""

    chosen: gr.Dropdown
    again: gr.Button
    look: gr.HTML
    to: gr.Textbox
    replace: gr.Checkbox
    keep: gr.Textbox
    others: gr.Dropdown
    how: gr.Radio
    weights: gr.Textbox
    layout: gr.Radio
    on_shelf: gr.Checkbox
    buttons: dict[str, gr.Button]
    trash: gr.Dropdown
    reason: gr.HTML
    said: gr.State
    status: gr.HTML

    @property
    def inputs(self) -> list[Component]:
        """What the room's acts and its drawing read."""
        return [getattr(self, name) for name in INPUTS]


def build(page: Page) -> None:
    """Lay the room out and wire it."""
    with gr.Accordion(say("Look into an embedding, or change it"), open=True, elem_id="embedding_room"):
        with gr.Row():
            chosen = gr.Dropdown([], value=None, allow_custom_value=True, label=say("Embedding to look into"), elem_id="room_embedding", scale=4)
            again = gr.Button(say("Look again"), elem_id="room_again", scale=1)
        look = gr.HTML(elem_id="room_look")
        with gr.Row():
            with gr.Column(min_width=260):
                to = gr.Textbox(label=say("New name"), info=say("Name of what is made, or the new name; empty means its own name, which needs Replace."), elem_id="room_to")
                replace = gr.Checkbox(label=say("Replace"), info=say("Put an embedding of that name into the trash, where it can be brought back from."), elem_id="room_replace")
                names = ("rename", "duplicate", "delete")
                buttons = {name: gr.Button(say(_LABELS[name]), elem_id=f"room_{name}", size="md") for name in names}
            with gr.Column(min_width=260):
                keep = gr.Textbox(label=say("Vectors to keep"), info=say("Numbers of the vectors, such as 1, 3, in the order they are to stand."), elem_id="room_keep")
                buttons["prune"] = gr.Button(say("Prune"), elem_id="room_prune", size="md")
                layout = gr.Radio(LAYOUTS, value="safetensors", label=say("Layout"), elem_id="room_layout")
                on_shelf = gr.Checkbox(label=say("Put it on the shelf"), info=say("Usable in prompts at once; otherwise it is written to be given away."), elem_id="room_shelf")
                buttons["convert"] = gr.Button(say("Convert"), elem_id="room_convert", size="md")
            with gr.Column(min_width=260):
                others = gr.Dropdown([], value=[], multiselect=True, allow_custom_value=True, label=say("Merge with"), elem_id="room_others")
                how = gr.Radio([(say("One after another"), "join"), (say("Weighted average"), "average")], value="join", label=say("How"), elem_id="room_how")
                weights = gr.Textbox(label=say("Weights"), info=say("How much each counts, the chosen one first, such as 0.7, 0.3; empty means the same for all."), elem_id="room_weights")
                buttons["merge"] = gr.Button(say("Merge"), elem_id="room_merge", size="md")
                trash = gr.Dropdown([], value=None, allow_custom_value=True, label=say("In the trash"), elem_id="room_trash")
                buttons["restore"] = gr.Button(say("Bring it back"), elem_id="room_restore", size="md")
        reason = gr.HTML(elem_id="room_reason")
        status = gr.HTML(elem_id="room_status")
    room = Room(chosen, again, look, to, replace, keep, others, how, weights, layout, on_shelf, buttons, trash, reason, gr.State(""), status)
    _wire(page, room)
    outputs = [room.chosen, room.look, room.others, room.trash, *(room.buttons[name] for name in BUTTONS), room.reason, room.status]
    page.follow(_drawer(page), outputs, [*room.inputs, room.said], per_browser=True)


def _wire(page: Page, room: Room) -> None:
    """What the parts do."""
    ask = _asker(page)
    for part in (room.chosen, room.others):
        page.offers.add(part, lambda name: name in [card.name for card in shelves.embeddings(page.engine.paths)])
    for event in (room.chosen.change, room.again.click):
        event(ask, [room.chosen, page.checkpoint], room.said, **QUIET).then(None, js=REFRESH)
    for part in (room.to.change, room.keep.change, room.others.change, room.replace.change, room.trash.change, room.on_shelf.change, room.layout.change):
        part(None, js=REFRESH)
    for name, button in room.buttons.items():
        outputs = [room.said, room.chosen] if name in ("rename", "delete", "restore") else room.said
        button.click(_act(page, name), room.inputs, outputs, **QUIET).then(None, js=REFRESH)


def _asker(page: Page) -> Callable[[str | None, str | None], Any]:
    """Ask the worker to look into the chosen embedding."""

    def ask(name: str | None, checkpoint: str | None, request: gr.Request) -> Any:
        if not name:
            return gr.skip()
        _, refused = submit(page.engine, InspectEmbeddingRequest, {"name": name, "checkpoint": checkpoint or ""}, browser_of(request))
        return refused or gr.skip()

    return ask


def _act(page: Page, act: str) -> Callable[..., Any]:
    """One press of a button: what is to be said about it, and for some acts the embedding that is chosen then."""

    def edit(request: gr.Request, *values: Any) -> str:
        return submit(page.engine, EditEmbeddingRequest, _edit(act, _named(values)), browser_of(request))[1]

    def files(request: gr.Request, *values: Any) -> Any:
        form, lang = _named(values), language(request.headers.get("accept-language"))
        try:
            text, chosen = _filed(page, act, form, lang)
        except StudioError as error:
            text, chosen = refusal(error), gr.skip()
        return text if act == "duplicate" else (text, chosen)

    return edit if act in EDITS else files


def _filed(page: Page, act: str, form: dict[str, Any], lang: str) -> tuple[str, Any]:
    """Do what needs no worker; what to say, and what is chosen then. Raises StudioError."""
    paths, name = page.engine.paths, form["chosen"] or ""
    if act == "rename":
        done = shelf.rename(paths, name, form["to"] or "")
        return note("good", tell(lang, "{before} is called {name} now. Prompts and styles that say {before} no longer mean it.", **done)), gr.update(value=done["name"])
    if act == "delete":
        return note("good", tell(lang, "{name} lies in the trash.", name=shelf.delete(paths, name).name)), gr.update(value=None)
    if act == "restore":
        done = shelf.restore(paths, form["trash"] or "")
        return note("good", tell(lang, "{name} is on the shelf again.", **done)), gr.update(value=done["name"])
    return note("good", tell(lang, "{name} is a copy.", **shelf.duplicate(paths, name, form["to"] or ""))), gr.skip()


def _edit(act: str, form: dict[str, Any]) -> dict[str, Any]:
    """The values of an edit."""
    values: dict[str, Any] = {"act": act, "names": [form["chosen"] or ""], "result": form["to"] or "", "replace": form["replace"]}
    if act == "prune":
        values["keep"] = form["keep"] or ""
    if act == "merge":
        values |= {"names": [*values["names"], *(form["others"] or [])], "how": form["how"], "weights": form["weights"] or "" if form["how"] == "average" else []}
    if act == "convert":
        values |= {"layout": form["layout"], "shelf": form["on_shelf"]}
    return values


def _named(values: Sequence[Any]) -> dict[str, Any]:
    """What the room's inputs deliver, by name."""
    return dict(zip(INPUTS, values, strict=True))


def _drawer(page: Page) -> Callable[..., list[Any]]:
    """The room as it is: choices, figures, which buttons are on, and why the others are off."""

    def draw(lang: str, browser: str, *values: Any) -> list[Any]:
        *given, said = values
        form, paths = _named(given), page.engine.paths
        cards = {card.name: shelf.told(card) for card in shelves.embeddings(paths)}
        gone = [(one.id, one.id) for one in shelf.trashed(paths)]
        off = _reasons(page, form, cards, bool(gone))
        card = cards.get(form["chosen"] or "")
        return [
            gr.update(choices=list(cards)),
            _look(page, lang, card),
            gr.update(choices=[name for name in cards if name != form["chosen"]]),
            gr.update(choices=gone) if form["trash"] in [one for _, one in gone] else gr.update(choices=gone, value=gone[0][1] if gone else None),
            *(gr.update(interactive=name not in off) for name in BUTTONS),
            _off(lang, off),
            said or _newest(page, lang, browser),
        ]

    return draw


def _reasons(page: Page, form: dict[str, Any], cards: dict[str, dict[str, Any]], trash: bool) -> dict[str, str]:
    """Why each button that is off is off."""
    off = {} if trash else {"restore": "The trash is empty."}
    card = cards.get(form["chosen"] or "")
    if card is None:
        return {**off, **dict.fromkeys([name for name in BUTTONS if name != "restore"], "Choose an embedding.")}
    if _in_use(page, card["name"]):
        off |= dict.fromkeys(("rename", "delete"), "A training uses it.")
    if not (form["to"] or "").strip():
        off |= {name: off.get(name, "Type a new name.") for name in ("rename", "duplicate")}
        if not form["replace"]:
            off |= dict.fromkeys(("prune", "merge", *(("convert",) if form["on_shelf"] else ())), "Type a new name, or tick Replace.")
    if not (form["keep"] or "").strip():
        off["prune"] = "Say which vectors to keep."
    if not form["others"]:
        off["merge"] = "Choose what it is merged with."
    if form["layout"] == "diffusers" and form["on_shelf"]:
        off["convert"] = "diffusers' files cannot lie on the shelf."
    if card["problem"]:
        off |= dict.fromkeys(EDITS, "This file cannot be used.")
    return off


def _in_use(page: Page, name: str) -> bool:
    """Whether a training uses an embedding, or waits to."""
    try:
        shelf.check_idle(page.engine.paths, name, "changed")
    except Conflict:
        return True
    return False


def _off(lang: str, off: dict[str, str]) -> str:
    """The reasons as one line: those that several buttons share once."""
    shared: dict[str, list[str]] = {}
    for name in BUTTONS:
        if name in off:
            shared.setdefault(off[name], []).append(tell(lang, _LABELS[name]))
    lines = " · ".join(f"{', '.join(names)}: {tell(lang, reason)}" for reason, names in shared.items())
    return f'<p class="small">{escape(lines)}</p>' if lines else ""


def _look(page: Page, lang: str, card: dict[str, Any] | None) -> str:
    """What is known about the chosen embedding."""
    if card is None:
        return note("", tell(lang, "Choose an embedding to see its vectors."))
    if card["problem"]:
        return note("bad", localized(lang, card["problem"]))
    job = next((job for job in page.engine.jobs(30, "inspect_embedding") if str(job.request.get("name", "")).lower() == card["name"].lower()), None)
    link = _link(f"file?name={quote(card['name'])}", tell(lang, "Download {name}", name=card["file"]))
    if job is None or not job.state.over:
        return note("busy", tell(lang, "Looking into it …")) + link
    if job.state is State.FAILED or not job.result:
        return failed(lang, job) + link
    stale = note("warn", tell(lang, "The file changed since; look again.")) if _changed(page, card["name"], job) else ""
    return stale + figures(lang, job.result) + link


def _changed(page: Page, name: str, job: Job) -> bool:
    """Whether an embedding's file is younger than what was found in it."""
    try:
        return shelf.file_of(page.engine.paths, name).stat().st_mtime > (job.started or job.created)
    except (StudioError, OSError):
        return False


def _newest(page: Page, lang: str, browser: str) -> str:
    """What became of the browser's newest edit."""
    job = page.follower.newest("edit_embedding", browser)
    if job is None:
        return ""
    if not job.state.over:
        return note("busy", tell(lang, "Working on it …"))
    if job.state is State.FAILED or not job.result:
        return failed(lang, job)
    text = tell(lang, "{name} is made, with {vectors} vectors: {path}", **job.result)
    if job.result.get("trash"):
        text += " " + tell(lang, "What it replaced lies in the trash.")
    files = [] if job.result["shelf"] else job.result["files"]
    return note("good", text, "".join(_link(f"exported?path={quote(file)}", tell(lang, "Download {name}", name=file.rpartition("/")[2])) for file in files))


def _link(place: str, text: str) -> str:
    """A link to a file of the embedding room."""
    return f'<p><a href="studio/v1/embeddings/{escape(place)}" download>{escape(text)}</a></p>'
