"""Which checkpoint is meant where none is named: the one that was used last, or the first of the folder that can be read at all. Torch-free."""

import json
import zipfile
from functools import lru_cache
from pathlib import Path

from studio.files import atomic_write
from studio.settings import Paths
from studio.shelves import checkpoint_files

UNET = "model.diffusion_model."
"""How the names of a UNet's tensors begin in a single file."""
SHIPPED = "tiny-world"
"""The checkpoint that comes with the studio."""
_HEADER_LIMIT = 2**27
_PICKLE_LIMIT = 2**26


def is_readable_checkpoint(path: Path) -> bool:
    """Whether a file or folder is whole and holds a Stable Diffusion UNet, as far as its header or index shows.

    A pickle of torch's old format, which has no index, counts as readable.
    """
    try:
        if path.is_dir():
            return isinstance(json.loads((path / "model_index.json").read_text(encoding="utf-8")), dict) and (path / "unet" / "config.json").is_file()
        status = path.stat()
        return _is_readable(path, status.st_mtime_ns, status.st_size)
    except (OSError, ValueError):
        return False


@lru_cache(1024)
def _is_readable(path: Path, _changed: int, size: int) -> bool:
    """The same for a file of this time and size; raises OSError, ValueError."""
    with path.open("rb") as file:
        start = file.read(9)
        length = int.from_bytes(start[:8], "little")
        if len(start) == 9 and start[8:] == b"{" and length <= min(_HEADER_LIMIT, size):
            header = json.loads(start[8:] + file.read(length - 1))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            return 8 + length + max(ends, default=0) <= size and any(name.startswith(UNET) for name in header)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            pickles = [entry for entry in archive.infolist() if entry.filename.endswith("data.pkl") and entry.file_size <= _PICKLE_LIMIT]
            return bool(pickles) and UNET.encode() in archive.read(pickles[0])
    return path.suffix.lower() == ".ckpt" and start[:2] == b"\x80\x02"


def default_checkpoint(paths: Paths) -> str | None:
    """Name of the checkpoint that an empty name means: the user's own one that was used last, else the first readable one, else the first; None when there is none.

    The shipped model is only taken when there is no other, so that the first checkpoint an artist adds becomes the default.
    """
    files = checkpoint_files(paths)
    readable = [name for name, path in files.items() if is_readable_checkpoint(path)]
    own = [name for name in readable if files[name] != paths.shipped.checkpoints / SHIPPED]
    last = _last_used(paths)
    return next((name for name in own if str(files[name]) == last), next(iter([*own, *readable, *files]), None))


def remember_checkpoint(paths: Paths, path: Path) -> None:
    """Note that a checkpoint was loaded and used; what the disk refuses is left, since the next use notes it again."""
    if str(path) == _last_used(paths):
        return
    try:
        with atomic_write(_record(paths)) as temporary:
            temporary.write_text(json.dumps({"path": str(path)}, ensure_ascii=False), encoding="utf-8")
    except OSError:
        return


def _last_used(paths: Paths) -> str:
    """Path of the checkpoint that was noted last; empty when none was."""
    try:
        noted = json.loads(_record(paths).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(noted.get("path", "")) if isinstance(noted, dict) else ""


def _record(paths: Paths) -> Path:
    """Where the last checkpoint is noted."""
    return paths.outputs / "cache" / "last-checkpoint.json"
