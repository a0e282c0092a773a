"""The library: create embeddings and find them."""

from pathlib import Path
from typing import Any

from studio.diffusion.beginnings import initial_vectors
from studio.embedding_shelf import check_free, file_of
from studio.formats.embedding import Embedding, write_embedding
from studio.formats.embedding_writing import default_suffix
from studio.jobs import Lane
from studio.requests.train import CreateEmbeddingRequest
from studio.services.desk import Desk
from studio.settings import Paths


def run(request: CreateEmbeddingRequest, lane: Lane, desk: Desk) -> dict[str, Any]:
    """Create an embedding as a job; tells what was made."""
    result = create_embedding(request, desk)
    if result["dropped"]:
        lane.emit("warning", text=f"The initialization text is longer than {result['vectors']} vectors; left out: {result['dropped']!r}.")
    lane.emit("saved", path=result["path"])
    return result


def create_embedding(request: CreateEmbeddingRequest, desk: Desk) -> dict[str, Any]:
    """Write embeddings/<name>.pt, .safetensors for SDXL, whose vectors begin as the words of the initialization text; raises Conflict when the name is taken."""
    if not request.overwrite:
        check_free(desk.paths, desk.paths.embeddings / f"{request.name}.pt", False)
    with desk.cache.lend(request.checkpoint) as model:
        vectors, dropped = initial_vectors(model, request.initialization_text, request.vectors)
        widths = model.widths
    path = desk.paths.embeddings / f"{request.name}{default_suffix(len(widths))}"
    check_free(desk.paths, path, request.overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_embedding(path, Embedding(request.name, vectors, first=widths[0] if len(widths) > 1 else None))
    return {"path": str(path), "vectors": request.vectors, "name": request.name, "dropped": dropped}


def find_embedding(paths: Paths, name: str) -> Path:
    """The file of an embedding, letter case aside; raises NotFound."""
    return file_of(paths, name)
