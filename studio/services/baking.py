"""Baking: LoRAs and their kin put into a checkpoint for good, tensor by tensor; the weights are those that wearing them gives."""

from contextlib import ExitStack
from datetime import datetime
from typing import Any

from torch import Tensor

from studio.cancellation import Stopped
from studio.diffusion.loading import modelspec
from studio.diffusion.sources import Place
from studio.formats.streaming import HASH, Slot, write_stream
from studio.jobs import Lane
from studio.requests.tools import BakeLoraRequest
from studio.services.changes import Layers, Share, unplaced_warning
from studio.services.model_files import Bench, Meter, finite, loras_of, one_family, opened_all, result_at, settings_beside, stopped, wanted_dtype


def run(request: BakeLoraRequest, lane: Lane, desk: Bench) -> dict[str, Any]:
    """Write the checkpoint with its LoRAs in it; raises NotFound, InputError, Conflict, Unreadable, OutOfSpace in words. One that is stopped leaves no file."""
    with ExitStack() as stack:
        (opened,) = opened_all(stack, desk.paths, request.checkpoint)
        loras = loras_of(desk.paths, request.loras, opened.xl)
        one_family(loras, opened)
        name = request.name or "-".join([opened.name, *(meant.path.stem for meant in loras)])[:100]
        path = result_at(desk.paths.checkpoints, f"{name}.safetensors", request.overwrite, (opened.path,))
        layers = Layers(opened)
        shares, missing = layers.shares(loras)
        for sentence in unplaced_warning(missing, opened.path.name):
            lane.emit("warning", text=sentence)
        for meant in loras:
            if meant.adapter.embeddings:
                lane.emit("warning", text=f"The embeddings inside {meant.path.stem!r} ({', '.join(meant.adapter.embeddings)}) cannot go into a checkpoint and are left out.")
        touched = _touched(shares)
        slots = {key: Slot(wanted_dtype(slot, request.precision), slot.shape) for key, slot in opened.slots.items()}

        def made(key: str) -> Tensor:
            own = opened.read(key)
            return finite(_baked(layers, own, touched[key], key) if key in touched else own, slots[key].dtype, key, own)

        velocity = (opened.facts.prediction or opened.family.prediction) == "v_prediction"
        merged = ", ".join([opened.name, *(meant.path.stem for meant in loras)])
        kept = {key: value for key, value in opened.metadata.items() if not key.startswith("sshs_")}
        told = {**kept, **modelspec(opened.family, name, velocity), "modelspec.date": datetime.now().isoformat(timespec="seconds"), "modelspec.merged_from": merged, HASH: ""}
        try:
            digest = write_stream(path, slots, made, told, Meter(lane))
        except Stopped:
            return stopped()
        settings_beside(opened.path, path)
    lane.emit("saved", path=str(path))
    return {"path": str(path), "name": name, "layers": len(shares), "hash": digest}


def _touched(shares: dict[Place, list[Share]]) -> dict[str, list[tuple[Place, list[Share]]]]:
    """Tensors of the checkpoint that change, and what changes them; a fused one is changed by several layers."""
    touched: dict[str, list[tuple[Place, list[Share]]]] = {}
    for place, given in shares.items():
        touched.setdefault(place.weight, []).append((place, given))
        if place.bias and any(share.shifts for share in given):
            touched.setdefault(place.bias, []).append((place, given))
    return touched


def _baked(layers: Layers, own: Tensor, changes: list[tuple[Place, list[Share]]], key: str) -> Tensor:
    """A tensor with all its changes, in fp32."""
    whole = own.float().clone()
    for place, shares in changes:
        change = layers.summed(place, shares, shifts=key == place.bias)[int(key == place.bias)]
        if change is not None:
            window = place.of(whole)
            window.copy_(window + change)
    return whole
