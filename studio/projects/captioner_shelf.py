"""Captioners on the shelf: which ones are there, by kind and name, and which the hub offers; looks at file names alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from studio.errors import NotFound
from studio.settings import Paths

FOLDERS = {"BLIP": "BLIP", "BLIP-2": "BLIP2", "Florence-2": "Florence-2", "CLIP interrogator": "CLIP", "DeepBooru": "torch_deepdanbooru", "WD14": "WD14"}
"""Kind of captioner and its folder in models/."""
BLIP_SUFFIXES = frozenset({".pth", ".pt"})
CLIP_SUFFIXES = frozenset({".safetensors", ".pt", ".bin", ".pth"})


TINY = {"BLIP": "tiny-blip", "DeepBooru": "model-resnet_custom_v3"}
"""The captioners that ship with the studio, by kind: they know the tiny world alone."""


class Shelved(NamedTuple):
    """One captioner: how it is called, what kind it is, its file or folder, and whether it is one that ships with the studio and knows the tiny world alone."""

    label: str
    kind: str
    path: Path
    tiny: bool = False

    @property
    def title(self) -> str:
        """What the page calls the first captioner of its kind: the kind, and that it is the tiny world's where it is."""
        return f"{self.kind} (tiny world)" if self.tiny else self.kind


@dataclass(frozen=True)
class Offer:
    """One captioner of the hub: the repository and the files that are wanted of it; or, without a repository, the address of the one file."""

    label: str
    kind: str
    repository: str = ""
    files: tuple[str, ...] = ()
    address: str = ""
    size_mb: int = 0
    """About how much is fetched."""

    @property
    def name(self) -> str:
        """Folder or file it gets in the kind's folder."""
        return (self.repository or self.address).rpartition("/")[2]


_TEXTS = ("*.json", "*.txt")
_BLIP = (*_TEXTS, "model.safetensors")
_WD14 = ("config.json", "model.safetensors", "selected_tags.csv")
CATALOGUE_OF_MODELS: tuple[Offer, ...] = (
    Offer("BLIP base", "BLIP", "Salesforce/blip-image-captioning-base", _BLIP, size_mb=990),
    Offer("BLIP large", "BLIP", "Salesforce/blip-image-captioning-large", _BLIP, size_mb=1880),
    Offer("BLIP-2 OPT 2.7B", "BLIP-2", "Salesforce/blip2-opt-2.7b", (*_TEXTS, "model*.safetensors"), size_mb=15000),
    Offer("Florence-2 base", "Florence-2", "florence-community/Florence-2-base", (*_TEXTS, "model.safetensors"), size_mb=470),
    Offer("Florence-2 large", "Florence-2", "florence-community/Florence-2-large", (*_TEXTS, "model.safetensors"), size_mb=1560),
    Offer("CLIP ViT-L/14", "CLIP interrogator", "timm/vit_large_patch14_clip_224.openai", ("open_clip_config.json", "open_clip_model.safetensors"), size_mb=1710),
    Offer("WD14 ViT v3", "WD14", "SmilingWolf/wd-vit-tagger-v3", _WD14, size_mb=380),
    Offer("WD14 SwinV2 v3", "WD14", "SmilingWolf/wd-swinv2-tagger-v3", _WD14, size_mb=395),
    Offer("WD14 ConvNeXt v3", "WD14", "SmilingWolf/wd-convnext-tagger-v3", _WD14, size_mb=395),
    Offer("WD14 EVA02 large v3", "WD14", "SmilingWolf/wd-eva02-large-tagger-v3", _WD14, size_mb=1260),
    Offer("DeepBooru", "DeepBooru", address="https://github.com/AUTOMATIC1111/TorchDeepDanbooru/releases/download/v1/model-resnet_custom_v3.pt", size_mb=644),
)
"""What can be fetched on an explicit click."""


def available(paths: Paths) -> list[Shelved]:
    """Every captioner that is there, kind by kind, own ones before the shipped ones."""
    return [shelved for kind in FOLDERS for shelved in _of_kind(paths, kind)]


def _of_kind(paths: Paths, kind: str) -> list[Shelved]:
    """The captioners of one kind; of two that are called alike the first."""
    found: dict[str, Shelved] = {}
    for root in dict.fromkeys((paths.models, paths.shipped.models)):
        for path in _entries(root / FOLDERS[kind], kind):
            label = f"{kind}: {path.name if path.is_dir() else path.stem}"
            tiny = root == paths.shipped.models and label == f"{kind}: {TINY.get(kind)}"
            found.setdefault(label, Shelved(label, kind, path, tiny))
    return list(found.values())


def _entries(folder: Path, kind: str) -> Iterator[Path]:
    """What is a captioner of a kind in a folder, by name; a folder that holds one captioner's own files is that captioner."""
    if not folder.is_dir():
        return
    itself = _is_captioner(folder, kind)
    if itself:
        yield folder
    for entry in sorted(folder.iterdir()):
        if not entry.name.startswith(".") and _is_captioner(entry, kind) and not (itself and entry.is_file()):
            yield entry


def _is_captioner(path: Path, kind: str) -> bool:
    """Whether a file or folder looks like a captioner of a kind."""
    if path.is_dir():
        needed = {"WD14": ("selected_tags.csv",), "CLIP interrogator": ("open_clip_config.json",), "DeepBooru": ("",)}.get(kind, ("config.json",))
        return all(name and (path / name).is_file() for name in needed)
    suffixes = {"BLIP": BLIP_SUFFIXES, "CLIP interrogator": CLIP_SUFFIXES, "DeepBooru": frozenset({".pt"})}.get(kind, frozenset())
    return path.suffix.lower() in suffixes and path.is_file()


def find(paths: Paths, label: str) -> Shelved:
    """The captioner that a label, a kind (its first one) or a name means; raises NotFound saying where to put one."""
    there = available(paths)
    wanted = label.strip().casefold()
    for matches in (lambda s: s.label.casefold() == wanted, lambda s: s.kind.casefold() == wanted, lambda s: s.label.partition(": ")[2].casefold() == wanted):
        if found := next(filter(matches, there), None):
            return found
    kind = next((kind for kind in FOLDERS if wanted in (kind.casefold(), kind.casefold().partition(":")[0]) or wanted.startswith(kind.casefold() + ":")), None)
    if kind is not None:
        raise NotFound(f"There is no captioner {label!r} in models/{FOLDERS[kind]}.", "Put its files there, fetch it in the page, or switch it off.")
    names = ", ".join(s.label for s in there)
    raise NotFound(f"There is no captioner {label!r}.", f"These are there: {names}." if names else "There is none at all.")
