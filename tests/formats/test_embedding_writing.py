"""Embeddings given away: each layout read by a reader of its own, written from the description of the format."""

import base64
import json
import zlib
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from studio.errors import InputError, Unreadable
from studio.formats.carriers import png_info
from studio.formats.embedding import Embedding, read_embedding
from studio.formats.embedding_png import write_picture
from studio.formats.embedding_writing import check_family, write_layout

HERO = Embedding("hero", torch.linspace(-0.5, 0.5, 16).reshape(2, 8), 120, "0123456789", "tiny")


def from_pixels(path: Path) -> dict:
    """What the pixels beside a picture carry: black edge off, low halves up to the first black column, high halves from the last on, both unmixed, joined and unpacked."""
    with Image.open(path) as image:
        rgb, (width, height) = image.convert("RGB").load(), image.size
    columns = [x for x in range(width) if all((part & 15) == 0 for y in range(height) for part in rgb[x, y])]
    halves = []
    for first, last in ((0, columns[0]), (columns[-1] + 1, width)):
        state, block = 0, []
        for y in range(height):
            for x in range(first, last):
                for part in rgb[x, y]:
                    state = (1664525 * state + 1013904223) % 2**32
                    block.append((part & 15) ^ ((state % 255) & 15))
        halves.append(block)
    return json.loads(zlib.decompressobj().decompress(bytes(low + 16 * high for low, high in zip(*halves, strict=True))))


@pytest.mark.parametrize("own", [True, False], ids=["a painted picture", "a plain card"])
def test_a_picture_carries_the_embedding_in_its_pixels_and_in_its_chunk(tmp_path: Path, own: bool) -> None:
    picture = tmp_path / "painted.png"
    Image.new("RGB", (96, 64), "orange").save(picture, pnginfo=png_info("a photo of hero\nSteps: 15, Seed: 1, Size: 96x64"))
    write_picture(tmp_path / "hero.png", HERO, picture if own else None)
    told = from_pixels(tmp_path / "hero.png")
    with Image.open(tmp_path / "hero.png") as image:
        assert told == json.loads(base64.b64decode(image.info["sd-ti-embedding"]))
        assert ("parameters" in image.info) is own
    assert set(told) == {"string_to_token", "string_to_param", "name", "step", "sd_checkpoint", "sd_checkpoint_name"}
    assert (told["string_to_token"], told["name"], told["step"], told["sd_checkpoint"], told["sd_checkpoint_name"]) == ({"*": 265}, "hero", 120, "0123456789", "tiny")
    assert torch.equal(torch.tensor(told["string_to_param"]["*"]["TORCHTENSOR"]), HERO.vectors)


@pytest.mark.parametrize("layout", ["pt", "safetensors", "png"])
def test_a_layout_of_one_file_is_read_back_whole(tmp_path: Path, layout: str) -> None:
    (path,) = write_layout(tmp_path, HERO, layout)
    back = read_embedding(path)
    assert (path.name, back.name, back.step, back.checkpoint_hash, back.checkpoint_name) == (f"hero.{layout}", "hero", 120, "0123456789", "tiny")
    assert torch.equal(back.vectors, HERO.vectors)


def test_diffusers_files_hold_one_tensor_called_by_the_token(tmp_path: Path) -> None:
    assert [p.relative_to(tmp_path).as_posix() for p in write_layout(tmp_path, HERO, "diffusers")] == ["hero/learned_embeds.safetensors"]
    assert {key: value.tolist() for key, value in load_file(tmp_path / "hero" / "learned_embeds.safetensors").items()} == {"<hero>": HERO.vectors.tolist()}


def test_diffusers_files_of_sdxl_are_a_pair_that_is_one_embedding(tmp_path: Path) -> None:
    xl = Embedding("xl", torch.arange(4096.0).reshape(2, 2048))
    first, second = write_layout(tmp_path, xl, "diffusers")
    assert [load_file(path)["<xl>"].shape for path in (first, second)] == [(2, 768), (2, 1280)]
    assert torch.equal(read_embedding(first).vectors, xl.vectors)


def test_no_family_is_scaled_to_another() -> None:
    check_family(Embedding("xl", torch.ones(1, 2048)), "SDXL")
    with pytest.raises(InputError, match=r"width 768, which are for SD 1.x; they cannot be scaled to SDXL.*train the same pictures"):
        check_family(Embedding("hero", torch.ones(1, 768)), "SDXL")


def test_what_is_no_picture_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"no picture")
    with pytest.raises(Unreadable, match=r"x.png is not a picture"):
        write_layout(tmp_path, HERO, "png", tmp_path / "x.png")
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]
