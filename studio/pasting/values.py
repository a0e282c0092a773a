"""From an infotext to the fields of a request: what can be used is used, what cannot is told in a sentence, nothing is raised."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath
from typing import Any

from studio.config import Control, controls
from studio.pasting.facts import SOFT
from studio.pasting.grammar import read_infotext, size_of, text_after
from studio.requests.generate import GenerateRequest
from studio.requests.sampler_names import sampler_of

Lookup = Callable[[str, str], str | None]
"""From a name and a hash (either may be empty) to the name the studio knows the file by; None when it has none."""

_KNOBS: dict[str, Control] = {knob.name: knob for knob in controls(GenerateRequest)}
_PLAIN = {
    "Steps": "steps",
    "CFG scale": "cfg_scale",
    "Seed": "seed",
    "Variation seed": "variation_seed",
    "Variation seed strength": "variation_strength",
    "Clip skip": "clip_skip",
    "ENSD": "ensd",
    "Tiling": "tiling",
    "Emphasis": "emphasis",
    "Eta": "eta",
    "Eta DDIM": "eta",
    "Sigma churn": "s_churn",
    "Sigma tmin": "s_tmin",
    "Sigma tmax": "s_tmax",
    "Sigma noise": "s_noise",
    "Conditional mask weight": "inpainting_mask_weight",
    "Mask mode": "mask_mode",
    "Mask blur": "mask_blur",
    "Inpaint area": "inpaint_area",
    "Masked area padding": "padding",
    "Masked content": "masked_content",
    "Soft inpainting enabled": "soft_inpainting",
    **dict(SOFT),
    "Resize mode": "resize_mode",
    "Color correction": "color_correction",
    "Comma backtrack": "comma_backtrack",
    "Old prompt editing timelines": "old_prompt_editing",
    "Hires upscale": "hires_scale",
    "Hires steps": "hires_steps",
    "Hires upscaler": "hires_upscaler",
    "Hires prompt": "hires_prompt",
    "Hires negative prompt": "hires_negative_prompt",
}
"""Keys whose value is the field's."""
_HANDLED = frozenset(
    {"Prompt", "Negative prompt", "Sampler", "Schedule type", "Size", "First pass size", "Seed resize from", "Denoising strength", "RNG", "Model", "Model hash", "VAE", "VAE hash"}
) | {*("Hires resize", "Hires sampler", "Hires schedule type", "Hypernet", "Hypernet strength")}
"""Keys with a function of their own below."""
_TOLD = frozenset({"Version", "User", "TI hashes", "Lora hashes", "Init image hash", "Batch size", "Batch pos", "Script", "Model override", "Hypernet hash"}) | {
    *("Hashes", "Civitai resources", "Civitai metadata", "Created Date", "SD upscale overlap", "SD upscale upscaler")
}
"""Keys that tell about a picture and ask for nothing."""
_UNIFORM_BEFORE = (1, 9)
"""Since this version of A1111 a sampler without a schedule type takes the schedule its author advises; before, all took the checkpoint's own."""
_OLD_EDITING_BEFORE = (1, 6)
"""Before this version A1111 counted the steps of prompt editing in another way."""
_ADVISED = frozenset({"DPM++ 2M", "DPM++ SDE", "DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 2S a", "DPM++ 3M SDE", "DPM2", "DPM2 a"})
"""Samplers whose advised schedule is another than the checkpoint's own."""
_RESET = (
    *("variation_seed", "variation_strength", "seed_width", "seed_height", "clip_skip", "emphasis", "ensd", "eta", "s_churn", "s_tmin", "s_tmax", "s_noise", "tiling", "scheduler"),
    *("comma_backtrack", "old_prompt_editing", "mask_mode", "masked_content", "inpaint_area", "padding", "inpainting_mask_weight", "soft_inpainting", *(field for _, field in SOFT)),
    *("resize_mode", "color_correction", "hires_steps", "hires_scale", "hires_width", "hires_height", "hires_sampler", "hires_scheduler", "hires_prompt", "hires_negative_prompt"),
)
_ABSENT: dict[str, Any] = {field: _KNOBS[field].default for field in _RESET} | {"noise_source": "NV"}
"""What it means that a key is absent: A1111 leaves out what is at its default, and its default noise is the card's."""


