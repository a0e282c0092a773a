"""The screen of a training: verdict line, figures, curve, previews and log; of the running one, or of one from history."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from studio.jobs import Job, State
from studio.ui.chart import chart
from studio.ui.live import View
from studio.ui.widgets import duration, failed, note, progress, took
from studio.ui.words import say, tell


@dataclass(frozen=True)
class Screen:
    """The components that `look` fills, in its order."""

    parts: tuple[Component, ...]

    @classmethod
    def build(cls, name: str, buttons: Callable[[], None] = lambda: None) -> "Screen":
        """Make the components here; `buttons` makes some of its own below the status."""
        status = gr.HTML(elem_id=f"{name}_status")
        buttons()
        curve = gr.HTML(elem_id=f"{name}_chart")
        figures = gr.HTML(elem_id=f"{name}_figures")
        previews = gr.Gallery(
            label=say("Previews: same prompt, same seed; step 0 is the baseline"), columns=5, height=300, object_fit="contain", elem_id=f"{name}_previews", format="png", interactive=False
        )
        with gr.Accordion(say("Log"), open=False):
            log = gr.HTML(elem_id=f"{name}_log")
        return cls((status, curve, figures, previews, log))


def look(lang: str, job: Job | None, view: View | None) -> list[Any]:
    """What to show of a training: status, curve, figures, previews, log."""
    names = (tell(lang, "Loss"), tell(lang, "Smoothed"), tell(lang, "The curve begins with the first step."))
    if job is None or view is None:
        return ["", chart((), 0, (), names), "", [], ""]
    total = view.metric.get("total") or job.request["config"]["steps"]
    previews = [(path, tell(lang, "Step {step}", step=step)) for step, path, _ in view.previews if Path(path).is_file()]
    curve = chart(view.points, total, [step for step, _, _ in view.previews], names)
    return [_status(lang, job, view), curve, _figures(lang, job, view), previews, _log(view.log)]


def _status(lang: str, job: Job, view: View) -> str:
    """One sentence about where the run is, and its warnings."""
    name = job.request["config"]["embedding"]
    head = tell(lang, "Training of {name}", name=name)
    warnings = "".join(note("warn", text) for kind, text in view.log[-20:] if kind == "warning")
    if not job.state.over:
        return f'<div class="small"><b>{escape(head)}</b></div>' + progress(lang, job, view) + warnings
    if job.state is State.FAILED or job.result is None:
        return failed(lang, job) + warnings if job.state is State.FAILED else note("", tell(lang, "Stopped before it began."))
    steps = job.result["steps"]
    sentence = "Stopped at step {steps} and saved: write {name} in a prompt to use it." if job.result["stopped"] else "Finished at step {steps} and saved: write {name} in a prompt to use it."
    return note("good", tell(lang, sentence, steps=steps, name=name), f'<div class="small">{escape(took(job))} · {escape(job.result["embedding"])}</div>') + warnings


def _figures(lang: str, job: Job, view: View) -> str:
    """The newest figures in small boxes, and the last prompt."""
    m = view.metric
    if not m:
        return ""
    boxes: list[tuple[str, str]] = [
        ("Step", f"{m['step']} / {m['total']}"),
        ("Speed", f"{m['rate']:.2f} it/s"),
        ("Time left", duration(m["eta"]) if not job.state.over else "–"),
        ("Loss", "–" if m["loss"] is None else f"{m['loss']:.4f}"),
        ("Smoothed", "–" if m["smoothed"] is None else f"{m['smoothed']:.4f}"),
        ("Learning rate", f"{m['learn_rate']:.3g}"),
        ("Vector norm", f"{m['norm']:.3f}"),
        ("Distance from start", f"{m['distance']:.3f}"),
    ]
    cells = "".join(f"<div><span>{escape(tell(lang, label))}</span><b>{escape(value)}</b></div>" for label, value in boxes)
    last = f'<div class="lastprompt">{escape(tell(lang, "Last prompt"))}: {escape(m["prompt"])}</div>' if m.get("prompt") else ""
    return f'<div class="figures">{cells}</div>{last}'


def _log(lines: Sequence[tuple[str, str]]) -> str:
    """What was said, newest first."""
    return '<div class="log">' + "".join(f"<div>{escape(kind)}{': ' if text else ''}{escape(text)}</div>" for kind, text in reversed(lines)) + "</div>"
