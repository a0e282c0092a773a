"""A1111's HTTP API: every route, put together."""

from fastapi import APIRouter

from studio.api import generation, library, options, pictures, progress, scripts, system, training

ROUTERS: tuple[APIRouter, ...] = (generation.router, pictures.router, progress.router, options.router, library.router, scripts.router, training.router, system.router)


def sdapi(server_stop: bool = False) -> APIRouter:
    """All routes; those that end the server only when that is wanted."""
    whole = APIRouter(tags=["A1111"])
    for router in (*ROUTERS, *((system.stopping,) if server_stop else ())):
        whole.include_router(router)
    return whole
