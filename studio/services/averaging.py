"""Averages: the mean of several moments of a run as a new embedding or hypernetwork on the shelf."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from studio import shelves
from studio.errors import Conflict, InputError
from studio.formats.embedding import Embedding, read_embedding, write_embedding
from studio.formats.embedding_writing import default_suffix
from studio.formats.hypernetwork import Hypernetwork, State, read_hypernetwork, write_hypernetwork
from studio.jobs import Lane
from studio.requests.average import AverageRequest
from studio.requests.train import CONFIGS, subject_of
from studio.runs.weights import AVERAGED, whole
from studio.services.desk import Desk
from studio.services.library import check_free
from studio.services.run_folders import chosen, config_of, method_of, run_folder, weights_of
from studio.settings import Paths


def run(request: AverageRequest, lane: Lane, desk: Desk) -> dict[str, Any]:
    """Average the weights of a run and put the result on the shelf; raises NotFound, InputError and Conflict in words."""
    folder = run_folder(desk.paths, request.run)
    method = method_of(folder)
    if method not in _WAYS:
        _refuse(folder, method)
    weights = weights_of(folder)
    used = chosen(weights, request.steps) if request.steps else {step: weights[step] for step in [step for step in weights if step][-request.count :]}
    if len(used) < 2:
        raise InputError(
            f"An average needs the weights of at least two steps; {len(used)} of this run can be used (step 0, where nothing was learned, is left out).",
            "Let the run save or preview more often, or choose the steps yourself.",
        )
    if len(used) < request.count and not request.steps:
        lane.emit("warning", text=f"The run has the weights of {len(used)} steps, so those are averaged in the place of {request.count}.")
    name = request.name or f"{subject_of(config_of(folder)) or weights[max(used)].stem.rpartition('-')[0]}-avg{len(used)}"
    path = _WAYS[method](list(used.values()), name, request.overwrite, desk.paths)
    lane.emit("saved", path=str(path), step=max(used))
    return {"path": str(path), "name": name, "steps": list(used)}


def averaged(embeddings: Sequence[Embedding]) -> Embedding:
    """The mean of embeddings, vector by vector in fp32, with the facts of the last; raises InputError when their shapes differ."""
    _same({" x ".join(map(str, embedding.vectors.shape)) for embedding in embeddings})
    return replace(embeddings[-1], vectors=torch.stack([embedding.vectors.float() for embedding in embeddings]).mean(0))


def averaged_hypernetwork(networks: Sequence[Hypernetwork]) -> Hypernetwork:
    """The mean of hypernetworks, number by number in fp32, with the facts of the last; raises InputError when they are built differently."""
    last = networks[-1]
    for other in networks:
        _same(_shapes(other) ^ _shapes(last))
    pairs = {width: tuple(_mean([network.layers[width][half] for network in networks]) for half in (0, 1)) for width in last.widths}
    return replace(last, layers={width: (keys, values) for width, (keys, values) in pairs.items()})


def _shapes(network: Hypernetwork) -> set[str]:
    """How a hypernetwork is built: each of its tensors in words."""
    return {f"{width} {half} {key} {list(tensor.shape)}" for width, pair in network.layers.items() for half, state in zip(("keys", "values"), pair, strict=True) for key, tensor in state.items()}


def _mean(states: Sequence[State]) -> State:
    """The mean of networks, tensor by tensor."""
    return {key: torch.stack([state[key].float() for state in states]).mean(0) for key in states[-1]}


def _same(shapes: set[str]) -> None:
    """Raise InputError when weights have more than one shape."""
    if len(shapes) > 1:
        raise InputError(f"The weights have different shapes ({' and '.join(sorted(shapes)[:4])}), so there is no average of them.", "Choose steps of one training.")


def _embedding(files: Sequence[Path], name: str, overwrite: bool, paths: Paths) -> Path:
    """Put the mean of embeddings onto the shelf."""
    mean = averaged([read_embedding(path) for path in files])
    path = paths.embeddings / f"{name}{default_suffix(len(mean.parts))}"
    check_free(paths, path, overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_embedding(path, replace(mean, name=name))
    return path


def _hypernetwork(files: Sequence[Path], name: str, overwrite: bool, paths: Paths) -> Path:
    """Put the mean of hypernetworks onto the shelf."""
    taken = [stem for stem in shelves.hypernetworks(paths) if stem.lower() == name.lower()]
    if taken and not (overwrite and taken == [name]):
        raise Conflict(f"Name: {taken[0]!r} is taken.", "Choose another name, or tick overwrite.")
    path = shelves.hypernetworks(paths).get(name, paths.hypernetworks / f"{name}.pt")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_hypernetwork(path, replace(averaged_hypernetwork([read_hypernetwork(file) for file in files]), name=name))
    return path


def _refuse(folder: Path, method: str) -> None:
    """Raise InputError: what a method learns has no average."""
    if whole(folder):
        raise InputError("A training of a whole checkpoint keeps no copies of its steps, so there is nothing to average.", "Train it with an EMA decay: that saves an average of all its steps.")
    title = next((cls.title for cls in CONFIGS if cls.method == method), method)
    raise InputError(f"{title}: each change is a product of matrices, and the product of averages is not the average of the products, so no average is made.", "Choose the best step in the previews.")


_WAYS: dict[str, Callable[[Sequence[Path], str, bool, Paths], Path]] = dict(zip(AVERAGED, (_embedding, _hypernetwork), strict=True))
"""Methods whose weights have an average, and what makes it."""
