"""Preparation: what makes the steps of a run faster or smaller, put on a model for the length of the run and taken off again."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from diffusers.models.attention import FeedForward
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.models.clip.modeling_clip import CLIPMLP

from studio.diffusion.model import Model
from studio.diffusion.offload import is_out_of_memory

COMPILERS = ("cuda",)
"""Kinds of devices whose compiler is worth its wait."""


@contextmanager
def prepared(model: Model, checkpointing: bool = False, compile: bool = False, note: Callable[[str, str], None] = lambda _kind, _text: None, spare: bool = True) -> Iterator[Model]:
    """The model as a run's loop should use it; previews use the one they have.

    With `checkpointing` the UNet keeps only what enters its blocks and computes the rest again on the way back (Chen et al. 2016, arXiv 1604.06174):
    the same gradients, less memory. On a CPU, feed-forwards alone are computed again where memory is to be spared: they hold half of what is kept and are a tenth of the work, and what they free lets
    small parts of a step pass together (see `passes.SMALL`), which is far more than that tenth faster. With `compile` the UNet of the loop is compiled on a graphics card; `note` tells when it is not.
    """
    if compile and model.device.type not in COMPILERS:
        note("log", f"The network is not compiled: that helps on graphics cards only, and this run is on {model.device.type}.")
    seen = _compiled(model, note) if compile and model.device.type in COMPILERS else model
    if model.unet.is_gradient_checkpointing:  # a run in whose pauses this one is taken keeps what it has
        yield seen
        return
    if not checkpointing:
        with _recomputed(model.unet, *model.text_encoders) if spare and model.device.type == "cpu" else nullcontext():
            yield seen
        return
    model.unet.enable_gradient_checkpointing()
    try:
        yield seen
    finally:
        model.unet.disable_gradient_checkpointing()


@contextmanager
def _recomputed(*networks: nn.Module) -> Iterator[None]:
    """Let the feed-forwards of networks keep only what enters them; those that do so already are left alone."""
    found = [module for network in networks for module in network.modules() if isinstance(module, FeedForward | CLIPMLP) and "forward" not in vars(module)]
    for module in found:
        module.forward = partial(_again, module.forward)
    try:
        yield
    finally:
        for module in found:
            del module.forward


def _again(forward: Callable[..., Tensor], states: Tensor) -> Tensor:
    """A part of a network that is computed again on the way back."""
    if not (torch.is_grad_enabled() and states.requires_grad):
        return forward(states)
    answer: Tensor = checkpoint(forward, states, use_reentrant=False, preserve_rng_state=False)
    return answer


def _compiled(model: Model, note: Callable[[str, str], None]) -> Model:
    """The same model with a UNet that compiles itself at its first call."""
    seen = copy.copy(model)
    seen.unet = Compiled(model.unet, note)
    return seen


class Compiled(nn.Module):
    """A network that is compiled when it is first called; where the compiler fails, for whatever reason, the network itself works on and a person is told."""

    def __init__(self, network: nn.Module, note: Callable[[str, str], None], backend: str = "inductor") -> None:
        super().__init__()
        self.network = network
        self.note = note
        self.compiled: Callable[..., object] | None = torch.compile(network, backend=backend)
        self.proven: set[object] = set()

    @property
    def config(self) -> object:
        """The network's own."""
        return self.network.config

    def forward(self, *inputs: object, **named: object) -> object:
        """The network's answer; each shape's first is proven by its gradients too, since their half is compiled apart."""
        if self.compiled is not None and getattr(inputs[0], "shape", None) not in self.proven and torch.is_grad_enabled():
            self._prove(inputs, named)
        return (self.compiled or self.network)(*inputs, **named)

    def _prove(self, inputs: tuple[object, ...], named: dict[str, object]) -> None:
        """Compute forward and back once; give the compiler up when it fails."""
        leaves = [x for x in (*inputs, *named.values()) if isinstance(x, torch.Tensor) and x.requires_grad]
        try:
            answer = self.compiled(*inputs, **named)[0] if self.compiled else None
            if leaves and answer is not None:
                torch.autograd.grad(answer.float().sum(), leaves, retain_graph=False, allow_unused=True)
        except (RuntimeError, OSError, ImportError, TypeError) as error:
            if is_out_of_memory(error):
                raise
            self.compiled = None
            self.note("warning", f"The network could not be compiled ({type(error).__name__}: {str(error).splitlines()[0][:200]}); training goes on without, only slower.")
        self.proven.add(getattr(inputs[0], "shape", None))
