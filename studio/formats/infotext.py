"""A1111's infotext, "Steps: 20, Sampler: ...", written into and read from PNG files."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

CHUNK = "parameters"
_PAIR = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


def write_infotext(prompt: str, negative_prompt: str, facts: Mapping[str, object]) -> str:
    """Prompt, negative prompt and `Key: value` facts as A1111 writes them; values with `,` `:` or a line break are quoted."""
    tail = ", ".join(f"{key}: {_quoted(str(value))}" for key, value in facts.items())
    negative = f"\nNegative prompt: {negative_prompt}" if negative_prompt else ""
    return f"{prompt}{negative}\n{tail}"


def _quoted(value: str) -> str:
    """A value that would break the line, quoted."""
    return json.dumps(value, ensure_ascii=False) if any(c in value for c in ",:\n") else value


def read_infotext(text: str) -> dict[str, str]:
    """The keys of an infotext, with "Prompt" and "Negative prompt"."""
    *lines, last = text.strip().split("\n")
    pairs = _PAIR.findall(last)
    if len(pairs) < 3:
        lines, pairs = [*lines, last], []
    found = {"Prompt": "", "Negative prompt": ""}
    where = "Prompt"
    for line in lines:
        if line.startswith("Negative prompt:"):
            where, line = "Negative prompt", line.removeprefix("Negative prompt:").strip()
        found[where] += ("\n" if found[where] else "") + line
    for key, value in pairs:
        found[key] = json.loads(value) if value.startswith('"') else value
    return found


def png_info(text: str) -> PngInfo:
    """The chunk that carries an infotext."""
    info = PngInfo()
    info.add_itxt(CHUNK, text) if not text.isascii() else info.add_text(CHUNK, text)
    return info


def infotext_of(path: Path) -> str:
    """The infotext inside a PNG; empty when there is none."""
    with Image.open(path) as image:
        image.load()
        return str(image.info.get(CHUNK, ""))
