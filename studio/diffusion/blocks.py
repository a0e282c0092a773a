"""A UNet's layers by block, as block weights count them: BASE, IN00 to IN11, M00, OUT00 to OUT11; and weights for blocks from text."""

import math
import random
import re
from collections.abc import Iterable, Mapping

from studio.errors import InputError
from studio.formats.keys import levels_of, translate, unet_table

BASE, MIDDLE = "BASE", "M00"


def _labels(inside: Iterable[int], outside: Iterable[int]) -> tuple[str, ...]:
    """BASE, the way in, the middle, the way out."""
    return (BASE, *(f"IN{n:02d}" for n in inside), MIDDLE, *(f"OUT{n:02d}" for n in outside))


LAYOUTS: dict[int, tuple[str, ...]] = {
    12: _labels((4, 5, 7, 8), range(6)),
    17: _labels((1, 2, 4, 5, 7, 8), range(3, 12)),
    20: _labels(range(9), range(9)),
    26: _labels(range(12), range(12)),
}
"""How many weights are given: the blocks they are for. 17 and 26 are for SD1 and SD2, 12 and 20 for SDXL; the shorter ones name the blocks that attend."""
ALL = LAYOUTS[26]
PRESETS: dict[str, tuple[str, str]] = {
    "NONE": ("", ""),
    "ALL": ("BASE IN00-IN11 M00 OUT00-OUT11",) * 2,
    "INS": ("BASE IN00-IN04", "BASE IN00-IN05"),
    "IND": ("BASE IN05-IN11", "BASE IN06-IN08"),
    "INALL": ("BASE IN00-IN11",) * 2,
    "MIDD": ("BASE IN05-IN11 M00 OUT00-OUT06", "BASE IN06-IN08 M00 OUT00-OUT02"),
    "OUTD": ("BASE OUT00-OUT06", "BASE OUT00-OUT02"),
    "OUTS": ("BASE OUT07-OUT11", "BASE OUT03-OUT08"),
    "OUTALL": ("BASE OUT00-OUT11",) * 2,
}
"""Name: the blocks that get 1, for SD1 and SD2, and for SDXL; the others get 0. S is the shallow half (near the picture), D the deep one."""
_RANDOM = {"R": (0.0, 1.0), "U": (-0.5, 1.5)}


def block_of(paths: Iterable[str]) -> dict[str, str]:
    """The block of each of a UNet's modules; `paths` are all their names in diffusers' spelling. What is in no block counts as BASE."""
    paths = list(paths)
    inverse = {there: here for here, there in unet_table(levels_of(paths)).items()}
    return {path: _label(translate(path, inverse) or "") for path in paths}


def _label(original: str) -> str:
    """The block in a module's original name."""
    match = re.match(r"(input|output)_blocks\.(\d+)\.", original)
    if match:
        return f"{'IN' if match[1] == 'input' else 'OUT'}{int(match[2]):02d}"
    return MIDDLE if original.startswith("middle_block.") else BASE


def block_weights(text: str, xl: bool, presets: Mapping[str, str] | None = None, seed: int = 0, x: float = 0.0) -> dict[str, float]:
    """Weights by block from a preset's name, or from 12, 17, 20 or 26 numbers between commas; blocks that get none have 0. Raises InputError.

    R is drawn from 0..1 and U from -0.5..1.5, by `seed`; X stands for `x`. `presets` (name to text) come before the built-in ones.
    """
    name = text.strip()
    own = {key.upper(): value for key, value in (presets or {}).items()}
    if name.upper() in own:
        return block_weights(own[name.upper()], xl, None, seed, x)
    if name.upper() in PRESETS:
        chosen = _ranges(PRESETS[name.upper()][xl])
        return {label: float(label in chosen) for label in ALL}
    parts = [part.strip() for part in name.split(",")]
    if len(parts) == 1:
        raise InputError(f"There are no block weights called {text!r}.", f"Choose one of {', '.join([*(presets or {}), *PRESETS])}, or give 17 or 26 numbers (12 or 20 for SDXL).")
    if len(parts) not in LAYOUTS or (len(parts) in (12, 20)) != xl:
        wanted = "12 or 20 (SDXL)" if xl else "17 or 26 (Stable Diffusion 1 and 2)"
        raise InputError(f"{len(parts)} block weights were given; this checkpoint takes {wanted}.", "The first is for the text encoder, then the way in, the middle and the way out.")
    dice = random.Random(seed)
    values = [_number(part, dice, x) for part in parts]
    return dict.fromkeys(ALL, 0.0) | dict(zip(LAYOUTS[len(parts)], values, strict=True))


def _number(text: str, dice: random.Random, x: float) -> float:
    """One weight; raises InputError."""
    if text.upper() in _RANDOM:
        return dice.uniform(*_RANDOM[text.upper()])
    if text.upper() == "X":
        return x
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"A block weight is {text!r}; it must be a number, R, U or X.", "1 is full strength, 0 is off.")
    return value


def _ranges(text: str) -> set[str]:
    """Labels named one by one or as ranges."""
    chosen: set[str] = set()
    for part in text.split():
        first, _, last = part.partition("-")
        kind = first.rstrip("0123456789")
        numbers = range(int(first[len(kind) :]), int(last[len(kind) :]) + 1) if last else ()
        chosen |= {f"{kind}{n:02d}" for n in numbers} or {first}
    return chosen
