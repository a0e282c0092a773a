"""Generate on the tiny world: seeds, batches, embeddings, inpainting, stops and mistakes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from studio.diffusion.cache import ModelCache
from studio.diffusion.model import Model
from studio.errors import InputError, NotFound, StudioError, Unreadable
from studio.formats.embedding import Embedding, write_embedding
from studio.formats.infotext import infotext_of, read_infotext
from studio.jobs import SilentLane
from studio.requests.generate import GenerateRequest
from studio.services.desk import Desk
from studio.services.generation import covering_size, hires_size, run
from studio.settings import Paths

STEPS = 3


@pytest.fixture
def desk(root: Paths, tiny_cache: ModelCache) -> Desk:
    """A desk over an empty root."""
    return Desk(root, tiny_cache)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A 128x128 picture of blocks of colour."""
    image = Image.new("RGB", (128, 128), (40, 90, 160))
    draw = ImageDraw.Draw(image)
    draw.rectangle((16, 20, 60, 100), fill=(220, 60, 40))
    draw.ellipse((70, 40, 120, 90), fill=(240, 220, 60))
    path = tmp_path / "init.png"
    image.save(path)
    return path


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    """White over the middle."""
    image = Image.new("L", (128, 128), 0)
    ImageDraw.Draw(image).rectangle((48, 48, 79, 87), fill=255)
    path = tmp_path / "mask.png"
    image.save(path)
    return path


def request(**values: Any) -> GenerateRequest:
    """A quick request."""
    return GenerateRequest(**{"prompt": "a red monster", "steps": STEPS, "seed": 5, "preview_every": 0, **values})


def pixels(path: str | Path) -> np.ndarray:
    """A picture as numbers."""
    return np.array(Image.open(path).convert("RGB")).astype(int)


def painted(desk: Desk, **values: Any) -> list[np.ndarray]:
    """The pictures of a request as numbers."""
    return [pixels(path) for path in run(request(**values), SilentLane(), desk)["images"]]


def shelve(desk: Desk, name: str, width: int = 128, count: int = 2) -> Path:
    """An embedding of random vectors on the shelf."""
    path = desk.paths.embeddings / f"{name}.pt"
    write_embedding(path, Embedding(name, torch.randn(count, width, generator=torch.Generator().manual_seed(3))))
    return path


def test_a_picture_is_saved_with_its_infotext(desk: Desk, lane: SilentLane, tiny: Model) -> None:
    result = run(request(negative_prompt="blurry, dark", cfg_scale=4.5, clip_skip=2), lane, desk)
    (path,) = (Path(p) for p in result["images"])
    assert desk.paths.images in path.parents
    assert Image.open(path).size == (tiny.native_size, tiny.native_size)
    assert infotext_of(path) == result["infotexts"][0]
    said = read_infotext(infotext_of(path))
    assert said["Prompt"] == "a red monster"
    assert said["Negative prompt"] == "blurry, dark"
    assert {k: said[k] for k in ("Steps", "Sampler", "CFG scale", "Seed", "Size", "Clip skip")} == {
        "Steps": str(STEPS), "Sampler": "DPM++ 2M", "CFG scale": "4.5", "Seed": "5", "Size": f"{tiny.native_size}x{tiny.native_size}", "Clip skip": "2",
    }  # fmt: skip
    assert said["Model hash"] == tiny.hash
    assert said["Model"] == "tiny-world"
    assert ("saved", {"path": str(path)}) in lane.events
    assert result["stopped"] is False


def test_the_same_seed_gives_the_same_pixels_and_another_seed_others(desk: Desk) -> None:
    (first,), (again,), (other,) = painted(desk), painted(desk), painted(desk, seed=6)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_global_randomness_neither_matters_nor_is_touched(desk: Desk) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    (first,) = painted(desk, sampler="Euler a")
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    (again,) = painted(desk, sampler="Euler a")
    assert np.array_equal(first, again)


def test_seed_minus_one_draws_a_seed_that_is_told_and_can_be_used_again(desk: Desk) -> None:
    result = run(request(seed=-1), SilentLane(), desk)
    (seed,) = result["seeds"]
    assert read_infotext(result["infotexts"][0])["Seed"] == str(seed)
    assert np.array_equal(pixels(result["images"][0]), painted(desk, seed=seed)[0])
    assert run(request(seed=-1), SilentLane(), desk)["seeds"] != [seed]


def test_a_batch_gives_each_picture_the_next_seed(desk: Desk) -> None:
    result = run(request(batch_size=3), SilentLane(), desk)
    assert result["seeds"] == [5, 6, 7]
    assert [read_infotext(t)["Seed"] for t in result["infotexts"]] == ["5", "6", "7"]
    assert len(set(result["images"])) == 3
    alone = painted(desk, seed=7)[0]
    assert np.abs(pixels(result["images"][2]) - alone).max() <= 2
    assert np.abs(pixels(result["images"][0]) - alone).max() > 20


