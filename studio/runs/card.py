"""Recipe cards: a run as one zip or one PNG that another studio takes in as the same form, with notes on what is missing there."""

import contextlib
import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from studio import __version__, shelves
from studio.errors import InputError, NotFound, Unreadable
from studio.projects.archive import Archive
from studio.requests.train import CONFIGS, TrainConfig, config_class
from studio.runs.acts import clone, run_folder
from studio.runs.chunks import text_of, with_text
from studio.runs.reading import view
from studio.runs.weights import best_copy, copies, inside, parts_of
from studio.settings import Paths

KEYWORD = "studio-recipe"
"""What the text in a PNG is called."""
MOST_CARD, MOST_RECIPE, MOST_WEIGHTS = 256 * 2**20, 4 * 2**20, 200 * 2**20
"""Bytes of a card's file, of its recipe.json, and of the weights that come along; larger ones are left out."""
NEEDED = {"embedding": "x", "name": "x", "data": "x", "class_word": "x"}
"""What settings need before one of them can be checked for itself."""
PARTS = ("template.json", "curve.csv", "probe.csv", "verdicts.jsonl", "journal.jsonl", "best.json")
"""Files of a run that a zip holds; others name folders of this machine, or captions."""
FACTS = ("checkpoint", "checkpoint_hash", "first_step", "started", "versions", "device", "dtype", "data_fingerprint", "fingerprint")
"""Facts of a run that a recipe tells."""


def recipe(folder: Path) -> dict[str, Any]:
    """What a run was made of, fit for JSON: settings, template, facts, fingerprint of its pictures and captions, and how it ended."""
    seen = view(folder, None, {})
    return {
        "format": 1,
        "studio": __version__,
        "name": seen["name"],
        "note": seen["note"],
        "method": seen["method"],
        "config": {**clone(folder), "data": _last(seen["config"].get("data"))},
        "template": _json(folder / "template.json"),
        "facts": {name: value for name, value in seen["facts"].items() if name in FACTS},
        "captions": fingerprint(folder),
        "result": {name: seen[name] for name in ("state", "step", "seconds", "verdict", "best")},
    }


def _json(path: Path) -> Any:
    """The value of a JSON file; None when there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _last(path: Any) -> str:
    """The last part of a path of any system."""
    return str(path or "").replace("\\", "/").rstrip("/").rpartition("/")[2]


def fingerprint(folder: Path) -> str:
    """A word that is the same for the same captions, in any order and on any machine; empty when the run did not note them."""
    known = _json(folder / "data.json")
    captions = sorted(str(entry.get("caption", "")) for entry in known if isinstance(entry, dict)) if isinstance(known, list) else []
    return hashlib.sha256(json.dumps(captions, ensure_ascii=False).encode()).hexdigest()[:16] if captions else ""


def picture(folder: Path) -> Path:
    """The preview nearest to the best measurement, else the newest one; raises NotFound when there is none."""
    seen = view(folder, None, {})
    there = [p for p in seen["previews"] if isinstance(p.get("path"), str) and (folder / p["path"]).is_file() and isinstance(p.get("step"), int)]
    if not there:
        raise NotFound(f"{folder.name} has no preview.", "Export it as a zip instead.")
    best = (seen["best"] or {}).get("step")
    chosen = min(there, key=lambda p: abs(p["step"] - best)) if isinstance(best, int) else max(there, key=lambda p: p["step"])
    return inside(folder, chosen["path"])


def as_png(paths: Paths, name: str) -> bytes:
    """A run's best preview with its recipe inside; raises NotFound, Unreadable."""
    folder = run_folder(paths, name)
    return with_text(picture(folder).read_bytes(), KEYWORD, json.dumps(recipe(folder), ensure_ascii=False))


def as_zip(paths: Paths, name: str, pictures: bool = False) -> bytes:
    """A run's settings, curves, best preview and best weights as a zip; with `pictures` those it learned from too. Raises NotFound, InputError."""
    folder = run_folder(paths, name)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as pack:
        pack.writestr("recipe.json", json.dumps(recipe(folder), indent=2, ensure_ascii=False))
        for target, file in _files(folder, pictures):
            pack.write(file, target)
    return buffer.getvalue()


def _files(folder: Path, pictures: bool) -> Iterable[tuple[str, Path]]:
    """Files of a zip by their place in it."""
    yield from ((part, folder / part) for part in PARTS if (folder / part).is_file())
    with contextlib.suppress(NotFound):
        yield "preview.png", picture(folder)
    best, there = best_copy(folder).get("path"), list(copies(folder).values())
    weights = inside(folder, best) if best else inside(folder, f"embeddings/{there[-1].name}") if there else None
    parts = list(parts_of(folder, weights).values()) if weights else []
    if sum(file.stat().st_size for file in parts) <= MOST_WEIGHTS:
        yield from ((f"embeddings/{file.name}", file) for file in parts)
    if pictures:
        yield from _pictures(folder)


def _pictures(folder: Path) -> Iterable[tuple[str, Path]]:
    """The pictures and captions of a run's data set; raises NotFound when it is gone, InputError when they are too large."""
    place = Path(str(clone(folder).get("data", "")))
    if not place.is_dir():
        raise NotFound(f"The pictures of {folder.name} are not in {str(place)!r} any more.", "Export the card without pictures.")
    found = shelves.images(place)
    if sum(file.stat().st_size for file in found) > MOST_CARD:
        raise InputError(f"The pictures are larger than {MOST_CARD // 2**20} MB.", "Export the card without them, and the data set from its own room.")
    for file in found:
        for each in (file, file.with_suffix(".txt")):
            if each.is_file():
                yield f"data/{each.name}", each


