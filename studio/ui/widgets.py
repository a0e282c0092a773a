"""What the tabs are built of: forms from declarations, views that follow a job, and notes in words."""

import json
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import gradio as gr
from gradio.blocks import Block
from gradio.components import Component

from studio import shelves
from studio.config import Config, Control, controls
from studio.engine import Engine
from studio.errors import StudioError, Unavailable
from studio.jobs import Job, State
from studio.ui.browser import browser_of
from studio.ui.keeping import Offers, kept_fields, kept_tabs, restore, save_fields
from studio.ui.live import Follower, View
from studio.ui.words import browser_language, choice, language, say, tell
from studio.wording import localized

Draw = Callable[..., Sequence[Any]]
"""`draw(language, *inputs)` gives one value or update for each output of a screen; `draw(language, browser, *inputs)` for a screen that is per browser."""
REFRESH = "() => window.studio && window.studio.refresh()"
"""What a handler says in the browser when its outcome should be seen at once."""


@dataclass(frozen=True)
class Screen:
    """A part of the page that shows how things are."""

    draw: Draw
    outputs: tuple[Component, ...]
    inputs: tuple[Component, ...]
    per_browser: bool = False

    def now(self, lang: str, browser: str, given: dict[Component, Any]) -> Sequence[Any]:
        """The values of the outputs as they should be now."""
        visitor = (lang, browser) if self.per_browser else (lang,)
        return self.draw(*visitor, *(given[part] for part in self.inputs))


@dataclass(frozen=True)
class Page:
    """What every tab works with: the engine, the views, and the parts of the page that all tabs share."""

    engine: Engine
    follower: Follower
    blocks: gr.Blocks
    checkpoint: gr.Dropdown
    vae: gr.Dropdown
    clip_skip: gr.Number
    tabs: gr.Tabs
    screens: list[Screen] = field(default_factory=list)
    fills: list[tuple[Callable[[], list[Any]], list[Component]]] = field(default_factory=list)
    offers: Offers = field(default_factory=Offers)
    copies: dict[Component, Component] = field(default_factory=dict)
    """Parts that take the value of another one whenever a browser's values are put back."""

    def follow(self, draw: Draw, outputs: Sequence[Component], inputs: Sequence[Component] = (), first: bool = False, per_browser: bool = False) -> None:
        """Keep `outputs` as `draw` says they should be, from `inputs`; the `first` is drawn before all others, and `per_browser` tells `draw` whose page it is."""
        self.screens.insert(0 if first else len(self.screens), Screen(draw, tuple(outputs), tuple(inputs), per_browser))

    def fill(self, values: Callable[[], list[Any]], parts: Sequence[Component]) -> None:
        """Put these values into these components whenever the page is opened."""
        self.fills.append((values, list(parts)))

    def attach(self, pulse: gr.Button, timer: gr.Timer) -> None:
        """Draw all screens when the page opens and whenever the journal has grown, and send only what changed since.

        What `fill` and the browser restore comes first: a screen that drew before it would take an empty dropdown for one without a choice.
        """
        inputs = list(dict.fromkeys(part for screen in self.screens for part in screen.inputs))
        outputs = [part for screen in self.screens for part in screen.outputs]
        groups = save_fields(self.blocks)
        kept_parts = [*kept_fields(self.blocks).values(), *kept_tabs(self.blocks).values(), *self.copies]
        filled = list(dict.fromkeys([*(part for _, parts in self.fills for part in parts), *kept_parts]))
        kept, sent = gr.Textbox(visible=False), gr.State([])

        def draw(request: gr.Request, before: list[str], *values: Any) -> list[Any]:
            lang, given = language(request.headers.get("accept-language")), dict(zip(inputs, values, strict=True))
            now = _drawn(self.screens, lang, browser_of(request), given)
            marks = [repr(value) for value in now]
            if not before:
                return [marks, *(value if part in filled else _news(part, value) for part, value in zip(outputs, now, strict=True))]
            return [marks, *(gr.skip() if mark == last else value for mark, last, value in zip(marks, before, now, strict=True))]

        def redraw(request: gr.Request, before: list[str], *values: Any) -> list[Any]:
            return draw(request, before, *values) if before else [gr.skip()] * (len(outputs) + 1)

        options: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": 8, "api_visibility": "private"}
        opened = self.blocks.load(self._restorer(filled), kept, [kept, *filled], js="() => window.studio.forms.kept()", **options)
        opened.then(draw, [sent, *inputs], [sent, *outputs], **options)
        opened.then(None, kept, None, js=f"(replaced) => window.studio.forms.start({json.dumps(groups)}, replaced)")
        for event in (pulse.click, timer.tick):
            event(redraw, [sent, *inputs], [sent, *outputs], trigger_mode="always_last", **options)

    def _restorer(self, filled: Sequence[Any]) -> Callable[[str, gr.Request], list[Any]]:
        """What gives `filled` their values when the page opens: the studio's, and over them what the browser kept; what is not valid any more is told."""

        def fill(text: str, request: gr.Request) -> list[Any]:
            values = self._filled()
            kept = restore(self.blocks, self.offers, text, language(request.headers.get("accept-language")))
            for part, value in kept.values.items():
                before = values.get(part)
                values[part] = {**before, "value": value} if isinstance(before, dict) else value
            values |= {part: kept.values[source] for part, source in self.copies.items() if source in kept.values}
            if kept.notices:
                gr.Warning("\n".join(kept.notices), duration=None)
            return [json.dumps(kept.replaced), *(_news(part, values[part]) if part in values else gr.skip() for part in filled)]

        return fill

    def _filled(self) -> dict[Any, Any]:
        """What the studio puts into its fields when the page opens; nothing while the database can't be read."""
        try:
            return {part: value for give, parts in self.fills for part, value in zip(parts, give(), strict=True)}
        except Unavailable:
            return {}