def test_a_size_that_is_asked_for_is_the_size_of_the_picture(desk: Desk) -> None:
    assert painted(desk, width=96, height=64)[0].shape == (64, 96, 3)


@pytest.mark.parametrize("where", ["prompt", "negative_prompt"])
def test_an_embedding_changes_the_picture_where_its_name_stands(desk: Desk, where: str) -> None:
    values = {"prompt": "a red monster", "negative_prompt": "dark", where: "a photo of gnarl"}
    (plain,) = painted(desk, **values)
    shelve(desk, "gnarl")
    (used,) = painted(desk, **values)
    assert not np.array_equal(plain, used)
    assert np.array_equal(used, painted(desk, **{**values, where: "a photo of GNARL"})[0])


def test_an_embedding_that_is_not_named_changes_nothing(desk: Desk) -> None:
    (plain,) = painted(desk)
    shelve(desk, "gnarl")
    assert np.array_equal(plain, painted(desk)[0])


def test_live_vectors_go_before_the_file(desk: Desk) -> None:
    shelve(desk, "gnarl")
    (kept,) = painted(desk, prompt="a photo of gnarl")
    desk.live["gnarl"] = torch.ones(2, 128)
    assert not np.array_equal(kept, painted(desk, prompt="a photo of gnarl")[0])


def test_a_damaged_embedding_that_is_named_is_told_in_words(desk: Desk) -> None:
    (desk.paths.embeddings / "gnarl.pt").write_bytes(b"not an embedding")
    with pytest.raises(StudioError, match=r"The embedding 'gnarl' cannot be used: gnarl\.pt") as raised:
        run(request(prompt="a photo of gnarl"), SilentLane(), desk)
    assert "Take its name out of the prompt" in raised.value.hint


@pytest.mark.parametrize("prompt", ["a red monster", "a photo of gnarled wood"])
def test_a_damaged_embedding_that_is_not_named_does_not_matter(desk: Desk, prompt: str) -> None:
    (desk.paths.embeddings / "gnarl.pt").write_bytes(b"not an embedding")
    assert len(painted(desk, prompt=prompt)) == 1


def test_an_embedding_for_another_kind_of_checkpoint_is_told_with_both_widths(desk: Desk) -> None:
    shelve(desk, "gnarl", width=768)
    with pytest.raises(InputError, match=r"'gnarl' has vectors of width 768, as SD1 has them, but tiny-world \(SD1\) needs 128"):
        run(request(prompt="gnarl"), SilentLane(), desk)


@pytest.mark.parametrize("area", ["Whole picture", "Only masked"])
@pytest.mark.parametrize("content", ["fill", "original", "latent noise", "latent nothing"])
def test_inpainting_changes_what_is_masked_and_no_other_pixel(desk: Desk, picture: Path, mask: Path, content: str, area: str) -> None:
    (after,) = painted(desk, init_image=str(picture), mask=str(mask), masked_content=content, inpaint_area=area, mask_blur=0, padding=16, denoising_strength=1)
    before, inside = pixels(picture), pixels(mask)[..., 0] > 0
    assert after.shape == before.shape
    assert np.array_equal(after[~inside], before[~inside])
    assert np.abs(after[inside] - before[inside]).mean() > 5


def test_masked_contents_differ_from_one_another(desk: Desk, picture: Path, mask: Path) -> None:
    contents = ("fill", "original", "latent noise", "latent nothing")
    seen = {painted(desk, init_image=str(picture), mask=str(mask), masked_content=c, denoising_strength=0.6)[0].tobytes() for c in contents}
    assert len(seen) == 4


@pytest.mark.parametrize("area", ["Whole picture", "Only masked"])
def test_a_soft_mask_leaves_pixels_far_from_it_alone(desk: Desk, picture: Path, mask: Path, area: str) -> None:
    (after,) = painted(desk, init_image=str(picture), mask=str(mask), inpaint_area=area, mask_blur=4, denoising_strength=1)
    far = np.ones((128, 128), bool)
    far[48 - 16 : 88 + 16, 48 - 16 : 80 + 16] = False
    assert np.array_equal(after[far], pixels(picture)[far])


def test_inpaint_not_masked_keeps_the_masked_pixels(desk: Desk, picture: Path, mask: Path) -> None:
    (after,) = painted(desk, init_image=str(picture), mask=str(mask), mask_mode="Inpaint not masked", mask_blur=0, denoising_strength=1)
    before, inside = pixels(picture), pixels(mask)[..., 0] > 0
    assert np.array_equal(after[inside], before[inside])
    assert not np.array_equal(after[~inside], before[~inside])


