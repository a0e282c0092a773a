"""What lies on the shelves: torch-free listings of checkpoints, embeddings, templates, data sets and captioners."""

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from studio.errors import Unavailable
from studio.jobs import JobStore
from studio.peeking import carries_embedding, is_second_half
from studio.prompts.words import fold
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
    """Checkpoints by name, as A1111 names them: the path within models/Stable-diffusion, such as `folder/name.safetensors`. Own ones first, the shipped tiny world last."""
    files: dict[str, Path] = {}
    for home in paths.both("checkpoints"):
        found = [p for p in _below(home, CHECKPOINT_SUFFIXES, "model_index.json") if p.is_dir() or not p.stem.lower().endswith(".vae")]
        for path in sorted(found, key=lambda p: (len(p.parts), p)):
            files.setdefault(path.relative_to(home).as_posix(), path)
    return files


def checkpoints(paths: Paths) -> list[str]:
    """Names of checkpoints, the shipped one last."""
    return list(checkpoint_files(paths))


def checkpoint_named(files: Mapping[str, Path], name: str) -> str | None:
    """The name among `files` that is meant by a name: itself, else without its folder, else without its extension too; None when there is none."""
    forms: tuple[Callable[[str], str], ...] = (str, lambda entry: PurePosixPath(entry).name, lambda entry: PurePosixPath(entry).stem)
    wanted = name.replace("\\", "/")
    return next((entry for form in forms for entry in files if form(entry) == wanted), None)


def vae_files(paths: Paths) -> dict[str, Path]:
    """Autoencoders by name: files and diffusers folders in models/VAE and below, and `<name>.vae.pt` (or .safetensors, .ckpt) beside checkpoints.

    Of two files with one name the second is named by its path.
    """
    beside = [p for p in _below(paths.checkpoints, VAE_SUFFIXES, "model_index.json") if p.stem.lower().endswith(".vae")]
    return {**_named(_below(paths.vae, VAE_SUFFIXES, "config.json"), paths.vae, _whole), **_named(beside, paths.checkpoints, _whole)}


def vaes(paths: Paths) -> list[str]:
    """Names of autoencoders that can be used in the place of a checkpoint's own."""
    return list(vae_files(paths))


def upscaler_files(paths: Paths) -> dict[str, Path]:
    """Models in models/ESRGAN and below that enlarge pictures, by the name they are chosen by: the stem, or the whole name where two files share one, or the path."""
    files = _below(paths.esrgan, UPSCALER_SUFFIXES)
    stems = [p.stem for p in files]
    return _named(files, paths.esrgan, lambda p: p.name if stems.count(p.stem) > 1 else p.stem)


def upscalers(paths: Paths, latent: bool = True) -> list[str]:
    """Names of all that enlarges: latents if wanted, plain ways, and models."""
    return [*(LATENT_UPSCALERS if latent else ()), *PLAIN_UPSCALERS, *upscaler_files(paths)]


def embedding_files(paths: Paths) -> list[Path]:
    """Files in the embeddings folder and below that may hold an embedding, by name; of pictures those that carry one, of diffusers' pairs for SDXL the first."""
    found = [p for p in _below(paths.embeddings, EMBEDDING_SUFFIXES) if ".preview." not in p.name]
    return [p for p in found if (carries_embedding(p) if p.suffix.lower() == ".png" else not is_second_half(p))]


def embedding_names(paths: Paths) -> dict[str, Path]:
    """Embedding files by the names that prompts use: the stem. Of several files with one stem the first has it; the others are named by their path, such as `folder/name`."""
    return _named(embedding_files(paths), paths.embeddings)


def loras(paths: Paths) -> dict[str, Path]:
    """LoRA files and their kin from models/Lora and below, by name: the stem. Of several files with one stem the first has it; the others are named by their path, such as `folder/name`."""
    return _named(_below(paths.lora, ADAPTER_SUFFIXES), paths.lora)


