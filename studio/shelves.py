"""What lies on the shelves: torch-free listings of checkpoints, embeddings, templates, data sets and captioners."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from studio.errors import Unavailable
from studio.jobs import JobStore
from studio.peeking import carries_embedding, is_second_half
from studio.settings import Paths

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"})
MASK_SUFFIX = "-masklabel.png"
"""How the mask of `a.jpg` is called: `a-masklabel.png`."""
EMBEDDING_SUFFIXES = frozenset({".pt", ".bin", ".safetensors", ".png"})
ADAPTER_SUFFIXES = frozenset({".safetensors", ".pt", ".ckpt", ".bin"})
HYPERNETWORK_SUFFIXES = frozenset({".pt"})
CHECKPOINT_SUFFIXES = frozenset({".safetensors", ".ckpt"})
VAE_SUFFIXES = frozenset({".safetensors", ".ckpt", ".pt", ".bin"})
UPSCALER_SUFFIXES = frozenset({".pth", ".pt", ".safetensors", ".ckpt"})
LATENT_UPSCALERS = ("Latent", "Latent (antialiased)", "Latent (bicubic)", "Latent (bicubic antialiased)", "Latent (nearest)", "Latent (nearest-exact)")
"""Ways to enlarge latents, for hires. fix only."""
PLAIN_UPSCALERS = ("None", "Lanczos", "Nearest")
"""Ways to enlarge pictures that need no model."""


@dataclass(frozen=True)
class EmbeddingCard:
    """One embedding file; the counts are None until the worker has read it, `problem` says why it cannot be used, `inner` is the name inside a picture, which prompts may use too."""

    name: str
    path: Path
    vectors: int | None = None
    width: int | None = None
    step: int | None = None
    problem: str | None = None
    inner: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names that prompts may use for it."""
        return (self.name, self.inner) if self.inner else (self.name,)


def checkpoint_files(paths: Paths) -> dict[str, Path]:
    """Checkpoints by name: own ones first, the shipped tiny world last."""
    files: dict[str, Path] = {}
    for folder in paths.both("checkpoints"):
        for entry in _entries(folder):
            found = (entry / "model_index.json").is_file() if entry.is_dir() else entry.suffix.lower() in CHECKPOINT_SUFFIXES and not entry.stem.lower().endswith(".vae")
            if found:
                files.setdefault(entry.name, entry)
    return files


def checkpoints(paths: Paths) -> list[str]:
    """Names of checkpoints, the shipped one last."""
    return list(checkpoint_files(paths))


def vae_files(paths: Paths) -> list[Path]:
    """Autoencoders of their own: files and diffusers folders in models/VAE, and `<name>.vae.pt` (or .safetensors, .ckpt) beside checkpoints."""
    found = [p for p in _entries(paths.vae) if ((p / "config.json").is_file() if p.is_dir() else p.suffix.lower() in VAE_SUFFIXES)]
    return found + [p for p in _entries(paths.checkpoints) if p.stem.endswith(".vae") and p.suffix.lower() in VAE_SUFFIXES and p.is_file()]


def vaes(paths: Paths) -> list[str]:
    """Names of autoencoders that can be used in the place of a checkpoint's own."""
    return list(dict.fromkeys(p.name for p in vae_files(paths)))


def upscaler_files(paths: Paths) -> dict[str, Path]:
    """Models in models/ESRGAN that enlarge pictures, by the name they are chosen by: the stem, or the whole name where two files share one."""
    files = [p for p in _entries(paths.esrgan) if p.suffix.lower() in UPSCALER_SUFFIXES and p.is_file()]
    stems = [p.stem for p in files]
    return {p.name if stems.count(p.stem) > 1 else p.stem: p for p in files}


def upscalers(paths: Paths, latent: bool = True) -> list[str]:
    """Names of all that enlarges: latents if wanted, plain ways, and models."""
    return [*(LATENT_UPSCALERS if latent else ()), *PLAIN_UPSCALERS, *upscaler_files(paths)]


def embedding_files(paths: Paths) -> list[Path]:
    """Files in the embeddings folder and below that may hold an embedding, by name; of pictures those that carry one, of diffusers' pairs for SDXL the first."""
    found = [p for p in _below(paths.embeddings, EMBEDDING_SUFFIXES) if ".preview." not in p.name]
    return [p for p in found if (carries_embedding(p) if p.suffix.lower() == ".png" else not is_second_half(p))]


def loras(paths: Paths) -> dict[str, Path]:
    """LoRA files and their kin by name, from models/Lora and below; of two that are called alike the first."""
    return _named(_below(paths.lora, ADAPTER_SUFFIXES))


def hypernetworks(paths: Paths) -> dict[str, Path]:
    """Hypernetwork files by name, from models/hypernetworks and below."""
    return _named(_below(paths.hypernetworks, HYPERNETWORK_SUFFIXES))


def _below(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    """Files of some kinds in a folder and below, by name; no hidden ones."""
    files = folder.rglob("*") if folder.is_dir() else ()
    return sorted((p for p in files if p.suffix.lower() in suffixes and p.is_file() and not p.name.startswith(".")), key=lambda p: (p.stem.lower(), str(p)))


def _named(files: list[Path]) -> dict[str, Path]:
    """Files by their stems."""
    named: dict[str, Path] = {}
    for path in files:
        named.setdefault(path.stem, path)
    return named


def embeddings(paths: Paths) -> list[EmbeddingCard]:
    """Every embedding, with what the worker found inside it, if that can be read now."""
    try:
        known = JobStore(paths.database).cards()
    except Unavailable:
        known = {}
    return [EmbeddingCard(path.stem, path, **known.get(str(path), {})) for path in embedding_files(paths)]


def templates(paths: Paths) -> list[str]:
    """Names of prompt templates, without the suffix."""
    return sorted({p.stem for folder in paths.both("templates") for p in _entries(folder) if p.suffix == ".txt"})


def template_file(paths: Paths, name: str) -> Path | None:
    """The file of a template, own folder first; None when there is none."""
    stem = name.removesuffix(".txt")
    for folder in paths.both("templates"):
        path = folder / f"{stem}.txt"
        if path.parent == folder and os.path.isfile(path):  # also for a name that no disk can keep
            return path
    return None


def images(folder: Path) -> list[Path]:
    """Picture files directly inside a folder, by name; masks that lie beside them are none."""
    return [p for p in _entries(folder) if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.endswith(MASK_SUFFIX) and p.is_file()]


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Sorts `2.png` before `10.png`."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part.lower()) for part in re.split(r"(\d+)", path.name) if part]


def datasets(paths: Paths) -> list[tuple[str, Path, int]]:
    """Prepared training sets as (name, folder, number of pictures)."""
    return [(p.name, p, len(images(p))) for p in _entries(paths.datasets) if p.is_dir()]


def runs(paths: Paths) -> list[Path]:
    """Folders of training runs, newest first."""
    return sorted((p for p in _entries(paths.runs) if p.is_dir()), key=lambda p: p.stat().st_mtime, reverse=True)


def sample_pictures() -> Path:
    """Folder of the sample project's pictures."""
    return Path(__file__).resolve().parent / "tinyworld" / "sample"


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, sorted by name; nothing when it is missing."""
    return sorted(p for p in folder.iterdir() if not p.name.startswith(".")) if folder.is_dir() else []
