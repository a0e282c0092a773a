"""Enlarging: latent modes, plain ways, and models of the ESRGAN family in the layouts their programs write; everything else refused in words."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from studio import shelves
from studio.diffusion import upscale
from studio.diffusion.cache import ModelCache
from studio.diffusion.upscale import Upscaler, by_model, enlarged, enlarged_latents, is_latent, load_upscaler
from studio.errors import InputError, NotFound, StudioError, Unreadable
from studio.settings import Paths

Weights = dict[str, Tensor]
FEATURES, GROWTH = 8, 32


def conv(weights: Weights, name: str, outputs: int, inputs: int, seed: list[int]) -> None:
    """Random weights of a 3x3 convolution."""
    seed[0] += 1
    generator = torch.Generator().manual_seed(seed[0])
    weights[f"{name}.weight"] = torch.randn(outputs, inputs, 3, 3, generator=generator) / (3 * inputs**0.5)
    weights[f"{name}.bias"] = torch.randn(outputs, generator=generator) * 0.02


def rrdb_weights(scale: int = 4, inputs: int = 3) -> Weights:
    """A small RRDBNet under Real-ESRGAN's names (basicsr's rrdbnet_arch)."""
    weights: Weights = {}
    seed = [0]
    conv(weights, "conv_first", FEATURES, inputs, seed)
    for block in range(2):
        for dense in (1, 2, 3):
            for i in range(1, 6):
                conv(weights, f"body.{block}.rdb{dense}.conv{i}", GROWTH if i < 5 else FEATURES, FEATURES + (i - 1) * GROWTH, seed)
    conv(weights, "conv_body", FEATURES, FEATURES, seed)
    for i in range({1: 0, 2: 1, 4: 2}[scale]):
        conv(weights, f"conv_up{i + 1}", FEATURES, FEATURES, seed)
    conv(weights, "conv_hr", FEATURES, FEATURES, seed)
    conv(weights, "conv_last", 3, FEATURES, seed)
    weights["conv_last.bias"] += 0.5
    return weights


def first_names(weights: Weights) -> Weights:
    """The same weights under the names of ESRGAN's second release."""
    renamed = {}
    for key, value in weights.items():
        for new, old in (("body.", "RRDB_trunk."), (".rdb", ".RDB"), ("conv_body", "trunk_conv"), ("conv_up", "upconv"), ("conv_hr", "HRconv")):
            key = key if new == "body." and not key.startswith("body.") else key.replace(new, old, 1)
        renamed[key] = value
    return renamed


def oldest_names(weights: Weights) -> Weights:
    """The same weights under the names of ESRGAN's first release, numbered through."""
    numbers = {"conv_first": "model.0", "conv_body": "model.1.sub.2", "conv_up1": "model.3", "conv_up2": "model.6", "conv_hr": "model.8", "conv_last": "model.10"}
    renamed = {}
    for key, value in weights.items():
        name, kind = key.rsplit(".", 1)
        if name.startswith("body."):
            _, block, dense, layer = name.split(".")
            renamed[f"model.1.sub.{block}.RDB{dense[-1]}.{layer}.0.{kind}"] = value
        else:
            renamed[f"{numbers[name]}.{kind}"] = value
    return renamed


def rrdb(weights: Weights, x: Tensor) -> Tensor:
    """What an RRDBNet computes (Wang et al. 2018, figure 4), written from the paper."""

    def layer(name: str, value: Tensor) -> Tensor:
        return F.conv2d(value, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)

    first = layer("conv_first", x)
    trunk = first
    for block in range(2):
        whole = trunk
        for dense in (1, 2, 3):
            seen = [trunk]
            for i in range(1, 5):
                seen.append(F.leaky_relu(layer(f"body.{block}.rdb{dense}.conv{i}", torch.cat(seen, 1)), 0.2))
            trunk = trunk + 0.2 * layer(f"body.{block}.rdb{dense}.conv5", torch.cat(seen, 1))
        trunk = whole + 0.2 * trunk
    value = first + layer("conv_body", trunk)
    for i in (1, 2):
        if f"conv_up{i}.weight" in weights:
            value = F.leaky_relu(layer(f"conv_up{i}", F.interpolate(value, scale_factor=2)), 0.2)
    return layer("conv_last", F.leaky_relu(layer("conv_hr", value), 0.2))


def compact_weights(scale: int = 2, channels: int = 3) -> Weights:
    """A small SRVGGNetCompact under Real-ESRGAN's names."""
    weights: Weights = {}
    seed = [100]
    conv(weights, "body.0", FEATURES, channels, seed)
    weights["body.1.weight"] = torch.full((FEATURES,), 0.1)
    conv(weights, "body.2", FEATURES, FEATURES, seed)
    weights["body.3.weight"] = torch.full((FEATURES,), 0.2)
    conv(weights, "body.4", channels * scale**2, FEATURES, seed)
    return weights


