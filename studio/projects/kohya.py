"""Data sets of kohya's trainers: folders called `NN_token class`, and the TOML of their configuration, read into one neutral list."""

import codecs
import csv
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from studio.errors import InputError
from studio.shelves import IMAGE_SUFFIXES

_FOLDER = re.compile(r"(\d{1,3})_(.*)", re.DOTALL)
"""With more digits in front, such as a year, a folder is not one of kohya's."""
_ABOVE = frozenset({"img", "imgs", "image", "images", "train", "data"})
_REGULARISATION = frozenset({"reg", "regs", "reg_img", "regularization", "regularisation", "class"})
_MASKS = frozenset({"mask", "masks"})
_HEADING = re.compile(r"\s*\[")
_SUBSET = re.compile(r"\s*\[\[\s*datasets\s*\.\s*subsets\s*\]\]")


@dataclass(frozen=True)
class Subset:
    """One folder of pictures and how it is trained."""

    folder: str
    """Path of the folder, relative to the tree or as the TOML says it."""
    repeats: int = 1
    tokens: str = ""
    """Caption of the pictures that have none of their own."""
    is_reg: bool = False
    """Pictures for prior preservation, not of the subject."""
    extension: str = ""
    """Suffix of the caption files with its dot; empty = any usual one."""
    metadata: str = ""
    """Path of a JSON with captions; empty without one."""
    keep_tokens: int = 0


def read_tree(folders: Iterable[PurePosixPath]) -> list[Subset]:
    """Subsets of a tree, from the folders in it that hold pictures; empty when it is not one of kohya's."""
    known = set(folders)
    numbered = [path for path in known if _numbered(path) and path.parent.name.lower() not in _MASKS]
    if any(path.parent in known for path in numbered):
        return []  # pictures lie beside such a folder: an ordinary one that happens to be called so
    return [_subset(path) for path in sorted(numbered)]


def folder_repeats(name: str) -> tuple[int, str]:
    """Repeats and class tokens that a folder's name says, as `10_sks dog` does; (1, "") for a name that says none."""
    found = _numbered(PurePosixPath(name))
    return (int(found[1]), found[2].strip()) if found else (1, "")


def may_hold_subsets(name: str) -> bool:
    """Whether a folder inside a tree may be one of kohya's, or hold some."""
    return name.lower() in _ABOVE | _REGULARISATION | _MASKS or _numbered(PurePosixPath(name)) is not None


def masks_of(subset: Subset) -> str:
    """Folder of a tree where masks of a subset's pictures may lie, called as the pictures are."""
    folder = PurePosixPath(subset.folder)
    above = folder.parent if folder.parent.name.lower() not in _ABOVE else folder.parent.parent
    return str(above / "masks" / folder.name)


def _numbered(path: PurePosixPath) -> re.Match[str] | None:
    """The parts of a folder's name, when it is one of kohya's."""
    found = _FOLDER.fullmatch(path.name)
    return found if found and int(found[1]) > 0 else None


def _subset(path: PurePosixPath) -> Subset:
    """The subset of one folder of a tree."""
    found = _numbered(path)
    repeats, tokens = (int(found[1]), found[2].strip()) if found else (1, "")
    return Subset(str(path), repeats, tokens, path.parent.name.lower() in _REGULARISATION)


def read_toml(data: bytes, name: str) -> list[Subset]:
    """Subsets of a configuration file called `name`; raises InputError that names the line."""
    text = _decoded(data)
    try:
        found = tomllib.loads(text.replace("\r\n", "\n").replace("\r", "\n"))
    except tomllib.TOMLDecodeError as error:
        hint = "Write paths of Windows in 'single quotes'." if "\\" in text else "Mend that line."
        raise InputError(f"{name} cannot be read: {error}.", hint) from error
    return list(_subsets(found, _Lines(name, text)))


def _decoded(data: bytes) -> str:
    """Text of a file that a person or a program of hers wrote: UTF-8, UTF-16 with its mark, or GB 18030."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("gb18030", errors="replace")


class _Lines:
    """Says in which line of a TOML a key stands, as tomllib does not."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self._lines = text.splitlines()

    def wrong(self, message: str, number: int, key: str, hint: str) -> InputError:
        """An error about a key of the subset with this number; of the first such key elsewhere when the subset does not say it."""
        starts = [at for at, line in enumerate(self._lines) if _SUBSET.match(line)]
        start = starts[number] if 0 <= number < len(starts) else 0
        end = next((at for at in range(start + 1, len(self._lines)) if _HEADING.match(self._lines[at])), len(self._lines)) if starts and number >= 0 else len(self._lines)
        named = re.compile(rf"\s*(?:\[\[?\s*)?[\"']?{re.escape(key)}[\"']?\s*(?:=|\.|\])|.*[{{,]\s*{re.escape(key)}\s*=")
        line = next((at for part in (range(start, end), range(len(self._lines))) for at in part if named.match(self._lines[at])), start)
        return InputError(f"{self.name}, line {line + 1}: {message}", hint)