def hypernetworks(paths: Paths) -> dict[str, Path]:
    """Hypernetwork files by name, from models/hypernetworks and below, named as LoRA files are."""
    return _named(_below(paths.hypernetworks, HYPERNETWORK_SUFFIXES), paths.hypernetworks)


def meant(files: Iterable[Path], home: Path, name: str) -> list[Path]:
    """Files below `home` that a prompt means by a name, the one to use first: the stem or the path, with or without extension; where none is called so, letter case and Unicode form aside."""
    wanted, files = name.replace("\\", "/").strip("/"), list(files)
    for same in (str, fold):
        for forms in (_paths_of, _names_of):
            found = [p for p in files if any(same(form) == same(wanted) for form in forms(p, home))]
            if found:
                return found
    return []


def _paths_of(path: Path, home: Path) -> tuple[str, ...]:
    """How a file in a folder of `home` is called with that folder."""
    inside = path.relative_to(home)
    return (inside.with_suffix("").as_posix(), inside.as_posix()) if len(inside.parts) > 1 else ()


def _names_of(path: Path, _home: Path) -> tuple[str, ...]:
    """How a file is called without its folder."""
    return path.stem, path.name


def _below(home: Path, suffixes: frozenset[str], mark: str = "") -> list[Path]:
    """Files of some kinds in a folder and below, by stem, those in fewer folders first; no hidden ones. A folder that holds a file called `mark` counts as one file."""
    found: list[Path] = []
    for folder, names in folders_below(home, mark):
        if mark and mark in names and folder != home:
            found.append(folder)
        else:
            found += [path for name in names if not name.startswith(".") and PurePath(name).suffix.lower() in suffixes and (path := folder / name).is_file()]
    return sorted(found, key=lambda p: (p.stem.lower(), len(p.parts), str(p)))


def folders_below(home: Path, mark: str = "") -> Iterator[tuple[Path, list[str]]]:
    """A folder and all below it with the names of their files, hidden folders left out, nothing below a folder that holds a file called `mark`.

    Links to folders are followed after all real folders; each folder is visited once, and none that holds `home` itself, so links in a circle end. Two links to a marked folder are two.
    """
    seen: set[str] = set()
    above = {str(folder) for folder in (home.resolve(), *home.resolve().parents)}
    waiting = [home]
    while waiting:
        place = waiting.pop(0)
        if mark and place != home and (place / mark).is_file():
            yield place, [mark]
            continue
        real = os.path.realpath(place)
        if real in seen or (place != home and real in above):
            continue
        for at, folders, names in os.walk(place):
            folder = Path(at)
            seen.add(os.path.realpath(folder))
            yield folder, sorted(names)
            visible = [] if mark in names and mark and folder != home else sorted(name for name in folders if not name.startswith("."))
            waiting += [folder / name for name in visible if is_link(folder / name)]
            folders[:] = [name for name in visible if not is_link(folder / name) and os.path.realpath(folder / name) not in seen | above]


def is_link(folder: Path) -> bool:
    """Whether a folder is a link to another one, on Windows also as a junction."""
    return os.path.islink(folder) or (sys.version_info >= (3, 12) and os.path.isjunction(folder))


def _named(files: Iterable[Path], home: Path, plain: Callable[[Path], str] = lambda p: p.stem) -> dict[str, Path]:
    """Files by a plain name; where an earlier one has it, by the path below `home`, with the extension if need be."""
    named: dict[str, Path] = {}
    for path in files:
        inside = path.relative_to(home)
        names = (plain(path), (inside.parent / plain(path)).as_posix(), inside.as_posix())
        named.setdefault(next((name for name in names if name not in named), names[-1]), path)
    return named


def _whole(path: Path) -> str:
    """A file's name with its extension."""
    return path.name


def embeddings(paths: Paths) -> list[EmbeddingCard]:
    """Every embedding, with what the worker found inside it, if that can be read now."""
    try:
        known = JobStore(paths.database).cards()
    except Unavailable:
        known = {}
    return [EmbeddingCard(name, path, **known.get(str(path), {})) for name, path in embedding_names(paths).items()]


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
