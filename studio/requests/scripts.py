"""A1111's scripts, many pictures from one request: X/Y/Z plot, prompt matrix, prompts from file; expanded here as pure text."""

import itertools
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field, model_validator

from studio.config import Config
from studio.errors import InputError
from studio.requests.axes import LIMIT, Axis, AxisName, applied, axis_of, label, read_values
from studio.requests.generate import GenerateRequest
from studio.requests.sampler_names import sampler_of

VALUES_LIMIT = 20_000
FILE_LIMIT = 1_000_000
SEEDS = 2**32
_TOGETHER = frozenset({"Prompt S/R", "Prompt order", "LoRA strength"})
"""Axes that are looked at in the finished cells only: their words may be ones that another axis brings in."""
Draw = Callable[[], int]
"""Draws a seed."""


@dataclass(frozen=True)
class Label:
    """Words beside a row or above a column; an inactive one is struck through."""

    text: str
    active: bool = True


@dataclass(frozen=True)
class Cell:
    """One picture of a sheet: what is asked, and where it stands."""

    request: GenerateRequest
    column: int = 0
    row: int = 0
    layer: int = 0


@dataclass(frozen=True)
class Sheet:
    """A script written out: every cell in reading order, the words around them, and what the infotext tells about the script."""

    cells: tuple[Cell, ...]
    columns: tuple[tuple[Label, ...], ...]
    rows: tuple[tuple[Label, ...], ...]
    layers: tuple[tuple[Label, ...], ...] = ((),)
    facts: dict[str, str] = field(default_factory=dict)


class PlotRequest(Config):
    """X/Y/Z plot: the same picture with up to three things varied, as a table."""

    base: GenerateRequest = GenerateRequest()
    """What is painted; the axes change it."""
    x_axis: AxisName = Field("Seed", title="X type")
    """What varies from left to right."""
    x_values: str = Field("", max_length=VALUES_LIMIT, title="X values")
    """Values with commas between them; ranges as 1-5, 1-5 (+2) or 1-10 [5]."""
    y_axis: AxisName = Field("Nothing", title="Y type")
    """What varies from top to bottom."""
    y_values: str = Field("", max_length=VALUES_LIMIT, title="Y values")
    """Values with commas between them; ranges as 1-5, 1-5 (+2) or 1-10 [5]."""
    z_axis: AxisName = Field("Nothing", title="Z type")
    """What varies from table to table."""
    z_values: str = Field("", max_length=VALUES_LIMIT, title="Z values")
    """Values with commas between them; ranges as 1-5, 1-5 (+2) or 1-10 [5]."""
    draw_legend: bool = True
    """Write the values beside the rows and above the columns."""
    include_sub_images: bool = Field(False, title="Include Sub Images")
    """Show every picture beside the table; all are saved either way."""
    include_sub_grids: bool = Field(False, title="Include Sub Grids")
    """Save and show the table of every Z value by itself as well."""
    keep_random_seeds: bool = Field(False, title="Keep -1 for seeds")
    """Draw a new seed for every picture; else all share the one that is drawn."""
    margin: int = Field(0, ge=0, le=500, title="Grid margins (px)")
    """Pixels between two pictures."""

    @model_validator(mode="after")
    def _whole(self) -> "PlotRequest":
        """Every mistake in every axis, at once."""
        problems = [f"{letter} type {name}: {problem}" for letter, name, text in _typed(self) for problem in _problems(self.base, name, text)]
        taken = [name for _, name, _ in _typed(self) if name not in ("Nothing", "Prompt S/R")]
        problems += [f"{name} is on two axes; one would undo the other." for name in sorted({name for name in taken if taken.count(name) > 1})]
        if not problems:
            count = 1
            for _, name, text in _typed(self):
                count *= len(read_values(axis_of(name), text))
            count *= self.base.batch_count * self.base.batch_size
            problems += [f"This plot has {count} pictures; at most {LIMIT} are made in one go. Use fewer values."] if count > LIMIT else _unfit(self)
        if problems:
            raise ValueError(" ".join(problems))
        return self


def _typed(request: PlotRequest) -> tuple[tuple[str, AxisName, str], ...]:
    """Letter, axis and text of X, Y and Z."""
    return (("X", request.x_axis, request.x_values), ("Y", request.y_axis, request.y_values), ("Z", request.z_axis, request.z_values))


