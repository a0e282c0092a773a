"""Hypernetwork files, A1111's .pt: for each width of context a pair of small networks, read without running code and written so that A1111 loads them."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from studio.errors import InputError, Unreadable
from studio.files import atomic_write
from studio.formats.pickles import load_pickle

State = dict[str, Tensor]
DROPOUT = 0.3
"""What A1111's switch "use dropout" means where no rates are given."""
_OLD = {"linear1": "linear.0", "linear2": "linear.1"}


@dataclass(frozen=True)
class Hypernetwork:
    """Small networks by width of context, one for keys and one for values, as tensors `linear.<n>.weight` and `.bias`; and how they are put together.

    `structure` gives the widths of the layers as multiples of the context's, `activation` is A1111's name, `dropout` one rate per width.
    """

    name: str
    layers: Mapping[int, tuple[State, State]]
    structure: tuple[float, ...] = (1, 2, 1)
    activation: str = "linear"
    layer_norm: bool = False
    activate_output: bool = True
    dropout: tuple[float, ...] = ()
    last_layer_dropout: bool = False
    initialization: str = "Normal"
    step: int | None = None
    checkpoint_hash: str | None = None
    checkpoint_name: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths of context it acts on."""
        return tuple(self.layers)


def read_hypernetwork(path: Path) -> Hypernetwork:
    """The hypernetwork in a .pt file, named by the file's stem; raises Unreadable in words."""
    if not path.is_file():
        raise Unreadable(f"There is no hypernetwork file {path.name!r}.", "It may have been moved; refresh the list.")
    if path.stat().st_size == 0:
        raise Unreadable(f"{path.name} is empty (0 bytes).", "Copy it again from where it came.")
    data = load_pickle(path)
    widths = [key for key in data if isinstance(key, int)] if isinstance(data, dict) else []
    if not widths:
        kind = "holds no widths" if isinstance(data, dict) else f"holds a {type(data).__name__}"
        raise Unreadable(f"{path.name} is not a hypernetwork (it {kind}).", "An embedding belongs in embeddings, a LoRA in models/Lora.")
    structure = _structure(path, data.get("layer_structure"))
    step = data.get("step")
    return Hypernetwork(
        name=path.stem,
        layers={width: _pair(path, width, data[width], structure) for width in widths},
        structure=structure,
        activation=str(data.get("activation_func") or "linear"),
        layer_norm=bool(data.get("is_layer_norm", False)),
        activate_output=bool(data.get("activate_output", True)),
        dropout=_dropout(data, structure),
        last_layer_dropout=bool(data.get("last_layer_dropout", False)),
        initialization=str(data.get("weight_initialization") or "Normal"),
        step=step if isinstance(step, int) else None,
        checkpoint_hash=str(data["sd_checkpoint"]) if data.get("sd_checkpoint") else None,
        checkpoint_name=str(data["sd_checkpoint_name"]) if data.get("sd_checkpoint_name") else None,
        facts={key: data[key] for key in ("name", "optional_info") if data.get(key)},
    )


def write_hypernetwork(path: Path, network: Hypernetwork) -> None:
    """Write atomically as A1111 does, in torch's older format without zip, which its safe loader takes; raises InputError for numbers that are not finite."""
    pairs = {}
    for width, pair in network.layers.items():
        pairs[width] = tuple({key: tensor.detach().to("cpu", torch.float32).contiguous().clone() for key, tensor in state.items()} for state in pair)
        if not all(bool(torch.isfinite(tensor).all()) for state in pairs[width] for tensor in state.values()):
            raise InputError(f"The hypernetwork {network.name!r} holds NaN or infinity for width {width}, so it was not saved.", "The file on disk is unchanged.")
    data = {
        **pairs,
        "step": network.step,
        "name": network.name,
        "layer_structure": list(network.structure),
        "activation_func": network.activation,
        "is_layer_norm": network.layer_norm,
        "weight_initialization": network.initialization,
        "use_dropout": any(network.dropout),
        "sd_checkpoint": network.checkpoint_hash,
        "sd_checkpoint_name": network.checkpoint_name,
        "activate_output": network.activate_output,
        "last_layer_dropout": network.last_layer_dropout,
        "dropout_structure": list(network.dropout) or None,
        "optional_info": network.facts.get("optional_info"),
    }
    with atomic_write(path) as temporary:
        torch.save(data, temporary, _use_new_zipfile_serialization=False)


def _structure(path: Path, value: Any) -> tuple[float, ...]:
    """The widths of the layers, each a multiple of the context's; raises Unreadable."""
    if value is None:
        return (1, 2, 1)
    if not isinstance(value, list | tuple) or len(value) < 2 or not all(isinstance(n, int | float) and math.isfinite(n) and n > 0 for n in value) or value[0] != 1 or value[-1] != 1:
        raise Unreadable(f"{path.name} has the layer structure {value!r}; it must be numbers that begin and end with 1, like 1, 2, 1.", "The file is damaged; get it again.")
    return tuple(value)


def _dropout(data: Mapping[Any, Any], structure: tuple[float, ...]) -> tuple[float, ...]:
    """The dropout rate after each width, from the rates themselves or from A1111's older switches; empty when there is none."""
    rates = data.get("dropout_structure")
    if isinstance(rates, list | tuple) and len(rates) == len(structure):
        return tuple(float(rate) for rate in rates) if any(rates) else ()
    if not data.get("use_dropout"):
        return ()
    last = DROPOUT if data.get("last_layer_dropout") else 0.0
    return tuple([0.0, *[DROPOUT] * (len(structure) - 3), last, 0.0][-len(structure) :])


def _pair(path: Path, width: int, value: Any, structure: tuple[float, ...]) -> tuple[State, State]:
    """The networks of one width, checked against the structure; raises Unreadable."""
    if not isinstance(value, list | tuple) or len(value) != 2 or not all(isinstance(state, dict) for state in value):
        raise Unreadable(f"{path.name} holds no pair of networks for width {width}.", "The file is damaged; get it again.")
    return _state(path, width, value[0], structure), _state(path, width, value[1], structure)


def _state(path: Path, width: int, state: Mapping[str, Any], structure: tuple[float, ...]) -> State:
    """One network's tensors in the order of its layers, in fp32, under today's names; raises Unreadable."""
    tensors: State = {}
    for key, tensor in state.items():
        head, _, tail = str(key).partition(".")
        name = f"{_OLD[head]}.{tail}" if head in _OLD else str(key)
        if not re.fullmatch(r"linear\.\d+\.(weight|bias)", name) or not isinstance(tensor, Tensor):
            raise Unreadable(f"{path.name} holds {str(key)!r} for width {width}, which is no part of a hypernetwork.", "Choose a hypernetwork made by A1111.")
        tensors[name] = tensor.detach().to("cpu", torch.float32)
        if not bool(torch.isfinite(tensors[name]).all()):
            raise Unreadable(f"{path.name} is spoilt: {name} of width {width} holds NaN or infinity.", "Its training diverged; use an earlier copy.")
    ordered = dict(sorted(tensors.items(), key=lambda item: (int(item[0].split(".")[1]), item[0].endswith("bias"))))
    found = [tuple(t.shape) for name, t in ordered.items() if t.ndim == 2 and name.endswith("weight")]
    expected = [(int(width * there), int(width * here)) for here, there in pairwise(structure)]
    if found != expected:
        raise Unreadable(f"{path.name} has layers {found} for width {width} where its structure {', '.join(f'{n:g}' for n in structure)} asks for {expected}.", "The file is damaged; get it again.")
    return ordered