def picture(size: tuple[int, int], seed: int = 0, mode: str = "RGB") -> Image.Image:
    """Smooth random colours."""
    small = Image.fromarray(np.random.default_rng(seed).integers(60, 200, (6, 6, 3), dtype=np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC).convert(mode)


def as_tensor(image: Image.Image) -> Tensor:
    """[1, 3, h, w] in 0..1."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255


def stored(folder: Path, data: object, name: str = "given.pth") -> Path:
    """A file as the name says."""
    path = folder / name
    if path.suffix == ".safetensors":
        save_file(data, path)
    else:
        torch.save(data, path)
    return path


LAYOUTS: dict[str, Callable[[Weights], object]] = {
    "Real-ESRGAN": lambda w: {"params_ema": w},
    "Real-ESRGAN with both": lambda w: {"params": {k: v * 0 for k, v in w.items()}, "params_ema": w},
    "ESRGAN": first_names,
    "first ESRGAN": oldest_names,
    "data parallel": lambda w: {"state_dict": {f"module.{k}": v for k, v in w.items()}},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_an_rrdbnet_gives_what_the_paper_says(tmp_path: Path, layout: str) -> None:
    weights, image = rrdb_weights(), picture((13, 9))
    upscaler = load_upscaler(stored(tmp_path, LAYOUTS[layout](weights)))
    assert (upscaler.scale, upscaler.channels, upscaler.name) == (4, 3, "given")
    wanted = rrdb(weights, as_tensor(image)).clamp(0, 1)
    assert wanted.std() > 0.02
    found = upscaler.enlarge(image)
    assert found.size == (52, 36)
    assert (as_tensor(found) - wanted).abs().max() <= 0.51 / 255 + 1e-5


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("kind", ["rrdb", "compact"])
def test_the_scale_comes_from_the_file(tmp_path: Path, kind: str, scale: int) -> None:
    weights = rrdb_weights(scale) if kind == "rrdb" else {"params": compact_weights(scale)}
    upscaler = load_upscaler(stored(tmp_path, weights))
    assert upscaler.scale == scale
    assert upscaler.enlarge(picture((10, 7))).size == (10 * scale, 7 * scale)


@pytest.mark.parametrize("size", [(10, 8), (7, 5)])
def test_a_model_that_shuffles_pixels_into_channels_halves_its_scale(tmp_path: Path, size: tuple[int, int]) -> None:
    upscaler = load_upscaler(stored(tmp_path, {"params_ema": rrdb_weights(4, 12)}))
    assert (upscaler.scale, upscaler.channels) == (2, 3)
    assert upscaler.enlarge(picture(size)).size == (size[0] * 2, size[1] * 2)


def test_safetensors_are_read_too(tmp_path: Path) -> None:
    one = load_upscaler(stored(tmp_path, rrdb_weights(), "a.safetensors")).enlarge(picture((8, 8)))
    two = load_upscaler(stored(tmp_path, rrdb_weights(), "b.pth")).enlarge(picture((8, 8)))
    assert one.tobytes() == two.tobytes()


def test_a_model_of_greys_gives_greys(tmp_path: Path) -> None:
    found = np.asarray(load_upscaler(stored(tmp_path, {"params": compact_weights(2, 1)})).enlarge(picture((8, 8))))
    assert (found[..., 0] == found[..., 1]).all()
    assert found.shape == (16, 16, 3)


def test_large_pictures_go_through_in_tiles_without_a_seam(tmp_path: Path) -> None:
    upscaler, image = load_upscaler(stored(tmp_path, {"params": compact_weights()})), picture((401, 250))
    sizes, inner = [], upscaler.run
    upscaler.run = lambda x: sizes.append(tuple(x.shape[-2:])) or inner(x)
    found = upscaler.enlarge(image)
    assert max(max(s) for s in sizes) <= upscale.TILE
    assert len(sizes) >= 4
    with torch.inference_mode():
        at_once = inner(as_tensor(image))
    assert (as_tensor(found) - at_once).abs().max() <= 1.01 / 255


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_when_memory_runs_out_the_tile_is_halved_and_it_goes_on(tmp_path: Path, error: type[Exception]) -> None:
    upscaler, image = load_upscaler(stored(tmp_path, {"params": compact_weights()})), picture((200, 120))
    wanted, sizes, inner = upscaler.enlarge(image), [], upscaler.run

    def narrow(x: Tensor) -> Tensor:
        sizes.append(max(x.shape[-2:]))
        if sizes[-1] > 50:
            raise error("CUDA out of memory. Tried to allocate 3.00 GiB.")
        return inner(x)

    upscaler.run = narrow
    found = upscaler.enlarge(image)
    assert list(dict.fromkeys(sizes)) == [192, 96, 48]
    assert np.abs(np.asarray(found).astype(int) - np.asarray(wanted)).max() <= 1


def test_when_no_tile_is_small_enough_it_is_told_in_words(tmp_path: Path) -> None:
    upscaler = load_upscaler(stored(tmp_path, {"params": compact_weights()}))

    def full(_: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    upscaler.run = full
    with pytest.raises(StudioError, match="out of memory"):
        upscaler.enlarge(picture((64, 64)))


def test_numbers_that_are_not_finite_are_told_and_no_black_picture_comes(tmp_path: Path) -> None:
    weights = compact_weights()
    weights["body.4.bias"][0] = float("nan")
    with pytest.raises(Unreadable, match="not finite"):
        load_upscaler(stored(tmp_path, weights)).enlarge(picture((8, 8)))


def test_more_pixels_than_can_be_held_are_refused_before_the_work(tmp_path: Path) -> None:
    upscaler = load_upscaler(stored(tmp_path, {"params": compact_weights(4)}))
    with pytest.raises(InputError, match="16000x16000"):
        upscaler.enlarge(Image.new("RGB", (4000, 4000)))


class Villain:
    """What a pickle can do to who loads it."""

    def __reduce__(self) -> tuple:
        return os.system, ("touch /tmp/studio-was-here",)


@pytest.mark.parametrize(
    ("data", "name", "said"),
    [
        ({"lora_unet_down.lora_up.weight": torch.zeros(4, 4)}, "lora.safetensors", "is not a model that enlarges"),
        ({"state_dict": {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(4, 4, 3, 3)}}, "sd.ckpt", "is not a model that enlarges"),
        ({}, "empty.pth", "is not a model that enlarges"),
        ([1, 2, 3], "list.pth", "is not a model that enlarges"),
        ({"params": {"conv_first.weight": "text"}}, "text.pth", "is not a model that enlarges"),
        ({k: v for k, v in compact_weights().items() if k != "body.4.bias"}, "hole.pth", "do not fit together"),
        ({**compact_weights(), "body.2.weight": torch.zeros(5, 5, 3, 3)}, "crooked.pth", "do not fit together"),
        ({**rrdb_weights(), "conv_body.weight": torch.zeros(3, 3, 3, 3)}, "bent.safetensors", "do not fit together"),
        ({"params": Villain()}, "villain.pth", "cannot be read safely.*system"),
    ],
    ids=["lora", "checkpoint", "empty", "list", "text", "hole", "crooked", "bent", "villain"],
)
def test_a_file_that_is_no_upscaler_is_refused_in_words(tmp_path: Path, data: object, name: str, said: str) -> None:
    path = stored(tmp_path, data, name)
    with pytest.raises(Unreadable, match=said) as caught:
        load_upscaler(path)
    assert name in caught.value.message
    assert caught.value.hint
    assert not Path("/tmp/studio-was-here").exists()


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "a.pt"])
@pytest.mark.parametrize("data", [b"", b"<!DOCTYPE html><html>404</html>", None], ids=["empty", "web page", "cut off"])
def test_damaged_files_are_refused_in_words(tmp_path: Path, name: str, data: bytes | None) -> None:
    path = stored(tmp_path, rrdb_weights(), name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if data is None else data)
    with pytest.raises(Unreadable, match=name):
        load_upscaler(path)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"gone\.pth"):
        load_upscaler(tmp_path / "gone.pth")


@pytest.fixture
def cache(root: Paths) -> ModelCache:
    """A cache over a root with one upscaler."""
    stored(root.esrgan, {"params": compact_weights()}, "2x-small.pth")
    return ModelCache(root, device="cpu")


@pytest.mark.parametrize(("source", "size"), [((20, 30), (40, 60)), ((20, 30), (160, 240)), ((20, 30), (50, 50)), ((20, 30), (7, 9)), ((20, 30), (20, 30)), ((1, 1), (300, 200))])
@pytest.mark.parametrize("name", ["None", "Lanczos", "Nearest", "2x-small"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P"])
def test_every_upscaler_gives_the_size_asked_for(cache: ModelCache, name: str, source: tuple[int, int], size: tuple[int, int], mode: str) -> None:
    found = enlarged(picture(source, mode="L" if mode == "LA" else "RGB").convert(mode), size, name, cache)
    assert found.size == size
    assert ("A" in found.mode) is ("A" in mode)


def test_a_model_is_used_as_often_as_needed_and_once_for_the_same_size(cache: ModelCache) -> None:
    calls = []
    loaded = load_upscaler(cache.paths.esrgan / "2x-small.pth")
    counted = Upscaler(loaded.name, 2, 3, loaded.network, lambda x: calls.append(tuple(x.shape[-2:])) or loaded.run(x))
    for size, wanted in [((40, 40), [(20, 20)]), ((90, 90), [(20, 20), (40, 40), (80, 80)]), ((400, 400), [(20, 20), (40, 40), (80, 80)]), ((20, 20), [(20, 20)]), ((10, 10), [])]:
        calls.clear()
        assert by_model(picture((20, 20)), size, counted).size == size
        assert calls == wanted


def test_the_cache_holds_a_model_for_the_next_picture(cache: ModelCache, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[Path] = []
    monkeypatch.setattr(upscale, "load_upscaler", lambda path, device: loads.append(path) or load_upscaler(path, device))
    one, two = (enlarged(picture((9, 9)), (18, 18), "2x-small", cache) for _ in range(2))
    assert one.tobytes() == two.tobytes()
    assert len(loads) == 1


def test_nearest_repeats_pixels_and_alpha_is_enlarged_beside_the_colours(cache: ModelCache) -> None:
    image = picture((4, 4))
    assert np.array_equal(np.asarray(enlarged(image, (8, 8), "Nearest", cache)), np.asarray(image).repeat(2, 0).repeat(2, 1))
    layer = image.convert("RGBA")
    layer.putalpha(Image.new("L", (4, 4), 99))
    found = enlarged(layer, (8, 8), "2x-small", cache)
    assert set(np.unique(np.asarray(found)[..., 3])) == {99}
    assert np.array_equal(np.asarray(found)[..., :3], np.asarray(enlarged(image, (8, 8), "2x-small", cache)))


def test_an_upscaler_that_is_not_there_is_told_with_those_that_are(cache: ModelCache) -> None:
    with pytest.raises(NotFound, match="4x-Ultra") as caught:
        enlarged(picture((4, 4)), (8, 8), "4x-Ultra", cache)
    assert "2x-small" in caught.value.hint


@pytest.mark.parametrize("size", [(0, 5), (5, -1), (10**6, 10**6)])
def test_sizes_that_cannot_be_made_are_refused(cache: ModelCache, size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=f"{size[0]}x{size[1]}"):
        enlarged(picture((4, 4)), size, "Lanczos", cache)


def test_the_shelf_lists_latent_modes_plain_ways_and_files(root: Paths) -> None:
    for name in ("B.pth", "a.safetensors", "same.pt", "same.pth", "notes.txt", ".hidden.pth"):
        (root.esrgan / name).write_bytes(b"")
    assert shelves.upscalers(root, latent=False) == ["None", "Lanczos", "Nearest", "a", "B", "same.pt", "same.pth"]
    assert shelves.upscalers(root)[:2] == ["Latent", "Latent (antialiased)"]
    assert all(is_latent(name) for name in shelves.LATENT_UPSCALERS)
    assert not any(is_latent(name) for name in shelves.upscalers(root, latent=False))


@pytest.mark.parametrize("name", shelves.LATENT_UPSCALERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_latent_mode_enlarges_in_any_precision(name: str, dtype: torch.dtype) -> None:
    z = torch.randn(2, 4, 8, 6, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = enlarged_latents(z, (13, 20), name)
    assert (found.shape, found.dtype) == ((2, 4, 13, 20), dtype)
    assert torch.equal(enlarged_latents(z, (8, 6), name), z) or "antialiased" in name
    assert torch.allclose(enlarged_latents(torch.full((1, 4, 5, 5), 0.3), (9, 12), name), torch.full((1, 4, 9, 12), 0.3), atol=1e-5)


def test_the_latent_modes_differ() -> None:
    z = torch.randn(1, 4, 9, 9, generator=torch.Generator().manual_seed(0))
    found = {name: enlarged_latents(z, (5, 5), name) for name in shelves.LATENT_UPSCALERS}
    assert all(not torch.allclose(found[a], found[b], atol=1e-3) for a in found for b in found if a < b)


def test_another_name_is_no_latent_mode() -> None:
    with pytest.raises(InputError, match="Lanczos"):
        enlarged_latents(torch.zeros(1, 4, 4, 4), (8, 8), "Lanczos")


def test_a_loaded_model_learns_nothing(tmp_path: Path) -> None:
    network: nn.Module = load_upscaler(stored(tmp_path, rrdb_weights())).network
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
