"""Merging checkpoints: A1111's three ways and weights by block, tensor by tensor from the files, so that no model is ever whole in memory."""

import json
import math
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from torch import Tensor

from studio.cancellation import Stopped
from studio.diffusion.blocks import BASE, MIDDLE, block_weights
from studio.diffusion.loading import modelspec
from studio.diffusion.sources import EMA, Opened
from studio.errors import InputError
from studio.formats.hashes import remembered_sha256
from studio.formats.keys import UNET
from studio.formats.streaming import HASH, Slot, legacy_hash, write_stream
from studio.jobs import Lane
from studio.requests.tools import MergeRequest
from studio.safe_regex import SafeRegex
from studio.services.model_files import Baked, Bench, Meter, finite, opened_all, result_at, settings_beside, stopped, wanted_dtype
from studio.settings import Paths

CONV_IN = f"{UNET.root}input_blocks.0.0.weight"
SUM, DIFFERENCE, NONE = "Weighted sum", "Add difference", "No interpolation"
_OWN = ("format", "sd_merge_recipe", "sd_merge_models", "sshs_model_hash", "sshs_legacy_hash", HASH)
"""Metadata that tell of one file only and are never taken over."""


def _shares(sides: int) -> dict[str, Callable[[int, int], float]]:
    """Ready-made weights by name: of the place 0..2n of a block among n on the way in, the middle and n on the way out, and of its distance 0..n to the middle."""
    last = 2 * sides
    return {
        "ALL_A": lambda i, d: 0.0,
        "ALL_B": lambda i, d: 1.0,
        "GRAD_V": lambda i, d: d / sides,
        "GRAD_A": lambda i, d: 1 - d / sides,
        "FLAT_25": lambda i, d: 0.25,
        "FLAT_75": lambda i, d: 0.75,
        "WRAP08": lambda i, d: float(d > sides - 4),
        "WRAP12": lambda i, d: float(d > sides - 6),
        "WRAP14": lambda i, d: float(d > sides - 7),
        "WRAP16": lambda i, d: float(d > sides - 8),
        "MID12_50": lambda i, d: 0.5 * (d <= 6),
        "OUT07": lambda i, d: float(i > last - 7),
        "OUT12": lambda i, d: float(i > sides),
        "COSINE": lambda i, d: (1 + math.cos(math.pi * i / last)) / 2,
        "REVERSE_COSINE": lambda i, d: (1 - math.cos(math.pi * i / last)) / 2,
        "SMOOTHSTEP": lambda i, d: (i / last) ** 2 * (3 - 2 * i / last),
    }


def presets(xl: bool) -> dict[str, str]:
    """SuperMerger's presets for this kind of checkpoint as numbers between commas; their BASE is 0 but for ALL_B."""
    sides = 9 if xl else 12
    return {name: ",".join([str(float(name == "ALL_B")), *(repr(round(share(i, abs(i - sides)), 10)) for i in range(2 * sides + 1))]) for name, share in _shares(sides).items()}


def block_in(key: str, last: int) -> str:
    """The block of a tensor by its original name: times and sizes count as BASE like all that is outside the UNet, the UNet's end as the last block on the way out."""
    if not key.startswith(UNET.root):
        return BASE
    bare = key.removeprefix(UNET.root)
    if match := re.match(r"(input|output)_blocks\.(\d+)\.", bare):
        return f"{'IN' if match[1] == 'input' else 'OUT'}{int(match[2]):02d}"
    if bare.startswith("out."):
        return f"OUT{last:02d}"
    return MIDDLE if bare.startswith("middle_block.") else BASE


@dataclass(frozen=True)
class Merge:
    """What is merged how: one to three opened checkpoints, and each tensor's multiplier."""

    models: tuple[Opened, ...]
    multiplier: float
    blocks: Mapping[str, float]
    last: int

    def read(self, name: str) -> Tensor:
        """One merged tensor in fp32; A's own, as it is stored, where nothing is to be merged."""
        own = self.models[0].read(name)
        slots = [model.slots.get(name) for model in self.models]
        share = self.blocks.get(block_in(name, self.last), 0.0) if self.blocks else self.multiplier
        if len(self.models) == 1 or not share or None in slots or not own.is_floating_point() or not own.numel():
            return own
        whole = own.float()
        first, *second = (model.read(name).float() for model in self.models[1:])
        width = min(t.shape[1] for t in (whole, first, *second)) if name == CONV_IN else 0
        part, first, *second = (t[:, :width] if width else t for t in (whole, first, *second))
        if second:
            part.add_(first.sub_(second[0]), alpha=share)
        else:
            part.mul_(1 - share).add_(first, alpha=share)
        return whole


