"""What a person does to a network as a file: note something, give it a picture, rename, duplicate, move to the trash and back, write texts into it; loses nothing."""

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from studio import embedding_shelf, trash
from studio.errors import Conflict, InputError
from studio.files import atomic_write
from studio.jobs import LIVE, JobStore
from studio.networks.facts import facts_of, texts_of
from studio.networks.header import write_metadata
from studio.networks.metadata import with_card
from studio.networks.notes import Notes, file_of, read_notes, write_notes
from studio.networks.shelf import PICTURES, Kind, card, previews_of
from studio.networks.shelf import file_of as network_of
from studio.prompts.words import fold
from studio.requests.train import check_name, names_of
from studio.settings import Paths

LARGEST_PICTURE = 64 * 2**20
SIGNATURES = ((b"\x89PNG\r\n\x1a\n", ".png", "image/png"), (b"\xff\xd8\xff", ".jpg", "image/jpeg"), (b"RIFF", ".webp", "image/webp"))
"""How the bytes of a picture begin, the ending of its file, and its media type."""
CARD = ("description", "author", "trigger_phrase", "tags")
"""Texts of the model card that a person may write into a file."""
LONGEST_TITLE = 500
PAINTING = ("generate", "plot", "prompt_matrix", "prompts_from_file", "sd_upscale")
"""Kinds of jobs that make pictures."""


