"""WD14 taggers score as timm's own pipeline does, write tags by category, and refuse damaged folders in words."""

import csv
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from studio.dataset.captioners.taggers import Known, load_wd14, read_tags, squared
from studio.errors import Unreadable
from studio.requests.caption import CaptionOptions
from tests.dataset.captioners.small import picture, write_tags, write_wd14

CPU = torch.device("cpu")
TAGS = [("general", 9), ("sensitive", 9), ("1girl", 0), ("long_hair", 0), ("hat_(black)", 0), ("^_^", 0), ("hatsune_miku", 4), ("saber_(fate)", 4)]
NAMES = [name for name, _ in TAGS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small WD14 tagger."""
    return write_wd14(tmp_path_factory.mktemp("WD14") / "small", TAGS)


@pytest.mark.parametrize("size", [(64, 64), (64, 40), (40, 64), (33, 7)])
def test_scores_are_those_of_timms_own_pipeline(folder: Path, size: tuple[int, int]) -> None:
    import timm
    from timm.data import create_transform

    config = json.loads((folder / "config.json").read_text())
    network = timm.create_model(config["architecture"], num_classes=len(TAGS), **config["model_args"]).eval()
    network.load_state_dict(load_file(folder / "model.safetensors"))
    image = picture(3, size)
    side = max(size)
    square = Image.new("RGB", (side, side), "white")
    square.paste(image, ((side - size[0]) // 2, (side - size[1]) // 2))
    prepared = config["pretrained_cfg"]
    prepare = create_transform(tuple(prepared["input_size"]), interpolation="bicubic", mean=prepared["mean"], std=prepared["std"], crop_pct=1.0, crop_mode="center")
    with torch.no_grad():
        expected = network(prepare(square)[None][:, [2, 1, 0]]).sigmoid()
    torch.testing.assert_close(load_wd14(folder, CPU).scores([image]), expected, rtol=1e-5, atol=1e-6)


def test_scores_of_pictures_together_are_those_of_each_alone(folder: Path) -> None:
    tagger = load_wd14(folder, CPU)
    pictures = [picture(seed, (40 + seed, 50)) for seed in range(4)]
    torch.testing.assert_close(tagger.scores(pictures), torch.cat([tagger.scores([p]) for p in pictures]), rtol=1e-4, atol=1e-5)


def test_the_channels_are_turned_round(folder: Path) -> None:
    tagger = load_wd14(folder, CPU)
    red, blue = Image.new("RGB", (32, 32), (200, 30, 0)), Image.new("RGB", (32, 32), (0, 30, 200))
    seen = []
    tagger.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    tagger.scores([red])
    tagger.scores([blue])
    assert seen[0][0, 2, 0, 0] > 0.5 > seen[0][0, 0, 0, 0]
    assert seen[1][0, 0, 0, 0] > 0.5 > seen[1][0, 2, 0, 0]


def test_each_category_has_its_threshold_and_ratings_are_dropped(folder: Path) -> None:
    tagger = load_wd14(folder, CPU)
    everything = CaptionOptions(general_threshold=0, character_threshold=0)
    assert tagger.caption(picture(), everything) == r"1girl, ^_^, hat \(black\), hatsune miku, long hair, saber \(fate\)"
    scores = dict(zip(NAMES, tagger.scores([picture()])[0].tolist(), strict=True))
    cut = sorted(scores[name] for name in NAMES[2:])[3]
    only = {tag.name for tag in tagger.sayings([picture()], CaptionOptions(general_threshold=cut, character_threshold=cut))[0].tags}
    assert only == {name for name in NAMES[2:] if scores[name] >= cut}
    assert {tag.name for tag in tagger.sayings([picture()], CaptionOptions(general_threshold=0, character_threshold=1))[0].tags} == set(NAMES[2:6])
    assert {tag.name for tag in tagger.sayings([picture()], CaptionOptions(general_threshold=1, character_threshold=0))[0].tags} == set(NAMES[6:])


def test_a_number_in_the_place_of_options_leaves_its_own_thresholds(folder: Path) -> None:
    tagger = load_wd14(folder, CPU)
    assert tagger.caption(picture(), 0.99) == tagger.caption(picture(), CaptionOptions())


@pytest.mark.parametrize("name", ["^_^", "o_o", "x_x", "0_0", "<o>_<o>", ">_<", "3_3", "|_|", "=_=", "+_-"])
def test_a_face_of_signs_keeps_its_underscore(name: str) -> None:
    assert Known(name, 0).literal


@pytest.mark.parametrize("name", ["long_hair", "a_b_c", "v_(gesture)", "k-on_hat", "1girl", "_", "hat_x"])
def test_words_do_not(name: str) -> None:
    assert not Known(name, 0).literal


@pytest.mark.parametrize("size", [(100, 60), (60, 100), (7, 7)])
def test_a_picture_stands_in_the_middle_of_white(size: tuple[int, int]) -> None:
    square = squared(Image.new("RGB", size, "black"), 100)
    assert square.size == (100, 100)
    assert square.getpixel((50, 50)) == (0, 0, 0)
    corner = (255, 255, 255) if size[0] != size[1] else (0, 0, 0)
    assert (square.getpixel((0, 0)), square.getpixel((99, 99))) == (corner, corner)


def spoil(folder: Path, what: str) -> str:
    """Damage one file of a folder; returns what is said of it."""
    if what == "no list":
        (folder / "selected_tags.csv").unlink()
        return "list of tags"
    if what == "another list":
        write_tags(folder / "selected_tags.csv", TAGS[:-1])
        return "cannot be loaded"
    if what == "empty list":
        write_tags(folder / "selected_tags.csv", [])
        return "is empty"
    if what == "no columns":
        with (folder / "selected_tags.csv").open("w", newline="") as lines:
            csv.writer(lines).writerows([["word", "kind"], ["cat", "0"]])
        return "list of tags"
    if what == "no weights":
        (folder / "model.safetensors").unlink()
        return "no weights"
    if what == "cut weights":
        (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:999])
        return "cannot be loaded"
    if what == "a weight missing":
        state = load_file(folder / "model.safetensors")
        state.pop("head.weight")
        save_file(state, folder / "model.safetensors")
        return "cannot be loaded"
    if what == "no config":
        (folder / "config.json").unlink()
        return "cannot be loaded"
    (folder / "config.json").write_text(json.dumps({"architecture": "vit_of_nobody"} if what == "unknown network" else {}))
    return "cannot be loaded"


@pytest.mark.parametrize("what", ["no list", "another list", "empty list", "no columns", "no weights", "cut weights", "a weight missing", "no config", "unknown network", "empty config"])
def test_a_damaged_folder_is_refused_in_words(folder: Path, tmp_path: Path, what: str) -> None:
    copy = write_wd14(tmp_path / "broken", TAGS)
    with pytest.raises(Unreadable, match=spoil(copy, what)) as caught:
        load_wd14(copy, CPU)
    assert "broken" in str(caught.value)
    assert caught.value.hint


def test_weights_may_be_a_bin_file(folder: Path, tmp_path: Path) -> None:
    copy = write_wd14(tmp_path / "old", TAGS)
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    assert torch.equal(load_wd14(copy, CPU).scores([picture()]), load_wd14(folder, CPU).scores([picture()]))


def test_the_list_may_begin_with_a_mark_and_hold_quotes(tmp_path: Path) -> None:
    file = tmp_path / "selected_tags.csv"
    file.write_text('\ufefftag_id,name,category,count\n1,"a,b",0,5\n2,"""x""",4,5\n', encoding="utf-8")
    assert read_tags(file) == (Known("a,b", 0), Known('"x"', 4))
