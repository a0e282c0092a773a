"""Converting checkpoints: pruned, in another precision, as one file or as a diffusers folder, tensor by tensor; the way there and back loses nothing."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from studio.cancellation import Stopped
from studio.diffusion.assembly import empty_text_encoder, empty_unet, empty_vae, guarded
from studio.diffusion.blueprints import text_config, unet_config, unused_layers, vae_config
from studio.diffusion.folder_writing import folder_settings, network_settings, write_settings
from studio.diffusion.loading import modelspec
from studio.diffusion.sources import EMA, UNPLACED, Opened
from studio.diffusion.tokenizer import clip_tokenizer
from studio.files import atomic_folder
from studio.formats.keys import VAE, Part
from studio.formats.streaming import HASH, Slot, check_room, write_stream
from studio.jobs import Lane
from studio.requests.tools import ConvertRequest
from studio.services.model_files import Baked, Bench, Meter, finite, opened_all, result_at, settings_beside, stopped, wanted_dtype

FILES = {"unet": "diffusion_pytorch_model.safetensors", "vae": "diffusion_pytorch_model.safetensors"}
"""What the weights are called in a part's folder; those of text encoders model.safetensors."""


@dataclass(frozen=True)
class Whole:
    """What is written: slots under original names, and each tensor as it shall be."""

    opened: Opened
    slots: Mapping[str, Slot]
    read: Callable[[str], Tensor]
    velocity: bool


def run(request: ConvertRequest, lane: Lane, desk: Bench) -> dict[str, Any]:
    """Write the converted checkpoint; raises NotFound, Conflict, InputError, Unreadable, OutOfSpace in words. One that is stopped leaves nothing."""
    with ExitStack() as stack:
        (opened,) = opened_all(stack, desk.paths, request.checkpoint)
        single = request.layout == "Single file"
        name = request.name or _title(request, opened)
        path = result_at(desk.paths.checkpoints, f"{name}.safetensors" if single else name, request.overwrite, (opened.path,))
        whole = _whole(request, opened, Baked(desk.paths, request.bake_in_vae, stack))
        try:
            digest = _single(path, name, whole, lane) if single else _folder(path, whole, lane)
        except Stopped:
            return stopped()
    lane.emit("saved", path=str(path))
    size = sum(slot.bytes for slot in whole.slots.values())
    return {
        "path": str(path),
        "name": name,
        "tensors": len(whole.slots),
        "left_out": len(opened.slots) - len(set(opened.slots) & set(whole.slots)),
        "bytes": size,
        **({"hash": digest} if digest else {}),
    }


def _title(request: ConvertRequest, opened: Opened) -> str:
    """A name that tells what was done."""
    short = {"float16": "-fp16", "bfloat16": "-bf16", "float32": "-fp32"}.get(request.precision, "")
    return f"{opened.name}{'-pruned' if request.prune else ''}{short}" + ("" if request.layout == "Single file" or request.prune or short else "-diffusers")


def _whole(request: ConvertRequest, opened: Opened, baked: Baked) -> Whole:
    """The tensors of the result: pruned, averages in the place of trained weights if wanted, another autoencoder."""
    used = [part.root for part in opened.family.parts.values()]
    averages = {key: f"{EMA}{key.removeprefix('model.').replace('.', '')}" for key in opened.slots if key.startswith("model.")} if request.use_ema else {}
    averages = {key: mean for key, mean in averages.items() if mean in opened.slots}
    kept = {key: slot for key, slot in opened.slots.items() if not request.prune or key.startswith(tuple(used)) or not slot.bytes}
    if averages and not request.prune:
        kept = {key: slot for key, slot in kept.items() if not key.startswith(EMA)}
    slots = {key: Slot(wanted_dtype(slot, request.precision), slot.shape) for key, slot in baked.over(kept).items()}

    def read(key: str) -> Tensor:
        tensor = baked.read(key) if key in baked.slots else opened.read(averages.get(key, key))
        return finite(tensor, slots[key].dtype, key)

    return Whole(opened, slots, read, (opened.facts.prediction or opened.family.prediction) == "v_prediction")


def _single(path: Path, name: str, whole: Whole, lane: Lane) -> str:
    """One file in the original layout; returns the hash of its tensors."""
    opened = whole.opened
    kept = {key: value for key, value in opened.metadata.items() if key not in ("format", "sshs_model_hash", "sshs_legacy_hash")}
    told = {**kept, **modelspec(opened.family, name, whole.velocity), "modelspec.date": datetime.now().isoformat(timespec="seconds"), HASH: ""}
    digest = write_stream(path, whole.slots, whole.read, told, Meter(lane))
    settings_beside(opened.path, path)
    return digest


def _folder(path: Path, whole: Whole, lane: Lane) -> str:
    """A diffusers folder, made beside its place and then given its name; raises Stopped."""
    check_room(path / "unet", sum(slot.bytes for slot in whole.slots.values()))
    with atomic_folder(path) as made:
        _fill(made, whole, Meter(lane))
    return ""