def import_card(paths: Paths, file: Path, name: str = "", hashes: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A card as the form's values and notes on what is missing here: {method, values, notes, name, recipe}; `hashes` are the known ones of checkpoints by name. Raises Unreadable, InputError."""
    if file.stat().st_size > MOST_CARD:
        raise Unreadable(f"{name or file.name} is larger than {MOST_CARD // 2**20} MB.", "A recipe card is smaller.")
    with file.open("rb") as raw:
        head = raw.read(8)
    text = text_of(file.read_bytes(), KEYWORD) if head.startswith(b"\x89PNG") else _from_zip(file)
    if text is None:
        raise Unreadable(f"There is no recipe in {name or file.name}.", "Other programs may have removed it; only the original file carries it.")
    known = _checked(text)
    values, notes = _values(config_class(known["method"]), known["config"])
    return {"name": str(known.get("name", "")), "method": known["method"], "values": values, "notes": [*notes, *_missing(paths, values, known, hashes or {})], "recipe": known}


def _from_zip(file: Path) -> str | None:
    """The text of recipe.json in a zip; raises Unreadable."""
    with Archive(file) as archive:
        member = next((m for m in archive.members if str(m.path) == "recipe.json"), None)
        if member is None:
            return None
        data = bytearray()
        for piece in archive.pieces(member):
            data += piece
            if len(data) > MOST_RECIPE:
                raise Unreadable(f"The recipe in {file.name} is larger than {MOST_RECIPE // 2**20} MB.", "It is not one that a studio wrote.")
    return data.decode("utf-8", errors="replace")


def _checked(text: str) -> dict[str, Any]:
    """A recipe as an object with settings; raises Unreadable."""
    try:
        known = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable("The recipe in the card is damaged.", "Export it again.") from error
    if not isinstance(known, dict) or not isinstance(known.get("config"), dict) or known.get("format") != 1 or known.get("method") not in {cls.method for cls in CONFIGS}:
        raise Unreadable("The recipe is not one that is understood here.", "It may come from a newer studio.")
    return known


def _values(cls: type[TrainConfig], config: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Settings of a method that can be used, each checked for itself, and a note for each that cannot."""
    values, notes = {}, []
    needed = {name: value for name, value in NEEDED.items() if name in cls.model_fields}
    for name, value in config.items():
        if name not in cls.model_fields:
            notes.append(f"The setting {name[:60]!r} is not known here; it was left out.")
            continue
        try:
            cls.check({**needed, name: value})
        except InputError as error:
            if value != "":
                notes.append(f"{error.message} It was left out.")
            continue
        values[name] = value
    return values, notes


def _missing(paths: Paths, values: dict[str, Any], known: Mapping[str, Any], hashes: Mapping[str, str]) -> Sequence[str]:
    """What a recipe needs that is not here, in sentences; a data set of the same name is taken for the one that was meant."""
    notes = []
    facts = known["facts"] if isinstance(known.get("facts"), dict) else {}
    notes += _checkpoint(shelves.checkpoints(paths), values, facts, hashes)
    if "embedding" in config_class(known["method"]).model_fields and str(values.get("embedding", "")) not in {card.name for card in shelves.embeddings(paths)}:
        notes.append(f"There is no embedding {str(values.get('embedding', ''))!r} yet; create it first.")
    start = str(values.get("start_from") or "")
    if start and start.lower() not in _stems(paths):
        values.pop("start_from")
        notes.append(f"It went on from {start!r}, which is not here; this one begins anew.")
    name = _last(values.get("data"))
    place = paths.datasets / name
    if name and place.is_dir():
        values["data"] = str(place)
    else:
        values.pop("data", None)
        notes.append(f"The data set {name!r} is not here; choose your own.")
    if shelves.template_file(paths, str(values.get("template", "subject_filewords"))) is None:
        notes.append(f"The prompt template {values['template']!r} is not here; its lines are in the card.")
    return notes


def _stems(paths: Paths) -> set[str]:
    """Names of everything that a training can go on from, in small letters."""
    return {name.lower() for name in (*shelves.loras(paths), *shelves.hypernetworks(paths), *(Path(name).stem for name in shelves.checkpoints(paths)))}


def _checkpoint(there: Sequence[str], values: dict[str, Any], facts: Mapping[str, Any], hashes: Mapping[str, str]) -> list[str]:
    """Choose the checkpoint of the same hash, else of the same name, else none; a sentence when it is not surely the same."""
    wanted, digest = str(values.pop("checkpoint", "") or facts.get("checkpoint") or ""), str(facts.get("checkpoint_hash") or "")[:10]
    same = next((name for name in there if digest and hashes.get(name, "")[:10] == digest), None)
    named = same or next((name for name in there if wanted and Path(name).stem == Path(_last(wanted)).stem), None)
    if named is None:
        return [f"The checkpoint {wanted!r} (hash {digest or 'unknown'}) is not here; the default one is chosen."] if wanted else []
    values["checkpoint"] = named
    if same is None and digest and hashes.get(named):
        return [f"The checkpoint {named!r} here has the hash {hashes[named][:10]}, the recipe's has {digest}: the result will differ."]
    return []
