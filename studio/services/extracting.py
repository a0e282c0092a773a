"""Extracting: what lies between two checkpoints as a LoRA, layer by layer from the files."""

from contextlib import ExitStack
from typing import Any

from torch import Tensor

from studio.cancellation import Stopped
from studio.diffusion.sources import Opened, Place, written
from studio.errors import InputError
from studio.formats.adapter import Adapter
from studio.formats.adapter_writing import write_adapter
from studio.formats.delta import Delta
from studio.formats.hashes import remembered_sha256
from studio.formats.low_rank import factored
from studio.formats.provenance import Provenance
from studio.jobs import Lane
from studio.requests.tools import ExtractLoraRequest
from studio.services.model_files import DTYPES, Bench, Meter, lora_result, opened_all, stopped

_LEFT_OUT = ("token_embedding", "position_embedding")
"""Tables of a text encoder: no layers that a LoRA changes."""


def run(request: ExtractLoraRequest, lane: Lane, desk: Bench) -> dict[str, Any]:
    """Write the LoRA; raises NotFound, InputError, Conflict, Unreadable in words. One that is stopped leaves no file."""
    with ExitStack() as stack:
        tuned, original = opened_all(stack, desk.paths, request.tuned, request.original)
        family = tuned.family.name.split()[0]
        if family != original.family.name.split()[0]:
            raise InputError(f"{tuned.path.name} is {tuned.family.name} and {original.path.name} is {original.family.name}.", "Choose two checkpoints of one family.")
        name = request.name or f"{tuned.name}-from-{original.name}"[:100]
        path = lora_result(desk.paths, name, request.overwrite)
        try:
            modules, kept = _modules(request, tuned, original, Meter(lane, "layers"))
        except Stopped:
            return stopped()
        if not modules:
            raise InputError(f"{tuned.path.name} and {original.path.name} differ in no layer by more than {request.min_difference:g}.", "Choose another pair, or a smaller least difference.")
        origin = Provenance(
            name=name,
            family=family,
            prediction=tuned.facts.prediction or tuned.family.prediction,
            checkpoint=original.path.name,
            checkpoint_hash=_hash(original, desk),
            description=f"Extracted from {tuned.path.name} against {original.path.name}.",
        )
        write_adapter(path, Adapter(name, modules, {}, family), origin, DTYPES[request.precision] or tuned.slots[next(iter(written(tuned).values())).weight].dtype)
    lane.emit("saved", path=str(path))
    return {"path": str(path), "name": name, "layers": len(modules), "rank": max(delta.rank or 0 for delta in modules.values()), "kept": round(sum(kept) / len(kept), 4)}


def _hash(opened: Opened, desk: Bench) -> str:
    """The first ten digits of a checkpoint's hash."""
    return remembered_sha256(opened.weights_file, desk.paths.hashes)[:10] if opened.weights_file else ""


def _modules(request: ExtractLoraRequest, tuned: Opened, original: Opened, meter: Meter) -> tuple[dict[str, Delta], list[float]]:
    """The LoRA of each layer that differs, and the share of its difference that the rank holds; raises Stopped."""
    layers = {name: place for name, place in written(tuned).items() if _wanted(request, tuned, original, place)}
    modules, kept, alike = {}, [], dict[str, float]()
    for number, (name, place) in enumerate(layers.items()):
        meter.each(number, len(layers))
        difference = _read(tuned, place) - _read(original, place)
        most = float(difference.abs().max())
        if most <= request.min_difference:
            alike[name] = most
            continue
        shape = tuple(difference.shape)
        rank = request.conv_rank if _wide(shape) else request.rank
        factors = factored(difference.flatten(1))
        modules[name] = factors.lora(rank, shape)
        kept.append(factors.kept(rank))
    meter.each(len(layers), max(1, len(layers)))
    _tell_alike(request, alike, len(layers), meter.lane)
    return modules, kept


def _tell_alike(request: ExtractLoraRequest, alike: dict[str, float], total: int, lane: Lane) -> None:
    """Say which layers were left out because they hardly differ; those of text encoders that do differ are a warning, since what they learned is lost."""
    if not alike:
        return
    text = [name for name, most in alike.items() if name.startswith("lora_te") and most > 0]
    lane.emit("log", text=f"{len(alike)} of {total} layers differ by no more than {request.min_difference:g} and are left out.")
    if text:
        lane.emit("warning", text=f'{len(text)} text encoder layers differ by no more than {request.min_difference:g} and are left out. Lower "Least difference" to keep them.')


def _wanted(request: ExtractLoraRequest, tuned: Opened, original: Opened, place: Place) -> bool:
    """Whether a LoRA can hold this layer's difference and the person wants it."""
    shape = tuned.slots[place.weight].shape
    if len(shape) < 2 or place.weight not in original.slots or original.slots[place.weight].shape != shape or place.path.endswith(_LEFT_OUT):
        return False
    if place.part != "unet":
        return request.text_encoder
    return not _wide(shape) or bool(request.conv_rank)


def _wide(shape: tuple[int, ...]) -> bool:
    """Whether it is a convolution of more than one pixel."""
    return len(shape) > 2 and shape[-1] > 1


def _read(opened: Opened, place: Place) -> Tensor:
    """A layer's weight in fp32."""
    return place.of(opened.read(place.weight)).float()
