"""What a person does to an embedding as a file: rename, duplicate, move to the trash and back; needs no torch and loses nothing."""

from pathlib import Path
from typing import Any

from studio import shelves, trash
from studio.errors import Conflict, InputError, NotFound
from studio.jobs import LIVE, JobStore
from studio.peeking import carries_embedding, is_second_half
from studio.prompts.words import composed, fold
from studio.requests.train import check_name, names_of
from studio.settings import Paths

WHERE = trash.WHERE
WIDTHS = {768: "SD 1.x", 1024: "SD 2.x", 2048: "SDXL"}
"""Width of a vector, and the family of checkpoints it is for."""
PICTURES = (".png", ".jpg", ".jpeg", ".webp")


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
    """All embedding files that this name in a prompt could mean, the exact match first; a path such as `folder/name` means that one file."""
    named = shelves.embedding_names(paths)
    if "/" in name and name in named:
        return [named[name]]
    found = [p for p in shelves.embedding_files(paths) if fold(p.stem) == fold(name)]
    return sorted(found, key=lambda p: composed(p.stem) != composed(name))


def check_free(paths: Paths, path: Path, overwrite: bool) -> None:
    """Raise Conflict when the name is taken: prompts do not tell upper from lower case, nor one suffix from another."""
    for taken in shelves.embedding_files(paths):
        if fold(taken.stem) != fold(path.stem):
            continue
        if taken != path:
            raise Conflict(f"Name: prompts could not tell {path.stem!r} from {taken.name!r}, which exists.", "Choose another name, or move that file away.")
        if not overwrite:
            raise Conflict(f"Name: {path.stem!r} is taken.", 'Choose another name, or tick "Overwrite Old Embedding".')


def check_idle(paths: Paths, name: str, act: str) -> None:
    """Raise Conflict while a training uses this embedding, or waits to: it reads the file by name and writes it again at its end."""
    for job in JobStore(paths.database).jobs(states=LIVE, kind="train", limit=1000):
        config = job.request.get("config", {})
        if ("embedding" in config or "vectors" in config) and name.lower() in names_of(config):
            raise Conflict(f"{name!r} cannot be {act} while a training of it is {job.state}.", "Stop that training first, or wait for its end.")


def rename(paths: Paths, name: str, to: str) -> dict[str, str]:
    """Give an embedding another name, with what lies beside it; returns the new path and what that means for prompts. Raises NotFound, InputError, Conflict."""
    source, word = file_of(paths, name), _word(to)
    check_idle(paths, source.stem, "renamed")
    if word == source.stem:
        raise InputError(f"Name: it is called {word!r} already.", "Type another name.")
    if fold(word) != fold(source.stem):
        check_free(paths, source.with_name(word + source.suffix), False)
    moves = [(file, file.with_name(word + file.name[len(source.stem) :])) for file in family(source)]
    with trash.told(f"{source.stem!r} was not renamed"):
        trash.move(moves)
    note = f"Write {word!r} in prompts from now on; prompts, styles and pictures' infotexts that say {source.stem!r} no longer mean it."
    if source.suffix.lower() in PICTURES:
        note = f"Write {word!r} in prompts from now on. The name inside the picture stays, and prompts find it by that name too, as in A1111; convert it to .pt to have {word!r} only."
    return {"name": word, "path": str(source.with_name(word + source.suffix)), "before": source.stem, "note": note}


def duplicate(paths: Paths, name: str, to: str) -> dict[str, str]:
    """Copy an embedding, with what lies beside it, under another name; raises NotFound, InputError, Conflict, OutOfSpace."""
    source, word = file_of(paths, name), _word(to)
    target = source.with_name(word + source.suffix)
    check_free(paths, target, False)
    with trash.told(f"{source.stem!r} was not copied"):
        for file in family(source)[::-1]:  # the embedding itself last, so that it is never seen without its other half
            trash.copy(file, file.with_name(word + file.name[len(source.stem) :]))
    return {"name": word, "path": str(target)}


def delete(paths: Paths, name: str) -> trash.Trashed:
    """Move an embedding, with what lies beside it, to outputs/trash/embeddings, where `restore` finds it; raises NotFound, and Conflict while a training uses it."""
    source = file_of(paths, name)
    check_idle(paths, source.stem, "deleted")
    with trash.told(f"{source.stem!r} was not deleted"):
        return _shelf(paths).put(family(source))


def restore(paths: Paths, trashed_id: str) -> dict[str, str]:
    """Bring an embedding back from the trash to where it lay; raises NotFound, and Conflict when its name is taken meanwhile."""
    main = _shelf(paths).bring_back(trashed_id, lambda path: check_free(paths, path, False))
    return {"name": main.stem, "path": str(main)}


def trashed(paths: Paths) -> list[trash.Trashed]:
    """Embeddings in the trash, newest first."""
    return _shelf(paths).trashed()


def family(file: Path) -> list[Path]:
    """An embedding's file first, then what belongs to it: its .optim, the second half of diffusers' pair, its notes, its preview pictures."""
    beside = [file.with_name(f"{file.name}.optim"), file.with_name(f"{file.stem}_2{file.suffix}"), file.with_name(f"{file.stem}.json")]
    beside += [file.with_name(f"{file.stem}{middle}{suffix}") for suffix in PICTURES for middle in (".preview", "") if middle or suffix != file.suffix.lower()]
    kept = [path for path in beside if path.is_file() and (path.stem != f"{file.stem}_2" or is_second_half(path)) and not carries_embedding(path)]
    return [file, *dict.fromkeys(kept)]


def _word(name: str) -> str:
    """A name that can be a file and a word; raises InputError."""
    try:
        return check_name(name)
    except ValueError as error:
        raise InputError(f"Name: {error} (got {name[:60]!r}).") from error


def _shelf(paths: Paths) -> trash.Shelf:
    """Embeddings, as the trash sees them."""
    return trash.Shelf("embedding", trash.of(paths, "embeddings"), paths.embeddings, shelves.EMBEDDING_SUFFIXES)
