"""The embedding room: what an embedding's vectors are like, and embeddings made from others."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from studio import embedding_shelf as shelf
from studio.diffusion.model import Model
from studio.diffusion.tokenizer import clip_tokenizer
from studio.errors import Conflict, InputError
from studio.formats.embedding import MAX_VECTORS, Embedding, read_embedding
from studio.formats.embedding_writing import check_family, default_suffix, write_layout
from studio.jobs import Lane
from studio.requests.embedding_room import EditEmbeddingRequest, InspectEmbeddingRequest
from studio.services.desk import Desk
from studio.services.embedding_start import start_of

PIECE = 8192
"""Rows of a token table that are compared at once."""
SPECIAL = 49406
"""First of the tokens that stand for no text."""


def run(request: InspectEmbeddingRequest | EditEmbeddingRequest, lane: Lane, desk: Desk) -> dict[str, Any]:
    """Look into an embedding, or make one, as a job."""
    if isinstance(request, InspectEmbeddingRequest):
        return inspect_embedding(request, desk)
    made = edit_embedding(request, desk)
    lane.emit("saved", path=made["path"])
    return made


def inspect_embedding(request: InspectEmbeddingRequest, desk: Desk) -> dict[str, Any]:
    """Everything the room shows of an embedding; raises NotFound, and Unreadable with the verdict on a file that cannot be used.

    `encoders` has for each text encoder: width, median (length of an ordinary word's row), norms [n], nearest [n] of (word, cosine).
    `similarity` [n][n] is the cosine between vectors; `start` the distance and cosine [n] from where the training began, None when no run knows it.
    """
    path = shelf.file_of(desk.paths, request.name)
    embedding = read_embedding(path)
    facts: dict[str, Any] = {
        "name": path.stem,
        "file": path.name,
        "path": str(path),
        "bytes": path.stat().st_size,
        "vectors": len(embedding.vectors),
        "width": embedding.width,
        "step": embedding.step,
        "family": shelf.WIDTHS.get(embedding.width),
        "trained_on": embedding.checkpoint_name,
        "trained_hash": embedding.checkpoint_hash,
        "similarity": _rounded(cosines(embedding.vectors, embedding.vectors)),
        "start": _from_start(desk, request, embedding),
    }
    with desk.cache.lend(request.checkpoint) as model:
        fits = embedding.width == model.width
        encoders = _encoders(model, embedding, request.nearest) if fits else [{"width": part.shape[1], "median": None, "norms": _rounded(part.norm(dim=1)), "nearest": []} for part in embedding.parts]
        told = {**facts, "checkpoint": model.checkpoint, "fits": fits, "encoders": encoders, "verdict": _verdict(embedding, model)}
    return {**told, "words": _words(told)}


def edit_embedding(request: EditEmbeddingRequest, desk: Desk) -> dict[str, Any]:
    """Prune, merge or convert; returns what was made and, when one was replaced, what `restore` takes. Raises NotFound, Unreadable, InputError, Conflict."""
    paths = [shelf.file_of(desk.paths, name) for name in request.names]
    sources = [read_embedding(path) for path in paths]
    made = _made(request, sources)
    check_family(made, request.family)
    made = replace(made, name=request.result or paths[0].stem)
    layout: Any = request.layout or _same(paths[0], made)
    picture = _picture(request.picture)
    if not request.shelf:
        folder = _free(shelf.exports(desk.paths), made.name, layout)
        files = write_layout(folder, made, layout, picture)
        return {"name": made.name, "path": str(files[0]), "files": [str(file) for file in files], "vectors": len(made.vectors), "trash": "", "shelf": False}
    return _shelved(request, desk, made, (layout, picture))


def cosines(one: Tensor, other: Tensor) -> Tensor:
    """Cosine between each row of `one` [n, d] and each of `other` [m, d]; 0 where a row is nothing."""
    return torch.nn.functional.normalize(one.float(), dim=1) @ torch.nn.functional.normalize(other.float(), dim=1).T


def nearest_words(table: Tensor, vectors: Tensor, count: int) -> list[list[dict[str, Any]]]:
    """For each vector [d] the tokens of a table [49408, d] with the largest cosine: word, how it is written inside others, cosine."""
    best, places = torch.empty(len(vectors), 0), torch.empty(len(vectors), 0, dtype=torch.long)
    for first in range(0, min(len(table), SPECIAL), PIECE):
        rows = table[first : min(first + PIECE, SPECIAL)].detach().float().cpu()
        found = torch.cat([best, cosines(vectors, rows)], 1)
        numbers = torch.cat([places, torch.arange(first, first + len(rows)).expand(len(vectors), -1)], 1)
        best, order = found.topk(min(count, found.shape[1]), dim=1)
        places = numbers.gather(1, order)
    return [[{"word": _word(int(i)), "cosine": round(float(c), 4)} for c, i in zip(cosine, ids, strict=True)] for cosine, ids in zip(best, places, strict=True)]


def _word(token: int) -> str:
    """A token as a person reads it; what only begins or continues a word ends with a hyphen."""
    tokenizer = clip_tokenizer()
    whole = str(tokenizer.convert_ids_to_tokens([token])[0]).endswith("</w>")
    return f"{tokenizer.decode([token]).strip()}{'' if whole else '-'}"


def _encoders(model: Model, embedding: Embedding, count: int) -> list[dict[str, Any]]:
    """What each text encoder says about its part of the vectors."""
    told = []
    parts = embedding.vectors.split(list(model.widths), 1)
    for encoder, part, median in zip(model.text_encoders, parts, model.median_norms, strict=True):
        table = encoder.get_input_embeddings().weight
        told.append({"width": part.shape[1], "median": round(median, 4), "norms": _rounded(part.norm(dim=1)), "nearest": nearest_words(table, part, count)})
    return told


def _verdict(embedding: Embedding, model: Model) -> str:
    """One sentence: whether prompts on this checkpoint can use it."""
    if embedding.width == model.width:
        return f"It can be used with {model.checkpoint}."
    own = shelf.WIDTHS.get(embedding.width, f"checkpoints of width {embedding.width}")
    return f"It cannot be used with {model.checkpoint}, whose words have width {model.width}: its vectors have width {embedding.width}, which are for {own}. Prompts pass it over there."


def _words(told: dict[str, Any]) -> list[str]:
    """The figures as lines: the verdict, then one for each vector."""
    trained = f", {told['step']} steps" if told["step"] else ""
    lines = [f"{told['name']}: {told['vectors']} vectors of width {told['width']}{trained}. {told['verdict']}"]
    for i in range(told["vectors"]):
        lengths = " + ".join(f"{e['norms'][i]:.3f}" + (f" ({e['norms'][i] / e['median']:.2f} of a word's)" if e["median"] else "") for e in told["encoders"])
        near = "; ".join(", ".join(f"{one['word']} {one['cosine']:.2f}" for one in e["nearest"][i]) for e in told["encoders"] if e["nearest"])
        moved = f"; {told['start']['distance'][i]:.3f} from its start, cosine {told['start']['cosine'][i]:.3f}" if told["start"] else ""
        lines.append(f"{i + 1}: length {lengths}{moved}{f'; near {near}' if near else ''}")
    return lines


def _from_start(desk: Desk, request: InspectEmbeddingRequest, embedding: Embedding) -> dict[str, Any] | None:
    """Distance and cosine of each vector from where a training of this embedding began."""
    found = start_of(desk.paths, embedding.name, request.training)
    if found is None or found[1].shape != embedding.vectors.shape:
        return None
    run_name, start = found
    cosine = torch.nn.functional.cosine_similarity(embedding.vectors, start, dim=1)
    return {"run": run_name, "distance": _rounded((embedding.vectors - start).norm(dim=1)), "cosine": _rounded(cosine)}


def _rounded(values: Tensor) -> Any:
    """Numbers as nested lists with four digits behind the point."""
    return [_rounded(row) for row in values] if values.ndim > 1 else [round(float(value), 4) for value in values]


def _made(request: EditEmbeddingRequest, sources: list[Embedding]) -> Embedding:
    """The embedding an edit asks for; what trained it is kept only when it is still the same one."""
    first = sources[0]
    if request.act == "convert":
        return first
    if request.act == "prune":
        missing = [number for number in request.keep if number > len(first.vectors)]
        if missing:
            raise InputError(f"Vectors to keep: {first.name!r} has {len(first.vectors)} vectors, and there is no number {missing[0]}.", "Choose among those it has.")
        return replace(first, vectors=first.vectors[[number - 1 for number in request.keep]])
    widths = {source.width for source in sources}
    if len(widths) > 1:
        said = ", ".join(f"{source.name!r} {source.width}" for source in sources)
        raise InputError(f"Embeddings: they are for different kinds of checkpoints (widths: {said}).", "Merge embeddings of one family.")
    same = len({source.checkpoint_hash for source in sources}) == 1
    merged = Embedding(first.name, _joined(sources) if request.how == "join" else _averaged(sources, request.weights), first=first.first)
    return replace(merged, checkpoint_hash=first.checkpoint_hash, checkpoint_name=first.checkpoint_name) if same else merged


def _joined(sources: list[Embedding]) -> Tensor:
    """All vectors one after another; raises InputError when they are too many for a prompt."""
    vectors = torch.cat([source.vectors for source in sources])
    if len(vectors) > MAX_VECTORS:
        raise InputError(f"Embeddings: together they have {len(vectors)} vectors, and a prompt has {MAX_VECTORS} places.", "Prune them first, or average them.")
    return vectors


def _averaged(sources: list[Embedding], weights: tuple[float, ...]) -> Tensor:
    """The weighted mean, vector by vector; weights are divided by their sum. Raises InputError."""
    counts = {len(source.vectors) for source in sources}
    if len(counts) > 1:
        said = ", ".join(f"{source.name!r} {len(source.vectors)}" for source in sources)
        raise InputError(f"Embeddings: an average needs the same number of vectors in each ({said}).", "Prune the longer ones, or join them.")
    shares = torch.tensor(weights or [1.0] * len(sources), dtype=torch.float64)
    if abs(float(shares.sum())) < 1e-9:
        raise InputError("Weights: their sum is 0, so there is no average.", "Write for example 0.7, 0.3.")
    stacked = torch.stack([source.vectors.double() for source in sources])
    return torch.einsum("s,snd->nd", shares / shares.sum(), stacked).float()


def _same(path: Path, embedding: Embedding) -> str:
    """The layout of a file, to be kept; a picture, which would lose what it shows, and what is read but not written become the usual one."""
    suffix = path.suffix.lower().removeprefix(".")
    return suffix if suffix in ("pt", "safetensors") else default_suffix(len(embedding.parts)).removeprefix(".")


def _picture(name: str) -> Path | None:
    """The picture that is to carry an embedding; raises InputError."""
    path = Path(name) if name else None
    if path is not None and not path.is_file():
        raise InputError(f"Picture: {name[:200]!r} is not a file.", "Choose a picture, or leave it empty for a plain card.")
    return path


def _free(folder: Path, name: str, layout: str) -> Path:
    """A folder in which nothing of this name lies yet: nothing that was given away is overwritten."""
    number, tried = 2, folder
    while (tried / (name if layout == "diffusers" else f"{name}.{layout}")).exists():
        tried, number = folder / str(number), number + 1
    return tried


def _shelved(request: EditEmbeddingRequest, desk: Desk, made: Embedding, form: tuple[Any, Path | None]) -> dict[str, Any]:
    """Put what was made on the shelf; what it replaces goes to the trash first and comes back when writing fails."""
    layout, picture = form
    there = shelf.files_of(desk.paths, made.name)
    if there and not request.replace:
        raise Conflict(f"Name: {made.name!r} is taken by {there[0].name}.", "Choose another name, or tick Replace: the old one goes to the trash.")
    if len(there) > 1:
        raise Conflict(f"Name: prompts cannot tell {there[0].name} from {there[1].name}.", "Delete or rename one of them first.")
    shelf.check_idle(desk.paths, made.name, "replaced")
    folder = there[0].parent if there else desk.paths.embeddings
    gone = [shelf.delete(desk.paths, path.stem) for path in there]
    try:
        files = write_layout(folder, made, layout, picture)
    except BaseException:
        for one in gone:
            shelf.restore(desk.paths, one.id)
        raise
    return {"name": made.name, "path": str(files[0]), "files": [str(file) for file in files], "vectors": len(made.vectors), "trash": gone[0].id if gone else "", "shelf": True}
