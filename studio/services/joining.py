"""Merging LoRAs: exactly, by writing their ranks one after another, or to a rank, by the singular values of their sum."""

from contextlib import ExitStack
from typing import Any

from torch import Tensor

from studio.cancellation import Stopped
from studio.diffusion.sources import open_checkpoint, written
from studio.errors import InputError
from studio.formats.adapter import Adapter
from studio.formats.adapter_writing import write_adapter
from studio.formats.delta import Delta
from studio.formats.embedding import Embedding
from studio.formats.low_rank import factored, factored_product, joined, whole_change, with_bias
from studio.formats.provenance import Provenance
from studio.jobs import Lane
from studio.requests.tools import MergeLoraRequest
from studio.services.changes import Layers, Share, unplaced_warning
from studio.services.model_files import DTYPES, Bench, Meant, Meter, checkpoint_at, lora_result, loras_of, one_family, stopped, widest_dtype


def run(request: MergeLoraRequest, lane: Lane, desk: Bench) -> dict[str, Any]:
    """Write the merged LoRA; raises NotFound, InputError, Conflict, Unreadable in words. One that is stopped leaves no file."""
    loras = loras_of(desk.paths, request.loras)
    family = one_family(loras)
    name = request.name or "-".join(meant.path.stem for meant in loras)[:100]
    path = lora_result(desk.paths, name, request.overwrite, tuple(meant.path for meant in loras))
    meter = Meter(lane, "layers")
    try:
        with ExitStack() as stack:
            if request.checkpoint:
                opened = stack.enter_context(open_checkpoint(checkpoint_at(desk.paths, request.checkpoint)))
                one_family(loras, opened)
                modules = _on_weights(request, loras, Layers(opened), lane, meter)
            else:
                modules = _alone(request, loras, meter)
    except Stopped:
        return stopped()
    if not modules:
        raise InputError("Nothing is left to merge: all strengths are 0.", "Give at least one LoRA a strength.")
    origin = Provenance(name=name, family=family or "", extra={"modelspec.merged_from": ", ".join(m.path.stem for m in loras)})
    write_adapter(path, Adapter(name, modules, {}, family, _embeddings(loras, lane)), origin, DTYPES[request.precision] or widest_dtype(loras))
    lane.emit("saved", path=str(path))
    ranks = [delta.rank for delta in modules.values() if delta.rank]
    return {"path": str(path), "name": name, "layers": len(modules), "rank": max(ranks, default=0)}


def _alone(request: MergeLoraRequest, loras: list[Meant], meter: Meter) -> dict[str, Delta]:
    """Merge plain LoRAs, for which no checkpoint is needed; raises InputError for any other kind."""
    shares: dict[str, list[Share]] = {}
    for meant in loras:
        if meant.blocks:
            raise InputError(f"The block weights of {meant.path.stem!r} need a checkpoint, whose blocks they count.", "Choose the checkpoint that it was made for, or leave lbw= out.")
        for name, delta in meant.adapter.modules.items():
            share = Share(meant, name, delta, meant.strength(None, name.startswith("lora_unet")))
            if share.halves is None:
                kind = "DoRA" if "dora_scale" in delta.tensors else delta.kind.name
                raise InputError(f"{name} of the LoRA {meant.path.stem!r} is {kind}, whose change depends on the checkpoint's weights.", "Choose the checkpoint that it was made for.")
            if share.strength:
                shares.setdefault(name, []).append(share)
    modules = {}
    for number, (name, given) in enumerate(shares.items()):
        meter.each(number, len(shares))
        modules[name] = _low_rank(request, given)
    meter.each(len(shares), max(1, len(shares)))
    return modules


def _low_rank(request: MergeLoraRequest, given: list[Share]) -> Delta:
    """The sum of plain LoRAs of one layer, whole or cut to the rank."""
    halves = [share.halves for share in given]
    whole = joined([half for half in halves if half is not None], [share.strength for share in given])
    if request.method == "Concatenation":
        return whole
    up, down = whole.tensors["lora_up"], whole.tensors["lora_down"]
    shape = (up.shape[0], *down.shape[1:])
    return factored_product(up.flatten(1), down.flatten(1)).lora(_rank(request, shape), shape)


def _rank(request: MergeLoraRequest, shape: tuple[int, ...]) -> int:
    """The rank for a layer of this shape."""
    wide = len(shape) > 2 and shape[-1] > 1
    return request.conv_rank or request.rank if wide else request.rank


def _on_weights(request: MergeLoraRequest, loras: list[Meant], layers: Layers, lane: Lane, meter: Meter) -> dict[str, Delta]:
    """Merge LoRAs of every kind: layers that are plain everywhere as such, the others by their change of the checkpoint's weights and its singular values."""
    shares, missing = layers.shares(loras)
    for sentence in unplaced_warning(missing, layers.opened.path.name):
        lane.emit("warning", text=sentence)
    names = {place: name for name, place in written(layers.opened).items()}
    modules, turned = {}, 0
    for number, (place, given) in enumerate(shares.items()):
        meter.each(number, len(shares))
        if all(share.halves is not None for share in given):
            modules[names[place]] = _low_rank(request, given)
            continue
        turned += 1
        weight, bias = layers.summed(place, given)
        modules[names[place]] = _decomposed(request, weight, bias, given)
    meter.each(len(shares), max(1, len(shares)))
    if turned and request.method == "Concatenation":
        lane.emit("warning", text=f"{turned} layers are not plain LoRA; the sum of their changes was cut to rank {request.rank} by SVD.")
    return modules


def _decomposed(request: MergeLoraRequest, weight: Tensor | None, bias: Tensor | None, given: list[Share]) -> Delta:
    """A whole change as a LoRA of the rank; of a normalising layer, or of a bias alone, as it is."""
    if weight is None or weight.ndim < 2:
        return whole_change(weight, bias, normal=any(share.delta.kind.name == "Norm" for share in given))
    shape = tuple(weight.shape)
    return with_bias(factored(weight.flatten(1)).lora(_rank(request, shape), shape), bias)


def _embeddings(loras: list[Meant], lane: Lane) -> dict[str, Embedding]:
    """The embeddings inside the LoRAs; of two that are called alike the first."""
    kept: dict[str, Embedding] = {}
    for meant in loras:
        for name, embedding in meant.adapter.embeddings.items():
            if name in kept:
                lane.emit("warning", text=f"Two of the LoRAs bring an embedding {name!r}; the first is kept.")
            kept.setdefault(name, embedding)
    return kept
