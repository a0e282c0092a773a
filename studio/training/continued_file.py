"""A LoRA file that is trained further keeps how it was built: a setting of the form that says otherwise is refused by name, or a sentence says what the file keeps."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from studio.config import controls
from studio.diffusion.growing import Grown, Recipe
from studio.diffusion.targets import is_spatial
from studio.formats.delta import Delta
from studio.requests.train import TrainConfig

CORES = ("lora_mid", "hada_t1", "lokr_t2")
"""Tensors that a Tucker decomposition has."""
CLOSE = 1e-3
"""Alphas of files in half precision differ from those that were written by no more than this share."""
OF_FILE = ("rank", "alpha", "conv_rank", "conv_alpha", "block_ranks", "dora", "tucker", "factor", "full_matrix")
"""Settings that a file which is trained further decides; `algorithm` is refused where its tensors are loaded."""
VARIED = ("rank", "alpha", "conv_rank", "conv_alpha")
"""Those of which a file may have several values, one for each layer."""


@dataclass(frozen=True)
class Comparison:
    """Sentences about settings that a file contradicts, and about what it keeps."""

    refused: tuple[str, ...] = ()
    told: tuple[str, ...] = ()


def compare_with_form(name: str, grown: Grown, wanted: Mapping[str, Delta], form: TrainConfig) -> Comparison:
    """Compare the layers of the file `name`, as `grown` has loaded them, with `wanted`, those that the form would begin with."""
    wants: dict[str, list[Any]] = {}
    haves: dict[str, list[Any]] = {}
    for layer, want in wanted.items():
        growth = grown.growths[layer]
        if growth.delta is want:
            continue  # the file has no such layer: it begins anew
        for setting, (wish, has) in _settings(want, growth.delta, is_spatial(growth.layer.module), grown.recipe).items():
            wants.setdefault(setting, []).append(wish)
            haves.setdefault(setting, []).append(has)
    titles = {control.name: control.label for control in controls(type(form))}
    refused, told = [], []
    for setting, wish in wants.items():
        has = haves[setting]
        if all(map(_alike, wish, has)) or setting not in titles:
            continue
        said, usual = f"{name!r} has {', '.join(map(_shown, sorted(set(has))))}", _shown(Counter(has).most_common(1)[0][0])
        if setting == "rank" and getattr(form, "block_ranks", ""):
            refused.append(f"{titles['block_ranks']}: {said}, and the form would have other ranks in some blocks. Leave it empty and set {titles['rank']} to {usual}.")
        elif setting in VARIED and len(set(has)) > 1 and any(map(_alike, wish, has)):
            told.append(f"{titles[setting]}: {said}, and keeps them.")
        else:
            refused.append(f"{titles[setting]}: {said}, and the form says {_shown(next(w for w, h in zip(wish, has, strict=True) if not _alike(w, h)))}. Set it to {usual}.")
    return Comparison(tuple(refused), tuple(told))


def _settings(want: Delta, have: Delta, spatial: bool, recipe: Recipe) -> dict[str, tuple[Any, Any]]:
    """By setting, what the form would begin one layer with and what the file has there; only what both can be compared in."""
    found: dict[str, tuple[Any, Any]] = {}
    if "dora_scale" in have.tensors:
        found["dora"] = recipe.dora, True
    if spatial and want.kind.name in ("LoRA", "LoHa", "LoKr"):
        found["tucker"] = recipe.tucker, any(name in have.tensors for name in CORES)
    if want.kind.name == "LoKr":
        found["factor"] = _first_side(want), _first_side(have)
        whole = "lokr_w2" in want.tensors, "lokr_w2" in have.tensors
        if found["factor"][0] != found["factor"][1]:
            return found
        if whole == (True, False) and not recipe.full:  # the form's rank is so large that it would save nothing
            found["rank"] = recipe.rank, have.rank
        else:
            found["full_matrix"] = whole
    if want.rank and have.rank:
        found["conv_rank" if spatial else "rank"] = want.rank, have.rank
        found["conv_alpha" if spatial else "alpha"] = _alpha(want), _alpha(have)
    return found


def _first_side(delta: Delta) -> int:
    """Rows of LoKr's first matrix."""
    return int((delta.tensors["lokr_w1"] if "lokr_w1" in delta.tensors else delta.tensors["lokr_w1_a"]).shape[0])


def _alpha(delta: Delta) -> float:
    """Alpha as the form writes it: as the rank where a file has none."""
    return round(delta.scale * (delta.rank or 1), 4)


def _alike(want: Any, have: Any) -> bool:
    """Whether two values are the same but for half precision."""
    return bool(want == have) or (isinstance(want, float) and abs(want - have) <= CLOSE * max(abs(want), abs(have)))


def _shown(value: Any) -> str:
    """A value as the form shows it."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else f"{value:g}"
