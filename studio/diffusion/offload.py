"""Low-memory modes in A1111's words, medvram and lowvram: parts of a model visit the card one after another; and what to do when memory runs out."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from studio.errors import StudioError

T = TypeVar("T")
RAM = torch.device("cpu")
"""Where parts wait."""
BLOCKS = ("down_blocks", "mid_block", "up_blocks")
"""A UNet's children that visit one after another under lowvram; the rest, small layers around them, is a part of its own."""
SIGNS = ("out of memory", "not enough memory", "can't allocate memory", "cudnn_status_alloc_failed", "cublas_status_alloc_failed")
"""What torch says, on CPU and on accelerators, when memory ran out."""


def modules_of(value: Any) -> tuple[nn.Module, ...]:
    """The outermost networks in a value: itself, or what its attributes and their tuples, lists and dicts hold."""
    if isinstance(value, nn.Module):
        return (value,)
    entries = [*vars(value).values()] if hasattr(value, "__dict__") else [value]
    flat = [inner for entry in entries for inner in _flat(entry)]
    return tuple(dict.fromkeys(inner for inner in flat if isinstance(inner, nn.Module)))


def _flat(entry: Any) -> Sequence[Any]:
    """What one attribute holds."""
    if isinstance(entry, dict):
        return tuple(entry.values())
    return entry if isinstance(entry, tuple | list) else (entry,)


def tensors_of(modules: Sequence[nn.Module]) -> Iterator[Tensor]:
    """Parameters and buffers, shared ones once."""
    seen: set[int] = set()
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers()):
            mark = tensor.data_ptr() or id(tensor)
            if mark not in seen:
                seen.add(mark)
                yield tensor


def bytes_of(modules: Sequence[nn.Module]) -> int:
    """Bytes of the tensors of networks, shared ones counted once."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors_of(modules))


def put(modules: Sequence[nn.Module], device: torch.device) -> None:
    """Move networks to a device for good."""
    for module in modules:
        module.to(device)


def place(model: Any, device: torch.device) -> None:
    """Let a model compute on a device: what it holds beside its networks goes there."""
    model.device = device
    for name, value in vars(model).items():
        if isinstance(value, Tensor):
            setattr(model, name, value.to(device))


def fetch(modules: Sequence[nn.Module], device: torch.device) -> Callable[[], None]:
    """Copy networks to a device for a visit; the function that is returned takes them back.

    What did not change is not copied back: the tensors that waited are put in place again. What learns, was written to in place, or was exchanged
    (another precision, a merged adapter) is copied back.
    """
    visits: list[tuple[Tensor, Tensor, Tensor, int]] = []

    def back() -> None:
        for tensor, waiting, visitor, version in visits:
            same = tensor.data_ptr() == visitor.data_ptr() and tensor._version == version and not tensor.requires_grad
            tensor.data = waiting if same else tensor.data.to(waiting.device)

    try:
        for tensor in dict.fromkeys(t for module in modules for t in (*module.parameters(), *module.buffers())):
            waiting = tensor.data
            tensor.data = waiting.to(device)
            visits.append((tensor, waiting, tensor.data, tensor._version))
    except (RuntimeError, MemoryError):
        back()
        raise
    return back


@dataclass(eq=False)
class _Part:
    """What visits the device as one: its networks, its hooks, whether gradients need it to stay, and how it is taken back while it visits."""

    name: str
    modules: tuple[nn.Module, ...]
    handles: list[Any] = field(default_factory=list)
    learning: bool = False
    back: Callable[[], None] | None = None


@dataclass(eq=False)
class _Guest:
    """Networks that were added together: their parts, and how often they were added."""

    parts: list[_Part]
    users: int = 1


class Offload:
    """Lets the parts of models visit one device one after another, by hooks that are put on and taken off without a trace.

    While gradients are recorded, parts that came stay: the way back needs them. So a training fits as far as its parts fit together.
    """

    def __init__(self, device: torch.device, fetch: Callable[[Sequence[nn.Module], torch.device], Callable[[], None]] = fetch) -> None:
        self.device, self._fetch = device, fetch
        self._guests: dict[tuple[int, ...], _Guest] = {}

    @property
    def _parts(self) -> list[_Part]:
        """Every part of every guest."""
        return [part for guest in self._guests.values() for part in guest.parts]

    def visiting(self) -> list[str]:
        """Names of the parts that are on the device."""
        return [part.name for part in self._parts if part.back]

    def add(self, name: str, modules: Sequence[nn.Module], layerwise: bool = False) -> None:
        """Put hooks on networks that wait in RAM; `layerwise` lets a UNet's blocks visit one by one. What was added twice is to be removed twice."""
        guest = self._guests.get(_mark(modules))
        if guest is not None:
            guest.users += 1
            return
        guest = self._guests[_mark(modules)] = _Guest([_Part(label, group) for label, group in _split(name, modules, layerwise)])
        for part in guest.parts:
            self._hook(part)

    def remove(self, modules: Sequence[nn.Module]) -> None:
        """Take hooks off and networks back to RAM when nobody else uses them."""
        guest = self._guests[_mark(modules)]
        guest.users -= 1
        if guest.users:
            return
        for part in guest.parts:
            self._send(part)
            for handle in part.handles:
                handle.remove()
        del self._guests[_mark(modules)]

    def clear(self) -> None:
        """Send every visitor back to RAM; it comes again when it is called."""
        for part in self._parts:
            self._send(part)

    def _hook(self, part: _Part) -> None:
        """Whichever layer of a part is called first brings the whole part: an autoencoder's `decode` calls no `forward` of its own."""
        for module in part.modules:
            for inner in module.modules():
                if inner is module or inner._parameters or inner._buffers:
                    part.handles.append(inner.register_forward_pre_hook(lambda _module, _inputs: self._enter(part)))

    def _enter(self, part: _Part) -> None:
        """Bring a part; others leave first, unless the way back of a training needs them."""
        recording = torch.is_grad_enabled()
        if part.back is not None and part.learning == recording:
            return
        for other in self._parts:
            if other is not part and not (recording and other.learning):
                self._send(other)
        part.learning = recording
        if part.back is None:
            with torch.inference_mode(False), torch.no_grad():  # a visit may begin where nothing may be recorded and end where it is
                part.back = self._fetch(part.modules, self.device)

    def _send(self, part: _Part) -> None:
        """Take a part back to RAM."""
        if part.back is not None:
            with torch.inference_mode(False), torch.no_grad():
                part.back()
            part.back, part.learning = None, False


