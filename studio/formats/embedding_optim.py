"""A1111's optimiser side files, `<name>.pt.optim`: what AdamW remembered when an embedding was saved, and the hash that says which vectors it belongs to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from studio.errors import StudioError, Unreadable
from studio.files import atomic_write
from studio.formats.embedding import read_embedding
from studio.formats.pickles import load_pickle

SUFFIX = ".optim"
_MOMENTS = ("exp_avg", "exp_avg_sq")


def optim_path(embedding: Path) -> Path:
    """Where the side file of an embedding lies: beside it, with `.optim` after its whole name."""
    return embedding.with_name(embedding.name + SUFFIX)


def checksum(vectors: Tensor) -> str:
    """Four hexadecimal digits of vectors [n, d]: r <- r·281 XOR int(100 v)·997 modulo 2^32 over all numbers, its last 16 bits.

    Numbers below 0.01 count as nothing, so many embeddings share `0000`: an equal checksum is a hint, a different one a proof. Raises ValueError for NaN.
    """
    state = 0
    for value in (vectors.detach().float().cpu().reshape(-1) * 100).tolist():
        state = (state * 281 ^ int(value) * 997) & 0xFFFFFFFF
    return f"{state & 0xFFFF:04x}"


def read_optim(path: Path, embedding: Path) -> tuple[dict[str, Tensor] | None, str]:
    """What AdamW remembered about an embedding, as `optimizer.0.step`, `.exp_avg` and `.exp_avg_sq`, and an empty text; else None and why it is not used.

    Without a side file it is None and an empty text. The rate that A1111 keeps in it is left aside: the one that was typed counts.
    """
    if not path.is_file():
        return None, ""
    try:
        state = _state(path)
        vectors = read_embedding(embedding).vectors
    except StudioError as error:
        return None, f"The optimiser's memory was not taken over: {error}"
    if state["hash"] != (expected := checksum(vectors)):
        return None, f"{path.name} belongs to other vectors (its hash is {state['hash']}, that of {embedding.name} is {expected}), so the optimiser begins anew."
    moments = {key: state["moments"][key].float() for key in _MOMENTS}
    if any(value.shape != vectors.shape or not bool(torch.isfinite(value).all()) for value in moments.values()):
        shape = list(moments["exp_avg"].shape)
        return None, f"{path.name} remembers numbers of shape {shape} that do not suit {embedding.name} (shape {list(vectors.shape)}) or are not finite, so the optimiser begins anew."
    return {f"optimizer.0.{key}": value.contiguous().clone() for key, value in {"step": state["step"], **moments}.items()}, ""


def write_optim(path: Path, vectors: Tensor, state: Mapping[str, Any]) -> None:
    """Write AdamW's `state_dict()` beside a saved copy as A1111 does, in torch's older format that its safe loader takes; raises OutOfSpace."""
    plain = {"state": {key: {k: _kept(v) for k, v in one.items()} for key, one in state["state"].items()}, "param_groups": state["param_groups"]}
    with atomic_write(path) as temporary:
        torch.save({"hash": checksum(vectors), "optimizer_state_dict": plain}, temporary, _use_new_zipfile_serialization=False)


def _kept(value: Any) -> Any:
    """A tensor by itself on the CPU, anything else as it is."""
    return value.detach().cpu().clone() if isinstance(value, Tensor) else value


def _state(path: Path) -> dict[str, Any]:
    """Hash, step and moments of the one parameter a side file remembers; raises Unreadable."""
    data = load_pickle(path)
    held = data.get("optimizer_state_dict") if isinstance(data, dict) else None
    states = held.get("state") if isinstance(held, dict) else None
    one = next(iter(states.values())) if isinstance(states, dict) and len(states) == 1 else None
    if not isinstance(one, dict) or not all(isinstance(one.get(key), Tensor) for key in _MOMENTS) or not isinstance(one.get("step"), int | float | Tensor):
        raise Unreadable(f"{path.name} does not hold AdamW's memory of one embedding.", "Only .optim files of A1111's textual inversion can be taken over.")
    return {"hash": str(data.get("hash")), "step": torch.as_tensor(one["step"], dtype=torch.float32).reshape(()), "moments": one}