def _drawn(screens: Sequence[Screen], lang: str, browser: str, given: dict[Component, Any]) -> list[Any]:
    """The values of all screens. Once one can't read the database, it and the rest stay as they are, so that the page doesn't wait for each."""
    now: list[Any] = []
    readable = True
    for screen in screens:
        values: Sequence[Any] = ()
        if readable:
            try:
                values = screen.now(lang, browser, given)
            except Unavailable:
                readable = False
        now += values if readable else [gr.skip()] * len(screen.outputs)
    return now


def _news(part: Component, value: Any) -> Any:
    """What of a value or update the page does not show yet as it was built; each part that is told costs the browser a walk through all of it."""
    if isinstance(value, Block):
        return value
    told = value if isinstance(value, dict) and value.get("__type__") == "update" else {"value": value}
    news = {name: one for name, one in told.items() if name != "__type__" and getattr(part, name, None) != (_pairs(one) if name == "choices" else one)}
    return gr.update(**news) if news else gr.skip()


def _pairs(choices: Sequence[Any]) -> list[tuple[str, Any]]:
    """Choices as gradio keeps them."""
    return [(str(choice[0]), choice[1]) if isinstance(choice, tuple) else (str(choice), choice) for choice in choices]


class Form:
    """The knobs of a request as components, wired by component and never by position."""

    def __init__(self, cls: type[Config], prefix: str) -> None:
        self.cls, self.prefix = cls, prefix
        self._controls = {control.name: control for control in controls(cls)}
        self.parts: dict[str, Component] = {}

    def add(self, *names: str, **more: Any) -> Component:
        """Make the components of these fields here, and return the last; `more` overrides what the declaration says."""
        for name in names:
            self.parts[name] = component(self._controls[name], f"{self.prefix}_{name}", **more)
        return self.parts[name]

    def hold(self, name: str, part: Component) -> Component:
        """Use a component made elsewhere for a field."""
        self.parts[name] = part
        return part

    @property
    def inputs(self) -> set[Component]:
        """What an event that reads the form takes as its inputs."""
        return set(self.parts.values())

    def restore(self, values: dict[str, Any]) -> list[Any]:
        """Updates that put a former request's values back, for all parts in order; what it does not name stays."""
        return [_restored(part, values[name]) if name in values else gr.skip() for name, part in self.parts.items()]

    def values(self, data: dict[Component, Any]) -> dict[str, Any]:
        """Values by field name, out of what an event delivers."""
        return {name: data[part] for name, part in self.parts.items()}


def _restored(part: Component, value: Any) -> Any:
    """The update that puts a value back; a dropdown refuses what is not among its choices, also as an input."""
    if not isinstance(part, gr.Dropdown) or part.allow_custom_value:
        return gr.update(value=value)
    if not part.choices:
        return gr.update(choices=[value], value=value) if value else gr.skip()
    return gr.update(value=value) if value in [choice for _, choice in part.choices] else gr.skip()


