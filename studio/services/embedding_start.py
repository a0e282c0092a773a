"""Where the training of an embedding began, as its run remembers it."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from studio.errors import StudioError
from studio.formats.embedding import read_embedding
from studio.requests.train import TogetherConfig, subject_of
from studio.services.run_folders import config_of, method_of
from studio.settings import Paths


def start_of(paths: Paths, name: str, run: str = "") -> tuple[str, Tensor] | None:
    """Folder name of the newest run of an embedding that knows its start, or of `run`, and the vectors [n, d] it began with; None when there is none."""
    folders = [folder for folder in paths.runs.iterdir() if folder.is_dir() and (not run or folder.name == run)] if paths.runs.is_dir() else []
    for folder in sorted(folders, key=lambda f: (f.stat().st_mtime, f.name), reverse=True):
        if _embedding_of(folder).lower() == name.lower() and (start := _start(folder, name)) is not None:
            return folder.name, start
    return None


def _embedding_of(folder: Path) -> str:
    """The embedding a run trained, alone or together with a LoRA; empty when it trained none, or does not say."""
    config = config_of(folder)
    return subject_of(config) if "embedding" in config or method_of(folder) == TogetherConfig.method else ""


def _start(folder: Path, name: str) -> Tensor | None:
    """The vectors a run began with: from its newest checkpoint, else from the weights of its picture of step 0."""
    for file in sorted((folder / "checkpoints").glob("*.safetensors"), reverse=True):
        try:
            with safe_open(file, framework="pt") as held:
                if "start" in held.keys() and len(held.get_slice("start").get_shape()) == 2:  # noqa: SIM118 (not a dict)
                    return held.get_tensor("start").float()
        except (SafetensorError, OSError, ValueError):
            continue
    for file in (folder / "embeddings").glob(f"{name}-0.*"):
        try:
            return read_embedding(file).vectors
        except StudioError:
            continue
    return None
