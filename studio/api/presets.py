"""Presets over HTTP: what to set for an intent and why, what of a form differs from it, and settings taken over from other programs' files."""

import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, UploadFile
from pydantic import Field

from studio import shelves
from studio.api.waiting import Here
from studio.config import Config
from studio.errors import InputError
from studio.presets.compare import differences
from studio.presets.fitting import GIB, fits
from studio.presets.importing import MOST_TEXT, Imported, imported, imported_text
from studio.presets.intents import FAMILIES, INTENTS, Preset, preset
from studio.presets.reason import Reason
from studio.presets.seen import batching_of
from studio.requests.train import CONFIGS

router = APIRouter(prefix="/studio/v1/presets", tags=["presets"])
LARGEST = 2 * 2**30
"""Bytes of an upload; only the header of a safetensors file is read."""

Memory = Annotated[float | None, Query(gt=0, le=10_000)]
"""GB of a card."""


class Comparison(Config):
    """A form and the case whose preset it is compared with."""

    intent: str
    """What the pictures shall teach."""
    family: str
    """The checkpoint's family."""
    method: str
    """What learns."""
    pictures: int = Field(ge=0)
    """How many pictures there are."""
    captions: bool = True
    """Whether they have captions."""
    epoch_images: int = Field(0, ge=0)
    """Images of an epoch, each as often as it is repeated; 0 = each once."""
    config: dict[str, Any]
    """The form's values by the names of its knobs."""


@router.get("")
def presets(intent: str = "person", family: str = "SD1", method: str = "textual_inversion", pictures: int = 20, captions: bool = True, vram_gb: Memory = None) -> dict[str, Any]:
    """What to set for an intent: values of the form, what belongs to the creation of an embedding, a reason for each, and whether a card of so many GB can do it."""
    made = preset(intent, family, method, pictures, captions)
    card = None if vram_gb is None else int(vram_gb * GIB)
    return {
        "intent": intent,
        "family": made.case.family,
        "method": method,
        "pictures": pictures,
        "values": made.values,
        "beside": made.beside,
        "reasons": {choice.knob: _said(choice.reason) for choice in made.choices},
        "fits": _said(fits(method, family, card)),
        "choices": {"intents": list(INTENTS), "families": list(FAMILIES), "methods": [cls.method for cls in CONFIGS]},
    }


@router.post("/differences")
def compared(wish: Comparison) -> dict[str, Any]:
    """Which knobs of a form differ from the preset: {knob, preset, value, reason} each."""
    made: Preset = preset(wish.intent, wish.family, wish.method, wish.pictures, wish.captions, batching_of(wish.config, wish.epoch_images))
    reasons = {choice.knob: _said(choice.reason) for choice in made.choices}
    return {"differences": [{"knob": knob, "preset": ours, "value": value, "reason": reasons[knob]} for knob, ours, value in differences(wish.config, made)]}


@router.post("/import")
def take_over(here: Here, file: UploadFile | None = None, text: Annotated[str, Form(max_length=MOST_TEXT)] = "") -> dict[str, Any]:
    """Settings of another training, from a file or from the text of one: {method, values, notes}."""
    known = shelves.checkpoints(here.engine.paths)
    if file is None:
        if not text.strip():
            raise InputError("Neither a file nor a text came.", "Send a .safetensors, a JSON or a TOML as `file`, or its text as `text`.")
        return _told(imported_text(text, known))
    name = Path((file.filename or "settings.json").replace("\\", "/")).name
    if (file.size or 0) > LARGEST:
        raise InputError(f"{name} is larger than {LARGEST // 2**30} GB.", "Use `studio train-like` beside the file, or the settings file of its training.")
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "settings"
        with kept.open("wb") as target:
            shutil.copyfileobj(file.file, target)
        return _told(imported(kept, known, name))


def _told(found: Imported) -> dict[str, Any]:
    """Settings taken over, fit for JSON."""
    return {"method": found.method, "values": dict(found.values), "notes": [_said(note) for note in found.notes]}


def _said(reason: Reason) -> dict[str, Any]:
    """A sentence in English, and its parts for other languages."""
    return {"sentence": reason.sentence, "text": reason.text, "values": reason.values}
