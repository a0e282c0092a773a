"""The Runs tab: everything that was asked, and any training of the past with its curve and previews."""

import time
from collections.abc import Callable
from html import escape
from typing import Any

import gradio as gr

from studio.errors import StudioError
from studio.jobs import Job
from studio.ui.curve import Screen, look
from studio.ui.widgets import REFRESH, Page, asked, note, took
from studio.ui.words import say, tell, titled

ROWS = 40
"""Jobs in the table."""


def build(page: Page) -> None:
    """The table of jobs, and below it one training."""
    table = gr.HTML(elem_id="runs_table")
    with gr.Row():
        job = gr.Dropdown([], allow_custom_value=True, label=say("Job to stop"), elem_id="runs_job")
        stop = gr.Button(say("Stop and keep"), elem_id="runs_stop")
        run = gr.Dropdown([], allow_custom_value=True, label=say("Training to look at"), elem_id="runs_run")
    screen = Screen.build("runs")
    stop.click(lambda name: asked(page.engine, name, "stop") if name else None, job, None, queue=False)
    run.change(None, js=REFRESH)
    page.follow(_drawer(page), [table, job, stop, run], [job, run])
    page.follow(_past(page), screen.parts, [run])


def _drawer(page: Page) -> Callable[..., list[Any]]:
    """The table, the jobs that can be stopped, and the trainings that can be looked at."""

    def draw(lang: str, chosen: str | None, seen: str | None) -> list[Any]:
        jobs = page.engine.jobs(ROWS)
        live = [(about(lang, j), j.id) for j in jobs if not j.state.over]
        value = chosen if chosen in [name for _, name in live] else (live[0][1] if live else None)
        trainings = [(about(lang, j), j.id) for j in page.engine.jobs(ROWS, "train")]
        return [
            _table(lang, jobs),
            gr.update(choices=live, value=value),
            gr.update(interactive=bool(live)),
            gr.update(choices=trainings) if seen or not trainings else gr.update(choices=trainings, value=trainings[0][1]),
        ]

    return draw


def _past(page: Page) -> Callable[..., list[Any]]:
    """One training of the past."""

    def draw(lang: str, name: str | None) -> list[Any]:
        if not name:
            return [note("", tell(lang, "Choose a training to see its curve and previews.")), "", "", [], ""]
        try:
            return look(lang, page.engine.job(name), page.follower.view(name))
        except StudioError as error:
            return [note("bad", str(error)), "", "", [], ""]

    return draw


def about(lang: str, job: Job) -> str:
    """A job in a few words."""
    return f"{_time(job)} · {tell(lang, titled(job.kind))} · {_subject(job)}"[:90]


def _subject(job: Job) -> str:
    """What a job is about."""
    request = job.request
    return str(request.get("config", {}).get("embedding") or request.get("prompt") or request.get("name") or request.get("destination") or "")


def _time(job: Job) -> str:
    """When a job was asked for, in the server's time."""
    return time.strftime("%m-%d %H:%M:%S", time.localtime(job.created))


def _table(lang: str, jobs: list[Job]) -> str:
    """Jobs as a table, newest first."""
    if not jobs:
        return note("", tell(lang, "Nothing was asked yet."))
    heads = "".join(f"<th>{escape(tell(lang, h))}</th>" for h in ("Asked", "What", "About", "State", "Took", "Result"))
    return f'<table class="plain"><thead><tr>{heads}</tr></thead><tbody>{"".join(_row(lang, j) for j in jobs)}</tbody></table>'


def _row(lang: str, job: Job) -> str:
    """One job of the table."""
    cells = (_time(job), tell(lang, titled(job.kind)), _subject(job)[:120])
    plain = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    state = f'<td><span class="state {job.state}">{escape(tell(lang, titled(str(job.state))))}</span></td>'
    return f'<tr>{plain}{state}<td class="num">{took(job)}</td><td>{escape(_outcome(job))}</td></tr>'


def _outcome(job: Job) -> str:
    """What came of a job."""
    result = job.result or {}
    made = result.get("images", [""])
    return job.error or str(result.get("embedding") or result.get("path") or result.get("destination") or (made[0] if made else ""))
