"""What one file says about itself, remembered by its time and size, so that hundreds of cards cost one look each."""

import base64
import binascii
import io
import json
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from studio.errors import StudioError, Unreadable
from studio.networks.header import LIMIT, Header, read_header
from studio.networks.recognition import WIDTHS, checkpoint_family, family_of, folder_family, method_of, stated_family

COVERS = ("modelspec.thumbnail", "ssmd_cover_images")
"""Texts that may hold a picture: a data URL, and a list of pictures in base64."""
_HURT = (OSError, ValueError, TypeError, EOFError, LookupError, AttributeError, StopIteration, MemoryError, RecursionError, OverflowError, pickle.UnpicklingError, zipfile.BadZipFile)
"""What reading a damaged pickle raises."""
_PARTS = 4
"""How many objects torch's older format holds; the last is what was saved."""


@dataclass(frozen=True)
class Facts:
    """What a card needs of a file: its kind of network and rank, its family or None, words by its maker, whether a picture is inside, or why it cannot be used."""

    method: str = ""
    rank: int | None = None
    family: str | None = None
    alias: str = ""
    title: str = ""
    trigger: str = ""
    description: str = ""
    cover: bool = False
    step: int | None = None
    problem: str = ""


def facts_of(path: Path) -> Facts:
    """What a file says; a file that cannot be read says so in `problem`."""
    try:
        status = path.stat()
    except OSError as error:
        return Facts(problem=f"{path.name} cannot be read ({error.strerror}).")
    return _facts(path, status.st_mtime_ns, status.st_size)


@lru_cache(8192)
def _facts(path: Path, changed: int, size: int) -> Facts:
    """What a file of this time and size says."""
    if not size:
        return Facts(problem=f"{path.name} is empty (0 bytes).")
    try:
        if path.suffix.lower() == ".safetensors":
            return _of_header(read_header(path))
        return _of_pickle(_unpickled(path))
    except StudioError as error:
        return Facts(problem=str(error))


def _of_header(header: Header) -> Facts:
    """Facts of a safetensors file."""
    told = header.metadata
    method, rank = method_of(header.shapes)
    step = told.get("ss_steps", "")
    return Facts(
        method=method,
        rank=rank,
        family=family_of(header.shapes, told),
        alias=told.get("ss_output_name", ""),
        title=told.get("modelspec.title", ""),
        trigger=told.get("modelspec.trigger_phrase", ""),
        description=told.get("modelspec.description") or told.get("ssmd_description", ""),
        cover=any(told.get(name) for name in COVERS),
        step=int(step) if step.isdecimal() else None,
    )


def _of_pickle(data: Any) -> Facts:
    """Facts of a pickle: a hypernetwork tells its widths and steps, anything else nothing."""
    widths = [key for key in data if isinstance(key, int)] if isinstance(data, dict) else []
    if not isinstance(data, dict) or not widths:
        return Facts()
    family = next((WIDTHS[width] for width in sorted(widths) if width in WIDTHS), None)
    step, structure = data.get("step"), data.get("layer_structure")
    layers = " ".join(f"{width:g}" for width in structure if isinstance(width, int | float)) if isinstance(structure, list | tuple) else ""
    return Facts(method=f"Hypernetwork {layers}".strip(), family=family, alias=str(data.get("name") or ""), step=step if isinstance(step, int) else None)


class _Thing:
    """Stands for whatever a pickle names; nothing a file says is ever run."""

    def __init__(self, *_args: Any, **_named: Any) -> None:
        self.held: list[Any] = []

    def __setstate__(self, state: Any) -> None:
        """Take what a pickle says about it; nothing is done with that."""

    def append(self, item: Any) -> None:
        """Take an item; nothing is done with it."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Take a value; nothing is done with it."""


class _Blind(pickle.Unpickler):
    """Reads the plain values of a pickle: numbers, texts, lists and mappings; everything else is a `_Thing`."""

    def find_class(self, module: str, name: str) -> Any:
        """A mapping that keeps its order, else a thing that does nothing."""
        return OrderedDict if (module, name) == ("collections", "OrderedDict") else _Thing

    def persistent_load(self, pid: Any) -> None:
        """Tensors are left in the file: nothing is loaded."""


def _unpickled(path: Path) -> Any:
    """The plain values of a file written by torch, in its format of today or the older one; raises Unreadable."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as packed:
                inside = next(entry for entry in packed.infolist() if entry.filename.endswith("data.pkl") and entry.file_size <= LIMIT)
                return _Blind(io.BytesIO(packed.read(inside))).load()
        with path.open("rb") as file:
            return [_Blind(file).load() for _ in range(_PARTS)][-1]
    except (
        OSError,
        ValueError,
        TypeError,
        EOFError,
        KeyError,
        IndexError,
        AttributeError,
        StopIteration,
        MemoryError,
        RecursionError,
        OverflowError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    ) as error:
        raise Unreadable(f"{path.name} is damaged, or not of the kind that lies here.", "Copy it again from where it came.") from error


def texts_of(path: Path) -> dict[str, str]:
    """Everything that is written in a file's header; empty for a file without one. Raises Unreadable."""
    return dict(read_header(path).metadata) if path.suffix.lower() == ".safetensors" else {}


def cover_of(metadata: Mapping[str, str]) -> bytes | None:
    """The picture inside a header, as it was written; None when there is none that can be read."""
    for name in COVERS:
        text = metadata.get(name, "")
        try:
            listed = json.loads(text) if name == COVERS[1] and text else [text.partition("base64,")[2]]
            data = base64.b64decode(listed[0], validate=False) if isinstance(listed, list) and listed and isinstance(listed[0], str) else b""
        except (ValueError, binascii.Error, RecursionError):
            continue
        if data:
            return data
    return None


def family_of_checkpoint(path: Path | None) -> str | None:
    """SD1, SD2 or SDXL by a checkpoint's header; None when it is not known without loading it."""
    try:
        if path is None:
            return None
        if path.is_dir():
            said = json.loads((path / "unet" / "config.json").read_text(encoding="utf-8"))
            return folder_family(path, said) if isinstance(said, dict) else None
        status = path.stat()
        return _checkpoint(path, status.st_mtime_ns, status.st_size) if path.suffix.lower() == ".safetensors" else None
    except (OSError, ValueError):
        return None


@lru_cache(64)
def _checkpoint(path: Path, changed: int, size: int) -> str | None:
    """The family of a checkpoint of this time and size."""
    try:
        header = read_header(path)
    except StudioError:
        return None
    return checkpoint_family(header.shapes) or stated_family(header.metadata)
