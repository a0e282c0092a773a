"""The form of A1111's infotext, as text: prompt, negative prompt, and a last line of `Key: value` pairs."""

import json
import re
from collections.abc import Mapping

NEGATIVE = "Negative prompt:"
_PAIR = re.compile(r'(?:^|,)\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"(?=\s*(?:,|$))|[^,]*)')
_KEY = re.compile(r"[A-Z]\w[\w \-/]{0,60}:(?: |$)")
"""How a line begins that holds facts of its own."""
_LATER = re.compile(r", {0,9}[A-Z][\w \-/]{1,60}:(?: |$)")
"""What a line holds whose beginning is the end of a value."""
_QUOTE = re.compile(r'(?<!\\)"')
_WRAPPED, _LONGEST = 200, 200_000
"""The most lines that facts are spread over, and characters."""
_TELLING = frozenset({"Steps", "Sampler", "Seed", "CFG scale", "Size", "Model", "Model hash"})
"""A line of pairs without one of these is a prompt: `eyes: blue, hair: red, sky: grey`."""
_SIZE = re.compile(r"(\d{1,9})x(\d{1,9})", re.ASCII)


def write_infotext(prompt: str, negative_prompt: str, facts: Mapping[str, object]) -> str:
    """Prompt, negative prompt and `Key: value` facts as A1111 writes them; facts that are None are left out, values that would break the line are quoted."""
    tail = ", ".join(f"{key}: {_quoted(shown(value))}" for key, value in facts.items() if value is not None)
    negative = f"\n{NEGATIVE} {negative_prompt}" if negative_prompt else ""
    return f"{prompt}{negative}\n{tail}".strip()


def append_facts(text: str, facts: Mapping[str, object]) -> str:
    """An infotext with more facts, before its version as A1111 has them; a text without facts stays as it is."""
    prompts, _, line = text.rpartition("\n")
    if not _pairs(line):
        return text
    more = ", ".join(f"{key}: {_quoted(shown(value))}" for key, value in facts.items() if value is not None)
    head, comma, version = line.rpartition(", Version: ")
    return prompts + "\n" * bool(prompts) + (f"{head}, {more}{comma}{version}" if comma else f"{line}, {more}") if more else text


def shown(value: object) -> str:
    """A value as A1111 shows it: 7 for 7.0, and every other number with all its digits."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else str(value)


def _quoted(value: str) -> str:
    """A value that would break the line, or lose its first or last character on the way, quoted as JSON."""
    breaks = any(c in value for c in ",:\n") or value.startswith('"') or value != value.strip()
    return json.dumps(value, ensure_ascii=False) if breaks else value


def read_infotext(text: str) -> dict[str, str]:
    """The keys of an infotext, with "Prompt" and "Negative prompt"; a text without a line of facts is a prompt.

    The facts may be wrapped, end in blank lines, or have other lines after them, which are left out unless they hold keys and values themselves.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").strip().split("\n")
    start, _, pairs = _facts(lines)
    lines = "\n".join(lines[:start]).rstrip("\n").split("\n") if pairs else lines
    negative = next((i for i, line in enumerate(lines) if line.lstrip().startswith(NEGATIVE)), len(lines))
    found = {"Prompt": "\n".join(lines[:negative]), "Negative prompt": "\n".join(lines[negative:]).lstrip().removeprefix(NEGATIVE).removeprefix(" ")}
    return {**found, **pairs}


def text_after(text: str) -> str:
    """What an infotext holds after its facts and is read as neither a prompt nor a fact; empty when there is nothing."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").strip().split("\n")
    return "\n".join(lines[_facts(lines)[1] :]).strip()


def _facts(lines: list[str]) -> tuple[int, int, dict[str, str]]:
    """The lines where the facts begin and end, and what they are: the last line that begins with Steps, as A1111's do, else the last one that holds facts."""
    for first in (True, False):
        for start in range(len(lines) - 1, -1, -1):
            if lines[start].lstrip().startswith("Steps:") or not first:
                line, count = _unwrapped(lines[start : start + _WRAPPED])
                pairs = _pairs(line) if first or _pairs(lines[start]) else {}
                if pairs:
                    return start, start + count, pairs
    return len(lines), len(lines), {}


def _unwrapped(lines: list[str]) -> tuple[str, int]:
    """The facts that begin in the first line, in one line, and how many lines they take: up to the last line that holds a pair, or the end of one."""
    text = done = lines[0].strip()
    count = 1
    for number, line in enumerate(map(str.strip, lines[1:]), 2):
        if not line:
            continue
        whole = _whole(text) and not line.startswith(",")
        paired = _KEY.match(line)
        text = f"{text}{',' * (whole and bool(paired))} {line}"
        if not whole or paired or _LATER.search(line):
            done, count = text, number
        if len(text) > _LONGEST:
            break
    return done, count


def _whole(text: str) -> bool:
    """Whether facts end in a whole pair: not in a comma, a key, or an open quote."""
    chunk = text.rpartition(",")[2].rstrip()
    return ":" in chunk and not chunk.endswith(":") and len(_QUOTE.findall(text)) % 2 == 0


def _pairs(line: str) -> dict[str, str]:
    """The facts of a line; nothing when it is no line of facts (A1111 asks for three pairs)."""
    pairs = {key: _unquoted(value) for key, value in _PAIR.findall(line)}
    return pairs if len(pairs) >= 3 and pairs.keys() & _TELLING else {}


def _unquoted(value: str) -> str:
    """A value without its quotes; as it stands when they are not JSON's."""
    if not (value.startswith('"') and value.endswith('"') and len(value) > 1):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value


def size_of(value: str) -> tuple[int, int] | None:
    """Width and height of `512x768`; None when it is something else."""
    found = _SIZE.fullmatch(value.strip())
    return (int(found[1]), int(found[2])) if found else None


def write_hashes(hashes: Mapping[str, str]) -> str:
    """`TI hashes` and `Lora hashes`: name and the first twelve digits of the file's SHA-256, as A1111 writes them."""
    return ", ".join(f"{re.sub('[:,]', '', name)}: {digest[:12]}" for name, digest in hashes.items())


def read_hashes(value: str) -> dict[str, str]:
    """Names and short hashes of `TI hashes` or `Lora hashes`."""
    pairs = (part.partition(":") for part in value.split(","))
    return {name.strip(): digest.strip() for name, colon, digest in pairs if colon and name.strip()}


_ABSENT = {
    "Clip skip": "1",
    "RNG": "GPU",
    "Schedule type": "Automatic",
    "Hires sampler": "Use same sampler",
    "Hires schedule type": "Use same scheduler",
    "Hires checkpoint": "Use same checkpoint",
    "Hires prompt": "",
    "Hires negative prompt": "",
    "Mask mode": "Inpaint masked",
    "Masked content": "original",
    "Inpaint area": "Whole picture",
    "Masked area padding": "32",
}
"""What A1111 understands when a key is absent."""


def parameters(text: str) -> dict[str, str]:
    """The keys as A1111's own reader gives them (png-info, `parameters`): sizes as `Size-1` and `Size-2`, absent keys at what their absence means."""
    found: dict[str, str] = {}
    for key, value in read_infotext(text).items():
        size = None if key in ("Prompt", "Negative prompt") else size_of(value)
        found |= {f"{key}-1": str(size[0]), f"{key}-2": str(size[1])} if size else {key: value}
    return {**_ABSENT, "Hires resize-1": "0", "Hires resize-2": "0", **found}
