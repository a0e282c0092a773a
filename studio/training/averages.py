"""Averages: a running mean of weights that learn, which is calmer than they are; swapped in for previews and files."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

COUNT = "average.count"
"""Name of the number of updates among what a run keeps."""


class Averages:
    """An exponential moving average of `parameters`, in fp32 where they are; early updates count more, so that the start is soon forgotten."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.names, self.parameters, self.decay = tuple(parameters), tuple(parameters.values()), decay
        self.tensors = [parameter.detach().float().clone() for parameter in self.parameters]
        self.count = 0

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights of one more step in, the n-th by 1 - min(decay, (1 + n) / (10 + n)), n from 0."""
        share = 1 - min(self.decay, (1 + self.count) / (10 + self.count))
        torch._foreach_lerp_(self.tensors, self._now(), share)
        self.count += 1

    def _now(self) -> Sequence[Tensor]:
        """The weights as they are, in fp32."""
        return [parameter.detach().float() for parameter in self.parameters]

    @contextmanager
    def worn(self) -> Iterator[None]:
        """The network with the averages in the place of its weights, which are the very same tensors afterwards."""
        kept = [parameter.data for parameter in self.parameters]
        for parameter, average in zip(self.parameters, self.tensors, strict=True):
            parameter.data = average
        try:
            yield
        finally:
            for parameter, before in zip(self.parameters, kept, strict=True):
                parameter.data = before

    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on, by name."""
        kept = {f"average.{name}": tensor.to("cpu", copy=True) for name, tensor in zip(self.names, self.tensors, strict=True)}
        return {**kept, COUNT: torch.tensor(self.count)}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state`."""
        for name, tensor in zip(self.names, self.tensors, strict=True):
            tensor.copy_(state[f"average.{name}"])
        self.count = int(state[COUNT])
