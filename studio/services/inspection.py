"""What a file is: checkpoint, autoencoder, LoRA, embedding, hypernetwork, upscaler, picture or styles; from the header where that is enough."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from studio.diffusion.families import recognise
from studio.diffusion.folder import Folder
from studio.diffusion.upscale import load_upscaler
from studio.errors import NotFound, StudioError, Unreadable
from studio.formats.adapter import adapter_facts
from studio.formats.carriers import read_carrier
from studio.formats.checkpoint import Weights, read_facts
from studio.formats.embedding import read_embedding
from studio.formats.hashes import known_hash, remembered_sha256
from studio.formats.hypernetwork import read_hypernetwork
from studio.formats.opening import open_limited
from studio.jobs import Lane
from studio.pasting import read_infotext, request_values
from studio.prompts.styles import read_styles
from studio.requests.inspect import InspectRequest
from studio.services.desk import Desk

Facts = dict[str, Any]

SMALL = 512 * 2**20
"""Bytes up to which a hash is computed, and a file of no known kind is read whole to see what it is."""
_WEIGHTS = frozenset({".safetensors", ".ckpt", ".pt", ".pth", ".bin"})
_WIDTHS = {768: "SD1", 1024: "SD2", 2048: "SDXL", 1280: "SDXL"}
_TOLD = ("ss_base_model_version", "ss_network_module", "ss_network_dim", "ss_network_alpha", "ss_learning_rate", "ss_resolution", "ss_num_train_images", "ss_epoch", "ss_steps")
"""Metadata of trainings that are put into words."""


def run(request: InspectRequest, lane: Lane, desk: Desk) -> Facts:
    """Inspect as a job."""
    facts = inspect(Path(request.path), desk.paths.outputs / "cache" / "hashes.json")
    lane.emit("log", text=" ".join(facts["words"]))
    return facts


def inspect(path: Path, book: Path | None = None) -> Facts:
    """What a file or folder is: `kind`, facts about it, and sentences in `words`; raises NotFound, and Unreadable for what is damaged or unsafe to open.

    `book` remembers hashes of large files; without one only small files are hashed.
    """
    if not path.exists():
        raise NotFound(f"There is no file {str(path)!r}.", "Check the name.")
    facts: Facts = {"path": str(path), "name": path.name, "kind": "unknown"}
    if path.is_dir():
        return _spoken(facts | _folder(path))
    facts["bytes"] = path.stat().st_size
    if not facts["bytes"]:
        raise Unreadable(f"{path.name} is empty (0 bytes).", "Copy it again from where it came.")
    found = _picture(path) or _text(path) or _weights(path)
    if found["kind"] not in ("picture", "styles", "text", "unknown"):
        digest = remembered_sha256(path, book) if facts["bytes"] <= SMALL else None
        facts |= {"sha256": digest, "hash": digest[:10] if digest else known_hash(path, book) if book else None}
    return _spoken(facts | found)


def _spoken(facts: Facts) -> Facts:
    """The same with `words` that begin with the name of the file."""
    return {**facts, "words": [f"{facts['name']}: {facts['words'][0]}", *facts["words"][1:]]}


def _folder(path: Path) -> Facts:
    """A checkpoint or an autoencoder in the diffusers layout."""
    index, config = path / "model_index.json", path / "config.json"
    if not index.is_file() and not config.is_file():
        return {"kind": "folder", "words": ["a folder that is no model; a checkpoint's folder holds model_index.json."]}
    try:
        told = json.loads((index if index.is_file() else config).read_text(encoding="utf-8"))
        name = str(told.get("_class_name", ""))
    except (OSError, ValueError, AttributeError) as error:
        raise Unreadable(f"{path.name} has a model_index.json or config.json that cannot be read.", "Get the folder again.") from error
    if not index.is_file():
        kind = "vae" if name == "AutoencoderKL" else "model folder"
        return {"kind": kind, "class": name, "words": [f"a diffusers folder of one network ({name or 'of no known class'})."]}
    parts = sorted(key for key in told if not key.startswith("_") and (path / key).is_dir())
    try:
        family = Folder(path).family
    except Unreadable as error:
        return {"kind": "folder", "layout": "diffusers", "class": name, "parts": parts, "words": [f"a diffusers folder ({name}) with {', '.join(parts)}. {error.message}"]}
    words = [f"a checkpoint in the diffusers layout ({name}), {family.name}, with {', '.join(parts)}."]
    return {
        "kind": "checkpoint",
        "layout": "diffusers",
        "class": name,
        "family": family.name,
        "inpainting": family.inpaints,
        "parts": parts,
        "words": words + (["It is made for inpainting."] if family.inpaints else []),
    }


def _picture(path: Path) -> Facts | None:
    """A picture, its infotext and everything else it carries; None for what is none."""
    try:
        with open_limited(path) as image:
            form, size, mode = image.format, image.size, image.mode
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    infotext, texts = read_carrier(path)
    facts: Facts = {"kind": "picture", "format": form, "width": size[0], "height": size[1], "mode": mode, "infotext": infotext, "texts": texts, "parameters": {}}
    facts["words"] = [f"a picture, {form}, {size[0]}x{size[1]} pixels."]
    if infotext:
        values, notes = request_values(infotext)
        facts |= {"parameters": read_infotext(infotext), "values": values, "notes": notes}
        facts["words"] += ["It carries an infotext.", *notes]
    else:
        facts["words"].append(f"It carries no infotext{', but texts called ' + ', '.join(sorted(texts)) if texts else ''}.")
    embedding = _embedding(path) if form in ("PNG", "WEBP", "AVIF") else None
    return {**facts, **embedding, "words": [*embedding["words"], *facts["words"]]} if embedding else facts


def _text(path: Path) -> Facts | None:
    """Styles or an infotext; None for what is no text."""
    if path.suffix.lower() == ".csv":
        names = [style.name for style in read_styles(path)]
        return {"kind": "styles", "styles": names, "words": [f"{len(names)} prompt styles: {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}."]}
    if path.suffix.lower() != ".txt":
        return None
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(f"{path.name} is not text in UTF-8 ({error}).", "Save it as UTF-8.") from error
    if len(found := read_infotext(text)) > 2:
        values, notes = request_values(text)
        return {"kind": "text", "infotext": text.strip(), "parameters": found, "values": values, "notes": notes, "words": ["an infotext.", *notes]}
    return {"kind": "text", "words": [f"a text of {len(text.splitlines())} lines; a caption or prompts."]}


def _weights(path: Path) -> Facts:
    """A file of tensors, by what lies in it; raises Unreadable."""
    if path.suffix.lower() not in _WEIGHTS:
        return {"kind": "unknown", "words": [f"a file of a kind that the studio does not use ({path.suffix or 'no suffix'})."]}
    try:
        weights = Weights(path)
    except Unreadable:
        if embedding := _embedding(path):  # embeddings of 2022 hold a type that checkpoints do not
            return embedding
        raise
    small = path.stat().st_size <= SMALL
    reason = ""
    for look in (_checkpoint, _autoencoder, _word, _adapter):
        try:
            if found := look(path, weights):
                return found
        except Unreadable as error:
            reason = reason or str(error)
    found = (_hypernetwork(path) or _upscaler(path)) if small else None
    shown = ", ".join(list(weights.shapes)[:4]) or "no tensors"
    return found or {"kind": "unknown", "tensors": len(weights.shapes), "words": [f"a file of tensors of no known kind ({shown}).", *([reason] if reason else [])]}


def _counted(weights: Weights) -> Facts:
    """How large the networks of a file are, and what its metadata say."""
    metadata = {key: value if len(value) <= 2000 else value[:2000] + "..." for key, value in weights.metadata.items()}
    return {"tensors": len(weights.shapes), "numbers": sum(math.prod(shape) for shape in weights.shapes.values()), "metadata": metadata}


def _checkpoint(path: Path, weights: Weights) -> Facts | None:
    """A checkpoint in the original layout; raises Unreadable with what it seems to be."""
    prediction = read_facts(weights).prediction
    family = recognise(path.name, weights.shapes, prediction)
    own = any(key.startswith(family.parts["vae"].root) for key in weights.shapes)
    says = {"epsilon": "noise", "v_prediction": "velocity"}[prediction or family.prediction]
    words = [f"a checkpoint, {family.name}, made for {family.resolution}x{family.resolution} pixels; it predicts {says}.", "It holds its own autoencoder." if own else "It holds no autoencoder."]
    if family.inpaints:
        words.append("It is made for inpainting.")
    averaged = any(key.startswith("model_ema.") for key in weights.shapes)
    if averaged:
        words.append("It also holds averaged weights (EMA), which are not used.")
    facts: Facts = {"kind": "checkpoint", "layout": "original", "family": family.name, "prediction": prediction or family.prediction, "resolution": family.resolution}
    return {**facts, "inpainting": family.inpaints, "own_vae": own, "ema": averaged, **_counted(weights), "words": words}


def _autoencoder(_path: Path, weights: Weights) -> Facts | None:
    """An autoencoder of its own, in either layout."""
    for root in ("", "first_stage_model."):
        shape = weights.shapes.get(f"{root}decoder.conv_in.weight")
        if shape and len(shape) > 1:
            layout = "diffusers" if any("up_blocks." in key for key in weights.shapes) else "original"
            return {
                "kind": "vae",
                "layout": layout,
                "channels": shape[1],
                **_counted(weights),
                "words": [f"an autoencoder (VAE) with {shape[1]} latent channels, in the {layout} layout.", "It belongs into models/VAE."],
            }
    return None


def _word(path: Path, weights: Weights) -> Facts | None:
    """An embedding by its tensors' names, by being the only, small one, or by A1111's layout, which holds no tensor at the top."""
    keys = set(weights.shapes)
    if not keys and path.stat().st_size <= SMALL:
        return _embedding(path)
    named = {"emb_params", "emp_params", "clip_l", "clip_g", "string_to_param"} & keys
    single = len(keys) == 1 and len(next(iter(weights.shapes.values()))) in (1, 2) and next(iter(weights.shapes.values()))[-1] in _WIDTHS
    return _embedding(path) if named or single else None


def _embedding(path: Path) -> Facts | None:
    """An embedding; None for what is none."""
    try:
        embedding = read_embedding(path)
    except Unreadable:
        return None
    family = _WIDTHS.get(embedding.width)
    count = embedding.vectors.shape[0]
    words = [f"an embedding called {embedding.name!r}: {count} vector{'s' if count > 1 else ''} of width {embedding.width}, {f'for {family}' if family else 'for a model of that width'}."]
    if embedding.step is not None or embedding.checkpoint_name:
        words.append(f"Trained for {embedding.step or 'an unknown number of'} steps{f' on {embedding.checkpoint_name}' if embedding.checkpoint_name else ''}.")
    facts = {"kind": "embedding", "embedding": embedding.name, "family": family, "vectors": count, "width": embedding.width, "step": embedding.step}
    return {**facts, "checkpoint_hash": embedding.checkpoint_hash, "checkpoint_name": embedding.checkpoint_name, "words": words}


def _adapter(path: Path, weights: Weights) -> Facts | None:
    """A LoRA or one of its kin; raises Unreadable with what it seems to be."""
    if not weights.shapes:
        return None
    found = adapter_facts(path, hashed=path.stat().st_size <= SMALL)
    words = [f"an adapter, {found.kind}{f' of rank {found.rank}' if found.rank else ''}, {f'for {found.family}' if found.family else 'for an unknown family'}, changing {found.modules} layers."]
    words.append(f"Prompts name it <lora:{path.stem}:1>{f' or <lora:{found.alias}:1>' if found.alias != path.stem else ''}.")
    if found.embeddings:
        words.append(f"It brings embeddings: {', '.join(found.embeddings)}.")
    if told := [f"{key.removeprefix('ss_').replace('_', ' ')} {found.metadata[key]}" for key in _TOLD if found.metadata.get(key)]:
        words.append(f"Its training says: {', '.join(told)}.")
    if tags := _tags(found.metadata):
        words.append(f"Words it was trained on most: {', '.join(tags)}.")
    facts = {"kind": "adapter", "algorithm": found.kind, "family": found.family, "rank": found.rank, "modules": found.modules, "alias": found.alias, "lora_hash": found.hash}
    return {**facts, "embeddings": list(found.embeddings), "tags": tags, **_counted(weights), "words": words}


def _tags(metadata: Mapping[str, str]) -> list[str]:
    """The ten most frequent words of the captions a LoRA was trained on."""
    try:
        folders = json.loads(metadata.get("ss_tag_frequency", "{}"))
        counts: dict[str, int] = {}
        for folder in folders.values():
            for tag, count in folder.items():
                counts[tag.strip()] = counts.get(tag.strip(), 0) + int(count)
    except (ValueError, AttributeError, TypeError):
        return []
    return sorted((tag for tag in counts if tag), key=lambda tag: -counts[tag])[:10]


def _hypernetwork(path: Path) -> Facts | None:
    """A hypernetwork; None for what is none."""
    try:
        found = None if path.suffix.lower() == ".safetensors" else read_hypernetwork(path)
    except Unreadable:
        return None
    if found is None:
        return None
    widths = sorted(found.widths)
    words = [f"a hypernetwork for contexts of width {', '.join(map(str, widths))}, layers {', '.join(f'{n:g}' for n in found.structure)}, {found.activation}."]
    words.append(f"Prompts name it <hypernet:{path.stem}:1>.")
    facts = {"kind": "hypernetwork", "widths": widths, "layer_structure": list(found.structure), "activation": found.activation, "layer_norm": found.layer_norm}
    return {**facts, "step": found.step, "checkpoint_hash": found.checkpoint_hash, "checkpoint_name": found.checkpoint_name, "words": words}


def _upscaler(path: Path) -> Facts | None:
    """A model that enlarges pictures; None for what is none."""
    try:
        found = load_upscaler(path)
    except StudioError:
        return None
    name = type(found.network).__name__
    words = [f"a model that enlarges pictures {found.scale} times ({name}).", "It belongs into models/ESRGAN."]
    return {"kind": "upscaler", "architecture": name, "scale": found.scale, "channels": found.channels, "words": words}
