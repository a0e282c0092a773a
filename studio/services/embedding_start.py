"""Where the training of an embedding began, as its run remembers it."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from studio.errors import StudioError
from studio.formats.embedding import read_embedding
from studio.runs.weights import noted_shelves, parts_of
from studio.services.run_folders import config_of, weights_of
from studio.settings import Paths

STARTS = ("word.start", "start")
"""What a checkpoint calls the vectors that a run began with: of a word beside a LoRA, and of a word alone."""


def start_of(paths: Paths, name: str, run: str = "") -> tuple[str, Tensor] | None:
    """Folder name of the newest run of an embedding that knows its start, or of `run`, and the vectors [n, d] it began with; None when there is none."""
    folders = [folder for folder in paths.runs.iterdir() if folder.is_dir() and (not run or folder.name == run)] if paths.runs.is_dir() else []
    for folder in sorted(folders, key=lambda f: (f.stat().st_mtime, f.name), reverse=True):
        if _embedding_of(folder).lower() == name.lower() and (start := _start(folder)) is not None:
            return folder.name, start
    return None


def _embedding_of(folder: Path) -> str:
    """The embedding a run trained, alone or together with a LoRA; empty when it trained none, or does not say."""
    noted = next((Path(path).stem for path in noted_shelves(folder).values() if path.startswith("embeddings/")), "")
    return noted or str(config_of(folder).get("embedding") or "")


def _start(folder: Path) -> Tensor | None:
    """The vectors a run began with: from its newest checkpoint, else from the weights of its picture of step 0."""
    for file in sorted((folder / "checkpoints").glob("*.safetensors"), reverse=True):
        try:
            with safe_open(file, framework="pt") as held:
                key = next((key for key in STARTS if key in held.keys()), None)  # noqa: SIM118 (not a dict)
                if key is not None:
                    return held.get_tensor(key).float()
        except (SafetensorError, OSError, ValueError):
            continue
    untouched = weights_of(folder).get(0)
    for file in parts_of(folder, untouched).values() if untouched else ():
        try:
            return read_embedding(file).vectors
        except StudioError:
            continue
    return None
