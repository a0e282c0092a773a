"""What a run learned, put where prompts find it and taken away again; nothing that lay there is lost, and how it is used is said."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from studio.embedding_shelf import files_of
from studio.errors import Conflict, InputError, NotFound, StudioError
from studio.files import sha256
from studio.networks.acts import check_idle
from studio.requests.train import TrainConfig, check_name, config_class, subject_of
from studio.runs.tails import read_object
from studio.runs.weights import default_of, noted_shelves, parts_of, step_of, weights_of
from studio.settings import Paths
from studio.trash import copy, free, of, stamped, told

STAMPED = re.compile(r"(?P<name>.+)~\d{8}-\d{6}(~\d+)?(?P<end>\.\w+)")
"""Names of files in the trash."""
WRITTEN = "write {copy} in a prompt to use it."
WORN = "write {copy} and {trigger} in a prompt to use it."
CHOSEN = "choose {copy} as the checkpoint to use it."
CALLED = "choose {copy} as the checkpoint and write {trigger} in a prompt to use it."
USAGE = (WRITTEN, WORN, CHOSEN, CALLED)
"""How what was learned is used, as the second half of a sentence; {copy} is what a person can copy. The page has each in its other languages."""


def usage(folder: Path, method: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """How what a run learned is used: a sentence with {places} and their values, of which `copy` is to be copied into a prompt or chosen."""
    noted = noted_shelves(folder)
    shelf, name = next(iter(noted.values()), ""), subject_of(config)
    name = Path(shelf).stem if shelf else name
    trigger = next((Path(path).stem for path in noted.values() if path.startswith("embeddings/")), _trigger(method, config) or name)
    if shelf.startswith("models/Lora/"):
        return _usage(WORN, copy=f"<lora:{name}:1>", trigger=trigger)
    if shelf.startswith("models/hypernetworks/"):
        return _usage(WRITTEN, copy=f"<hypernet:{name}:1>")
    if shelf.startswith("models/Stable-diffusion/"):
        return _usage(CALLED, copy=Path(shelf).name, trigger=trigger) if method == "dreambooth" else _usage(CHOSEN, copy=Path(shelf).name)
    return _usage(WRITTEN, copy=name)


def _usage(text: str, **values: str) -> dict[str, Any]:
    """A sentence and its values."""
    return {"text": text, "values": values}


def _trigger(method: str, config: Mapping[str, Any]) -> str:
    """The word that [name] stood for in training prompts; empty when the settings cannot be read."""
    try:
        made = config_class(method).check(dict(config))
    except (ValueError, StudioError):
        return ""
    return made.word if isinstance(made, TrainConfig) else ""


def shelves_of(paths: Paths, folder: Path) -> dict[str, Path]:
    """Where the results of a run lie, by the ending of each copy; empty for an older run. Raises InputError for a place that is none for results."""
    places = {end: paths.root / path for end, path in noted_shelves(folder).items()}
    for place in places.values():
        if not any(place.parent.resolve().is_relative_to(home.resolve()) for home in _homes(paths)) or ".." in place.parts:
            raise InputError(f"{folder.name} says that its results lie in {place.parent}, where none are kept.", "Its config.json was changed by hand.")
    return places


def _homes(paths: Paths) -> tuple[Path, ...]:
    """Folders of results."""
    return (paths.embeddings, paths.lora, paths.hypernetworks, paths.checkpoints)


def use(paths: Paths, folder: Path, which: str | int | None, new_name: str = "") -> dict[str, Any]:
    """Put a run's weights, with what was kept beside them, onto the shelves under the name they have there, or a new one; what lay there goes to the trash.

    `which` is as in `weights_of`, or None for the best where one was measured and else the last.
    Returns `step`, None for a file that is of no step, whether it is the `best`, and `kept`, which `undo_use` takes. Raises NotFound, InputError, Conflict.
    """
    source = weights_of(folder, default_of(folder) if which is None else which)
    shelves = shelves_of(paths, folder)
    main = next(iter(shelves.values()), None) or _older(paths, folder)
    word = _word(new_name or main.stem)
    moves = {part: _renamed(shelves.get(end, main.with_suffix(part.suffix)), main.stem, new_name and word) for end, part in parts_of(folder, source).items()}
    check_idle(paths, word, "replaced")
    there = [file for target in moves.values() for file in _there(paths, target)]
    if new_name and there:
        raise Conflict(f"There is {there[0].parent.name}/{there[0].name} already.", "Choose another name.")
    with told(f"{word} was not changed"):
        replaced = sha256(there[0])[:10] if there else ""
        kept = [_kept(paths, file) for file in there]
        for part, target in moves.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            copy(part, target)
        for other in there:
            if other not in moves.values():
                other.unlink()
    target = moves[source]
    step, best = step_of(folder, source)
    return {"name": word, "path": str(target), "hash": sha256(target)[:10], "replaced": replaced, "kept": kept, "step": step, "best": best}


def undo_use(paths: Paths, folder: Path, kept: Sequence[str]) -> dict[str, Any]:
    """Put back what `use` kept in the trash; what lies in its place goes there in turn. Raises NotFound, Conflict, InputError."""
    shelves = shelves_of(paths, folder)
    mains = list(shelves.values()) or [_older(paths, folder)]
    back = {target: source for text in kept for source, target in [_place(paths, text, mains)]}
    if not back:
        raise NotFound("Nothing was kept in the trash.", "Choose weights of the run instead.")
    check_idle(paths, mains[0].stem, "replaced")
    with told(f"{mains[0].stem} was not changed"):
        there = [file for main in mains for file in _there(paths, main)]
        now = [_kept(paths, file) for file in there]
        for target, source in back.items():
            copy(source, target)
        for other in there:
            if other not in back:
                other.unlink()
    target = next(iter(back))
    return {"name": target.stem, "path": str(target), "hash": sha256(target)[:10], "kept": now}


def _older(paths: Paths, folder: Path) -> Path:
    """Where the embedding of an older run lies, or would; raises NotFound when it does not say which it taught."""
    config = read_object(folder / "config.json").get("config")
    subject = subject_of(config) if isinstance(config, Mapping) else ""
    if not subject:
        raise NotFound(f"The settings of {folder.name} cannot be read.")
    word = _word(subject)
    return next(iter(files_of(paths, word)), paths.embeddings / f"{word}.pt")


def _renamed(shelf: Path, before: str, word: str) -> Path:
    """A place on a shelf under another name, or as it is when that is empty."""
    if not word:
        return shelf
    rest = shelf.name[len(before) :] if shelf.name.startswith(before) else shelf.suffix
    return shelf.with_name(word + rest)


def _there(paths: Paths, target: Path) -> list[Path]:
    """What lies where a result shall lie: the file itself, and beside an embedding every one that prompts would take for it."""
    found = [target] if target.is_file() else []
    if target.is_relative_to(paths.embeddings):
        found += [file for file in files_of(paths, target.stem) if file not in found and file.parent == target.parent]
    return found


def _kept(paths: Paths, file: Path) -> str:
    """Copy a file into the trash, under its name with the time; returns its place there."""
    home = next(home for home in _homes(paths) if file.is_relative_to(home))
    kept = copy(file, _made(free(of(paths, home.name) / f"{stamped(file.stem)}{file.suffix}", file.suffix)))
    return f"{home.name}/{kept.name}"


def _made(path: Path) -> Path:
    """The path, its folder being there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _place(paths: Paths, text: str, mains: Sequence[Path]) -> tuple[Path, Path]:
    """A file in the trash, and where it lay; raises NotFound for what is none of this run's."""
    kind, _, name = text.rpartition("/")
    said = STAMPED.fullmatch(name)
    home = next((home for home in _homes(paths) if home.name == (kind or paths.embeddings.name)), None)
    source = of(paths, kind or paths.embeddings.name) / name
    if said is None or home is None or "\\" in name or "\0" in name or not source.is_file():
        raise NotFound(f"{text[:120]!r} is not in the trash.")
    main = next((main for main in mains if main.is_relative_to(home) and _alike(main, said["name"])), None)
    if main is None:
        raise NotFound(f"{text[:120]!r} is none of what this run taught.")
    return source, main.with_name(said["name"] + said["end"])


def _alike(main: Path, name: str) -> bool:
    """Whether a file of this name would stand in the place of a result."""
    return main.stem.lower() == name.lower() or main.name.lower() == name.lower()


def _word(name: str) -> str:
    """A name that can be a file; raises InputError."""
    try:
        return check_name(name)
    except ValueError as error:
        raise InputError(f"Name: {error}") from error
