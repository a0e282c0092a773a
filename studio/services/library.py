"""The library: create embeddings and find them."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from studio import shelves
from studio.diffusion.model import Model
from studio.diffusion.tokenizer import clip_tokenizer, tokens_of
from studio.errors import Conflict, NotFound
from studio.formats.embedding import Embedding, write_embedding
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
    """Write embeddings/<name>.pt whose vectors begin as the words of the initialization text; raises Conflict when the name is taken."""
    path = desk.paths.embeddings / f"{request.name}.pt"
    check_free(desk.paths, path, request.overwrite)
    with desk.cache.lend(request.checkpoint) as model:
        vectors, dropped = initial_vectors(model, request.initialization_text, request.vectors)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_embedding(path, Embedding(request.name, vectors))
    return {"path": str(path), "vectors": request.vectors, "name": request.name, "dropped": dropped}


def initial_vectors(model: Model, text: str, count: int) -> tuple[Tensor, str]:
    """Vectors [count, d] from the rows of the text's tokens, spread evenly (A1111); empty text gives zeros. Also the part of the text that found no room."""
    ids = tokens_of(text)
    if not ids:
        return torch.zeros(count, model.width), ""
    rows = model.token_table[torch.tensor(ids[:count])].detach().float().cpu()
    spread = torch.tensor([i * len(rows) // count for i in range(count)])
    return rows[spread].clone(), clip_tokenizer().decode(ids[count:]).strip()


def find_embedding(paths: Paths, name: str) -> Path:
    """The file of an embedding, letter case aside; raises NotFound."""
    files = shelves.embedding_files(paths)
    found = [p for p in files if p.stem == name] or [p for p in files if p.stem.lower() == name.lower()]
    if not found:
        raise NotFound(f"Embedding: there is no {name!r} in {paths.embeddings.name}.", "Create it first.")
    return found[0]


def check_free(paths: Paths, path: Path, overwrite: bool) -> None:
    """Raise Conflict when the name is taken: prompts do not tell upper from lower case, nor one suffix from another."""
    for taken in shelves.embedding_files(paths):
        if taken.stem.lower() != path.stem.lower():
            continue
        if taken != path:
            raise Conflict(f"Name: prompts could not tell {path.stem!r} from {taken.name!r}, which exists.", "Choose another name, or move that file away.")
        if not overwrite:
            raise Conflict(f"Name: {path.stem!r} is taken.", 'Choose another name, or tick "Overwrite Old Embedding".')