def run(request: MergeRequest, lane: Lane, desk: Bench) -> dict[str, Any]:
    """Write the merged checkpoint; raises NotFound, InputError, Conflict, Unreadable, OutOfSpace in words. A merge that is stopped leaves no file."""
    paths, names = desk.paths, _named(request)
    with ExitStack() as stack:
        models = opened_all(stack, paths, *names)
        name = request.name or _title(request, models)
        path = result_at(paths.checkpoints, f"{name}.safetensors", request.overwrite, tuple(model.path for model in models))
        _check(models, lane)
        baked = Baked(paths, request.bake_in_vae, stack)
        merge = _merge(request, models)
        kept = _kept(request, baked.over(models[0].slots), lane, len(models) > 1)
        slots = {key: Slot(wanted_dtype(slot, request.precision), slot.shape) for key, slot in kept.items()}

        def made(key: str) -> Tensor:
            return finite(baked.read(key) if key in baked.slots else merge.read(key), slots[key].dtype, key)

        told = _metadata(request, models, name, paths) if request.save_metadata else {}
        try:
            digest = write_stream(path, slots, made, told, Meter(lane))
        except Stopped:
            return stopped()
        settings_beside(models[0].path, path)
    lane.emit("saved", path=str(path))
    return {"path": str(path), "name": name, "tensors": len(slots), "hash": digest}


def _named(request: MergeRequest) -> list[str]:
    """The checkpoints that the method takes; raises InputError for one that is missing."""
    wanted = {NONE: ("primary",), SUM: ("primary", "secondary"), DIFFERENCE: ("primary", "secondary", "tertiary")}[request.method]
    missing = [f"{field.capitalize()} model" for field in wanted if not getattr(request, field).strip()]
    if missing:
        raise InputError(f"{request.method} needs {len(wanted)} checkpoints; missing: {', '.join(missing)}.", "Choose them.")
    return [getattr(request, field) for field in wanted]


def _title(request: MergeRequest, models: list[Opened]) -> str:
    """A1111's way to call a result: the shares and names of what goes in."""
    m, names = request.multiplier, [model.name for model in models]
    if request.blocks:
        return "-".join([*names, "MBW"])[:100]
    text = {1: names[0] + "-copy"}.get(len(names)) or (f"{round(1 - m, 2):g}({names[0]}) + {round(m, 2):g}({names[1]})" if len(names) == 2 else f"{names[0]} + {m:g}({names[1]} - {names[2]})")
    return text[:100]


def _check(models: list[Opened], lane: Lane) -> None:
    """Refuse what cannot be merged: other families, an inpainting model into a plain one, tensors of other shapes."""
    first = models[0]
    for letter, other in zip("BC", models[1:], strict=False):
        if other.family.name.split()[0] != first.family.name.split()[0]:
            raise InputError(f"A ({first.path.name}) is {first.family.name} and {letter} ({other.path.name}) is {other.family.name}; they cannot be merged.", "Choose checkpoints of one family.")
        if letter == "B" and other.family.inpaints and not first.family.inpaints:
            raise InputError(f"B ({other.path.name}) is made for inpainting and A ({first.path.name}) is not.", "Make the inpainting model A: its further channels are then kept.")
        if None not in (first.facts.prediction, other.facts.prediction) and first.facts.prediction != other.facts.prediction:
            lane.emit("warning", text=f"{first.path.name} predicts {first.facts.prediction} and {other.path.name} {other.facts.prediction}; a mixture of both seldom paints well.")
        for key, slot in other.slots.items():
            mine = first.slots.get(key)
            if mine is not None and mine.shape != slot.shape and key != CONV_IN and not key.startswith(EMA):
                raise InputError(f"{key} has the shape {list(mine.shape)} in {first.path.name} and {list(slot.shape)} in {other.path.name}.", "They are not of one architecture; choose others.")
        lacking = sum(key not in other.slots for key in first.slots if not key.startswith(EMA) and first.slots[key].dtype.is_floating_point)
        if lacking:
            lane.emit("warning", text=f"{other.path.name} lacks {lacking} tensors of {first.path.name}; they stay as they are there.")


