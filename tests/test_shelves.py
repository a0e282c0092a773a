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


def made(folder: Path, *names: str) -> None:
    """Files in a folder and below."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_of_files_with_one_name_the_first_has_it_and_the_others_their_path(root: Paths) -> None:
    made(root.lora, "z/x.safetensors", "x.safetensors", "a/x.safetensors", "a/x.pt", "a/b/y.pt")
    assert {name: path.relative_to(root.lora).as_posix() for name, path in shelves.loras(root).items()} == {
        "x": "x.safetensors",
        "a/x": "a/x.pt",
        "a/x.safetensors": "a/x.safetensors",
        "z/x": "z/x.safetensors",
        "y": "a/b/y.pt",
    }


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("x", ["x.safetensors", "a/x.pt", "a/x.safetensors", "z/x.safetensors"]),
        ("z/x", ["z/x.safetensors"]),
        ("Z\\X", ["z/x.safetensors"]),
        ("a/x", ["a/x.pt", "a/x.safetensors"]),
        ("a/x.pt", ["a/x.pt"]),
        ("x.pt", ["a/x.pt"]),
        ("b/y", []),
        ("a/b/y", ["a/b/y.pt"]),
        ("cafe\u0301", ["caf\u00e9.pt"]),
        ("../x", []),
    ],
)
def test_a_name_means_files_by_stem_or_path(root: Paths, name: str, wanted: list[str]) -> None:
    made(root.lora, "z/x.safetensors", "x.safetensors", "a/x.safetensors", "a/x.pt", "a/b/y.pt", "caf\u00e9.pt")
    assert [path.relative_to(root.lora).as_posix() for path in shelves.meant(shelves.loras(root).values(), root.lora, name)] == wanted


def test_every_shelf_reaches_into_folders(root: Paths) -> None:
    made(root.checkpoints, "b.safetensors", "sd/a.safetensors", "sd/deep/c.ckpt", "sd/a.vae.pt", "xl/diffusers/model_index.json", "xl/diffusers/unet/model.safetensors", ".git/d.ckpt", "note/n.txt")
    made(root.vae, "v.pt", "more/v.pt", "more/w.safetensors", "folder/config.json", "folder/model.safetensors")
    made(root.esrgan, "4x.pth", "anime/4x.pth", "anime/2x.pth")
    own = [name for name, path in shelves.checkpoint_files(root).items() if path.is_relative_to(root.root)]
    assert own == ["b.safetensors", "sd/a.safetensors", "xl/diffusers", "sd/deep/c.ckpt"]
    assert shelves.vaes(root) == ["folder", "v.pt", "more/v.pt", "w.safetensors", "a.vae.pt"]
    assert list(shelves.upscaler_files(root)) == ["2x", "4x.pth", "anime/4x.pth"]
    files = shelves.checkpoint_files(root)
    assert [shelves.checkpoint_named(files, name) for name in ("sd/a.safetensors", "sd\\a.safetensors", "a.safetensors", "a", "diffusers", "d")] == [
        "sd/a.safetensors",
        "sd/a.safetensors",
        "sd/a.safetensors",
        "sd/a.safetensors",
        "xl/diffusers",
        None,
    ]


@pytest.mark.parametrize("shelf", ["loras", "hypernetworks", "embedding_files", "checkpoint_files", "vae_files", "upscaler_files"])
def test_linked_folders_are_followed_once_and_circles_end(root: Paths, tmp_path: Path, shelf: str) -> None:
    home = {"loras": root.lora, "hypernetworks": root.hypernetworks, "embedding_files": root.embeddings, "checkpoint_files": root.checkpoints, "vae_files": root.vae, "upscaler_files": root.esrgan}[
        shelf
    ]
    suffix = "ckpt" if shelf == "checkpoint_files" else "pt"
    made(tmp_path / "disk", f"far.{suffix}", f"sub/deep.{suffix}")
    made(home, f"near/own.{suffix}")
    (home / "alink").symlink_to(tmp_path / "disk", target_is_directory=True)
    (home / "blink").symlink_to(tmp_path / "disk", target_is_directory=True)
    (home / "back").symlink_to(home / "near", target_is_directory=True)
    (home / "near" / "circle").symlink_to(home, target_is_directory=True)
    (home / "near" / "above").symlink_to(root.root, target_is_directory=True)
    (tmp_path / "disk" / "sub" / "circle").symlink_to(tmp_path / "disk", target_is_directory=True)
    (home / f"broken.{suffix}").symlink_to(home / "gone")
    found = getattr(shelves, shelf)(root)
    paths = [path for path in (found.values() if isinstance(found, dict) else found) if path.is_relative_to(root.root)]
    assert sorted(path.relative_to(home).as_posix() for path in paths) == [f"alink/far.{suffix}", f"alink/sub/deep.{suffix}", f"near/own.{suffix}"]


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
