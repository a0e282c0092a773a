"""What a step of the journal changes: each change aimed at its file, checked against what is there now, with what is needed to bring it back."""

import json
import math
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from studio import shelves
from studio.errors import Conflict, InputError
from studio.projects.captions import LONGEST, caption_file, clean_caption, decode_caption, described, is_file, own_caption_name, read_bytes, read_caption
from studio.projects.facts import Change, Choices, Crop
from studio.projects.kept_masks import keep_found, kept_mask
from studio.projects.sidecar import key, unkey
from studio.projects.staging import Content, in_words
from studio.projects.text_encodings import Guess, guess_for

TEXTS = frozenset({"caption", "own_caption"})
"""Fields that are caption files: the one that counts, and the one that is the picture's own (`a.png.txt`)."""
FILES = TEXTS | {"mask"}
ENCODING = "encoding"
"""Field of a change that leaves a caption's words and writes them anew as plain UTF-8, which is the only value it can become."""
CHOICES = frozenset(Choices.__dataclass_fields__)
MOST_REPEATS = 10_000
_SHOWN = 60


class Changed(Conflict):
    """Something is not what the person saw any more; `now` holds what each picture says today (caption, mask digest or choice)."""

    def __init__(self, message: str, hint: str, now: dict[str, Any]) -> None:
        super().__init__(message, hint)
        self.now = now


@dataclass(frozen=True)
class Row:
    """One change as the journal keeps it: `file` is what it writes, `original` the bytes of a caption file before it."""

    item: str
    field: str
    before: Any
    after: Any
    file: str = ""
    original: bytes | None = None
    at: float = 0.0

    def values(self, edit: int, place: int) -> tuple[Any, ...]:
        """In the order of the table's columns."""
        return (edit, place, key(self.item), self.field, json.dumps(self.before, ensure_ascii=False), json.dumps(self.after, ensure_ascii=False), self.original, key(self.file), self.at)

    @classmethod
    def of(cls, row: sqlite3.Row) -> "Row":
        """Back from the table."""
        return cls(unkey(row["item"]), row["field"], json.loads(row["before"]), json.loads(row["after"]), unkey(row["file"]), row["original"], row["at"])


@dataclass(frozen=True)
class Aim:
    """A change and the file it means; empty for choices."""

    change: Change
    file: str = ""


def aimed(folder: Path, changes: Iterable[Change]) -> list[Aim]:
    """Changes with their files. Pictures that share a caption file and shall say different things get files of their own. Raises InputError for a field there is not."""
    aims, wanted = [], dict[str, set[str | None]]()
    for change in changes:
        if change.field not in FILES | CHOICES | {ENCODING}:
            raise InputError(f"A picture has no field {change.field!r}.", f"Fields are {', '.join(sorted(FILES | CHOICES | {ENCODING}))}.")
        file = _file(folder / change.item, change.field)
        if change.field == "caption":
            wanted.setdefault(file, set()).add(change.after)
        aims.append(Aim(change, file))
    torn = {file for file, texts in wanted.items() if len(texts) > 1 and len({aim.change.item for aim in aims if aim.file == file}) > 1}
    return [Aim(aim.change, own_caption_name(aim.change.item)) if aim.change.field == "caption" and aim.file in torn else aim for aim in aims]


def _file(image: Path, field: str) -> str:
    """File name that a field of a picture is kept in; empty for a choice."""
    if field in ("caption", ENCODING):
        return caption_file(image).name
    if field == "own_caption":
        return own_caption_name(image.name)
    return image.stem + shelves.MASK_SUFFIX if field == "mask" else ""


def planned(folder: Path, aims: Sequence[Aim], choices: dict[str, Choices]) -> list[Row]:
    """Rows for what really changes, in order. Raises Changed when a `before` is no longer true, and InputError for values that cannot be."""
    rows: list[Row] = []
    states: dict[tuple[str, str], _Standing] = {}
    wrong: dict[str, tuple[Any, Any]] = {}
    at = time.time()
    for aim in aims:
        change = replace(aim.change, before=_checked(aim.change.field, aim.change.before), after=_checked(aim.change.field, aim.change.after))
        if change.before == change.after:
            continue
        place = (aim.file, "") if aim.file else (change.item, change.field)
        was = states.get(place) or _found(folder, aim, choices)
        if change.field == ENCODING:
            if was.original is not None and was.original != encoded(was.now):
                rows.append(Row(change.item, "caption", was.now, was.now, aim.file, was.original, at))
                was = replace(was, original=encoded(was.now))
        elif not _agrees(folder, aim, change.before, was):
            wrong[change.item] = (change.before, was.now)
        elif change.after != was.now:
            rows.append(Row(change.item, change.field, was.now, change.after, aim.file, was.original, at))
            was = replace(was, now=change.after, original=encoded(change.after) if change.field in TEXTS else None)
        states[place] = was
    if wrong:
        raise disagreement("changed since they were read" if len(wrong) > 1 else "changed since it was read", wrong)
    return rows


@dataclass(frozen=True)
class _Standing:
    """What a field said before the step and after the changes planned so far, with the bytes of a caption file."""

    first: Any
    now: Any
    original: bytes | None = None


def _agrees(folder: Path, aim: Aim, before: Any, was: _Standing) -> bool:
    """Whether `before` is what is there; of captions outer space and the lack of a file do not count, of a mask that nobody named anything is right."""
    known = [was.first, was.now]
    if aim.change.field == "mask":
        return before is None or before in known
    if aim.change.field not in TEXTS:
        return before in known
    if was.first is None and aim.file == own_caption_name(aim.change.item):
        known.append(shown_caption(folder / aim.change.item))
    return (before or "").strip() in {(text or "").strip() for text in known}