@pytest.mark.parametrize("size", [(200, 131), (70, 90)])
def test_a_picture_of_any_size_keeps_its_size(desk: Desk, tmp_path: Path, size: tuple[int, int]) -> None:
    Image.effect_noise(size, 90).convert("RGB").save(tmp_path / "odd.png")
    mask = Image.new("L", size, 0)
    mask.paste(255, (10, 10, 40, 40))
    mask.save(tmp_path / "odd-mask.png")
    for area in ("Whole picture", "Only masked"):
        (after,) = painted(desk, init_image=str(tmp_path / "odd.png"), mask=str(tmp_path / "odd-mask.png"), inpaint_area=area, mask_blur=0)
        before, inside = pixels(tmp_path / "odd.png"), np.array(mask) > 0
        assert np.array_equal(after[~inside], before[~inside])
        assert not np.array_equal(after[inside], before[inside])


def test_denoising_strength_zero_gives_the_picture_back(desk: Desk, picture: Path, mask: Path) -> None:
    (after,) = painted(desk, init_image=str(picture), mask=str(mask), denoising_strength=0)
    assert np.array_equal(after, pixels(picture))


def test_an_inpainted_batch_repaints_every_picture_with_its_own_seed(desk: Desk, picture: Path, mask: Path) -> None:
    first, second = painted(desk, init_image=str(picture), mask=str(mask), batch_size=2, denoising_strength=1, masked_content="latent noise")
    assert not np.array_equal(first, second)
    assert np.array_equal(first[:8], pixels(picture)[:8])
    assert np.array_equal(second[:8], pixels(picture)[:8])


def test_the_infotext_of_an_inpainted_picture_tells_how(desk: Desk, picture: Path, mask: Path) -> None:
    said = read_infotext(run(request(init_image=str(picture), mask=str(mask), masked_content="fill"), SilentLane(), desk)["infotexts"][0])
    assert (said["Denoising strength"], said["Mask blur"], said["Masked content"]) == ("0.75", "4", "fill")
    assert "Inpaint area" not in said  # the whole picture is A1111's default, which it leaves out
    assert said["Size"] == "128x128"


def test_a_picture_without_a_mask_is_repainted_all_over(desk: Desk, picture: Path) -> None:
    near, far = (painted(desk, init_image=str(picture), denoising_strength=strength)[0].astype(int) for strength in (0.3, 0.9))
    before = pixels(picture).astype(int)
    assert 0 < np.abs(near - before).mean() < np.abs(far - before).mean()


def test_an_empty_mask_is_told_in_words_and_one_of_another_size_is_scaled(desk: Desk, picture: Path, tmp_path: Path) -> None:
    Image.new("L", (128, 128), 0).save(tmp_path / "empty.png")
    half = Image.new("L", (64, 32), 0)
    half.paste(255, (0, 0, 32, 32))
    half.save(tmp_path / "small.png")
    with pytest.raises(InputError, match="The mask is empty"):
        run(request(init_image=str(picture), mask=str(tmp_path / "empty.png")), SilentLane(), desk)
    (after,) = painted(desk, init_image=str(picture), mask=str(tmp_path / "small.png"), mask_blur=0)
    assert np.array_equal(after[:, 70:], pixels(picture)[:, 70:])
    assert not np.array_equal(after[:, :58], pixels(picture)[:, :58])


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n half a picture"])
def test_a_file_that_is_not_a_picture_is_told_by_label_and_name(desk: Desk, picture: Path, mask: Path, tmp_path: Path, content: bytes) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(content)
    with pytest.raises(Unreadable, match=r"Picture: 'bad\.png' is"):
        run(request(init_image=str(bad), mask=str(mask)), SilentLane(), desk)
    with pytest.raises(Unreadable, match=r"Mask: 'bad\.png' is"):
        run(request(init_image=str(picture), mask=str(bad)), SilentLane(), desk)


def test_a_stop_in_the_middle_returns_what_is_there(desk: Desk) -> None:
    class Stopping(SilentLane):
        """Stops after the second step."""

        def emit(self, kind: str, /, **data: Any) -> None:
            """Keep the event; ask for a stop at step 2."""
            super().emit(kind, **data)
            self.stop = self.stop or (kind == "progress" and data["step"] == 2)

    lane = Stopping()
    result = run(request(steps=12), lane, desk)
    assert result["stopped"] is True
    assert len(result["images"]) == 1
    assert max(data["step"] for kind, data in lane.events if kind == "progress") == 2
    assert not np.array_equal(pixels(result["images"][0]), painted(desk, steps=12)[0])