def _merge(request: MergeRequest, models: list[Opened]) -> Merge:
    """The arithmetic that was asked for; raises InputError for block weights that are none."""
    xl = models[0].xl
    last = max((int(m[1]) for key in models[0].slots if (m := re.match(rf"{re.escape(UNET.root)}output_blocks\.(\d+)\.", key))), default=0)
    blocks = block_weights(request.blocks, xl, presets(xl), x=request.multiplier) if request.blocks.strip() else {}
    return Merge(tuple(models), request.multiplier, blocks, last)


def _kept(request: MergeRequest, slots: Mapping[str, Slot], lane: Lane, mixed: bool) -> dict[str, Slot]:
    """The tensors of the result: without those the person discards, and without averages, which no longer belong once weights are mixed. Raises InputError, also when the expression takes too long."""
    pattern = SafeRegex(request.discard, "Discard weights with matching name", advice="Write for example ^model_ema.") if request.discard else None
    kept = {key: slot for key, slot in slots.items() if not (pattern and pattern.search(key)) and not (mixed and key.startswith(EMA))}
    if not kept:
        raise InputError(f"Discard weights with matching name: {request.discard!r} matches everything.", "Write a narrower expression.")
    if pattern:
        lane.emit("log", text=f"{len(slots) - len(kept)} tensors are left out.")
    return kept


def _metadata(request: MergeRequest, models: list[Opened], name: str, paths: Paths) -> dict[str, str]:
    """What the file says about itself: modelspec, what it was merged from, and A1111's recipe."""
    told: dict[str, str] = {}
    if request.copy_metadata_fields:
        for model in reversed(models):
            told |= {key: value for key, value in model.metadata.items() if key not in _OWN}
    velocity = (models[0].facts.prediction or models[0].family.prediction) == "v_prediction"
    told |= modelspec(models[0].family, name, velocity)
    told |= {"modelspec.date": datetime.now().isoformat(timespec="seconds"), "modelspec.merged_from": ", ".join(model.name for model in models), HASH: ""}
    return told | (_recipe(request, models, paths) if request.add_merge_recipe else {})


def _recipe(request: MergeRequest, models: list[Opened], paths: Paths) -> dict[str, str]:
    """`sd_merge_recipe` and `sd_merge_models` as A1111 writes them: JSON, checkpoints by their SHA-256, with the recipes of what was merged before."""
    hashes, merged = [], {}
    for model in models:
        file = model.weights_file
        digest = remembered_sha256(file, paths.hashes) if file else ""
        hashes.append(digest)
        merged |= _loaded(model.metadata.get("sd_merge_models", "{}"))
        recipe = model.metadata.get("sd_merge_recipe")
        merged[digest] = {"name": model.path.name, "legacy_hash": legacy_hash(file) if file else "", "sd_merge_recipe": _loaded(recipe) or recipe if recipe else None}
    first, second, third = [*hashes, None, None][:3]
    recipe = {
        "type": "webui",
        "primary_model_hash": first,
        "secondary_model_hash": second,
        "tertiary_model_hash": third,
        "interp_method": request.method,
        "multiplier": request.multiplier,
        "save_as_half": request.precision == "float16",
        "custom_name": request.name,
        "config_source": 0,
        "bake_in_vae": request.bake_in_vae,
        "discard_weights": request.discard,
        "is_inpainting": models[0].family.inpaints,
        "is_instruct_pix2pix": False,
        **({"block_weights": request.blocks} if request.blocks else {}),
    }
    return {"sd_merge_recipe": json.dumps(recipe, ensure_ascii=False), "sd_merge_models": json.dumps(merged, ensure_ascii=False)}


def _loaded(text: str) -> dict[str, Any]:
    """A JSON object; empty when it is none."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