def _problems(base: GenerateRequest, name: AxisName, text: str) -> list[str]:
    """What is wrong with the values of one axis."""
    axis = axis_of(name)
    try:
        values = read_values(axis, text)
    except ValueError as error:
        return [str(error)]
    if len(values) > LIMIT:
        return [f"there are {len(values)} values; at most {LIMIT} pictures are made in one go."]
    if name in _TOGETHER:
        return []
    return list(dict.fromkeys(filter(None, (_problem(base, [(axis, value, values)]) for value in values))))


def _problem(base: GenerateRequest, steps: Sequence[tuple[Axis, Any, Sequence[Any]]]) -> str:
    """What is wrong with a cell; empty when nothing is."""
    try:
        applied(base, steps)
    except (ValueError, InputError) as error:
        return str(error)
    return ""


def _unfit(request: PlotRequest) -> list[str]:
    """What is wrong with cells whose axes are right one by one."""
    axes = _axes(request)
    return list(dict.fromkeys(filter(None, (_problem(request.base, [(axis, value, values) for (axis, values), value in zip(axes, choice, strict=True)]) for choice in _choices(axes)))))


def _axes(request: PlotRequest) -> list[tuple[Axis, list[Any]]]:
    """Axis and values of X, Y and Z."""
    return [(axis_of(name), read_values(axis_of(name), text)) for _, name, text in _typed(request)]


def _choices(axes: Sequence[tuple[Axis, Sequence[Any]]]) -> itertools.product:
    """Every combination of values as (x, y, z)."""
    return itertools.product(*(values for _, values in axes))


class PromptMatrixRequest(Config):
    """Prompt matrix: `a|b|c` is painted as a, a b, a c and a b c, in one table."""

    base: GenerateRequest = GenerateRequest()
    """What is painted; its prompt holds the parts with | between them."""
    put_at_start: bool = Field(False, title="Put variable parts at start of prompt")
    """Write the parts that come and go before the part that stays."""
    different_seeds: bool = Field(False, title="Use different seed for each picture")
    """Give each picture the seed after the one before it."""
    prompt_type: Literal["positive", "negative"] = Field("positive", title="Select prompt")
    """Which of the two prompts holds the parts."""
    delimiter: Literal["comma", "space"] = Field("comma", title="Select joining char")
    """What is written between two parts."""
    margin: int = Field(0, ge=0, le=500, title="Grid margins (px)")
    """Pixels between two pictures."""

    @model_validator(mode="after")
    def _whole(self) -> "PromptMatrixRequest":
        """At least two parts, and not too many."""
        count = len(self.parts())
        if count < 2:
            raise ValueError(f"The {self.prompt_type} prompt has no parts that come and go; write | between them: a castle|at night|in snow.")
        total = 2 ** min(count - 1, 40) * self.base.batch_size * self.base.batch_count
        if total > LIMIT:
            raise ValueError(f"{count - 1} parts that come and go make {total} pictures; at most {LIMIT} are made in one go.")
        return self

    def parts(self) -> list[str]:
        """The prompt cut at every | that is not inside [a|b], which alternates."""
        depth, parts = 0, [""]
        for character in self.base.prompt if self.prompt_type == "positive" else self.base.negative_prompt:
            depth = max(0, depth + {"[": 1, "]": -1}.get(character, 0))
            if character == "|" and not depth:
                parts.append("")
            else:
                parts[-1] += character
        return parts


