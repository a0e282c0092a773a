"""What lies on the shelves: which files are listed, and which are not, without torch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save_file

from studio import shelves
from studio.formats.embedding import Embedding, embed_in_png
from studio.peeking import carries_embedding
from studio.settings import Paths


def photo(black: bool = False) -> Image.Image:
    """A picture; `black` has many black pixels."""
    pixels = np.random.default_rng(0).integers(0, 255, (64, 80, 3), dtype=np.uint8)
    if black:
        pixels[:, ::3] = 0
    return Image.fromarray(pixels)


@pytest.mark.parametrize("shelf", ["loras", "hypernetworks"])
def test_files_are_listed_by_name_from_folders_below(root: Paths, shelf: str) -> None:
    folder = {"loras": root.lora, "hypernetworks": root.hypernetworks}[shelf]
    assert getattr(shelves, shelf)(root) == {}
    for name in ("b.pt", "sub/A.pt", "sub/deep/c.pt", ".hidden.pt", "notes.txt", "c.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    assert list(getattr(shelves, shelf)(root).items()) == [("A", folder / "sub/A.pt"), ("b", folder / "b.pt"), ("c", folder / "sub/deep/c.pt")]


def test_of_two_files_with_one_name_the_first_is_listed(root: Paths) -> None:
    for name in ("x.safetensors", "sub/x.safetensors"):
        (root.lora / name).parent.mkdir(exist_ok=True)
        (root.lora / name).write_bytes(b"x")
    assert len(shelves.loras(root)) == 1


@pytest.mark.parametrize("way", ["chunk", "pixels", "alpha", "both"])
def test_pictures_that_carry_an_embedding_are_listed(root: Paths, way: str) -> None:
    image, info = embed_in_png(photo(), Embedding("rick", torch.randn(4, 96)))
    {"chunk": photo(), "pixels": image, "alpha": image.convert("RGBA"), "both": image}[way].save(root.embeddings / "x.png", pnginfo=info if way in ("chunk", "both") else None)
    assert [p.name for p in shelves.embedding_files(root)] == ["x.png"]


def test_pictures_that_carry_none_and_previews_are_not_listed(root: Paths) -> None:
    image, info = embed_in_png(photo(), Embedding("rick", torch.ones(1, 96)))
    image.save(root.embeddings / "x.preview.png", pnginfo=info)
    other = PngInfo()
    other.add_text("parameters", "sd-ti-embedding")
    photo().save(root.embeddings / "plain.png", pnginfo=other)
    photo(black=True).save(root.embeddings / "black.png")
    Image.new("RGB", (64, 64)).save(root.embeddings / "night.png")
    photo().convert("L").save(root.embeddings / "grey.png")
    photo().convert("P").save(root.embeddings / "palette.png")
    photo().save(root.embeddings / "photo.jpg")
    (root.embeddings / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR")
    (root.embeddings / "cut.png").write_bytes((root.embeddings / "plain.png").read_bytes()[:200])
    (root.embeddings / "empty.png").write_bytes(b"")
    assert shelves.embedding_files(root) == []


def test_a_picture_that_is_replaced_is_looked_at_again(root: Path) -> None:
    path = root.embeddings / "x.png"
    photo().save(path)
    assert not carries_embedding(path)
    image, info = embed_in_png(photo(), Embedding("rick", torch.ones(1, 96)))
    image.save(path, pnginfo=info)
    assert carries_embedding(path) and not carries_embedding(root.embeddings / "gone.png")


def test_the_second_half_of_diffusers_sdxl_embedding_is_not_listed(root: Paths) -> None:
    for name, width in (("learned_embeds", 768), ("learned_embeds_2", 1280), ("hero", 768), ("hero_2", 768), ("alone_2", 1280)):
        save_file({"<x>": torch.ones(1, width)}, root.embeddings / f"{name}.safetensors")
    (root.embeddings / "broken.safetensors").write_bytes(b"x")
    (root.embeddings / "broken_2.safetensors").write_bytes(b"x")
    assert [p.stem for p in shelves.embedding_files(root)] == ["alone_2", "broken", "broken_2", "hero", "hero_2", "learned_embeds"]


def test_the_shelves_need_no_torch_and_no_pillow() -> None:
    code = "import sys, studio.shelves; sys.exit(any(m in sys.modules for m in ('torch', 'PIL', 'numpy', 'safetensors')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
