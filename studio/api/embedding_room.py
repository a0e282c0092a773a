"""The embedding room over HTTP: what lies on the shelf, what one is like, and everything that can be done to it."""

from typing import Any

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse

from studio import embedding_shelf as shelf
from studio import shelves
from studio.api.waiting import Here
from studio.config import Config
from studio.errors import NotFound
from studio.requests.embedding_room import EditEmbeddingRequest, InspectEmbeddingRequest

router = APIRouter(prefix="/studio/v1/embeddings", tags=["embeddings"])


class NewName(Config):
    """An embedding and the name it, or its copy, shall have."""

    name: str
    to: str


class TrashedId(Config):
    """What lies in the trash."""

    id: str


@router.get("")
def embeddings(here: Here) -> list[dict[str, Any]]:
    """Every embedding of the shelf: size, family and steps as soon as the worker has read it, or why it cannot be used."""
    return [shelf.told(card) for card in shelves.embeddings(here.engine.paths)]


@router.get("/one")
async def one(name: str, here: Here, checkpoint: str = "", training: str = "", nearest: int = 5) -> dict[str, Any]:
    """What an embedding is like: lengths, nearest words, likeness of its vectors, and their way from where its training began."""
    job = await here.finished(lambda: InspectEmbeddingRequest.check({"name": name, "checkpoint": checkpoint, "training": training, "nearest": nearest}))
    return job.result or {}


@router.delete("/one")
def delete(name: str, here: Here) -> dict[str, str]:
    """Move an embedding to the trash; the id brings it back."""
    gone = shelf.delete(here.engine.paths, name)
    return {"id": gone.id, "name": gone.name}


@router.post("/rename")
def rename(wish: NewName, here: Here) -> dict[str, str]:
    """Give an embedding another name; `note` says what that means for prompts."""
    return shelf.rename(here.engine.paths, wish.name, wish.to)


@router.post("/duplicate")
def duplicate(wish: NewName, here: Here) -> dict[str, str]:
    """Copy an embedding under another name."""
    return shelf.duplicate(here.engine.paths, wish.name, wish.to)


@router.post("/edit")
async def edit(wish: EditEmbeddingRequest, here: Here) -> dict[str, Any]:
    """Prune, merge or convert; `trash` is the id of what was replaced."""
    job = await here.finished(lambda: wish)
    return job.result or {}


@router.get("/trash")
def trash(here: Here) -> list[dict[str, str]]:
    """Embeddings in the trash, newest first."""
    return [{"id": entry.id, "name": entry.name} for entry in shelf.trashed(here.engine.paths)]


@router.post("/restore")
def restore(wish: TrashedId, here: Here) -> dict[str, str]:
    """Bring an embedding back from the trash."""
    return shelf.restore(here.engine.paths, wish.id)


@router.get("/file")
def file(name: str, here: Here) -> FileResponse:
    """The file of an embedding, to be kept elsewhere."""
    path = shelf.file_of(here.engine.paths, name)
    return FileResponse(path, filename=path.name)


@router.get("/exported")
async def exported(path: str, here: Here) -> FileResponse:
    """A file that was converted to be given away, by the path that `edit` told."""
    found = await run_in_threadpool(shelf.exported, here.engine.paths, path)
    if found is None:
        raise NotFound("There is no such file among those to be given away.", "Convert the embedding again.")
    return FileResponse(found, filename=found.name)