def _subsets(found: Mapping[str, Any], lines: _Lines) -> Iterator[Subset]:
    """Every subset; what it does not say is said by its data set, else under [general]."""
    general, number = found.get("general", {}), 0
    if not isinstance(general, dict):
        raise lines.wrong("`general` is not a table.", -1, "general", "Write it as [general].")
    for data_set in _tables(found, "datasets", lines):
        for subset in _tables(data_set, "subsets", lines):
            yield _configured({**general, **data_set, **subset}, number, lines)
            number += 1
    if not number:
        raise InputError(f"{lines.name} has no [[datasets.subsets]].", "Each folder of pictures is one such part, with an image_dir.")


def _tables(holder: Mapping[str, Any], key: str, lines: _Lines) -> list[dict[str, Any]]:
    """An array of tables."""
    found = holder.get(key, [])
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        heading = "[[datasets]]" if key == "datasets" else "[[datasets.subsets]]"
        raise lines.wrong(f"`{key}` is not a list of tables.", -1, key, f"Write it as {heading}, in double brackets.")
    return found


_FIELDS: tuple[tuple[str, type, str, Any], ...] = (
    ("image_dir", str, "folder", ""),
    ("num_repeats", int, "repeats", 1),
    ("class_tokens", str, "tokens", ""),
    ("is_reg", bool, "is_reg", False),
    ("caption_extension", str, "extension", ""),
    ("metadata_file", str, "metadata", ""),
    ("keep_tokens", int, "keep_tokens", 0),
)
"""Key in the TOML, its type, the field of Subset, and what counts without it."""
_WORDS = {str: "text in quotes", int: "a whole number", bool: "true or false"}


def _configured(values: Mapping[str, Any], number: int, lines: _Lines) -> Subset:
    """One subset of a TOML; raises InputError."""
    fields = {}
    for key, kind, field, default in _FIELDS:
        value = values.get(key, default)
        if type(value) is not kind:
            raise lines.wrong(f"`{key}` is {value!r}, not {_WORDS[kind]}.", number, key, "Mend that line.")
        fields[field] = value.strip() if isinstance(value, str) else value
    if not fields["folder"]:
        raise lines.wrong("this subset has no image_dir.", number, "image_dir", "Say in which folder its pictures lie.")
    if not 1 <= fields["repeats"] <= 1_000_000:
        raise lines.wrong(f"`num_repeats` is {fields['repeats']}.", number, "num_repeats", "Use 1 or more.")
    if fields["extension"] and not fields["extension"].startswith("."):
        fields["extension"] = "." + fields["extension"]
    return Subset(**fields)


def read_metadata(data: bytes, name: str) -> dict[str, str]:
    """Captions by file name or stem, from kohya's JSON, or a .jsonl or .csv with file_name and text; raises InputError."""
    text = _decoded(data)
    try:
        if name.lower().endswith(".csv"):
            rows: Iterable[Any] = csv.DictReader(text.splitlines(keepends=True))
        elif name.lower().endswith(".jsonl"):
            rows = [json.loads(line) for line in text.split("\n") if line.strip()]
        else:
            return _keyed(json.loads(text), name)
        return {_key(row["file_name"], keep=True): str(row.get("text") or "") for row in rows if isinstance(row, dict) and isinstance(row.get("file_name"), str)}
    except (ValueError, RecursionError, csv.Error) as error:
        raise InputError(f"{name} cannot be read ({str(error)[:100]}).", "It has to list pictures with their captions.") from error


def _keyed(found: Any, name: str) -> dict[str, str]:
    """Captions of kohya's metadata: caption and tags of each picture, joined as its trainer joins them."""
    if not isinstance(found, dict):
        raise InputError(f"{name} does not list pictures by name.", 'It has to look like {"a": {"caption": "..."}}.')
    entries = {path: entry for path, entry in found.items() if isinstance(entry, dict)}
    return {_key(path): ", ".join(part for part in (entry.get("caption"), entry.get("tags")) if isinstance(part, str) and part) for path, entry in entries.items()}


def _key(path: str, keep: bool = False) -> str:
    """How a picture is called in metadata: its bare name (path kept on request), without folders and, where it is a picture's, the suffix."""
    plain = PurePosixPath(path.replace("\\", "/"))
    if keep:
        return str(plain)
    return plain.stem if plain.suffix.lower() in IMAGE_SUFFIXES else plain.name