def request_values(text: str, checkpoint: Lookup | None = None, vae: Lookup | None = None) -> tuple[dict[str, Any], list[str]]:
    """Values for the fields of a GenerateRequest, and sentences about what had to be changed or left out; a field that is not among them keeps what it has."""
    found = read_infotext(text)
    reading = _Reading(found)
    values = reading.values
    reading.put("prompt", found["Prompt"] + _hypernetwork(found), "Prompt")
    reading.put("negative_prompt", found["Negative prompt"], "Negative prompt")
    if len(found) == 2:
        return values, reading.notes
    values.update(_ABSENT)
    for key, field in _PLAIN.items():
        if key in found:
            reading.put(field, found[key], key)
    if "[" in found["Prompt"] and _version(found.get("Version", "")) < _OLD_EDITING_BEFORE:
        values["old_prompt_editing"] = True
    _sampler(reading)
    _sizes(reading)
    _noise(reading)
    _files(reading, checkpoint, vae)
    unknown = [key for key in found if key not in _PLAIN and key not in _HANDLED and key not in _TOLD and not re.match(r"(Fixed )?[XYZ] (Type|Values)$", key)]
    reading.notes += [f"{key}: {_short(found[key])} is not something the studio can do, so it was left out." for key in unknown]
    if rest := text_after(text):
        reading.notes.append(f"The text after the settings was left out: {_short(rest)}.")
    return values, reading.notes


class _Reading:
    """The keys that were found, the values made of them, and the notes about them."""

    def __init__(self, found: Mapping[str, str]) -> None:
        self.found = found
        self.values: dict[str, Any] = {}
        self.notes: list[str] = []

    def put(self, field: str, text: str, key: str) -> None:
        """Set a field from a text; what is out of range is moved into it and told, what is of another kind is left out and told."""
        knob = _KNOBS[field]
        if knob.kind in ("number", "integer"):
            self._number(knob, text, key)
        elif knob.kind == "flag":
            self.values[field] = text.strip().lower() in ("true", "1", "yes", "on")
        elif knob.kind == "choice":
            chosen = _match(text, knob.choices)
            if chosen is None:
                self.notes.append(f"{key}: there is no {_short(text)} here, so it was left out; there are {', '.join(knob.choices)}.")
            else:
                self.values[field] = chosen
        else:
            longest = _longest(field)
            self.values[field] = text[:longest]
            if len(text) > longest:
                self.notes.append(f"{key}: it is {len(text)} characters long, so it was cut to {longest}.")

    def _number(self, knob: Control, text: str, key: str) -> None:
        """Set a number."""
        number = _number(text)
        if number is None:
            self.notes.append(f"{key}: {_short(text)} is not a number, so it was left out.")
            return
        value: float = round(number) if knob.kind == "integer" and math.isfinite(number) else number
        low, high = (-math.inf if knob.minimum is None else knob.minimum), (math.inf if knob.maximum is None else knob.maximum)
        kept = min(max(value, low), high)
        if knob.name == "s_tmax" and number > high:  # no limit, which A1111 writes as inf
            kept = 0.0
        elif kept != number:
            self.notes.append(f"{key}: {_short(text)} became {kept:g}; it can be {low:g} to {high:g}{'' if knob.kind == 'number' else ', whole'}.")
        self.values[knob.name] = int(kept) if knob.kind == "integer" else float(kept)

    def put_size(self, fields: tuple[str, str], key: str) -> None:
        """Set a width and a height from `512x768`."""
        size = size_of(self.found[key])
        if size is None:
            self.notes.append(f"{key}: {_short(self.found[key])} is not a size such as 512x768, so it was left out.")
            return
        for field, side in zip(fields, size, strict=True):
            self.values[field] = kept = _side(side, int(_KNOBS[field].maximum or 2048))
            if kept != side:
                self.notes.append(f"{key}: {side} became {kept}; a side is a multiple of 8 from 64 to {_KNOBS[field].maximum:g}.")


def _side(side: int, most: int) -> int:
    """The nearest side a request may have; 0 stays 0."""
    return min(max(64, round(side / 8) * 8), most) if side else 0


def _number(text: str) -> float | None:
    """A number, also a whole one with more digits than a float holds; None for what is none."""
    text = text.strip()
    if re.fullmatch(r"[+-]?\d{1,18}", text, re.ASCII):
        return int(text)
    try:
        number = float(text)
    except ValueError:
        return None
    return None if math.isnan(number) else number


def _match(text: str, choices: Iterable[str]) -> str | None:
    """A choice whose name is this, letter case aside."""
    return next((choice for choice in choices if choice.lower() == text.strip().lower()), None)


def _longest(field: str) -> int:
    """How many characters a text field takes."""
    return next((m.max_length for m in GenerateRequest.model_fields[field].metadata if hasattr(m, "max_length")), 10**6)