def test_progress_is_told_at_every_step_and_live_previews_every_few(desk: Desk, lane: SilentLane) -> None:
    run(request(steps=6, preview_every=2), lane, desk)
    assert [data["step"] for kind, data in lane.events if kind == "progress"] == [1, 2, 3, 4, 5, 6]
    previews = [data for kind, data in lane.events if kind == "preview"]
    assert [data["step"] for data in previews] == [2, 4]
    assert all(data["image"].startswith("data:image/jpeg;base64,") for data in previews)


def test_a_prompt_of_ten_thousand_characters_works_to_its_end(desk: Desk) -> None:
    prompt = ("a red monster, " * 700)[:9_990]
    (first,) = painted(desk, prompt=prompt + " blue frog", steps=1)
    (other,) = painted(desk, prompt=prompt + " green hat", steps=1)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("name", ["text.safetensors", "text.ckpt", "empty.safetensors"])
def test_a_checkpoint_that_is_not_one_is_told_in_words(root: Paths, name: str) -> None:
    (root.checkpoints / name).write_text("" if "empty" in name else "I am not a checkpoint. " * 50)
    with pytest.raises(StudioError, match=name.replace(".", r"\.")) as raised:
        run(request(checkpoint=name), SilentLane(), Desk(root, ModelCache(root, device="cpu")))
    assert raised.value.hint


def test_a_checkpoint_that_does_not_exist_is_told_with_those_that_do(desk: Desk) -> None:
    with pytest.raises(NotFound, match=r"no checkpoint 'none'.*tiny-world"):
        run(request(checkpoint="none"), SilentLane(), desk)


@pytest.mark.parametrize("upscaler", ["Latent", "Lanczos"])
@pytest.mark.parametrize("target", [(128, 64), (64, 128), (192, 104)])
def test_hires_to_another_aspect_ratio_crops_around_the_middle_and_does_not_stretch(desk: Desk, upscaler: str, target: tuple[int, int]) -> None:
    """At a denoising strength of nearly 0 the second pass gives the enlarged first image back: by scale, and cropped to the target's shape."""
    values = {"width": 64, "height": 64, "hires": True, "hires_upscaler": upscaler, "hires_denoising_strength": 0.0, "prompt": "a red monster"}
    cropped = Image.open(run(request(**values, hires_width=target[0], hires_height=target[1]), SilentLane(), desk)["images"][0])
    assert cropped.size == target
    whole = Image.open(run(request(**values, hires_width=max(target), hires_height=max(target)), SilentLane(), desk)["images"][0])
    left, top = ((have - want) // 8 // 2 * 8 for have, want in zip(whole.size, target, strict=True))
    expected = np.asarray(whole.crop((left, top, left + target[0], top + target[1]))).astype(int)
    stretched = np.asarray(whole.resize(target)).astype(int)
    found = np.asarray(cropped).astype(int)
    inner = np.s_[16:-16, 16:-16]
    assert np.abs(found - expected)[inner].mean() < 4
    assert np.abs(found - stretched)[inner].mean() > 2 * np.abs(found - expected)[inner].mean()


@pytest.mark.parametrize(
    ("size", "target", "cover"), [((512, 512), (1024, 512), (1024, 1024)), ((512, 768), (1024, 1024), (1024, 1536)), ((640, 512), (768, 1024), (1280, 1024)), ((512, 512), (1024, 1024), (1024, 1024))]
)
def test_the_second_pass_covers_its_target(size: tuple[int, int], target: tuple[int, int], cover: tuple[int, int]) -> None:
    assert covering_size(size, target) == cover


def test_one_side_of_the_second_pass_gives_the_other_without_rounding_it_twice() -> None:
    for width in range(64, 1100, 8):
        assert hires_size(request(hires=True, hires_width=width), (488, 488)) == (width, width)


def test_transparent_parts_of_the_input_image_get_the_background_color(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "clear.png"
    Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(path)
    for colour, value in (("#ffffff", (255, 255, 255)), ("#103050", (16, 48, 80))):
        found = run(request(init_image=str(path), denoising_strength=0.0, background_color=colour), SilentLane(), desk)
        assert Image.open(found["images"][0]).getpixel((20, 20)) == value


def test_pictures_are_numbered_on(desk: Desk) -> None:
    names = [Path(run(request(steps=1), SilentLane(), desk)["images"][0]).name for _ in range(3)]
    assert names == ["00000-5.png", "00001-5.png", "00002-5.png"]


def test_progress_over_batches_and_both_passes_only_grows_and_ends_at_the_whole(desk: Desk) -> None:
    lane = SilentLane()
    run(request(prompt="a red monster", width=64, height=64, batch_count=2, hires=True, hires_scale=1.5, steps=3), lane, desk)
    told = [data for kind, data in lane.events if kind == "progress"]
    steps = [data["step"] / data["total"] for data in told]
    assert steps == sorted(steps)
    assert steps[0] < 0.2
    assert steps[-1] == 1
    assert all(data["eta"] >= 0 for data in told)
