"""Taking settings over: values that the method's own bounds allow, and a note for all that was changed or left out."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from studio.errors import InputError
from studio.presets.reason import Reason
from studio.requests.train import config_class
from studio.shelves import images

MOST_SHOWN = 80
"""Letters of a foreign value in a note."""
_NEEDED = {"embedding": "x", "name": "x", "data": "x", "class_word": "x"}
"""What a person writes, so that one knob can be checked by itself."""
DIFFERS = "{label} {value} is not here; {ours} takes its place."
LEFT_OUT = "{label} ({value}) has no counterpart here; it was left out."
REFUSED = "{label} ({value}) is outside what is possible here; it was left out."
NOT_OF_METHOD = "{label} ({value}) is nothing this method has; it was left out."


@dataclass
class Taken:
    """What is taken over for one method: values by our names, and notes."""

    method: str
    values: dict[str, Any] = field(default_factory=dict)
    notes: list[Reason] = field(default_factory=list)

    def put(self, knob: str, value: Any, label: str = "") -> bool:
        """Take a value over when the method has the knob and its bounds allow it; else a note, when a label is given. Says whether it was taken."""
        cls = config_class(self.method)
        if knob not in cls.model_fields:
            if label:
                self.say(NOT_OF_METHOD, label=label, value=shown(value))
            return False
        needed = {name: default for name, default in _NEEDED.items() if name in cls.model_fields}
        try:
            cls.check({**needed, knob: value})
        except InputError:
            self.say(REFUSED, label=label or knob, value=shown(value))
            return False
        self.values[knob] = value
        return True

    def say(self, text: str, **values: Any) -> None:
        """Add a note, once."""
        note = Reason(text, values)
        if note not in self.notes:
            self.notes.append(note)


def shown(value: Any) -> str:
    """A foreign value in a note: short, on one line; a number as a person writes it."""
    text = f"{value:g}" if isinstance(value, float) else " ".join(str(value).split())
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 3]}..."


def number(value: Any) -> float | None:
    """A finite number of a value that may be text; None for anything else, yes and no included."""
    if value is None or isinstance(value, bool):
        return None
    try:
        found = float(str(value).strip())
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def whole(value: Any) -> int | None:
    """A whole number of a value that may be text such as "4" or "4.0"; None for anything else."""
    found = number(value)
    return int(found) if found is not None and found == int(found) else None


def flag(value: Any) -> bool:
    """Whether a value that may be text means yes."""
    return value.strip().lower() in ("true", "1", "yes", "on") if isinstance(value, str) else bool(value)


def empty(value: Any) -> bool:
    """Whether a value says nothing: kohya's trainer writes "None"."""
    return value is None or (isinstance(value, str) and value.strip().lower() in ("", "none", "null")) or value in ([], {})


def rate_text(rate: float) -> str:
    """A rate as the form takes it."""
    return f"{rate:g}"


def last_part(path: Any) -> str:
    """The last part of a path of any system."""
    return PurePosixPath(str(path).replace("\\", "/")).name


def take_checkpoint(taken: Taken, name: str, known: tuple[str, ...]) -> None:
    """The checkpoint of that name when it is here, else a note; never a path."""
    wanted = last_part(name)
    if not wanted:
        return
    here = next((each for each in known if Path(each).stem.casefold() == re.sub(r"\.(safetensors|ckpt|pt)$", "", wanted, flags=re.IGNORECASE).casefold()), None)
    if here is not None:
        taken.put("checkpoint", here)
    else:
        taken.say("It was trained on {value}, which is not here; choose a checkpoint of its kind.", value=shown(wanted))


def take_data(taken: Taken, folder: Any) -> None:
    """A folder of pictures when it is here and holds pictures, else a note with its last part only."""
    if empty(folder):
        return
    place = local_folder(folder)
    if place is not None and pictures_in(place):
        taken.put("data", str(place))
    else:
        taken.say("Its pictures ({value}) are not here; choose your own data set.", value=shown(last_part(folder) or folder))


def local_folder(written: Any) -> Path | None:
    """A folder of this machine that a file names; None for a relative one, one that is not there, and one on another machine (which is not even asked)."""
    if empty(written) or str(written).startswith(("\\\\", "//")):
        return None
    place = Path(str(written))
    try:
        return place if place.is_absolute() and place.is_dir() else None
    except (OSError, ValueError):
        return None


def pictures_in(place: Path | None) -> int:
    """How many pictures a folder holds itself; 0 for one that is none or cannot be read."""
    try:
        return len(images(place)) if place is not None else 0
    except OSError:
        return 0


def flattened(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without their sections, whose names mean nothing to kohya's trainer; lists of tables stay."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat.update(value)
        else:
            flat[key] = value
    return flat
