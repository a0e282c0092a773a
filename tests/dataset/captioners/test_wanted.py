"""Captioners are listed from file names alone and chosen by label, kind or name."""

import subprocess
import sys
from pathlib import Path

import pytest

from studio.dataset.captioners import CAPTIONERS, wanted
from studio.errors import NotFound
from studio.projects.captioner_shelf import FOLDERS, available, find
from studio.settings import Paths


@pytest.fixture
def shelf(root: Paths) -> Paths:
    """A studio with one captioner of each kind, empty files all."""
    for name in (
        "BLIP/large/config.json",
        "BLIP/model_base.pth",
        "BLIP/vocab.txt",
        "BLIP2/opt/config.json",
        "Florence-2/config.json",
        "CLIP/ViT-L-14.pt",
        "CLIP/folder/open_clip_config.json",
        "CLIP/folder/open_clip_model.safetensors",
        "WD14/vit/selected_tags.csv",
        "WD14/unfinished/model.safetensors",
        "WD14/.fetching-x/selected_tags.csv",
        "torch_deepdanbooru/own.pt",
        "torch_deepdanbooru/notes.txt",
    ):
        (root.models / name).parent.mkdir(parents=True, exist_ok=True)
        (root.models / name).touch()
    return root


def test_every_captioner_is_listed_by_kind_own_ones_first(shelf: Paths) -> None:
    assert [entry.label for entry in available(shelf)] == [
        "BLIP: large",
        "BLIP: model_base",
        "BLIP: tiny-blip",
        "BLIP-2: opt",
        "Florence-2: Florence-2",
        "CLIP interrogator: ViT-L-14",
        "CLIP interrogator: folder",
        "DeepBooru: own",
        "DeepBooru: model-resnet_custom_v3",
        "WD14: vit",
    ]


def test_a_new_studio_has_the_two_that_come_along(root: Paths) -> None:
    assert [entry.label for entry in available(root)] == ["BLIP: tiny-blip", "DeepBooru: model-resnet_custom_v3"]


@pytest.mark.parametrize("label", ["BLIP-2: opt", "blip-2: OPT", "BLIP-2", "blip-2", "opt", " BLIP-2 "])
def test_one_is_found_by_label_kind_or_name(shelf: Paths, label: str) -> None:
    assert find(shelf, label).path == shelf.models / "BLIP2" / "opt"


def test_a_kind_alone_means_its_first_one(shelf: Paths) -> None:
    assert find(shelf, "BLIP").path == shelf.blip / "large"
    assert find(shelf, "BLIP: tiny-blip").path == shelf.shipped.blip / "tiny-blip"


def test_what_is_not_there_is_told_with_what_is(root: Paths) -> None:
    with pytest.raises(NotFound, match=r"'WD14: vit' in models/WD14"):
        find(root, "WD14: vit")
    with pytest.raises(NotFound, match=r"'oracle'.*BLIP: tiny-blip, DeepBooru"):
        find(root, "oracle")


def test_wanted_ones_come_once_and_sentences_before_tags(shelf: Paths) -> None:
    found = wanted(shelf, ["WD14", "DeepBooru", "BLIP: tiny-blip", "wd14: vit", "Florence-2"])
    assert [(one.kind, one.path.name) for one in found] == [("BLIP", "tiny-blip"), ("Florence-2", "Florence-2"), ("DeepBooru", "own.pt"), ("WD14", "vit")]


def test_the_clip_interrogator_brings_a_blip_unless_one_is_wanted(shelf: Paths) -> None:
    assert [(one.kind, one.path.name) for one in wanted(shelf, ["CLIP interrogator"])] == [("BLIP", "large"), ("CLIP interrogator", "ViT-L-14.pt")]
    assert [one.path.name for one in wanted(shelf, ["CLIP interrogator", "tiny-blip"])] == ["tiny-blip", "ViT-L-14.pt"]


def test_every_kind_has_a_folder_and_a_loader(shelf: Paths) -> None:
    assert [kind.name for kind in CAPTIONERS] == list(FOLDERS)
    assert all(kind.find(shelf).parent.is_dir() for kind in CAPTIONERS)


def test_listing_needs_no_heavy_library(tmp_path: Path) -> None:
    code = "import sys; from studio.projects.captioner_shelf import available; from studio.requests.download import DownloadRequest; from studio.requests.caption import CaptionRequest\n"
    code += "from studio.settings import Paths; available(Paths.default()); print(sorted({'torch', 'PIL', 'numpy', 'transformers', 'timm', 'open_clip'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).resolve().parents[3])
    assert done.stdout.strip() == "[]"
