"""The Runs tab: the table of runs, comparing and the queue are drawn by static/runs*.js over /studio/v1/runs; below them everything that was asked."""

import json
import time
from collections.abc import Callable
from html import escape
from typing import Any

import gradio as gr

from studio.jobs import Job
from studio.requests.train import subject_of
from studio.ui.catalogue import ZH
from studio.ui.widgets import Page, asked, note, took
from studio.ui.words import say, tell, titled
from studio.wording import localized

ROWS = 40
"""Jobs in the table."""


def build(page: Page) -> None:
    """The place of the runs' table. Below it, closed, every job."""
    words = escape(json.dumps(ZH, ensure_ascii=False))
    gr.HTML(f'<div id="runs_room" data-words="{words}"></div>', elem_id="runs_place", padding=False)
    with gr.Accordion(say("All jobs"), open=False, elem_id="runs_all"):
        table = gr.HTML(elem_id="runs_jobs")
        with gr.Row():
            job = gr.Dropdown([], allow_custom_value=True, label=say("Job to stop"), elem_id="runs_job")
            stop = gr.Button(say("Stop and keep"), elem_id="runs_stop")
    stop.click(lambda name: asked(page.engine, name, "stop") if name else None, job, None, queue=False)
    page.follow(_drawer(page), [table, job, stop], [job])


def _drawer(page: Page) -> Callable[..., list[Any]]:
    """The table, and the jobs that can be stopped."""

    def draw(lang: str, chosen: str | None) -> list[Any]:
        jobs = page.engine.jobs(ROWS)
        live = [(about(lang, j), j.id) for j in jobs if not j.state.over]
        value = chosen if chosen in [name for _, name in live] else (live[0][1] if live else None)
        return [_table(lang, jobs), gr.update(choices=live, value=value), gr.update(interactive=bool(live))]

    return draw


def about(lang: str, job: Job) -> str:
    """A job in a few words."""
    return f"{_time(job)} · {tell(lang, titled(job.kind))} · {_subject(job)}"[:90]


def _subject(job: Job) -> str:
    """What a job is about."""
    request = job.request
    return str(subject_of(request.get("config") or {}) or request.get("prompt") or request.get("name") or request.get("destination") or "")


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
    return f'<tr>{plain}{state}<td class="num">{took(job)}</td><td>{escape(_outcome(lang, job))}</td></tr>'


def _outcome(lang: str, job: Job) -> str:
    """What came of a job."""
    result = job.result or {}
    made = result.get("images", [""])
    return localized(lang, job.error) if job.error else str(result.get("embedding") or result.get("path") or result.get("destination") or (made[0] if made else ""))