class PromptsFromFileRequest(Config):
    """Prompts from file or textbox: one picture for each line."""

    base: GenerateRequest = GenerateRequest()
    """What a line leaves open."""
    text: str = Field("", max_length=FILE_LIMIT, title="List of prompt inputs", json_schema_extra={"multiline": True})
    """One prompt on each line, or A1111's options: --prompt "a boat" --steps 10 --seed 7."""
    iterate_seed: bool = Field(False, title="Iterate seed every line")
    """Give each line the seed after the one before it."""
    same_seed: bool = Field(False, title="Use same random seed for all lines")
    """Draw one seed for all lines when the seed is -1."""
    position: Literal["start", "end"] = Field("start", title="Insert prompts at the")
    """Where a line's prompt goes when there is a prompt for all of them."""
    margin: int = Field(0, ge=0, le=500, title="Grid margins (px)")
    """Pixels between two pictures."""

    @model_validator(mode="after")
    def _whole(self) -> "PromptsFromFileRequest":
        """Every mistake in every line, at once."""
        lines = list(_lines(self.text))
        if not lines:
            raise ValueError("There are no lines; write one prompt on each.")
        if len(lines) > LIMIT:
            raise ValueError(f"There are {len(lines)} lines; at most {LIMIT} pictures are made in one go.")
        problems, count = [], 0
        for number, line in lines:
            try:
                asked = _asked(self, line, 0)
                count += asked.batch_count * asked.batch_size
            except (ValueError, InputError) as error:
                problems.append(f"Line {number}: {error}")
        if count > LIMIT:
            problems.append(f"The lines make {count} pictures; at most {LIMIT} are made in one go.")
        if problems:
            raise ValueError(" ".join(problems[:10]) + (f" And {len(problems) - 10} more lines like these." if len(problems) > 10 else ""))
        return self


ScriptRequest = PlotRequest | PromptMatrixRequest | PromptsFromFileRequest

_OPTIONS = {
    "sd_model": "checkpoint",
    "subseed": "variation_seed",
    "subseed_strength": "variation_strength",
    "seed_resize_from_w": "seed_width",
    "seed_resize_from_h": "seed_height",
    "sampler_name": "sampler",
    "n_iter": "batch_count",
    "enable_hr": "hires",
    "hr_scale": "hires_scale",
    "hr_upscaler": "hires_upscaler",
    "hr_second_pass_steps": "hires_steps",
}
"""A1111's options whose field has another name here."""
_SILENT = frozenset({"outpath_samples", "outpath_grids", "prompt_for_display", "do_not_save_samples", "do_not_save_grid"})
"""A1111's options about where pictures go; here they go where all go."""
_FILES = frozenset({"init_image", "mask", "sketch"})


