"""What a person does to an embedding as a file: rename, duplicate, move to the trash and back; needs no torch and loses nothing."""

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio import shelves
from studio.errors import Conflict, InputError, NotFound, OutOfSpace, StudioError
from studio.files import atomic_write
from studio.jobs import LIVE, JobStore
from studio.peeking import carries_embedding, is_second_half
from studio.requests.train import check_name
from studio.settings import Paths

WHERE = "where.json"
"""Inside a folder of the trash: where its files lay."""
WIDTHS = {768: "SD 1.x", 1024: "SD 2.x", 2048: "SDXL"}
"""Width of a vector, and the family of checkpoints it is for."""
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
_STAMP = re.compile(r"~\d{8}-\d{6}(~\d+)?$")


@dataclass(frozen=True)
class Trashed:
    """An embedding in the trash: what `restore` takes, and the word it was."""

    id: str
    name: str


def told(card: shelves.EmbeddingCard) -> dict[str, Any]:
    """One embedding of the shelf in plain values: what the worker found in it, the family it is for, or why it cannot be used."""
    facts = {"vectors": card.vectors, "width": card.width, "family": WIDTHS.get(card.width or 0), "step": card.step, "problem": card.problem}
    return {"name": card.name, "file": card.path.name, **facts}


def exports(paths: Paths) -> Path:
    """Where converted embeddings lie that are to be given away."""
    return paths.outputs / "exports" / "embeddings"


def exported(paths: Paths, path: str) -> Path | None:
    """A file among those to be given away; None for anything else."""
    try:
        found = Path(path).resolve()
        return found if found.is_relative_to(exports(paths).resolve()) and found.is_file() else None
    except (OSError, ValueError):
        return None


def file_of(paths: Paths, name: str) -> Path:
    """The file of an embedding, letter case aside; raises NotFound."""
    found = files_of(paths, name)
    if not found:
        raise NotFound(f"Embedding: there is no {name[:120]!r} in {paths.embeddings.name}.", "Create it first.")
    return found[0]


def files_of(paths: Paths, name: str) -> list[Path]:
    """All files of the shelf that prompts could take for this name, the exact one first."""
    found = [p for p in shelves.embedding_files(paths) if p.stem.lower() == name.lower()]
    return sorted(found, key=lambda p: p.stem != name)


def check_free(paths: Paths, path: Path, overwrite: bool) -> None:
    """Raise Conflict when the name is taken: prompts do not tell upper from lower case, nor one suffix from another."""
    for taken in shelves.embedding_files(paths):
        if taken.stem.lower() != path.stem.lower():
            continue
        if taken != path:
            raise Conflict(f"Name: prompts could not tell {path.stem!r} from {taken.name!r}, which exists.", "Choose another name, or move that file away.")
        if not overwrite:
            raise Conflict(f"Name: {path.stem!r} is taken.", 'Choose another name, or tick "Overwrite Old Embedding".')


def check_idle(paths: Paths, name: str, act: str) -> None:
    """Raise Conflict while a training uses this embedding, or waits to: it reads the file by name and writes it again at its end."""
    for job in JobStore(paths.database).jobs(states=LIVE, kind="train", limit=1000):
        word = str(job.request.get("config", {}).get("embedding", ""))
        if word.lower() == name.lower():
            raise Conflict(f"{name!r} cannot be {act} while a training of it is {job.state}.", "Stop that training first, or wait for its end.")


def rename(paths: Paths, name: str, to: str) -> dict[str, str]:
    """Give an embedding another name, with what lies beside it; returns the new path and what that means for prompts. Raises NotFound, InputError, Conflict."""
    source, word = file_of(paths, name), _word(to)
    check_idle(paths, source.stem, "renamed")
    if word == source.stem:
        raise InputError(f"Name: it is called {word!r} already.", "Type another name.")
    if word.lower() != source.stem.lower():
        check_free(paths, source.with_name(word + source.suffix), False)
    moves = [(file, file.with_name(word + file.name[len(source.stem) :])) for file in family(source)]
    with _told(f"{source.stem!r} was not renamed"):
        _move(moves)
    note = f"Write {word!r} in prompts from now on; prompts, styles and pictures' infotexts that say {source.stem!r} no longer mean it."
    if source.suffix.lower() in PICTURES:
        note += f" Inside the picture it is still called by its old name, which A1111 goes by; convert it to .pt to make {word!r} its name there too."
    return {"name": word, "path": str(source.with_name(word + source.suffix)), "before": source.stem, "note": note}


def duplicate(paths: Paths, name: str, to: str) -> dict[str, str]:
    """Copy an embedding, with what lies beside it, under another name; raises NotFound, InputError, Conflict, OutOfSpace."""
    source, word = file_of(paths, name), _word(to)
    target = source.with_name(word + source.suffix)
    check_free(paths, target, False)
    with _told(f"{source.stem!r} was not copied"):
        for file in family(source)[::-1]:  # the embedding itself last, so that it is never seen without its other half
            with atomic_write(file.with_name(word + file.name[len(source.stem) :])) as temporary:
                shutil.copyfile(file, temporary)
    return {"name": word, "path": str(target)}


