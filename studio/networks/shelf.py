"""Cards of everything that a prompt can name: LoRA and its kin, hypernetworks, embeddings."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio import shelves
from studio.errors import InputError, NotFound
from studio.networks.book import Book
from studio.networks.facts import Facts, cover_of, facts_of, family_of_checkpoint, texts_of
from studio.networks.metadata import sections, tags
from studio.networks.notes import Notes, read_notes
from studio.peeking import carries_embedding
from studio.settings import Paths

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
"""Endings of preview pictures, in the order they are looked for."""
_WIDTHS = {768: "SD1", 1024: "SD2", 2048: "SDXL"}


@dataclass(frozen=True)
class Kind:
    """One kind of network: its name in addresses, what a person calls it, the folder it lies in, and its files by the name that prompts use."""

    name: str
    word: str
    suffixes: frozenset[str]
    home: Callable[[Paths], Path]
    files: Callable[[Paths], Mapping[str, Path]]


def _embeddings(paths: Paths) -> dict[str, Path]:
    """Embedding files by their word; of two that are called alike the first."""
    found: dict[str, Path] = {}
    for path in shelves.embedding_files(paths):
        found.setdefault(path.stem, path)
    return found


KINDS = {
    kind.name: kind
    for kind in (
        Kind("lora", "LoRA", shelves.ADAPTER_SUFFIXES, lambda paths: paths.lora, shelves.loras),
        Kind("hypernet", "hypernetwork", shelves.HYPERNETWORK_SUFFIXES, lambda paths: paths.hypernetworks, shelves.hypernetworks),
        Kind("embedding", "embedding", shelves.EMBEDDING_SUFFIXES, lambda paths: paths.embeddings, _embeddings),
    )
}


def kind_of(name: str) -> Kind:
    """A kind by its name; raises InputError."""
    if name not in KINDS:
        raise InputError(f"There is no kind of network called {name[:60]!r}.", f"Say one of {', '.join(KINDS)}.")
    return KINDS[name]


def file_of(paths: Paths, kind: Kind, name: str) -> Path:
    """The file of a network, letter case aside; raises NotFound."""
    files = kind.files(paths)
    alike = [files[name]] if name in files else shelves.meant(files.values(), kind.home(paths), name)
    if alike:
        return alike[0]
    raise NotFound(f"There is no {kind.word} {name[:120]!r}.", "It may have been moved or renamed; look again.")


def names_of(paths: Paths, kind: str) -> list[str]:
    """Every name that prompts may use for networks of a kind: of files, and for LoRAs the aliases in their headers."""
    chosen = kind_of(kind)
    files, names = list(chosen.files(paths).values()), list(chosen.files(paths))
    if kind == "lora":
        book = Book(_book_of(paths, chosen))
        names += [alias for path in files if (alias := book.facts(path).alias)]
        book.keep(files)
    return names


def _book_of(paths: Paths, kind: Kind) -> Path:
    """Where facts of a kind's files are kept."""
    return paths.outputs / "cache" / f"cards-{kind.name}.json"


def cards(paths: Paths, kind: Kind, checkpoint: str = "") -> list[dict[str, Any]]:
    """A card of every network of a kind, by name; those for another family than the checkpoint's say so in `misfit`."""
    family, beside = checkpoint_family(paths, checkpoint), _Beside()
    known = {card.path: card for card in shelves.embeddings(paths)} if kind.name == "embedding" else {}
    files, book = kind.files(paths), Book(_book_of(paths, kind))
    found = [_card((kind, name), paths, path, beside, family, _facts(path, known.get(path), book.facts)) for name, path in files.items()]
    book.keep(files.values())
    return found


def card(paths: Paths, kind: Kind, path: Path, checkpoint: str = "") -> dict[str, Any]:
    """The card of one network."""
    name = next((name for name, known in kind.files(paths).items() if known == path), path.stem)
    return _card((kind, name), paths, path, _Beside(), checkpoint_family(paths, checkpoint), _facts(path, _known(paths, kind, path)))


def told(paths: Paths, kind: Kind, name: str, checkpoint: str = "") -> dict[str, Any]:
    """Everything about one network: its card, a person's notes, the texts of its header and the tags its training saw; raises NotFound, Unreadable."""
    path = file_of(paths, kind, name)
    notes, facts, texts = read_notes(path), _facts(path, _known(paths, kind, path)), texts_of(path)
    return {
        **card(paths, kind, path, checkpoint),
        "notes": notes.notes,
        "noted": {"description": notes.description, "trigger": notes.trigger, "weight": notes.weight, "negative": notes.negative, "family": notes.family},
        "file_family": facts.family,
        "author": texts.get("modelspec.author", ""),
        "card_tags": texts.get("modelspec.tags", ""),
        "title": facts.title or path.stem,
        "writable": path.suffix.lower() == ".safetensors",
        "hash": texts.get("sshs_model_hash", "")[:12],
        "sections": sections(texts),
        "tags": tags(texts),
    }


