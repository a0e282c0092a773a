"""Resizing: a LoRA with smaller ranks that keeps the largest part of each layer's change, and what was kept."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from studio.cancellation import Stopped
from studio.diffusion.sources import Place, open_checkpoint, written
from studio.errors import InputError
from studio.formats.adapter import Adapter, read_adapter
from studio.formats.adapter_writing import write_adapter
from studio.formats.delta import Delta
from studio.formats.low_rank import Factors, factored, factored_product, rank_by, with_bias
from studio.formats.provenance import Provenance
from studio.jobs import Lane
from studio.requests.tools import ResizeLoraRequest
from studio.services.changes import Layers, Share
from studio.services.model_files import DTYPES, Bench, Meant, Meter, checkpoint_at, lora_at, lora_result, one_family, stopped, widest_dtype


@dataclass(frozen=True)
class Resized:
    """One layer afterwards: its rank before and now, and the share of its Frobenius norm that is left."""

    name: str
    before: int | None
    rank: int
    kept: float


def run(request: ResizeLoraRequest, lane: Lane, desk: Bench) -> dict[str, Any]:
    """Write the resized LoRA; raises NotFound, InputError, Conflict, Unreadable in words. One that is stopped leaves no file."""
    if request.method in ("Cumulative", "Frobenius") and request.target >= 1:
        raise InputError(f"Target: {request.target:g} is no share; for {request.method} it must be below 1.", "0.9 is usual.")
    if request.method == "Ratio" and request.target < 1:
        raise InputError(f"Target: a ratio of {request.target:g} would keep nothing.", "10 keeps singular values down to a tenth of the largest.")
    source = lora_at(desk.paths, request.lora)
    meant = Meant(read_adapter(source), source)
    name = request.name or f"{source.stem}-{'r' if request.method == 'Rank' else 'upto'}{request.rank}"
    path = lora_result(desk.paths, name, request.overwrite, (source,))
    try:
        with ExitStack() as stack:
            layers = None
            if request.checkpoint:
                opened = stack.enter_context(open_checkpoint(checkpoint_at(desk.paths, request.checkpoint)))
                one_family([meant], opened)
                layers = Layers(opened)
            modules, report = _modules(request, meant, layers, Meter(lane, "layers"))
    except Stopped:
        return stopped()
    origin = Provenance(name=name, extra={"modelspec.merged_from": source.stem, "modelspec.title": name, "ss_training_comment": _comment(request, meant)})
    adapter = Adapter(name, modules, {k: v for k, v in meant.adapter.metadata.items() if not k.startswith("ss_network_")}, meant.adapter.family, meant.adapter.embeddings)
    write_adapter(path, adapter, origin, DTYPES[request.precision] or widest_dtype([meant]))
    lane.emit("saved", path=str(path))
    ranks = [layer.rank for layer in report] or [0]
    facts = {"path": str(path), "name": name, "layers": len(modules), "rank": max(ranks), "mean_rank": round(sum(ranks) / len(ranks), 1)}
    kept = round(sum(layer.kept for layer in report) / max(1, len(report)), 4)
    return {**facts, "kept": kept, "report": [f"{layer.name}: rank {layer.before or '-'} -> {layer.rank}, {layer.kept:.1%} kept" for layer in report]}


def _modules(request: ResizeLoraRequest, meant: Meant, layers: Layers | None, meter: Meter) -> tuple[dict[str, Delta], list[Resized]]:
    """Every layer anew, and the report; layers that no rank fits (of one dimension) stay as they are. Raises Stopped, InputError."""
    names = {place: name for name, place in written(layers.opened).items()} if layers else {}
    modules: dict[str, Delta] = {}
    report = []
    for number, (name, delta) in enumerate(meant.adapter.modules.items()):
        meter.each(number, len(meant.adapter.modules))
        place = layers.places.get(name) if layers else None
        found = _factors(meant, name, delta, layers, place)
        if found is None:
            modules[name] = delta
            continue
        factors, shape, shift = found
        most = request.conv_rank or request.rank if len(shape) > 2 and shape[-1] > 1 else request.rank
        rank = min(most, rank_by(request.method, request.target)(factors.values), len(factors.values))
        called = names.get(place, name) if place else name
        modules[called] = with_bias(factors.lora(rank, shape), shift)
        report.append(Resized(called, delta.rank, rank, factors.kept(rank)))
    meter.each(len(modules), max(1, len(modules)))
    return modules, report


def _factors(meant: Meant, name: str, delta: Delta, layers: Layers | None, place: Place | None) -> tuple[Factors, tuple[int, ...], Any] | None:
    """The singular values of a layer's change, the shape of its weight, and its change of the bias; None for a layer of one dimension or of no change of the weight."""
    share = Share(meant, name, delta, 1.0)
    if share.halves is not None:
        up, down = share.halves
        return factored_product(up, down.flatten(1)), (up.shape[0], *down.shape[1:]), None
    if delta.kind.name == "Norm":
        return None
    if layers is None or place is None:
        kind = "DoRA" if "dora_scale" in delta.tensors else delta.kind.name
        hint = "Choose the checkpoint that it was made for."
        raise InputError(f"{name} of the LoRA {meant.path.stem!r} is {kind}, whose change depends on the checkpoint's weights.", hint)
    weight, bias = layers.summed(place, [share])
    if weight is None or weight.ndim < 2:
        return None
    return factored(weight.flatten(1)), tuple(weight.shape), bias


def _comment(request: ResizeLoraRequest, meant: Meant) -> str:
    """What was done, beside what the file said of its training."""
    done = f"resized to at most rank {request.rank}" + ("" if request.method == "Rank" else f" by {request.method} {request.target:g}")
    return "; ".join(filter(None, [meant.adapter.metadata.get("ss_training_comment", ""), done]))