def _mark(modules: Sequence[nn.Module]) -> tuple[int, ...]:
    """What tells one group of networks from another."""
    return tuple(id(module) for module in modules)


def _split(name: str, modules: Sequence[nn.Module], layerwise: bool) -> list[tuple[str, tuple[nn.Module, ...]]]:
    """Names and networks of the parts: one, or a UNet's blocks and the layers around them."""
    if not layerwise or not all(hasattr(module, BLOCKS[0]) for module in modules):
        return [(name, tuple(modules))]
    found, around = [], []
    for module in modules:
        for label, child in module.named_children():
            if label not in BLOCKS:
                around.append(child)
            elif isinstance(child, nn.ModuleList):
                found += [(f"{name} {label}.{i}", (block,)) for i, block in enumerate(child)]
            else:
                found.append((f"{name} {label}", (child,)))
    return [(f"{name} around its blocks", tuple(around)), *found]


class Room(Protocol):
    """What can make room: the model cache."""

    def make_room(self, wanted: int | None = None) -> int:
        """Free memory of what nobody uses; returns how many bytes."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a failure means that memory ran out, on whatever device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in SIGNS)


def with_room(room: Room, attempt: Callable[[], T], *smaller: Callable[[], T]) -> T:
    """Do something; when memory runs out make room and do it again, then do what needs less, in order. Raises StudioError in words when all failed."""
    for tried in (attempt, attempt, *smaller):
        try:
            return tried()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            said = _wanted(error)
        # outside the handler: the traceback that held the failed attempt's tensors is gone by now
        room.make_room()
    raise StudioError(
        f"The device is out of memory{said}.",
        "Use a smaller picture or batch, or choose medvram or lowvram in the settings; what was saved before is kept.",
        "out_of_memory",
    )


def _wanted(error: BaseException) -> str:
    """How much memory was missing, where torch says so."""
    found = re.search(r"tried to allocate ([\d.]+ ?[KMGT]?i?B(?:ytes)?)", str(error), re.IGNORECASE)
    return f": {found[1]} more did not fit" if found else ""