def _lines(text: str) -> list[tuple[int, str]]:
    """Number and words of every line that says something."""
    return [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _options(line: str) -> dict[str, str]:
    """The options of a line such as `--prompt "a boat" --steps 10`; raises ValueError in words."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise ValueError(f"{_short(line)} cannot be read ({str(error).lower()}); close every quote.") from error
    options: dict[str, str] = {}
    while words:
        name = words.pop(0)
        taken = [words.pop(0)] if words else []
        while words and not words[0].startswith("--"):
            taken.append(words.pop(0))
        if not name.startswith("--") or not taken:
            raise ValueError(f"{_short(name)} {'has no value' if name.startswith('--') else 'stands alone'}; write --name value.")
        if len(taken) > 1 and name not in ("--prompt", "--negative_prompt"):
            raise ValueError(f"{name} has {len(taken)} values; put quotes around words that belong together.")
        options[name[2:]] = " ".join(taken)
    return options


def _asked(request: PromptsFromFileRequest, line: str, number: int) -> GenerateRequest:
    """What one line asks for; raises ValueError or InputError in words."""
    base = request.base
    values: dict[str, Any] = base.model_dump()
    if request.iterate_seed and base.seed >= 0:
        values["seed"] = (base.seed + number * base.batch_count * base.batch_size) % SEEDS
    options = _options(line) if line.startswith("--") else {"prompt": line}
    for name, text in options.items():
        if name not in _SILENT:
            values |= _option(name, text)
    for name in ("prompt", "negative_prompt"):
        own, shared = options.get(name, ""), getattr(base, name)
        if own and shared:
            values[name] = f"{own} {shared}" if request.position == "start" else f"{shared} {own}"
    return GenerateRequest.check(values)  # type: ignore[return-value]


def _option(name: str, text: str) -> dict[str, Any]:
    """The fields that one option sets; raises ValueError in words."""
    field_name = _OPTIONS.get(name, name)
    if name == "restore_faces":
        if text.lower() == "true":
            raise ValueError("--restore_faces: the studio restores no faces.")
        return {}
    if field_name not in GenerateRequest.model_fields or field_name in _FILES:
        raise ValueError(f"there is no option --{name}.")
    if field_name == "styles":
        return {"styles": tuple(part.strip() for part in text.split(",") if part.strip())}
    if field_name == "sampler":
        sampler, schedule = sampler_of(text)
        if sampler is None:
            raise ValueError(f"there is no sampler {text!r}.")
        return {"sampler": sampler, **({"scheduler": schedule} if schedule else {})}
    return {field_name: text}


def _short(text: str) -> str:
    """A text, short enough for a sentence."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def settled(request: ScriptRequest, draw: Draw) -> Any:
    """The same with every seed of -1 drawn that the pictures share, so that only what is meant to vary varies."""
    fixed: dict[str, Any] = {}
    if isinstance(request, PlotRequest):
        if request.keep_random_seeds:
            return request
        for letter, name, text in _typed(request):
            if name in ("Seed", "Var. seed"):
                fixed[f"{letter.lower()}_values"] = ", ".join(str(draw() if value == -1 else value) for value in read_values(axis_of(name), text))
    if isinstance(request, PromptsFromFileRequest) and not (request.iterate_seed or request.same_seed):
        return request
    drawn = {name: draw() for name in ("seed", "variation_seed") if getattr(request.base, name) == -1}
    return request.model_copy(update={**fixed, "base": request.base.model_copy(update=drawn)})


def sheet_of(request: ScriptRequest) -> Sheet:
    """A script written out as cells and words."""
    if isinstance(request, PlotRequest):
        return _plot(request)
    return _matrix(request) if isinstance(request, PromptMatrixRequest) else _file(request)


def cells(request: ScriptRequest) -> tuple[GenerateRequest, ...]:
    """Every picture that a script asks for, in reading order."""
    return tuple(cell.request for cell in sheet_of(request).cells)


def _plot(request: PlotRequest) -> Sheet:
    """X from left to right, Y from top to bottom, Z from table to table."""
    axes = _axes(request)
    made = []
    for (z, vz), (y, vy), (x, vx) in itertools.product(*(list(enumerate(values)) for _, values in reversed(axes))):
        steps = [(axis, value, values) for (axis, values), value in zip(axes, (vx, vy, vz), strict=True)]
        made.append(Cell(applied(request.base, steps), x, y, z))
    labels = [tuple((Label(text),) if (text := label(axis, value)) else () for value in values) for axis, values in axes]
    facts = {"Script": "X/Y/Z plot"}
    for letter, name, text in _typed(request):
        if name != "Nothing":
            facts |= {f"{letter} Type": name, f"{letter} Values": text}
            facts |= {f"Fixed {letter} Values": text} if name in ("Seed", "Var. seed") and not request.keep_random_seeds else {}
    return Sheet(tuple(made), labels[0], labels[1], labels[2], facts)


def _matrix(request: PromptMatrixRequest) -> Sheet:
    """The first half of the parts from left to right, the others from top to bottom."""
    first, *rest = request.parts()
    across = (len(rest) + 1) // 2
    name, joint = ("prompt" if request.prompt_type == "positive" else "negative_prompt"), (", " if request.delimiter == "comma" else " ")
    made = []
    for number in range(2 ** len(rest)):
        chosen = [part.strip().strip(",") for i, part in enumerate(rest) if number >> i & 1]
        text = joint.join([*chosen, first] if request.put_at_start else [first, *chosen])
        seed = (request.base.seed + number) % SEEDS if request.different_seeds and request.base.seed >= 0 else request.base.seed
        made.append(Cell(request.base.model_copy(update={name: text, "seed": seed}), number % 2**across, number >> across))
    columns, rows = (tuple(tuple(Label(part.strip(), bool(at >> i & 1)) for i, part in enumerate(parts)) for at in range(2 ** len(parts))) for parts in (rest[:across], rest[across:]))
    return Sheet(tuple(made), columns, rows, facts={"Script": "Prompt matrix"})


def _file(request: PromptsFromFileRequest) -> Sheet:
    """One cell for each line, in a table as square as can be."""
    asked = [_asked(request, line, number) for number, (_, line) in enumerate(_lines(request.text))]
    width = max(1, round(len(asked) ** 0.5))
    rows = -(-len(asked) // width)
    made = tuple(Cell(cell, i % width, i // width) for i, cell in enumerate(asked))
    return Sheet(made, ((),) * width, ((),) * rows, facts={"Script": "Prompts from file or textbox"})
