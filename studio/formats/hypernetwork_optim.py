"""A1111's optimiser side files of hypernetworks, `<name>.pt.optim`: what AdamW remembered when the file was saved, and the hash that says which file that was."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from studio.errors import StudioError, Unreadable
from studio.files import atomic_write, sha256
from studio.formats.embedding_optim import optim_path
from studio.formats.pickles import load_pickle

Shapes = Mapping[int, tuple[int, ...]]
"""Shapes of the parameters that learn, by their place among all of the file's."""
NAME = "AdamW"
DIGITS = 10
_MOMENTS = ("exp_avg", "exp_avg_sq")


def write_optim(path: Path, state: Mapping[str, Any], places: Sequence[int], count: int) -> None:
    """Write AdamW's `state_dict()` beside the hypernetwork file `path`; its parameters are those at `places` among the `count` of the file. Raises OutOfSpace."""
    remembered = {places[number]: {key: _kept(value) for key, value in one.items()} for number, one in state["state"].items()}
    groups = [{**state["param_groups"][0], "params": list(range(count))}]
    data = {"optimizer_name": NAME, "hash": sha256(path)[:DIGITS], "optimizer_state_dict": {"state": remembered, "param_groups": groups}}
    with atomic_write(optim_path(path)) as temporary:
        torch.save(data, temporary, _use_new_zipfile_serialization=False)


def read_optim(side: Path, network: Path, shapes: Shapes) -> tuple[dict[str, Tensor] | None, str]:
    """What AdamW remembered about the hypernetwork file `network`, as `optimizer.<n>.step`, `.exp_avg` and `.exp_avg_sq` in the order of `shapes`, and an empty text; else None and why it is not used.

    Without a side file it is None and an empty text. The rate that is kept in it is left aside: the one that was typed counts.
    """
    if not side.is_file():
        return None, ""
    try:
        name, digest, states = _held(side)
    except StudioError as error:
        return None, f"The optimiser's memory was not taken over: {error}"
    if name != NAME:
        return None, f"{side.name} was written by {name}, so AdamW begins anew."
    if digest != (expected := sha256(network)[:DIGITS]):
        return None, f"{side.name} belongs to another file (its hash is {digest}, that of {network.name} is {expected}), so the optimiser begins anew."
    tensors: dict[str, Tensor] = {}
    for number, (place, shape) in enumerate(shapes.items()):
        one = states.get(place)
        if one is None:
            continue  # it had no part in the other training
        if not _suits(one, shape):
            return None, f"{side.name} remembers numbers that do not suit {network.name} or are not finite, so the optimiser begins anew."
        tensors[f"optimizer.{number}.step"] = torch.as_tensor(one["step"], dtype=torch.float32).reshape(())
        tensors |= {f"optimizer.{number}.{key}": one[key].float().contiguous().clone() for key in _MOMENTS}
    return (tensors, "") if tensors else (None, f"{side.name} remembers nothing of what learns here, so the optimiser begins anew.")


def _held(side: Path) -> tuple[str, str, Mapping[int, Any]]:
    """The optimiser's name, the hash, and the states by place; raises Unreadable."""
    data = load_pickle(side)
    held = data.get("optimizer_state_dict") if isinstance(data, dict) else None
    states = held.get("state") if isinstance(held, dict) else None
    if not isinstance(states, dict):
        raise Unreadable(f"{side.name} does not hold an optimiser's memory of a hypernetwork.", "The file is damaged; delete it.")
    return str(data.get("optimizer_name") or NAME), str(data.get("hash")), states


def _suits(one: Any, shape: tuple[int, ...]) -> bool:
    """Whether a state holds finite moments of this shape and a step."""
    if not isinstance(one, dict) or not isinstance(one.get("step"), int | float | Tensor):
        return False
    return all(isinstance(t := one.get(key), Tensor) and tuple(t.shape) == shape and bool(torch.isfinite(t).all()) for key in _MOMENTS)


def _kept(value: Any) -> Any:
    """A tensor by itself on the CPU, anything else as it is."""
    return value.detach().cpu().clone() if isinstance(value, Tensor) else value
