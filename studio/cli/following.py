"""A job as the command line shows it: progress until the end, Ctrl-C = stop and keep, and the result."""

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from studio.cli.saying import plain
from studio.config import Config
from studio.engine import Engine
from studio.errors import Unavailable
from studio.jobs import Job, State

POLL = 0.2
"""Seconds between two looks at a job."""


def follow(engine: Engine, request: Config, as_json: bool, out: str = "", quiet: bool = False) -> int:
    """Submit, show progress until the end, print the result unless `quiet`; Ctrl-C asks to stop and keep."""
    engine.keep_worker("cli")
    name = engine.submit(request)
    stopped = False
    seen = 0
    with tqdm(total=None, disable=as_json, file=sys.stderr, unit="it") as bar:
        while True:
            try:
                job = engine.job(name)
                for event in engine.events(name, seen):
                    seen = event.seq
                    _show(bar, event.kind, event.data)
                if job.state.over:
                    break
                bar.refresh()
                time.sleep(POLL)
            except Unavailable as error:
                bar.set_postfix_str(error.message[:60])
                time.sleep(1)
            except KeyboardInterrupt:
                if stopped:
                    return 130
                stopped = engine.ask(name, "stop")
                bar.write("Stopping: the step in hand is finished and saved. Press Ctrl-C again to leave it to the worker.")
    ended = 0 if quiet and job.state is not State.FAILED else _ended(job, as_json and not quiet, out)
    return ended or (130 if stopped else 0)


def _show(bar: "tqdm[Any]", kind: str, data: dict[str, Any]) -> None:
    """One event on the progress bar."""
    if kind in ("metric", "progress") and "step" in data:
        if data.get("total"):
            bar.total = data["total"]
        bar.update(data["step"] - bar.n)
        if "smoothed" in data:
            bar.set_postfix_str(f"loss {data['smoothed']:.4f}")
        elif data.get("text"):
            bar.set_postfix_str(plain(data["text"])[:60])
    elif kind == "warning":
        bar.write(plain(f"warning: {data.get('text', data)}"), file=sys.stderr)


def _ended(job: Job, as_json: bool, out: str) -> int:
    """Print how a job ended; returns the exit code."""
    result = dict(job.result or {})
    if out and result.get("images"):
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        result["images"] = [str(shutil.copy2(image, folder)) for image in result["images"]]
    if as_json:
        print(json.dumps({"id": job.id, "state": job.state, "error": job.error, **result}, ensure_ascii=False))
    elif job.state is State.FAILED:
        print(plain(job.error), file=sys.stderr)
    else:
        for key, value in ({"": result["words"]} if "words" in result else result).items():
            for line in value if isinstance(value, list) else [value]:
                print(plain(f"{key}: {line}" if key else line))
    return 1 if job.state is State.FAILED else 0