def _short(text: str) -> str:
    """A value, short enough for a sentence."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _hypernetwork(found: Mapping[str, str]) -> str:
    """The hypernetwork of a text from before they were named in prompts, as it is named today."""
    return f"<hypernet:{found['Hypernet']}:{found.get('Hypernet strength', '1.0')}>" if found.get("Hypernet", "None") != "None" else ""


def _sampler(reading: _Reading) -> None:
    """Samplers and schedule types of both passes."""
    found = reading.found
    for sampler_key, schedule_key, fields in (("Sampler", "Schedule type", ("sampler", "scheduler")), ("Hires sampler", "Hires schedule type", ("hires_sampler", "hires_scheduler"))):
        sampler, schedule = sampler_of(found.get(sampler_key, ""))
        if sampler:
            reading.values[fields[0]] = sampler
        elif sampler_key in found:
            reading.put(fields[0], found[sampler_key], sampler_key)
        if schedule_key in found:
            reading.put(fields[1], found[schedule_key].replace("SGMUniform", "SGM Uniform"), schedule_key)
        elif schedule:
            reading.values[fields[1]] = schedule
        elif sampler in _ADVISED and sampler_key == "Sampler" and _version(found.get("Version", "")) < _UNIFORM_BEFORE:
            reading.values["scheduler"] = "Uniform"
            reading.notes.append(f"Schedule type: {sampler} meant Uniform in version {found['Version']}, which made this picture.")


def _version(text: str) -> tuple[int, ...]:
    """An A1111 version as numbers; one far ahead when it is none."""
    found = re.match(r"v(\d{1,6})\.(\d{1,6})", text, re.ASCII)
    return (int(found[1]), int(found[2])) if found else (10**6,)


def _sizes(reading: _Reading) -> None:
    """Size, the size of the noise, and what hires fix made of them; hires fix from before it had a scale, too."""
    found, values = reading.found, reading.values
    if "Size" in found:
        reading.put_size(("width", "height"), "Size")
    if "Seed resize from" in found:
        reading.put_size(("seed_width", "seed_height"), "Seed resize from")
    if "Hires resize" in found:
        reading.put_size(("hires_width", "hires_height"), "Hires resize")
    first = size_of(found.get("First pass size", ""))
    if first and values.get("width") and values.get("height"):
        width, height = values["width"], values["height"]
        small = first if all(first) else _first_pass(width, height)
        values.update(width=_side(small[0], 2048), height=_side(small[1], 2048), hires_width=width, hires_height=height, hires_upscaler="Latent")
    values["hires"] = bool(first) or any(key in found for key in ("Hires upscale", "Hires upscaler", "Hires resize"))
    if "Denoising strength" in found:
        reading.put("hires_denoising_strength" if values["hires"] else "denoising_strength", found["Denoising strength"], "Denoising strength")


def _first_pass(width: int, height: int) -> tuple[int, int]:
    """Size of the first pass when a text of 2022 says 0x0: about 512 x 512 pixels in the shape of the result, in steps of 64."""
    scale = math.sqrt(512 * 512 / (width * height))
    return math.ceil(scale * width / 64) * 64, math.ceil(scale * height / 64) * 64


def _noise(reading: _Reading) -> None:
    """Where noise came from: a card's noise is what NV makes on any device."""
    source = reading.found.get("RNG", "GPU")
    reading.put("noise_source", "NV" if source.upper() == "GPU" else source, "RNG")


def _files(reading: _Reading, checkpoint: Lookup | None, vae: Lookup | None) -> None:
    """The checkpoint and the VAE, by the names the studio knows them by."""
    found = reading.found
    for label, field, lookup in (("Model", "checkpoint", checkpoint), ("VAE", "vae", vae)):
        name, digest = found.get(label, ""), found.get(f"{label} hash", "")
        if not name and not digest:
            continue
        known = lookup(name, digest) if lookup else (name if field == "vae" else None)
        if known:
            reading.values[field] = known
        elif lookup:
            reading.notes.append(f"{label}: {_short(name or digest)} is not here, so the one that is chosen stays; the picture will differ.")


def lookup_in(names: Iterable[str], hashes: Mapping[str, str] | None = None) -> Lookup:
    """A lookup among the studio's own names: by hash where `hashes` (name to SHA-256 or its beginning) knows it, then by name, by stem, by part of a name."""
    known = list(names)
    digests = {name: digest.lower() for name, digest in (hashes or {}).items() if digest}

    def find(name: str, digest: str) -> str | None:
        short = digest.strip().lower()
        by_hash = [own for own, full in digests.items() if len(short) >= 8 and (full.startswith(short) or short.startswith(full)) and own in known]
        if by_hash:
            return by_hash[0]
        wanted = PurePath(name.replace("\\", "/")).name.lower()
        if not wanted:
            return None
        stem = wanted.rsplit(".", 1)[0] if wanted.endswith((".safetensors", ".ckpt", ".pt")) else wanted
        tests: tuple[Callable[[str], bool], ...] = (lambda own: own == wanted, lambda own: PurePath(own).stem == stem or own == stem, lambda own: len(stem) > 3 and stem in own)
        return next((own for test in tests for own in known if test(PurePath(own).name.lower())), None)

    return find
