"""The web server: jobs over HTTP, A1111's API, the page at the root, and only requests from its own origin."""

from typing import Annotated, Any
from uuid import uuid4

from fastapi import Body, Depends, FastAPI
from fastapi.responses import HTMLResponse
from starlette.middleware import Middleware

from studio import __version__
from studio.api import datasets, embedding_room, networks, presets, room, room_check, room_pictures, room_words, runs, runs_pictures, training_view, worker_control
from studio.api.auth import Access, Gate
from studio.api.body_limit import BodyLimit
from studio.api.body_text import check_text
from studio.api.faults import tell_faults
from studio.api.headers import PagePolicy, SafeHeaders, inline_scripts, page_policy
from studio.api.hosts import HostGuard
from studio.api.sdapi import sdapi
from studio.api.waiting import Counter, Departures
from studio.engine import Engine
from studio.jobs import Job
from studio.requests import request_of
from studio.runs.asks import checked
from studio.settings import SHIPPED_ROOT

PREFIX = "/studio/v1"


def jobs_api(app: FastAPI, engine: Engine) -> None:
    """Routes under /studio/v1: submit, list, watch and ask, as every other face does."""
    server = uuid4().hex

    tell_faults(app)

    @app.post(f"{PREFIX}/jobs/{{kind}}")
    def submit(kind: str, values: dict[str, Any]) -> dict[str, str]:
        """Queue a request of this kind."""
        return {"id": engine.submit(request_of(kind, values))}

    @app.get(f"{PREFIX}/jobs")
    def jobs(limit: int = 100, kind: str | None = None) -> list[dict[str, Any]]:
        """Jobs, newest first."""
        return [_shown(job) for job in engine.jobs(min(max(limit, 1), 1000), kind)]

    @app.get(f"{PREFIX}/pulse")
    def pulse() -> dict[str, str]:
        """A word that changes whenever anything happened, and one that changes when the server is another."""
        return {"pulse": engine.pulse(), "server": server}

    @app.get(f"{PREFIX}/jobs/{{name}}")
    def job(name: str) -> dict[str, Any]:
        """One job."""
        return _shown(engine.job(name))

    @app.get(f"{PREFIX}/jobs/{{name}}/events")
    def events(name: str, after: int = 0) -> list[dict[str, Any]]:
        """What happened in a job after a sequence number."""
        return [{"seq": e.seq, "at": e.at, "kind": e.kind, "data": e.data} for e in engine.events(engine.job(name).id, after)]

    @app.post(f"{PREFIX}/jobs/{{name}}/asks/{{kind}}")
    def ask(name: str, kind: str, data: Annotated[dict[str, Any] | None, Body()] = None) -> dict[str, bool]:
        """Ask a job to stop, discard, pause, resume, save, sample {prompt, seed} or change {learn_rate, steps, ...}; `discard` stops it too."""
        taken = engine.ask(name, kind, checked(kind, data))
        return {"taken": engine.ask(name, "stop") if kind == "discard" and taken else taken}

    @app.delete(f"{PREFIX}/jobs/{{name}}")
    def delete(name: str) -> dict[str, str]:
        """Take a job that waits or is over off the list; files it wrote stay."""
        engine.store.delete(name)
        return {"deleted": name}


def _shown(job: Job) -> dict[str, Any]:
    """A job as JSON."""
    return {"id": job.id, "kind": job.kind, "state": job.state, "request": job.request, "result": job.result, "error": job.error, "created": job.created, "started": job.started, "ended": job.ended}


def docs(app: FastAPI) -> None:
    """The description of all routes at /docs, as one page that fetches nothing from elsewhere."""

    text = (SHIPPED_ROOT / "static" / "docs.html").read_text(encoding="utf-8")
    policy = {"Content-Security-Policy": page_policy(inline_scripts(text))}

    @app.get("/docs", include_in_schema=False)
    def page() -> HTMLResponse:
        """The page."""
        return HTMLResponse(text, headers=policy)


def bare_app(engine: Engine, auth: Access | None = None) -> FastAPI:
    """The server without the page: both APIs, their description, and who may use them."""
    access = auth or Access()
    app = FastAPI(title="SD Training Studio", version=__version__, docs_url=None, redoc_url=None, dependencies=[Depends(check_text)])
    app.state.counter = Counter(engine)
    jobs_api(app, engine)
    for router in (
        datasets.router,
        room.router,
        room_pictures.router,
        room_words.router,
        room_check.router,
        room_words.shared,
        room_check.shared,
        training_view.router,
        runs_pictures.router,
        runs.router,
        runs.queue,
    ):
        app.include_router(router)
    app.include_router(embedding_room.router)
    app.include_router(networks.router)
    app.include_router(presets.router)
    app.include_router(worker_control.router)
    app.include_router(sdapi(access.server_stop))
    docs(app)
    app.add_middleware(BodyLimit)
    app.add_middleware(Gate, access=access)
    app.add_middleware(Departures)
    app.add_middleware(HostGuard, hosts=access.hosts)
    app.add_middleware(SafeHeaders)  # the last one added is the outermost
    return app


def create_app(engine: Engine, auth: Access | None = None) -> FastAPI:
    """The whole server: both APIs, and the page at the root, behind a login when `auth` names somebody for it."""
    import gradio as gr

    from studio.ui.app import build, first_script, mount_options

    access = auth or Access()
    options = mount_options(engine.paths)
    app = gr.mount_gradio_app(bare_app(engine, access), build(engine), path="/", **options)
    page = app.routes[-1].app
    page.user_middleware.append(Middleware(PagePolicy, added=inline_scripts(options["head"]), first=first_script()))  # innermost: gradio compresses what goes out
    return app
