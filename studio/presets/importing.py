""" "Train like this file": settings of another training, whichever program wrote them, as our knobs with notes on what was changed or left out."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.errors import InputError, NotFound, Unreadable
from studio.presets.a1111 import is_a1111, take_a1111
from studio.presets.kohya import take_kohya
from studio.presets.kohya_files import is_kohya, read_kohya
from studio.presets.kohya_header import read_header, read_metadata
from studio.presets.reason import Reason
from studio.presets.taking import Taken
from studio.requests.train import CONFIGS

MOST_TEXT = 4 * 2**20
"""Bytes of a settings file."""
SETTINGS = "sd_training_studio"
"""Key of a file's metadata under which the studio keeps all settings of its training."""
PRIVATE = ("data", "checkpoint", "name", "embedding", "start_from", "overwrite")
"""Knobs that say where things lie and how they are called on one machine; they are not written into a file to be shared."""
_HINT = "Choose a .safetensors of kohya's trainer, its JSON or TOML, or A1111's settings-….json."
_LATER = {
    ".png": "A picture holds a recipe card of the studio's own: import it in Runs.",
    ".zip": "A zip holds a recipe card of the studio's own: import it in Runs.",
    ".pt": "It holds no settings: choose the settings-….json that A1111 writes beside it.",
    ".bin": "It holds no settings: choose the settings-….json that A1111 writes beside it.",
    ".ckpt": "It holds no settings: choose the settings file of its training.",
}
"""What to do with files of other kinds."""


@dataclass(frozen=True)
class Imported:
    """Settings taken over: the method, values of the form that its bounds allow, and notes as sentences that can be translated."""

    method: str
    values: Mapping[str, Any]
    notes: tuple[Reason, ...]

    @property
    def sentences(self) -> tuple[str, ...]:
        """The notes in English."""
        return tuple(note.sentence for note in self.notes)


def imported(source: Path | str, checkpoints: Sequence[str] = (), name: str = "") -> Imported:
    """Settings of a file, or of a text that holds them; `checkpoints` are the names of those that are here, `name` is what the file is called to a person.

    A text of one line that begins no JSON and sets nothing is taken for a file's name. Raises NotFound, Unreadable, InputError.
    """
    if isinstance(source, str):
        if _is_text(source):
            return imported_text(source, checkpoints, name)
        source = Path(source.strip())
    if not source.is_file():
        raise NotFound(f"There is no file {str(source)!r}.", _HINT)
    called = name or source.name
    ending = Path(called).suffix.lower()
    if ending == ".safetensors":
        header = read_header(source, called)
        if SETTINGS in header.metadata:
            return imported_text(header.metadata[SETTINGS], checkpoints, called)
        return _told(take_kohya(read_metadata(header), tuple(checkpoints)))
    if ending in _LATER:
        raise InputError(f"{called} cannot be read for settings.", _LATER[ending])
    if source.stat().st_size > MOST_TEXT:
        raise Unreadable(f"{called} is larger than {MOST_TEXT // 2**20} MB.", "A settings file is smaller. " + _HINT)
    return imported_text(source.read_text(encoding="utf-8-sig", errors="replace"), checkpoints, called)


def imported_text(text: str, checkpoints: Sequence[str] = (), name: str = "") -> Imported:
    """Settings of a text, which is never taken for a file's name; raises Unreadable, InputError."""
    found, known = _of_text(text, name or "The text"), tuple(checkpoints)
    if isinstance(found.get("config"), dict) and found.get("method") in {cls.method for cls in CONFIGS}:
        return _told(_own(found))
    if is_a1111(found):
        return _told(take_a1111(found, known))
    if is_kohya(found):
        return _told(take_kohya(read_kohya(found), known))
    raise InputError(f"{name or 'The text'} holds settings of no program that is known here.", _HINT)


def _is_text(source: str) -> bool:
    """Whether a text holds settings and does not name a file."""
    plain = source.strip()
    if "\n" in plain or plain.startswith("{") or len(plain) > 4000:
        return True
    return "=" in plain and not Path(plain).is_file()


def _told(taken: Taken) -> Imported:
    """What was taken over, for good."""
    return Imported(taken.method, taken.values, tuple(taken.notes))


def _of_text(text: str, name: str) -> dict[str, Any]:
    """JSON or TOML as an object; raises Unreadable."""
    try:
        found = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{name} is neither JSON nor TOML that can be read: {str(error)[:120]}.", _HINT) from error
    if not isinstance(found, dict):
        raise Unreadable(f"{name} holds no settings.", _HINT)
    return found


def _own(found: Mapping[str, Any]) -> Taken:
    """A run of the studio's own: every knob as it is, but no path."""
    taken = Taken(str(found["method"]))
    for knob, value in found["config"].items():
        if knob not in ("data", "checkpoint"):
            taken.put(knob, value, str(knob))
    return taken