def edit(paths: Paths, kind: Kind, name: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Change some notes beside a network and return its card; raises NotFound, InputError."""
    path = network_of(paths, kind, name)
    known = {f.name for f in fields(Notes)}
    with trash.told(f"The notes of {path.stem!r} were not kept"):
        write_notes(path, replace(read_notes(path), **{key: value for key, value in changes.items() if key in known}))
    return card(paths, kind, path)


def set_picture(paths: Paths, kind: Kind, name: str, data: bytes) -> dict[str, Any]:
    """Give a network a preview picture beside its file; the one it had goes to outputs/trash/previews. Raises NotFound, InputError for what is no PNG, JPEG or WebP, Conflict."""
    path = network_of(paths, kind, name)
    suffix = _picture_kind(data)[0]
    if path.suffix.lower() in PICTURES:
        raise Conflict(f"{path.name} is a picture itself.", "It shows itself; convert it to .pt to give it another picture.")
    with trash.told(f"{path.stem!r} has no new picture"):
        place, target = trash.of(paths, "previews"), path.with_name(f"{path.stem}.preview{suffix}")
        place.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as temporary:
            temporary.write_bytes(data)  # all of it is there before the old ones go
            trash.move([(old, trash.free(place / f"{trash.stamped(old.stem)}{old.suffix}", old.suffix)) for old in previews_of(path)])
    return card(paths, kind, path)


def newest_picture(paths: Paths) -> Path:
    """The picture that was generated last; raises InputError when there is none."""
    for job in JobStore(paths.database).jobs(kind=None, limit=200):
        made = [Path(str(image)) for image in (job.result or {}).get("images", ())] if job.kind in PAINTING else []
        found = next((image for image in made if image.is_file() and image.resolve().is_relative_to(paths.images.resolve())), None)
        if found is not None:
            return found
    raise InputError("There is no generated picture yet.", "Paint one first, or choose a file.")


def write_into(paths: Paths, kind: Kind, name: str, title: str, words: dict[str, str], picture: bool) -> dict[str, Any]:
    """Write a model card into a .safetensors file, its tensors staying bit by bit; with `picture` the preview too. Raises NotFound, InputError, Conflict."""
    path = network_of(paths, kind, name)
    check_idle(paths, path.stem, "written")
    title = " ".join(title.split()) or path.stem
    wrong = [word for word in words if word not in CARD]
    if wrong or len(title) > LONGEST_TITLE:
        raise InputError(f"These texts have no place in a model card: {', '.join(wrong)}." if wrong else f"The title has {len(title)} letters; use at most {LONGEST_TITLE}.")
    shown = previews_of(path)[:1] if picture else []
    data = shown[0].read_bytes() if shown else None
    with trash.told(f"{path.name} was not written"):
        write_metadata(path, with_card(texts_of(path), title, words, (_picture_kind(data)[1], data) if data is not None else None, facts_of(path).family))
    return card(paths, kind, path)


def rename(paths: Paths, kind: Kind, name: str, to: str) -> dict[str, str]:
    """Give a network another name, with its notes and pictures; raises NotFound, InputError, Conflict."""
    if kind.name == "embedding":
        return embedding_shelf.rename(paths, name, to)
    source, word = network_of(paths, kind, name), _word(to)
    check_idle(paths, source.stem, "renamed")
    if word == source.stem:
        raise InputError(f"Name: it is called {word!r} already.", "Type another name.")
    if fold(word) != fold(source.stem):
        _check_free(paths, kind, word)
    with trash.told(f"{source.stem!r} was not renamed"):
        trash.move(_renamed(source, word))
    note = f"Write <{kind.name}:{word}:1> in prompts from now on; prompts, styles and pictures' infotexts that say {source.stem!r} no longer mean it."
    return {"name": word, "path": str(source.with_name(word + source.suffix)), "before": source.stem, "note": note}


def duplicate(paths: Paths, kind: Kind, name: str, to: str) -> dict[str, str]:
    """Copy a network, with its notes and pictures, under another name; raises NotFound, InputError, Conflict, OutOfSpace."""
    if kind.name == "embedding":
        return embedding_shelf.duplicate(paths, name, to)
    source, word = network_of(paths, kind, name), _word(to)
    _check_free(paths, kind, word)
    with trash.told(f"{source.stem!r} was not copied"):
        for file, copy in _renamed(source, word)[::-1]:  # the network itself last, so that it is never seen without its notes
            if copy.exists():
                raise Conflict(f"{copy.name} exists already.", "Choose another name, or move that file away.")
            trash.copy(file, copy)
    return {"name": word, "path": str(source.with_name(word + source.suffix))}


def delete(paths: Paths, kind: Kind, name: str) -> trash.Trashed:
    """Move a network, with its notes and pictures, to the trash, where `restore` finds it; raises NotFound, and Conflict while a training uses it."""
    if kind.name == "embedding":
        return embedding_shelf.delete(paths, name)
    source = network_of(paths, kind, name)
    check_idle(paths, source.stem, "deleted")
    with trash.told(f"{source.stem!r} was not deleted"):
        return _shelf(paths, kind).put(family(source))


def restore(paths: Paths, kind: Kind, trashed_id: str) -> dict[str, str]:
    """Bring a network back from the trash to where it lay; raises NotFound, and Conflict when its name is taken meanwhile."""
    if kind.name == "embedding":
        return embedding_shelf.restore(paths, trashed_id)
    main = _shelf(paths, kind).bring_back(trashed_id, lambda path: _check_free(paths, kind, path.stem, path.parent))
    return {"name": main.stem, "path": str(main)}


def trashed(paths: Paths, kind: Kind) -> list[trash.Trashed]:
    """Networks of a kind in the trash, newest first."""
    return embedding_shelf.trashed(paths) if kind.name == "embedding" else _shelf(paths, kind).trashed()


def family(path: Path) -> list[Path]:
    """A network's file first, then its notes, its pictures, and what A1111 and its helpers keep beside it."""
    beside = [file_of(path), *(path.with_name(f"{path.stem}{end}") for end in (".civitai.info", ".txt")), path.with_name(f"{path.name}.optim")]
    beside += [path.with_name(f"{path.stem}{middle}{suffix}") for suffix in PICTURES for middle in ("", ".preview")]
    return [path, *(file for file in beside if file.is_file())]


def check_idle(paths: Paths, name: str, act: str) -> None:
    """Raise Conflict while a training uses a network of this name, or waits to: it writes the file by name at its end."""
    for job in JobStore(paths.database).jobs(states=LIVE, kind="train", limit=1000):
        if name.lower() in names_of(job.request.get("config", {})):
            raise Conflict(f"{name!r} cannot be {act} while a training of it is {job.state}.", "Stop that training first, or wait for its end.")


def _check_free(paths: Paths, kind: Kind, word: str, folder: Path | None = None) -> None:
    """Raise Conflict when prompts could not tell a name from one that is there; with a `folder` only one in that folder counts, since a name in another is told apart by its path."""
    taken = next((path for path in kind.files(paths).values() if fold(path.stem) == fold(word) and folder in (None, path.parent)), None)
    if taken is not None:
        raise Conflict(f"Name: prompts could not tell {word!r} from {taken.name!r}, which exists.", "Choose another name, or move that file away.")


def _renamed(source: Path, word: str) -> Sequence[tuple[Path, Path]]:
    """The files of a network and how each is called under another name."""
    return [(file, file.with_name(word + file.name[len(source.stem) :])) for file in family(source)]


def _word(name: str) -> str:
    """A name that can be a file and stand in `<lora:...>`; raises InputError."""
    try:
        word = check_name(name)
    except ValueError as error:
        raise InputError(f"Name: {error} (got {name[:60]!r}).") from error
    if "=" in word:
        raise InputError(f"Name: {word[:60]!r} holds '=', which means something else between < and >.", "Use letters, digits, '-', '_' or '.'.")
    return word


def _picture_kind(data: bytes) -> tuple[str, str]:
    """Ending and media type of a picture by its first bytes; raises InputError."""
    found = next(((suffix, media) for start, suffix, media in SIGNATURES if data.startswith(start)), None)
    if found is None or len(data) > LARGEST_PICTURE or (found[0] == ".webp" and data[8:12] != b"WEBP"):
        raise InputError("This is no picture that can stand on a card.", f"Choose a PNG, JPEG or WebP of at most {LARGEST_PICTURE // 2**20} MiB.")
    return found


def _shelf(paths: Paths, kind: Kind) -> trash.Shelf:
    """Networks of a kind, as the trash sees them."""
    return trash.Shelf(kind.word, trash.of(paths, kind.home(paths).name), kind.home(paths), kind.suffixes)
