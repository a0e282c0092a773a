"""Several processes that take each step of a run together: each looks at its share of the pictures, all learn from the mean, and one of them decides."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from studio.diffusion.offload import is_out_of_memory
from studio.errors import InputError, StudioError

PATIENCE = timedelta(days=60)
"""How long processes wait for each other: a run may rest as long as a person likes, and one that dies ends the others at once."""
PARCEL = 2**24
"""Numbers that travel together: 64 MB of memory beside the gradients."""
COMPARED = 10
"""Steps after which parameters are compared over all processes."""
LOST = "team_lost"
"""Code of the error that says that another process is gone."""


@contextmanager
def _together() -> Iterator[None]:
    """Say in words that another process is gone."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        said = re.sub(r"^\[[^]]*\] ?", "", said).partition(". ")[0][:200]
        raise StudioError(f"Another process of this training is gone ({said}).", "What was saved before is kept; start it again to go on from there.", LOST) from error


@dataclass(eq=False)
class Team:
    """The processes of a run as one of them sees them: its number, how many there are, and the device it works on. The first one leads; a single one is alone.

    `briefed` says whether the others were told what they work on.
    """

    rank: int = 0
    size: int = 1
    device: str = "cpu"
    briefed: bool = False

    @classmethod
    def joined(cls) -> "Team":
        """The team that `accelerate launch` started this process in; alone where nothing did. Raises InputError for what cannot be done."""
        if "LOCAL_RANK" not in os.environ:
            return cls()
        from accelerate import PartialState

        _refuse_sharding()
        cuda = torch.cuda.is_available()
        cards, here = torch.cuda.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        if cuda and here > cards:
            raise InputError(f"Devices: {here} processes were started, and this machine has {cards} graphics card{'s' * (cards != 1)}.", f"Start {cards}, one for each.")
        if cuda:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
            dist.init_process_group("cpu:gloo,cuda:nccl", timeout=PATIENCE)
        state = PartialState(cpu=not cuda, **({} if cuda else {"timeout": PATIENCE}))
        return cls(state.process_index, state.num_processes, f"cuda:{state.local_process_index}" if cuda else "cpu")

    @property
    def leads(self) -> bool:
        """Whether this process writes, measures and decides."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Which of `count` pictures this process looks at: shares in order, as even as can be; together they are all."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def told(self, thing: Any = None) -> Any:
        """What the leader says, the same for all; `thing` is what it says."""
        if self.size == 1:
            return thing
        said = [thing if self.leads else None]
        with _together():
            dist.broadcast_object_list(said, src=0, device=torch.device("cpu"))
        return said[0]

    def heard(self, thing: Any) -> list[Any]:
        """What each process says, in their order, the same for all."""
        if self.size == 1:
            return [thing]
        said: list[Any] = [None] * self.size
        with _together():
            dist.all_gather_object(said, thing)
        return said

    def summed(self, parameters: Sequence[nn.Parameter], loss: float) -> float:
        """Make the gradients the sum of everybody's, where anybody has one, and return the sum of the losses; what is not finite anywhere is not finite everywhere."""
        if self.size == 1:
            return loss
        learning = [p for p in parameters if p.requires_grad]
        there = torch.tensor([loss, *(float(p.grad is not None) for p in learning)], dtype=torch.float64)
        with _together():
            dist.all_reduce(there)
            for parcel in _parcels([p for p, found in zip(learning, there[1:].tolist(), strict=True) if found]):
                flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parcel])
                dist.all_reduce(flat)
                for parameter, gradient in zip(parcel, flat.split([p.numel() for p in parcel]), strict=True):
                    parameter.grad = gradient.view_as(parameter).clone()
        return float(there[0])

    def same(self, parameters: Sequence[Tensor], step: int) -> None:
        """Raise StudioError everywhere when what learns is not the same in all processes."""
        if self.size == 1 or step % COMPARED:
            return
        marks = torch.stack([torch.stack([p.detach().double().sum(), p.detach().double().abs().sum()]).cpu() for p in parameters]).nan_to_num()
        least, most = marks.clone(), marks.clone()
        with _together():
            dist.all_reduce(least, dist.ReduceOp.MIN)
            dist.all_reduce(most, dist.ReduceOp.MAX)
        if not torch.equal(least, most):
            raise StudioError(
                f"After step {step} the {self.size} processes no longer hold the same numbers (they differ by up to {float((most - least).max()):.3g}).",
                "Start it again to go on from the newest checkpoint; the machines must be of one kind and use the same versions.",
            )

    def tensors(self, held: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """The leader's tensors by name, on the CPU, in every process; the others give None."""
        if self.size == 1:
            return dict(held or {})
        shapes: dict[str, tuple[Any, torch.dtype]] = self.told({name: (tuple(t.shape), t.dtype) for name, t in (held or {}).items()})
        found = {name: (held[name].detach().cpu().contiguous() if held is not None else torch.empty(shape, dtype=kind)) for name, (shape, kind) in shapes.items()}
        with _together():
            for tensor in found.values():
                if tensor.numel():
                    dist.broadcast(tensor.view(-1).view(torch.uint8), src=0)
        return found

    def file(self, path: Path | None, place: Path) -> Path | None:
        """The leader's file, where every process can read it: where it lies, or a copy in `place` on machines that do not see it."""
        facts = self.told(None if path is None else (str(path), path.stat().st_size))
        if facts is None:
            return None
        seen = Path(facts[0])
        lacking = not (seen.is_file() and seen.stat().st_size == facts[1])
        if any(self.heard(lacking)):
            data = self.told(seen.read_bytes() if self.leads else None)
            if lacking:
                seen = place / seen.name
                seen.write_bytes(data)
        return seen


ALONE = Team()
"""One process."""


def _parcels(parameters: Iterable[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Parameters in groups of about PARCEL numbers, of one device and type each."""
    parcel: list[nn.Parameter] = []
    for parameter in parameters:
        if parcel and (sum(p.numel() for p in parcel) + parameter.numel() > PARCEL or (parcel[0].dtype, parcel[0].device) != (parameter.dtype, parameter.device)):
            yield parcel
            parcel = []
        parcel.append(parameter)
    if parcel:
        yield parcel


def _refuse_sharding() -> None:
    """Raise InputError for configurations of accelerate that split a model over processes: here each holds all of it."""
    for name, switch in (("FSDP", "ACCELERATE_USE_FSDP"), ("DeepSpeed", "ACCELERATE_USE_DEEPSPEED"), ("Megatron-LM", "ACCELERATE_USE_MEGATRON_LM")):
        if os.environ.get(switch, "").lower() in ("true", "1"):
            raise InputError(
                f"accelerate: this configuration splits the model by {name}, and here every process holds all of it.",
                "Launch with --multi_gpu; where memory is short, use gradient checkpointing, AdamW 8-bit or Adafactor, or train the attention alone.",
            )