def shown_caption(image: Path) -> str:
    """What the page shows as a picture's caption."""
    file = caption_file(image)
    return shown_text(str(file), guess_for(image.parent))[0] if is_file(file) else described(image)


def shown_text(file: str, guess: Guess | None = None) -> tuple[str, str]:
    """What a caption file says and what is wrong with it, as a code of captions.TROUBLES; one that cannot be read says nothing."""
    try:
        with open(file, "rb", buffering=0) as stream:
            return read_caption(stream.read(LONGEST + 1), guess)
    except OSError:
        return "", "unreadable"


def _found(folder: Path, aim: Aim, choices: dict[str, Choices]) -> _Standing:
    """What a field says at the beginning of a step."""
    original = None
    if not aim.file:
        now = choice_of(choices.get(aim.change.item), aim.change.field)
    elif aim.change.field == "mask":
        now = keep_found(folder, folder / aim.file)
    else:
        original = caption_bytes(folder / aim.file)
        now = text_now(folder, aim, original)
    return _Standing(now, now, original)


def text_now(folder: Path, aim: Aim, original: bytes | None) -> str | None:
    """What a caption says: its file's bytes as text, else what the folder's metadata file says of the image; None without either."""
    if original is not None:
        return decode_caption(original, guess_for(folder))
    return (described(folder / aim.change.item) or None) if aim.change.field in ("caption", ENCODING) else None


def choice_of(choices: Choices | None, field: str) -> Any:
    """A choice as the journal keeps it."""
    value = getattr(choices or Choices(), field)
    return asdict(value) if isinstance(value, Crop) else value


def caption_bytes(file: Path) -> bytes | None:
    """The bytes of a caption file; None without one. Raises StudioError when it cannot be read, InputError when it is too long to be kept."""
    if not is_file(file):
        return None
    try:
        data = read_bytes(file)
    except OSError as error:
        raise in_words(error, file) from error
    if len(data) > LONGEST:
        raise InputError(f"{file.name} is {file.stat().st_size:,} bytes long; more than {LONGEST // 2**20} MB is no caption and is not changed.", "Move it away, then write a caption.")
    return data


def encoded(text: str | None) -> bytes | None:
    """A caption as it is saved: UTF-8 without a byte order mark."""
    return None if text is None else text.encode("utf-8")


def written(folder: Path, row: Row, way: str) -> Content:
    """What the row's file holds after it ("after") or before it ("before")."""
    if row.field == "mask":
        digest = getattr(row, way)
        return None if digest is None else kept_mask(folder, digest)
    return row.original if way == "before" else encoded(row.after)


def says(folder: Path, row: Row) -> Any:
    """What the row's file says now: text of a caption, digest of a mask, None without a file."""
    file = folder / row.file
    if row.field == "mask":
        return keep_found(folder, file)
    try:
        if is_file(file):
            return decode_caption(read_bytes(file), guess_for(folder))
        return (described(folder / row.item) or None) if row.field == "caption" else None
    except OSError as error:
        raise in_words(error, file) from error


def same(row: Row, value: Any, other: Any) -> bool:
    """Whether two values of a field are alike; of captions outer space does not count."""
    if row.field in TEXTS and isinstance(value, str) and isinstance(other, str):
        return value.strip() == other.strip()
    return bool(value == other)


def _checked(field: str, value: Any) -> Any:
    """A value as the journal keeps it. Raises InputError when the field cannot hold it."""
    if field in FILES:
        if value is not None and not isinstance(value, str):
            raise InputError(f"{field} must be text, not {value!r}.")
        return clean_caption(value) if value is not None else None
    if field == ENCODING:
        return value
    if field == "crop":
        return _checked_crop(value)
    fits = (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_REPEATS) if field == "repeats" else isinstance(value, bool)
    if not fits:
        raise InputError(f"{field} cannot be {value!r}.", f"It is a whole number from 1 to {MOST_REPEATS}." if field == "repeats" else "It is true or false.")
    return value


def _checked_crop(value: Any) -> dict[str, float] | None:
    """A crop as the journal keeps it. Raises InputError when it is none."""
    if value is None:
        return None
    try:
        crop = asdict(value if isinstance(value, Crop) else Crop(**value))
        crop = {name: float(number) for name, number in crop.items()}
    except (TypeError, ValueError) as error:
        raise InputError(f"{value!r} is no crop.", "A crop has x, y and zoom.") from error
    if not all(map(math.isfinite, crop.values())) or crop["zoom"] <= 0:
        raise InputError(f"A crop cannot be at {value!r}.", "Its numbers are finite and zoom is above 0.")
    return crop


def disagreement(what: str, found: dict[str, tuple[Any, Any]]) -> Changed:
    """The conflict that names the first five pictures, with what was expected and what is there now, shortened."""
    lines = [f"{printable(item)} (was {_short(expected)}, is now {_short(now)})" for item, (expected, now) in list(found.items())[:5]]
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    count = "1 picture" if len(found) == 1 else f"{len(found)} pictures"
    return Changed(f"{count} {what}: {', '.join(lines)}{more}.", "Look at them first; nothing was changed.", {item: now for item, (_, now) in found.items()})


def _short(value: Any) -> str:
    """A value in a sentence."""
    if value is None:
        return "nothing"
    text = " ".join(value.split()) if isinstance(value, str) else json.dumps(value)
    return f"“{text[:_SHOWN]}…”" if len(text) > _SHOWN else f"“{text}”"


def printable(name: str) -> str:
    """A file name that can be shown and saved anywhere."""
    return name.encode("utf-8", errors="replace").decode("utf-8")