def component(control: Control, elem_id: str, **more: Any) -> Component:
    """The component that suits a knob; `more` overrides what the declaration says."""
    options: dict[str, Any] = {"value": control.default, "elem_id": elem_id, **more}
    options.setdefault("label", say(control.label) if "label" not in more else None)
    options.setdefault("info", say(control.help) if control.help and "info" not in more else None)
    if control.kind == "flag":
        return gr.Checkbox(**options)
    if control.kind == "choices":
        return gr.CheckboxGroup([one if isinstance(one, tuple) else choice(one) for one in options.pop("choices", control.choices)], **{**options, "value": list(options["value"] or ())})
    if control.kind == "choice":
        choices = list(map(choice, control.choices))
        return gr.Dropdown(choices, **options) if len(choices) > 4 else gr.Radio(choices, **options)
    if control.kind == "text":
        return gr.Textbox(**{"lines": 3 if control.multiline else 1, **options, "value": options["value"] or ""})
    if control.default is not None and control.maximum is not None and control.minimum is not None and control.maximum <= 2048:  # a slider cannot be empty
        return gr.Slider(control.minimum, control.maximum, step=control.step or (1 if control.kind == "integer" else 0.01), **options)
    return gr.Number(precision=0 if control.kind == "integer" else None, **options)


def submit(engine: Engine, cls: type[Config], values: dict[str, Any], browser: str = "", form: str = "") -> tuple[str, str]:
    """Queue a request of a browser; returns the job's id (empty when it was refused) and a note to show, which marks the fields of `form` that are wrong."""
    try:
        return engine.submit(cls.check(values), browser), ""
    except StudioError as error:
        return "", refusal(error, form)


def refusal(error: StudioError, form: str = "") -> str:
    """Why something was refused, in the browser's language; static/fields.js marks the fields of the form it names and hides the note when they are edited."""
    lang = browser_language()
    fields = {name: localized(lang, text) for name, text in error.fields.items()}
    return f'<div class="note bad" role="status" data-refusal="{uuid.uuid4().hex}" {_about(form, fields)}>{escape(localized(lang, str(error)))}</div>'


def _about(form: str, fields: dict[str, str]) -> str:
    """Attributes that say which fields of a form a note is about."""
    return f'data-form="{form}" data-fields="{escape(json.dumps(fields, ensure_ascii=False))}"'


def missing_note(form: str, reasons: Sequence[tuple[str, str]]) -> str:
    """What keeps a form from being sent: each reason with the field it stands at, or with no field."""
    fields = {field: text for field, text in reasons if field}
    return f'<div class="note" role="status" {_about(form, fields)}>{escape(" ".join(text for _, text in reasons))}</div>' if reasons else ""


def asked(engine: Engine, job: str, kind: str) -> None:
    """Ask something of a job; one that is over or unknown needs no answer, its own line says so."""
    try:
        engine.ask(job, kind)
    except StudioError:
        return


def note(kind: str, text: str, more: str = "") -> str:
    """A sentence in a coloured box: `good`, `bad`, `warn`, `busy` or plain; `more` is HTML below it."""
    return f'<div class="note {kind}" role="status">{escape(text)}{more}</div>' if text or more else ""


def bar(done: float, total: float) -> str:
    """A progress bar as HTML."""
    share = 100 * done / total if total else 0
    return f'<div class="bar" role="progressbar" aria-valuenow="{share:.0f}" aria-valuemin="0" aria-valuemax="100"><i style="width:{share:.1f}%"></i></div>'


def duration(seconds: float | None) -> str:
    """Seconds as a person says them."""
    if seconds is None:
        return ""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def progress(lang: str, job: Job, view: View, engine: Engine | None = None) -> str:
    """The line of a job that is not over: where it is, how fast, how long still."""
    if job.state is State.QUEUED:
        before = engine.before(job) if engine is not None else 0
        return note("busy", tell(lang, "Waiting for its turn; {count} before it.", count=before) if before else tell(lang, "Waiting for its turn."))
    if job.state is State.INTERRUPTED:
        return note("warn", tell(lang, "The worker died; this goes on from where it was as soon as a new one is up."))
    facts = view.progress
    if not facts:
        return note("busy", tell(lang, "Loading the model …"))
    text = tell(lang, "Step {step} of {total}", step=facts["step"], total=facts["total"])
    if facts.get("rate"):
        text += " · " + tell(lang, "{rate} steps per second", rate=f"{facts['rate']:.2g}")
    if facts.get("eta"):
        text += " · " + tell(lang, "{time} left", time=duration(facts["eta"]))
    if job.state is State.STOPPING:
        text = tell(lang, "Stopping after this step, and keeping what is there …") + " " + text
    return note("busy", text, bar(facts["step"], facts["total"]))


def failed(lang: str, job: Job) -> str:
    """Why a job failed, in words."""
    return note("bad", tell(lang, "Failed: {reason}", reason=localized(lang, job.error or "?")))


def took(job: Job) -> str:
    """How long a job ran."""
    end = job.ended or time.time()
    return duration(end - job.started) if job.started else ""


def embedding_names(engine: Engine) -> list[str]:
    """Embeddings that can be used in a prompt."""
    return [card.name for card in shelves.embeddings(engine.paths) if not card.problem]
