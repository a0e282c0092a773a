"""Saved styles: A1111's styles.csv, and what a style adds to a prompt."""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from studio.errors import InputError, NotFound, StudioError, Unreadable
from studio.prompts.parts import LETTER_LIMIT

PLACE = "{prompt}"
"""Where the prompt goes inside a style; a style without it is appended."""
COLUMNS = ("name", "prompt", "negative_prompt")


@dataclass(frozen=True)
class Style:
    """Words that are added to a prompt and to a negative prompt."""

    name: str
    prompt: str = ""
    negative_prompt: str = ""


def read_styles(path: Path) -> list[Style]:
    """Every style of a styles.csv, none when there is no file; of two with one name the last counts. Raises Unreadable on a file that is no such table."""
    if not path.is_file():
        return []
    try:
        rows = list(csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""), skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Unreadable(f"{path.name} cannot be read ({error}).", "It must be a table in UTF-8, divided by commas; mend it, or move it away.") from error
    if not rows:
        return []
    header = [name.strip().lower() for name in rows[0]]
    if "name" not in header:
        raise Unreadable(f"{path.name} has no column called name; its first line is {','.join(rows[0])[:80]!r}.", f"Its first line must be {','.join(COLUMNS)}.")
    found = [dict(zip(header, row, strict=False)) for row in rows[1:]]
    # Before it had a negative prompt, A1111 called the prompt's column text.
    styles = [Style(row["name"], row.get("prompt", row.get("text", "")), row.get("negative_prompt", "")) for row in found if row.get("name")]
    return list({style.name: style for style in styles}.values())


def write_styles(path: Path, styles: Iterable[Style]) -> None:
    """Write a styles.csv that A1111 reads, whole or not at all; raises InputError on a style without a name, StudioError when it cannot be written."""
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(COLUMNS)
    for style in styles:
        if not style.name.strip():
            raise InputError("A style needs a name.", "Give it one.")
        writer.writerow((style.name, style.prompt, style.negative_prompt))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(table.getvalue().encode("utf-8-sig", "replace"))
        os.replace(temporary, path)
    except OSError as error:
        raise StudioError(f"{path.name} was not written ({error.strerror}).", "What was in it before is untouched.") from error
    finally:
        temporary.unlink(missing_ok=True)


def chosen_styles(styles: Iterable[Style], names: Sequence[str]) -> list[Style]:
    """The styles of these names, in this order; raises NotFound naming what is missing."""
    known = {style.name: style for style in styles}
    missing = [name for name in names if name not in known]
    if missing:
        raise NotFound(f"There is no style called {', '.join(repr(name[:120]) for name in missing[:20])}.", f"There is {', '.join(sorted(known)[:20])}." if known else "No style has been saved yet.")
    return [known[name] for name in names]


def apply_styles(prompt: str, negative: str, styles: Iterable[Style]) -> tuple[str, str]:
    """Both prompts with the words of every style, one after another; raises InputError when they grow beyond what is read."""
    for style in styles:
        prompt, negative = _merged(prompt, style.prompt, style.name), _merged(negative, style.negative_prompt, style.name)
    return prompt, negative


def _merged(prompt: str, style: str, name: str) -> str:
    """A prompt put into a style at {prompt}, or the style after a comma."""
    places = style.count(PLACE)
    if len(style) + len(prompt) * max(1, places) > LETTER_LIMIT + places * len(PLACE):
        raise InputError(f"With the style {name!r} the prompt has more than {LETTER_LIMIT:,} letters.", "Shorten the prompt, or take a style away.")
    return style.replace(PLACE, prompt) if places else ", ".join(filter(None, (prompt.strip(), style.strip())))
