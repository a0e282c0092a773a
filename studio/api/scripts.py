"""A1111's scripts by name and by position: what a body says of them, as fields of our requests."""

from collections.abc import Callable
from typing import Any, get_args

from fastapi import APIRouter

from studio import shelves
from studio.api.sdapi_models import Painting
from studio.config import Config
from studio.errors import InputError
from studio.requests import GenerateRequest, PlotRequest, PromptMatrixRequest, PromptsFromFileRequest, SdUpscaleRequest
from studio.requests.axes import AxisName, joined

router = APIRouter(prefix="/sdapi/v1")
Convert = Callable[[Any], Any]

SOFT_INPAINTING = "soft inpainting"
SD_UPSCALE = "SD upscale"
SOFT_FIELDS = ("soft_inpainting", "soft_schedule_bias", "soft_preservation", "soft_contrast", "soft_mask_influence", "soft_difference_threshold", "soft_difference_contrast")
"""Fields of our request in the order of the script's arguments."""
SOFT_LABELS = ("Soft inpainting", "Schedule bias", "Preservation strength", "Transition contrast boost", "Mask influence", "Difference threshold", "Difference contrast")
BUILT_IN = ("comments", "extra options", "hypertile", "refiner", "sampler", "seed")
"""Parts of A1111's own form that clients send along as scripts; their values stand in the body too."""

AXES_TXT2IMG = ("Nothing", "Seed", "Var. seed", "Var. strength", "Steps", "Hires steps", "CFG Scale", "Prompt S/R", "Prompt order", "Sampler", "Hires sampler", "Checkpoint name")
AXES_IMG2IMG = ("Nothing", "Seed", "Var. seed", "Var. strength", "Steps", "CFG Scale", "Image CFG Scale", "Prompt S/R", "Prompt order", "Sampler", "Checkpoint name")
"""Axes by the number that clients send for them; later ones changed their numbers between versions, so clients name them."""
ARGUMENTS: dict[str, tuple[str, ...]] = {
    "Prompt matrix": ("Put variable parts at start of prompt", "Use different seed for each picture", "Select prompt", "Select joining char", "Grid margins (px)"),
    SD_UPSCALE: ("", "Tile overlap", "Upscaler", "Scale Factor"),
    "Prompts from file or textbox": ("Iterate seed every line", "Use same random seed for all lines", "Insert prompts at the", "List of prompt inputs"),
    "X/Y/Z plot": (
        *(f"{axis} {word}" for axis in "XYZ" for word in ("type", "values", "chosen values")),
        "Draw legend",
        "Include Sub Images",
        "Include Sub Grids",
        "Keep -1 for seeds",
        *(f"Vary seeds for {axis}" for axis in "XYZ"),
        "Grid margins (px)",
        "Use text inputs instead of dropdowns",
    ),
}
"""Labels of a script's arguments, in their order."""


def alwayson_values(body: Painting) -> dict[str, Any]:
    """Fields that `alwayson_scripts` sets; raises InputError for a script that is not here."""
    values: dict[str, Any] = {}
    for name, entry in (body.alwayson_scripts or {}).items():
        given = entry.get("args", []) if isinstance(entry, dict) else entry
        if str(name).lower() == SOFT_INPAINTING:
            values |= _soft(given)
        elif str(name).lower() not in BUILT_IN:
            raise InputError(f"always on script {name} not found.", "Leave it out; Soft Inpainting is the one there is.")
    return values


def _soft(given: Any) -> dict[str, Any]:
    """Fields of soft inpainting, from arguments by position or one object by label."""
    if not isinstance(given, list):
        raise InputError("Soft Inpainting: args is not a list.")
    if len(given) == 1 and isinstance(given[0], dict):
        named = dict(zip(SOFT_LABELS, SOFT_FIELDS, strict=True))
        return {named[label]: value for label, value in given[0].items() if label in named}
    return dict(zip(SOFT_FIELDS, given, strict=False))


def scripted(body: Painting, request: GenerateRequest) -> Config:
    """The request, or the script around it that the body names; raises InputError for one that is not here."""
    name = (body.script_name or "").strip().lower()
    if name in ("", "none"):
        return request
    found = next((make for title, make in SCRIPTS if title.lower() == name), None)
    if found is None:
        raise InputError(f"Script not found: there is no {body.script_name!r}.", f"Choose one of {', '.join(title for title, _ in SCRIPTS)}.")
    return found(list(body.script_args or []), request)


def _placed(fields: dict[int, tuple[str, Convert]], given: list[Any]) -> dict[str, Any]:
    """Arguments by their places; those that were not sent stay open."""
    return {field: convert(given[place]) for place, (field, convert) in fields.items() if len(given) > place and given[place] is not None}