def delete(paths: Paths, name: str) -> Trashed:
    """Move an embedding, with what lies beside it, to outputs/trash/embeddings, where `restore` finds it; raises NotFound, and Conflict while a training uses it."""
    source = file_of(paths, name)
    check_idle(paths, source.stem, "deleted")
    with _told(f"{source.stem!r} was not deleted"):
        place = _free(_trash(paths) / f"{source.stem}~{time.strftime('%Y%m%d-%H%M%S')}")
        place.mkdir(parents=True)
        with atomic_write(place / WHERE) as temporary:
            temporary.write_text(json.dumps({"file": source.name, "folder": source.parent.relative_to(paths.embeddings).as_posix()}, ensure_ascii=False), encoding="utf-8")
        _move([(file, place / file.name) for file in family(source)])
    return Trashed(place.name, source.stem)


def restore(paths: Paths, trashed_id: str) -> dict[str, str]:
    """Bring an embedding back from the trash to where it lay; raises NotFound, and Conflict when its name is taken meanwhile."""
    place = _trash(paths) / trashed_id
    if not trashed_id or trashed_id.startswith(".") or Path(trashed_id).name != trashed_id or "\\" in trashed_id or "\0" in trashed_id or not place.exists():
        raise NotFound(f"There is no embedding {trashed_id[:120]!r} in the trash.", "It may have been brought back already.")
    file_name, folder = _where(paths, place)
    files = [file for file in sorted(place.iterdir()) if file.name != WHERE] if place.is_dir() else [place]
    main = folder / file_name
    moves = [(file, folder / file.name if place.is_dir() else main) for file in files]
    if main not in [target for _, target in moves] or main.suffix.lower() not in shelves.EMBEDDING_SUFFIXES:
        raise NotFound(f"{trashed_id[:120]!r} holds no embedding any more.", "Its files were taken out of the trash by hand.")
    check_free(paths, main, False)
    with _told(f"{main.stem!r} was not brought back"):
        folder.mkdir(parents=True, exist_ok=True)
        _move(moves)
        if place.is_dir():
            shutil.rmtree(place)
    return {"name": main.stem, "path": str(main)}


def trashed(paths: Paths) -> list[Trashed]:
    """Embeddings in the trash, newest first."""
    place = _trash(paths)
    found = [entry for entry in place.iterdir() if not entry.name.startswith(".")] if place.is_dir() else []
    found.sort(key=lambda entry: (_moment(entry), entry.stat().st_ctime_ns), reverse=True)
    return [Trashed(entry.name, Path(_where(paths, entry)[0]).stem) for entry in found]


def family(file: Path) -> list[Path]:
    """An embedding's file first, then what belongs to it: its .optim, the second half of diffusers' pair, its preview pictures."""
    beside = [file.with_name(f"{file.name}.optim"), file.with_name(f"{file.stem}_2{file.suffix}")]
    beside += [file.with_name(f"{file.stem}{middle}{suffix}") for suffix in PICTURES for middle in (".preview", "") if middle or suffix != file.suffix.lower()]
    kept = [path for path in beside if path.is_file() and (path.stem != f"{file.stem}_2" or is_second_half(path)) and not carries_embedding(path)]
    return [file, *dict.fromkeys(kept)]


def _word(name: str) -> str:
    """A name that can be a file and a word; raises InputError."""
    try:
        return check_name(name)
    except ValueError as error:
        raise InputError(f"Name: {error} (got {name[:60]!r}).") from error


def _trash(paths: Paths) -> Path:
    """Where deleted embeddings lie."""
    return paths.outputs / "trash" / "embeddings"


def _where(paths: Paths, place: Path) -> tuple[str, Path]:
    """How the file of what lies in the trash was called and in which folder it lay; a file without a note lay in the embeddings folder itself."""
    if place.is_file():
        return _STAMP.sub("", place.stem) + place.suffix, paths.embeddings
    try:
        told = json.loads((place / WHERE).read_text(encoding="utf-8"))
        file, folder = Path(str(told["file"])).name, (paths.embeddings / str(told["folder"])).resolve()
    except (OSError, ValueError, KeyError, TypeError):
        held = [file.name for file in sorted(place.iterdir()) if file.suffix.lower() in shelves.EMBEDDING_SUFFIXES]
        return min(held, key=len, default=""), paths.embeddings
    return file, folder if folder.is_relative_to(paths.embeddings.resolve()) else paths.embeddings


def _moment(entry: Path) -> str:
    """When something came into the trash, as its name tells."""
    found = _STAMP.search(entry.name if entry.is_dir() else entry.stem)
    return found[0] if found else ""


def _free(path: Path) -> Path:
    """The path, or one with a number when it is taken."""
    number, tried = 2, path
    while tried.exists():
        tried, number = path.with_name(f"{path.name}~{number}"), number + 1
    return tried


def _move(moves: list[tuple[Path, Path]]) -> None:
    """Move files one after another; when one cannot be moved, those before it go back."""
    done: list[tuple[Path, Path]] = []
    try:
        for source, target in moves:
            if target.exists() and not target.samefile(source):
                raise Conflict(f"{target.name} exists already.", "Choose another name, or move that file away.")
            shutil.move(source, target)
            done.append((source, target))
    except (OSError, StudioError):
        for source, target in reversed(done):
            os.replace(target, source)
        raise


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Say in words what the disk refused."""
    try:
        yield
    except OSError as error:
        if error.errno == 28:
            raise OutOfSpace(f"{what}: the disk is full.", "Free some space and try again.") from error
        raise StudioError(f"{what}: {error.strerror or error}.", "See whether the folder may be written to.") from error
