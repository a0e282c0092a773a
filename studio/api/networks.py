"""Networks over HTTP: cards of LoRA files, hypernetworks and embeddings, what is in them, and everything that can be done to them."""

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, Response
from pydantic import Field

from studio.api.room_pictures import FOREVER, PLAIN, thumbnails_of
from studio.api.thumbnails import SIDES
from studio.api.waiting import Here
from studio.config import Config
from studio.errors import NotFound
from studio.files import atomic_write
from studio.networks import acts, shelf
from studio.settings import Paths

router = APIRouter(prefix="/studio/v1/networks/{kind}", tags=["networks"])


class NewName(Config):
    """A network and the name it, or its copy, shall have."""

    name: str
    to: str


class TrashedId(Config):
    """What lies in the trash."""

    id: str


class NotesOf(Config):
    """A person's words on a network, kept beside it as A1111 does; what is not sent stays as it is."""

    name: str
    description: str | None = None
    """What it is."""
    trigger: str | None = None
    """A1111's activation text: what a click adds to the prompt."""
    weight: float | None = None
    """Preferred weight; 0 = the usual one."""
    negative: str | None = None
    """What a click adds to the negative prompt."""
    family: str | None = None
    """SD1, SD2, SDXL or Unknown; empty = as the file says."""
    notes: str | None = None
    """Anything else."""


class CardOf(Config):
    """A model card that is written into the file."""

    name: str
    title: str = ""
    """Empty = the file's name."""
    description: str = Field("", max_length=20_000)
    author: str = Field("", max_length=500)
    trigger_phrase: str = Field("", max_length=20_000)
    tags: str = Field("", max_length=20_000)
    """Between commas."""
    picture: bool = True
    """Whether the preview beside the file goes in too."""


@router.get("")
def cards(kind: str, here: Here, checkpoint: str = "") -> list[dict[str, Any]]:
    """A card of every network; `misfit` names the checkpoint's family when it is another."""
    return shelf.cards(here.engine.paths, shelf.kind_of(kind), checkpoint)


@router.get("/one")
def one(kind: str, name: str, here: Here, checkpoint: str = "") -> dict[str, Any]:
    """Everything about one network: its card, notes, the texts of its header and the tags of its training."""
    return shelf.told(here.engine.paths, shelf.kind_of(kind), name, checkpoint)


@router.get("/picture")
async def picture(kind: str, name: str, here: Here, request: Request, size: int = SIDES[0]) -> Response:
    """The picture of a card as a small copy: from beside the file, else from its header; raises NotFound without one."""
    file = await run_in_threadpool(_picture, here.engine.paths, kind, name)
    side = next((side for side in SIDES if size <= side), SIDES[-1])
    small = await thumbnails_of(request, here.engine).get(file, side)
    return FileResponse(small, media_type="image/jpeg", headers=FOREVER if request.query_params.get("v") else {**PLAIN, "Cache-Control": "private, no-cache"})


def _picture(paths: Paths, kind: str, name: str) -> Path:
    """The picture of a card as a file; one that lies in a header is put among the small copies, named by the file's time."""
    path = shelf.file_of(paths, shelf.kind_of(kind), name)
    found = shelf.previews_of(path)
    if found:
        return found[0]
    data = shelf.cover_in(path)
    if data is None:
        raise NotFound(f"{name[:120]!r} has no picture.")
    status = path.stat()
    kept = paths.thumbnails / "covers" / f"{kind}-{path.stem}-{status.st_mtime_ns:x}-{status.st_size:x}"
    if not kept.is_file():
        with atomic_write(kept) as temporary:
            temporary.write_bytes(data)
    return kept


@router.post("/notes")
def notes(kind: str, wish: NotesOf, here: Here) -> dict[str, Any]:
    """Note something about a network, beside its file."""
    changes = {key: value for key, value in wish.model_dump(exclude={"name"}).items() if value is not None}
    return acts.edit(here.engine.paths, shelf.kind_of(kind), wish.name, changes)


@router.post("/picture")
def set_picture(kind: str, name: str, file: UploadFile, here: Here) -> dict[str, Any]:
    """Give a network a preview picture; the one it had goes to the trash."""
    return acts.set_picture(here.engine.paths, shelf.kind_of(kind), name, file.file.read(acts.LARGEST_PICTURE + 1))


@router.post("/newest_picture")
def newest_picture(kind: str, name: str, here: Here) -> dict[str, Any]:
    """Give a network the picture that was generated last."""
    paths = here.engine.paths
    return acts.set_picture(paths, shelf.kind_of(kind), name, acts.newest_picture(paths).read_bytes())


@router.post("/write")
def write(kind: str, wish: CardOf, here: Here) -> dict[str, Any]:
    """Write a model card into a .safetensors file; its tensors stay bit by bit."""
    words = wish.model_dump(include=set(acts.CARD))
    return acts.write_into(here.engine.paths, shelf.kind_of(kind), wish.name, wish.title, words, wish.picture)


@router.post("/rename")
def rename(kind: str, wish: NewName, here: Here) -> dict[str, str]:
    """Give a network another name; `note` says what that means for prompts."""
    return acts.rename(here.engine.paths, shelf.kind_of(kind), wish.name, wish.to)


@router.post("/duplicate")
def duplicate(kind: str, wish: NewName, here: Here) -> dict[str, str]:
    """Copy a network under another name."""
    return acts.duplicate(here.engine.paths, shelf.kind_of(kind), wish.name, wish.to)


@router.delete("/one")
def delete(kind: str, name: str, here: Here) -> dict[str, str]:
    """Move a network to the trash; the id brings it back."""
    gone = acts.delete(here.engine.paths, shelf.kind_of(kind), name)
    return {"id": gone.id, "name": gone.name}


@router.get("/trash")
def trash(kind: str, here: Here) -> list[dict[str, str]]:
    """Networks in the trash, newest first."""
    return [{"id": entry.id, "name": entry.name} for entry in acts.trashed(here.engine.paths, shelf.kind_of(kind))]


@router.post("/restore")
def restore(kind: str, wish: TrashedId, here: Here) -> dict[str, str]:
    """Bring a network back from the trash."""
    return acts.restore(here.engine.paths, shelf.kind_of(kind), wish.id)