def _plot(given: list[Any], request: GenerateRequest) -> Config:
    """X/Y/Z plot: type, values and chosen values of three axes, then how the table is drawn."""
    values: dict[str, Any] = {}
    for number, axis in enumerate("xyz"):
        kind, typed, chosen = (given[3 * number : 3 * number + 3] + [None] * 3)[:3]
        values |= {f"{axis}_axis": axis_name(kind, request.repainting), f"{axis}_values": str(typed or "") or joined(chosen or [])}
    drawn = _placed({9: ("draw_legend", bool), 10: ("include_sub_images", bool), 11: ("include_sub_grids", bool), 12: ("keep_random_seeds", bool), 16: ("margin", int)}, given)
    return PlotRequest.check({**values, **drawn, "base": request.model_dump()})


def axis_name(kind: Any, repainting: bool) -> str:
    """An axis by its name or by its place in the tab's list; raises InputError."""
    places, names = AXES_IMG2IMG if repainting else AXES_TXT2IMG, get_args(AxisName)
    if kind is None or kind == "":
        return "Nothing"
    wanted = places[kind] if isinstance(kind, int) and 0 <= kind < len(places) else str(kind)
    for name in names:
        if wanted.lower() == name.lower():
            return str(name)
    raise InputError(f"X/Y/Z plot: there is no axis {wanted!r}.", f"Choose one of {', '.join(names)}.")


def _matrix(given: list[Any], request: GenerateRequest) -> Config:
    """Prompt matrix: variable parts first, another seed for each picture, which prompt, delimiter, margin."""
    fields: dict[int, tuple[str, Convert]] = {0: ("put_at_start", bool), 1: ("different_seeds", bool), 2: ("prompt_type", str), 3: ("delimiter", str), 4: ("margin", int)}
    return PromptMatrixRequest.check({**_placed(fields, given), "base": request.model_dump()})


def _lines(given: list[Any], request: GenerateRequest) -> Config:
    """Prompts from file: another seed every line, one seed for all lines, where the prompt goes (newer versions), the lines."""
    fields: dict[int, tuple[str, Convert]] = {0: ("iterate_seed", bool), 1: ("same_seed", bool), 2: ("text", str)}
    if len(given) > 3:
        fields |= {2: ("position", str), 3: ("text", str)}
    return PromptsFromFileRequest.check({**_placed(fields, given), "base": request.model_dump()})


def _upscale(given: list[Any], request: GenerateRequest) -> Config:
    """SD upscale: a note of the form, overlap, upscaler by name or by its place in the list, scale factor."""
    values = _placed({1: ("overlap", int), 2: ("upscaler", _upscaler), 3: ("scale", float)}, given)
    return SdUpscaleRequest.check({**values, "base": request.model_dump()})


def _upscaler(given: Any) -> str:
    """An upscaler by its name, or one of the plain ones by its place; raises InputError."""
    if not isinstance(given, int):
        return str(given)
    if not 0 <= given < len(shelves.PLAIN_UPSCALERS):
        raise InputError(f"SD upscale: there is no upscaler with the number {given}.", "Send its name, as /sdapi/v1/upscalers gives it.")
    return shelves.PLAIN_UPSCALERS[given]


SCRIPTS: tuple[tuple[str, Callable[[list[Any], GenerateRequest], Config]], ...] = (
    ("Prompt matrix", _matrix),
    ("Prompts from file or textbox", _lines),
    ("X/Y/Z plot", _plot),
    (SD_UPSCALE, _upscale),
)
"""Name of a script, and how its arguments become a request."""


@router.get("/scripts")
def scripts() -> dict[str, list[str]]:
    """Scripts of both tabs."""
    names = [title.lower() for title, _ in SCRIPTS]
    return {"txt2img": [name for name in names if name != SD_UPSCALE.lower()], "img2img": [*names, SOFT_INPAINTING]}


@router.get("/script-info")
def script_info() -> list[dict[str, Any]]:
    """Scripts of both tabs, their arguments in A1111's order."""
    found = [{"name": title.lower(), "is_alwayson": False, "is_img2img": tab, "args": _arguments(ARGUMENTS[title])} for tab in (False, True) for title, _ in SCRIPTS if tab or title != SD_UPSCALE]
    return [*found, {"name": SOFT_INPAINTING, "is_alwayson": True, "is_img2img": True, "args": _arguments(SOFT_LABELS)}]


def _arguments(labels: tuple[str, ...]) -> list[dict[str, Any]]:
    """Arguments of which the label is all that counts."""
    return [{"label": label, "value": None, "minimum": None, "maximum": None, "step": None, "choices": None} for label in labels]