def _fill(folder: Path, whole: Whole, meter: Meter) -> None:
    """Every part with its settings and weights, and what tells diffusers how they go together; tensors that diffusers has no place for lie in a file of their own."""
    placed = set[str]()
    total, done = sum(slot.bytes for slot in whole.slots.values()), 0
    for root, part in whole.opened.family.parts.items():
        network, slots, needs = _part(whole, root, part)
        (folder / root).mkdir(parents=True)
        write_settings(folder / root / "config.json", network_settings(network))

        def read(name: str, part: Part = part, needs: Mapping[str, str] = needs, slots: Mapping[str, Slot] = slots) -> Tensor:
            key = needs[name]
            tensor = whole.read(key)
            return part.to_diffusers({key: tensor})[name] if part.kind == "open_clip" else tensor.reshape(slots[name].shape)

        write_stream(folder / root / FILES.get(root, "model.safetensors"), slots, read, tell=lambda d, _t, before=done: meter(min(total, before + d), total))
        done += sum(slot.bytes for slot in slots.values())
        placed |= set(needs.values()) - _partly(whole, part, needs)
    rest = {key: slot for key, slot in whole.slots.items() if key not in placed}
    if rest:
        write_stream(folder / UNPLACED, rest, whole.read, tell=lambda d, _t: meter(min(total, done + d), total))
    for name, value in folder_settings(whole.opened.family, _schedule(whole)).items():
        write_settings(folder / name, value)
    for encoder in whole.opened.family.text_encoders:
        clip_tokenizer(encoder.pad).save_pretrained(folder / encoder.name.replace("text_encoder", "tokenizer"))


def _part(whole: Whole, root: str, part: Part) -> tuple[nn.Module, dict[str, Slot], dict[str, str]]:
    """An empty network of a part, its slots under diffusers' names, and the original tensor that each is made of."""
    name = whole.opened.path.name
    keys = [key for key in part.names(whole.slots) if not key.endswith("position_ids")]
    shapes = {key.removeprefix(part.root): whole.slots[key].shape for key in keys}
    slots, needs = _named(whole, part, keys)
    encoder = next((e for e in whole.opened.family.text_encoders if e.name == root), None)
    if encoder is None:
        pooled = next((whole.slots.get(f"{e.root}text_projection", Slot(torch.float32, (0, 0))).shape[-1] for e in whole.opened.family.text_encoders if e.pooled), 0)
        make = (lambda: empty_vae(vae_config(shapes, whole.opened.family.latent_scale))) if part is VAE else (lambda: empty_unet(unet_config(whole.opened.family, shapes, pooled)))
        return guarded(name, root, make), slots, needs
    unused = tuple(f"text_model.encoder.layers.{n}." for n in unused_layers(encoder, slots))
    extra = ("logit_scale", *(() if encoder.pooled else ("text_projection",)), *unused)
    slots = {key: slot for key, slot in slots.items() if not key.startswith(extra)}
    return guarded(name, root, lambda: empty_text_encoder(text_config(encoder, {k: s.shape for k, s in slots.items()}), encoder.pooled)), slots, needs_of(slots, needs)


def needs_of(slots: Mapping[str, Slot], needs: Mapping[str, str]) -> dict[str, str]:
    """The tensors that the remaining slots are made of."""
    return {name: needs[name] for name in slots}


def _named(whole: Whole, part: Part, keys: list[str]) -> tuple[dict[str, Slot], dict[str, str]]:
    """A part's slots under diffusers' names, and the tensor each is made of, found by converting tensors without numbers."""
    ghosts = {key: torch.empty(whole.slots[key].shape, dtype=whole.slots[key].dtype, device="meta") for key in keys}
    groups = [ghosts] if part.kind == "unet" else [{key: ghost} for key, ghost in ghosts.items()]
    if part.kind == "vae":
        groups = [ghosts]
    slots, needs = {}, {}
    for group in groups:
        origin = {id(ghost): key for key, ghost in group.items()}
        for name, value in part.to_diffusers(group).items():
            slots[name] = Slot(value.dtype, tuple(value.shape))
            needs[name] = origin.get(id(value)) or (next(iter(group)) if len(group) == 1 else _attention(part, name))
    return slots, needs


def _attention(part: Part, name: str) -> str:
    """The original name of a matrix of the autoencoder's attention, the only tensors of it that change their shape."""
    return next(iter(part.to_original({name: torch.empty(1, 1, device="meta")})))


def _partly(whole: Whole, part: Part, needs: Mapping[str, str]) -> set[str]:
    """Original tensors of which only some of the pieces have a place; none as the layouts are, but a fused one must not be lost."""
    if part.kind != "open_clip":
        return set()
    pieces: dict[str, int] = {}
    for key in needs.values():
        pieces[key] = pieces.get(key, 0) + 1
    return {key for key, count in pieces.items() if ".in_proj_" in key and count != 3}


def _schedule(whole: Whole) -> dict[str, Any]:
    """What the checkpoint's schedule has of its own."""
    own: dict[str, Any] = {"prediction_type": "v_prediction" if whole.velocity else "epsilon"}
    return own | ({"rescale_betas_zero_snr": True} if whole.opened.facts.zero_snr else {})
