"""The forecast beside Start: what a training will take, and what is wrong with it, measured by dry steps on this machine."""

from html import escape
from typing import Any

from studio.engine import Engine
from studio.errors import StudioError
from studio.jobs import Job, State
from studio.requests import request_of
from studio.requests.train import subject_of
from studio.ui.widgets import duration, failed, note, refusal
from studio.ui.words import tell
from studio.wording import localized


def forecast_of(engine: Engine, values: dict[str, Any], browser: str) -> str:
    """Ask for a forecast of these settings; returns what is wrong with them as a note, or nothing."""
    try:
        engine.submit(request_of("forecast", values), browser)
    except StudioError as error:
        return refusal(error, "train")
    return ""


def forecast_panel(engine: Engine, lang: str, browser: str, settings: dict[str, Any] | None = None) -> str:
    """The browser's newest forecast, while it asked for no training since; marked as outdated when it was made for other settings than these."""
    job = next(iter(engine.jobs(1, "forecast", browser)), None)
    training = next(iter(engine.jobs(1, "train", browser)), None)
    if job is None or (training is not None and training.created > job.created):
        return ""
    fresh = settings is None or _made_for(job, settings)
    if not job.state.over:
        return note("busy", tell(lang, "Measuring some steps on this machine …"))
    if job.state is State.FAILED or job.result is None:
        return failed(lang, job) if fresh else ""
    if fresh:
        return _told(lang, job, job.result)
    figures = _figures(lang, job, job.result)
    changed = note("warn", tell(lang, "The settings have changed since this forecast; press Forecast again."))
    return f'{changed}<div class="outdated">{figures}</div>' if figures else ""


def _made_for(job: Job, settings: dict[str, Any]) -> bool:
    """Whether a forecast was made for these settings of the form."""
    try:
        return request_of("forecast", settings).model_dump(mode="json") == job.request
    except StudioError:
        return False


def _told(lang: str, job: Job, result: dict[str, Any]) -> str:
    """A forecast as figures, problems and prompts; where nothing could be measured there are only problems."""
    problems = "".join(_problem(lang, p) for p in result["problems"])
    if result["seconds"] is None:
        return problems or note("warn", tell(lang, "Nothing could be measured."))
    good = "" if problems else note("good", tell(lang, "Nothing speaks against it."))
    lines = "".join(f'<div class="lastprompt">{escape(p["prompt"])} · {escape(tell(lang, "{count} tokens", count=p["tokens"]))}</div>' for p in result["prompts"])
    return f'{_figures(lang, job, result)}{problems}{good}<details><summary class="small">{escape(tell(lang, "Prompts it will be trained with"))}</summary>{lines}</details>'


def _figures(lang: str, job: Job, result: dict[str, Any]) -> str:
    """What a training will take; empty where nothing was measured."""
    if result["seconds"] is None:
        return ""
    boxes = [
        ("Steps to take", f"{result['steps']}"),
        ("Epochs", f"{result['epochs']:.1f}"),
        ("Images per epoch, with repeats", f"{result.get('epoch_images', '–')}"),
        ("Steps per epoch", f"{result.get('epoch_steps', '–')}"),
        ("Time", duration(result["seconds"])),
        ("Time of one step", f"{result['seconds_per_step']:.3g} s"),
        ("Share of previews", f"{100 * result['preview_share']:.0f} %"),
        ("Share of measurements", f"{100 * result['parts']['probe'] / result['seconds']:.0f} %" if result["seconds"] else "–"),
        ("Memory", f"{result['memory'] / 2**30:.1f} GB"),
    ]
    cells = "".join(f"<div><span>{escape(tell(lang, label))}</span><b>{escape(value)}</b></div>" for label, value in boxes)
    head = f"<div class='small'>{escape(tell(lang, 'Forecast for {name}', name=subject_of(job.request['config'])))}</div>"
    return f'{head}<div class="figures">{cells}</div>'


def _problem(lang: str, problem: dict[str, Any]) -> str:
    """What speaks against a training, and what mends it."""
    values = {name: tell(lang, value) if name == "label" else localized(lang, value) if isinstance(value, str) else value for name, value in problem.get("values", {}).items()}
    mended = " " + tell(lang, problem["fix"]) if problem.get("fix") else ""
    return note({"problem": "bad", "hint": ""}.get(problem["severity"], "warn"), tell(lang, problem["text"], **values) + mended)
