"""Averages: the mean of several moments of a run as a new embedding on the shelf."""

from dataclasses import replace
from typing import Any

import torch

from studio.errors import InputError
from studio.formats.embedding import Embedding, read_embedding, write_embedding
from studio.formats.embedding_writing import default_suffix
from studio.jobs import Lane
from studio.requests.average import AverageRequest
from studio.services.desk import Desk
from studio.services.library import check_free
from studio.services.run_folders import chosen, config_of, run_folder, weights_of


def run(request: AverageRequest, lane: Lane, desk: Desk) -> dict[str, Any]:
    """Average the weights of a run and put the result on the shelf; raises NotFound, InputError and Conflict in words."""
    folder = run_folder(desk.paths, request.run)
    weights = weights_of(folder)
    used = chosen(weights, request.steps) if request.steps else {step: weights[step] for step in [step for step in weights if step][-request.count :]}
    if len(used) < 2:
        raise InputError(
            f"An average needs the weights of at least two steps; {len(used)} of this run can be used (step 0, where nothing was learned, is left out).",
            "Let the run save or preview more often, or choose the steps yourself.",
        )
    if len(used) < request.count and not request.steps:
        lane.emit("warning", text=f"The run has the weights of {len(used)} steps, so those are averaged in the place of {request.count}.")
    mean = averaged([read_embedding(path) for path in used.values()])
    name = request.name or f"{config_of(folder).get('embedding') or mean.name.rpartition('-')[0]}-avg{len(used)}"
    path = desk.paths.embeddings / f"{name}{default_suffix(len(mean.parts))}"
    check_free(desk.paths, path, request.overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_embedding(path, replace(mean, name=name))
    lane.emit("saved", path=str(path), step=max(used))
    return {"path": str(path), "name": name, "steps": list(used)}


def averaged(embeddings: list[Embedding]) -> Embedding:
    """The mean of embeddings, vector by vector in fp32, with the facts of the last; raises InputError when their shapes differ."""
    shapes = {tuple(embedding.vectors.shape) for embedding in embeddings}
    if len(shapes) > 1:
        said = " and ".join(" x ".join(map(str, shape)) for shape in sorted(shapes))
        raise InputError(f"The weights have different shapes ({said}), so there is no average of them.", "Choose steps of one training.")
    return replace(embeddings[-1], vectors=torch.stack([embedding.vectors.float() for embedding in embeddings]).mean(0))
