"""A1111's optimiser side files: its hash worked out by hand, a file as its code leaves it, and ours as its safe loader takes it."""

import pickletools
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from studio.formats.embedding import Embedding, write_embedding
from studio.formats.embedding_optim import checksum, optim_path, read_optim, write_optim
from studio.training.optim import restore_optimizer

ALLOWED = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch FloatStorage"}


def globals_of(path: Path) -> set[str]:
    """Every global that the pickles of a file in torch's older layout name."""
    found: set[str] = set()
    with path.open("rb") as file:
        for _ in range(5):
            texts: list[Any] = []
            for opcode, argument, _place in pickletools.genops(file):
                texts += [argument] if isinstance(argument, str) else []
                if opcode.name == "GLOBAL":
                    found.add(argument)
                elif opcode.name == "STACK_GLOBAL":
                    found.add(" ".join(texts[-2:]))
    return found


def trained(vectors: torch.Tensor, steps: int = 3) -> torch.optim.AdamW:
    """An AdamW that has moved these vectors."""
    parameter = torch.nn.Parameter(vectors)
    optimizer = torch.optim.AdamW([parameter], lr=0.01, weight_decay=0.0)
    for step in range(steps):
        parameter.grad = torch.full_like(parameter, 0.1 * (step + 1))
        optimizer.step()
    return optimizer


@pytest.mark.parametrize(
    ("values", "hash_"),
    [
        ([[1.0, 2.0]], f"{((100 * 997) * 281 ^ 200 * 997) & 0xFFFF:04x}"),
        ([[-1.0, 0.5]], f"{((((-100 * 997) & 0xFFFFFFFF) * 281) ^ (50 * 997)) & 0xFFFF:04x}"),
        ([[0.0099, -0.0099, 0.001]], "0000"),
    ],
)
def test_the_hash_is_a1111s(values: list, hash_: str) -> None:
    assert checksum(torch.tensor(values)) == hash_


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("plain_step", [True, False])
def test_a_file_of_a1111_is_taken_over_and_goes_on_as_if_it_had_never_stopped(tmp_path: Path, zipped: bool, plain_step: bool) -> None:
    vectors = torch.linspace(-1, 1, 12).reshape(2, 6)
    optimizer = trained(vectors)
    path, state = tmp_path / "hero.pt", deepcopy(optimizer.state_dict())
    write_embedding(path, Embedding("hero", vectors))
    if plain_step:  # as torch before 1.12 kept it
        state["state"][0]["step"] = 3
    torch.save({"hash": checksum(vectors), "optimizer_state_dict": state}, tmp_path / "hero.pt.optim", _use_new_zipfile_serialization=zipped)
    tensors, reason = read_optim(optim_path(path), path)
    assert tensors is not None and reason == ""
    parameter = torch.nn.Parameter(vectors.clone())
    again = torch.optim.AdamW([parameter], lr=0.01, weight_decay=0.0)
    restore_optimizer(again, tensors)
    for one in (optimizer, again):
        one.param_groups[0]["params"][0].grad = torch.full_like(vectors, 0.3)
        one.step()
    assert torch.equal(parameter, optimizer.param_groups[0]["params"][0])


def test_what_we_write_names_only_what_a1111_allows(tmp_path: Path) -> None:
    vectors = torch.randn(2, 6)
    path, optimizer = tmp_path / "hero.pt", trained(vectors)
    write_embedding(path, Embedding("hero", vectors))
    write_optim(optim_path(path), vectors, optimizer.state_dict())
    write_embedding(tmp_path / "xl.pt", Embedding("xl", torch.nn.Parameter(torch.ones(1, 2048))))
    for name in ("hero.pt", "hero.pt.optim", "xl.pt"):
        named = globals_of(tmp_path / name)
        assert (named - ALLOWED, "torch FloatStorage" in named) == (set(), True)
    tensors, reason = read_optim(optim_path(path), path)
    assert reason == "" and tensors is not None
    assert torch.equal(tensors["optimizer.0.exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"])


def test_a_file_of_other_vectors_is_refused_with_both_hashes(tmp_path: Path) -> None:
    path = tmp_path / "hero.pt"
    write_embedding(path, Embedding("hero", torch.full((1, 4), 2.0)))
    write_optim(optim_path(path), torch.full((1, 4), 1.0), trained(torch.full((1, 4), 1.0)).state_dict())
    tensors, reason = read_optim(optim_path(path), path)
    assert tensors is None
    assert checksum(torch.full((1, 4), 1.0)) in reason and checksum(torch.full((1, 4), 2.0)) in reason


@pytest.mark.parametrize(
    "held",
    [
        {"hash": "0000"},
        {"hash": "0000", "optimizer_state_dict": {"state": {}, "param_groups": []}},
        {"hash": "0000", "optimizer_state_dict": {"state": {0: {"step": 1, "exp_avg": torch.zeros(2, 4), "exp_avg_sq": torch.zeros(2, 4)}}}},
        {"hash": "0000", "optimizer_state_dict": {"state": {0: {"step": 1, "exp_avg": torch.full((1, 4), float("nan")), "exp_avg_sq": torch.zeros(1, 4)}}}},
        [1],
    ],
    ids=["no state", "empty", "another shape", "NaN", "a list"],
)
def test_what_cannot_be_used_is_said_and_begins_anew(tmp_path: Path, held: Any) -> None:
    path = tmp_path / "hero.pt"
    write_embedding(path, Embedding("hero", torch.zeros(1, 4)))
    assert read_optim(optim_path(path), path) == (None, "")
    torch.save(held, optim_path(path))
    tensors, reason = read_optim(optim_path(path), path)
    assert tensors is None and "hero.pt.optim" in reason
    optim_path(path).write_bytes(b"damaged")
    assert "cannot be read safely" in read_optim(optim_path(path), path)[1]