def checkpoint_family(paths: Paths, checkpoint: str) -> str | None:
    """The family of a checkpoint of the shelf; None when there is none of that name or nothing tells."""
    files = shelves.checkpoint_files(paths)
    return family_of_checkpoint(files.get(checkpoint) or next((path for name, path in files.items() if checkpoint and Path(name).stem == checkpoint), None))


def previews_of(path: Path) -> list[Path]:
    """Preview pictures beside a network, the shown one first; or the picture that an embedding is carried by."""
    return _Beside().previews(path)


def cover_in(path: Path) -> bytes | None:
    """The picture inside a network's header; None when there is none. Raises Unreadable."""
    return cover_of(texts_of(path))


class _Beside:
    """What lies beside files, each folder looked at once."""

    def __init__(self) -> None:
        self._folders: dict[Path, frozenset[str]] = {}

    def previews(self, path: Path) -> list[Path]:
        """The preview pictures of a network, the shown one first."""
        if path.suffix.lower() in PICTURES:
            return [path]
        names = self._names(path.parent)
        beside = [f"{path.stem}{middle}{suffix}" for suffix in PICTURES for middle in ("", ".preview")]
        return [path.with_name(name) for name in beside if name in names and not carries_embedding(path.with_name(name))]

    def _names(self, folder: Path) -> frozenset[str]:
        """Names of what lies in a folder."""
        if folder not in self._folders:
            try:
                self._folders[folder] = frozenset(os.listdir(folder))
            except OSError:
                self._folders[folder] = frozenset()
        return self._folders[folder]


def _card(which: tuple[Kind, str], paths: Paths, path: Path, beside: _Beside, checkpoint: str | None, facts: Facts) -> dict[str, Any]:
    """One card, of a kind and with the name that prompts use: what the file says and what a person noted, the person's words first."""
    kind, name = which
    notes, pictures = read_notes(path), beside.previews(path)
    family = notes.family or facts.family
    try:
        status = path.stat()
        changed, size = status.st_mtime, status.st_size
    except OSError:
        changed, size = 0.0, 0
    folder = path.parent.relative_to(kind.home(paths)).as_posix()
    return {
        "kind": kind.name,
        "name": name,
        "file": path.name,
        "folder": "" if folder == "." else folder,
        "changed": changed,
        "size": size,
        "method": facts.method,
        "rank": facts.rank,
        "family": family,
        "alias": facts.alias,
        "step": facts.step,
        "description": notes.description or facts.description,
        "picture": _stamp(pictures[0]) if pictures else f"{changed}" if facts.cover else "",
        "misfit": checkpoint if family and checkpoint and family != checkpoint else "",
        "problem": facts.problem,
        **_inserted(kind, name, facts, notes),
    }


def _inserted(kind: Kind, name: str, facts: Facts, notes: Notes) -> dict[str, Any]:
    """What a click writes into the prompt, and into the negative one."""
    weight = f"{notes.weight or 1.0:g}"
    trigger = facts.trigger if notes.trigger is None else notes.trigger
    word = name if kind.name == "embedding" else f"<{kind.name}:{name}:{weight}>"
    return {"text": word, "trigger": "" if kind.name == "embedding" and trigger == name else trigger, "negative": notes.negative, "weight": notes.weight or 1.0}


def _facts(path: Path, known: shelves.EmbeddingCard | None, look: Callable[[Path], Facts] = facts_of) -> Facts:
    """What a file says; of an embedding what the worker found in it."""
    if known is None:
        return look(path)
    said = look(path) if path.suffix.lower() == ".safetensors" else Facts()
    family = _WIDTHS.get(known.width or 0)
    return Facts(
        method=f"{known.vectors} × {known.width}" if known.vectors else "",
        family=family,
        title=said.title,
        trigger=said.trigger,
        description=said.description,
        cover=said.cover,
        step=known.step,
        problem=known.problem or "",
    )


def _known(paths: Paths, kind: Kind, path: Path) -> shelves.EmbeddingCard | None:
    """What the worker found in an embedding; None for other kinds."""
    return next((card for card in shelves.embeddings(paths) if card.path == path), None) if kind.name == "embedding" else None


def _stamp(picture: Path) -> str:
    """A word that changes with a picture, for its address."""
    try:
        return f"{picture.stat().st_mtime_ns:x}"
    except OSError:
        return ""
