"""The doctor: every check fires where it should and is silent where it should not; 5,000 pictures; real pictures; the two forms of a report."""

import hashlib
import json
from dataclasses import replace

import pytest
from PIL import Image, ImageDraw, ImageFilter

from studio.dataset.examine import examine
from studio.errors import InputError
from studio.projects.doctor import CHECKS, Aim, Surroundings, as_json, as_text, examine_set
from studio.projects.facts import BINS, Choices, Crop, Facts, Item
from studio.projects.findings import LABELS

FLAT = (128,) * BINS
AIM = Aim(trigger="hero", vectors=4)


def facts(name: str, **values: object) -> Facts:
    """A sharp picture of its own that is large enough."""
    mark = hashlib.sha256(name.encode()).hexdigest()
    return replace(Facts(800, 800, "PNG", "RGB", sharpness=500, perceptual=mark[:16], digest=mark, detail_x=FLAT, detail_y=FLAT, edges_x=FLAT, edges_y=FLAT), **values)


def item(name: str, caption: str | None = "", choices: Choices | None = None, **values: object) -> Item:
    """A picture with a caption of its own; None for no file."""
    said = f"a hero called {name}" if caption == "" else caption or ""
    return Item(name, said, caption is not None, f"{name.rpartition('.')[0]}.txt", facts=facts(name, **values), choices=choices or Choices())


def pictures(count: int, **values: object) -> list[Item]:
    """Different pictures, the first kept for validation."""
    return [item(f"{i}.png", choices=Choices(held_out=i == 0), **values) for i in range(count)]


def alike(*names: str) -> list[Item]:
    """Pictures whose files are the same."""
    return [replace(item(name), facts=facts("one")) for name in names]


def bits(name: str, changed: int) -> str:
    """The hash of a picture with some bits changed."""
    return f"{int(facts(name).perceptual, 16) ^ ((1 << changed) - 1):016x}"


GOOD = pictures(8)
FACE = (0.02, 0.45, 0.12, 0.55)
CASES: dict[str, tuple[list[Item], Aim, Surroundings]] = {
    "no_pictures": ([], AIM, Surroundings()),
    "all_left_out": ([item("a.png", choices=Choices(left_out=True))], AIM, Surroundings()),
    "all_held_out": ([item("a.png", choices=Choices(held_out=True))], AIM, Surroundings()),
    "all_alike": (alike("a.png", "b.png", "c.png"), AIM, Surroundings()),
    "leakage": ([*GOOD, item("again.png", digest=GOOD[0].facts.digest)], AIM, Surroundings()),
    "duplicates": ([*GOOD, *alike("a.png", "b.png")], AIM, Surroundings()),
    "near_duplicates": ([*GOOD, item("again.png", perceptual=bits("1.png", 4))], AIM, Surroundings()),
    "little_variety": ([*GOOD[:2], *alike("a.png", "b.png", "c.png")], AIM, Surroundings()),
    "too_few": (GOOD[:3], AIM, Surroundings()),
    "too_many": (pictures(120), AIM, Surroundings()),
    "no_validation": (GOOD[1:], AIM, Surroundings()),
    "small_validation": (GOOD[1:4], AIM, Surroundings()),
    "mixed_shapes": ([*GOOD, item("wide.png", width=1200)], replace(AIM, sizing="Center"), Surroundings()),
    "uneven_repeats": ([*GOOD, item("often.png", choices=Choices(repeats=10))], AIM, Surroundings()),
    "unreadable": ([*GOOD, replace(item("bad.png"), facts=Facts(problem="bad.png is not a picture."))], AIM, Surroundings()),
    "not_examined": ([*GOOD, replace(item("new.png"), facts=None)], AIM, Surroundings()),
    "blurred": ([*GOOD, item("soft.png", sharpness=60)], AIM, Surroundings()),
    "too_small": ([*GOOD, item("small.png", width=400, height=600)], AIM, Surroundings()),
    "extreme_shape": ([*GOOD, item("long.png", width=4000)], AIM, Surroundings()),
    "face_cut": ([*GOOD, item("face.png", width=1400, faces=(FACE,), choices=Choices(crop=Crop(0.5, 0.5)))], AIM, Surroundings()),
    "face_too_large": ([*GOOD, item("face.png", width=1400, faces=((0.1, 0.1, 0.9, 0.9),))], AIM, Surroundings()),
    "animated": ([*GOOD, item("moving.gif", frames=12)], AIM, Surroundings()),
    "turned": ([*GOOD, item("turned.jpg", turned=True)], AIM, Surroundings()),
    "alpha": ([*GOOD, item("clear.png", alpha=True)], AIM, Surroundings()),
    "caption_trouble": (GOOD, AIM, Surroundings(caption_trouble={"3.png": "undecodable"})),
    "caption_encoding": (GOOD, AIM, Surroundings(caption_trouble={"3.png": "legacy"}, caption_encoding="Japanese (Shift-JIS)")),
    "caption_out_of_reach": (GOOD, AIM, Surroundings(caption_trouble={"3.png": "long"})),
    "no_captions": ([item(f"{i}.png", None) for i in range(6)], AIM, Surroundings()),
    "caption_missing": ([*GOOD, item("silent.png", None)], AIM, Surroundings()),
    "caption_empty": ([*GOOD, item("silent.png", "  \n ")], AIM, Surroundings()),
    "caption_too_long": ([*GOOD, item("long.png", ", ".join(["hat"] * 60))], AIM, Surroundings()),
    "template_too_long": (GOOD, replace(AIM, vectors=73), Surroundings()),
    "trigger_missing": ([*GOOD, item("nameless.png", "a heroine")], replace(AIM, template=("[filewords]",)), Surroundings()),
    "template_without_name": (GOOD, replace(AIM, template=("a photo of [name]", "a photo of a dog")), Surroundings()),
    "caption_shared": ([*GOOD, item("1.jpg", GOOD[1].caption)], AIM, Surroundings()),
    "captions_identical": ([item(f"{i}.png", "a hero") for i in range(6)], AIM, Surroundings()),
    "captions_repeated": ([*GOOD, *(item(f"same {i}.png", "a brown robot") for i in range(4))], AIM, Surroundings()),
    "captions_looping": ([*GOOD, item("loop.png", "a hero with a red hat and a red hat and a red hat and a red hat")], AIM, Surroundings()),
    "tags_repeated": ([*GOOD, item("twice.png", "red hat, tall, Red Hat")], AIM, Surroundings()),
    "brackets": ([*GOOD, item("odd.png", "hero (film), red")], AIM, Surroundings()),
    "tags_common": ([item(f"{i}.png", f"hero, red hat, number {i}") for i in range(6)], AIM, Surroundings()),
    "orphan_captions": (GOOD, AIM, Surroundings(orphan_captions=("lost.txt",))),
    "orphan_masks": (GOOD, AIM, Surroundings(orphan_masks=("lost-masklabel.png",))),
    "mask_trouble": (GOOD, AIM, Surroundings(mask_trouble={"3.png": "The mask is all black."})),
}
"""A data set for each check, in which it must fire."""
QUIET: dict[str, tuple[list[Item], Aim, Surroundings]] = {
    "all_held_out": ([item("a.png", choices=Choices(held_out=True)), item("b.png")], AIM, Surroundings()),
    "all_alike": ([*alike("a.png", "b.png"), item("c.png")], AIM, Surroundings()),
    "leakage": ([*GOOD, *alike("a.png", "b.png")], AIM, Surroundings()),
    "duplicates": ([*GOOD, item("again.png", perceptual=GOOD[1].facts.perceptual)], AIM, Surroundings()),
    "near_duplicates": ([*GOOD, item("again.png", perceptual=bits("1.png", 7))], AIM, Surroundings()),
    "little_variety": ([*GOOD[:3], *alike("a.png", "b.png", "c.png")], AIM, Surroundings()),
    "too_few": (GOOD[:6], AIM, Surroundings()),
    "too_many": (pictures(120), replace(AIM, method="lora"), Surroundings()),
    "mixed_shapes": ([*GOOD, item("wide.png", width=1200, choices=Choices(crop=Crop()))], replace(AIM, sizing="Center"), Surroundings()),
    "uneven_repeats": ([*GOOD, item("often.png", choices=Choices(repeats=9))], AIM, Surroundings()),
    "blurred": (pictures(8, sharpness=60), AIM, Surroundings()),
    "too_small": ([*GOOD, item("small.png", width=512, height=600)], AIM, Surroundings()),
    "extreme_shape": ([*GOOD, item("long.png", width=1500)], AIM, Surroundings()),
    "face_cut": ([*GOOD, item("face.png", width=1400, faces=(FACE,), choices=Choices(crop=Crop(0.1, 0.5)))], AIM, Surroundings()),
    "face_too_large": ([*GOOD, item("face.png", width=1400, faces=((0.3, 0.1, 0.8, 0.9),))], AIM, Surroundings()),
    "alpha": ([*GOOD, replace(item("clear.png", alpha=True), mask_name="clear-masklabel.png")], AIM, Surroundings()),
    "caption_trouble": (GOOD, AIM, Surroundings(caption_trouble={"3.png": "legacy"})),
    "captions_repeated": ([*GOOD, *(item(f"same {i}.png", "a brown robot") for i in range(2))], AIM, Surroundings()),
    "captions_looping": ([*GOOD, item("twice.png", "a red hat, a blue hat, a green hat, very very tall")], AIM, Surroundings()),
    "caption_out_of_reach": ([replace(one, choices=Choices(left_out=True)) for one in GOOD], AIM, Surroundings(caption_trouble={"3.png": "unreadable"})),
    "no_captions": ([item(f"{i}.png", None) for i in range(6)], replace(AIM, template=("a photo of [name]",)), Surroundings()),
    "caption_missing": ([item(f"{i}.png", None) for i in range(6)], AIM, Surroundings()),
    "caption_too_long": ([*GOOD, item("long.png", ", ".join(["hat"] * 30))], AIM, Surroundings()),
    "template_too_long": (GOOD, replace(AIM, vectors=60), Surroundings()),
    "trigger_missing": ([*GOOD, item("nameless.png", "a heroine"), item("placed.png", "[name] runs")], AIM, Surroundings()),
    "template_without_name": (GOOD, replace(AIM, template=("a photo of [name]", "[filewords]", "Hero, a photo")), Surroundings()),
    "caption_shared": ([*GOOD, replace(item("1.jpg", "another"), caption_name="1.jpg.txt"), item("x.jpg", None), item("x.png", None)], AIM, Surroundings()),
    "captions_identical": ([item("0.png", "a hero"), item("1.png", "a hero"), item("2.png", "the hero")], AIM, Surroundings()),
    "tags_repeated": ([*GOOD, item("twice.png", "red hat, tall, red hats")], AIM, Surroundings()),
    "brackets": ([*GOOD, item("odd.png", r"hero \(film\), [name], [filewords]")], AIM, Surroundings()),
    "tags_common": ([item(f"{i}.png", f"Hero, number {i}") for i in range(6)], AIM, Surroundings()),
    "mask_trouble": ([replace(one, choices=Choices(left_out=True)) for one in GOOD], AIM, Surroundings(mask_trouble={"3.png": "black"})),
}
"""A data set for each check, on the other side of its border; every check must be silent about GOOD besides."""


def found(items: list[Item], aim: Aim = AIM, around: Surroundings | None = None) -> dict[str, object]:
    return {finding.id: finding for finding in examine_set(items, aim, around).findings}


def test_every_check_has_a_case() -> None:
    assert list(CASES) == [check.id for check in CHECKS]
    assert set(QUIET) <= set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_check_fires(name: str) -> None:
    finding = found(*CASES[name])[name]
    assert "{" not in finding.sentence
    assert finding.fix is None or finding.fix in LABELS


@pytest.mark.parametrize("name", QUIET)
def test_a_check_is_silent_beyond_its_border(name: str) -> None:
    assert name not in found(*QUIET[name])


def test_nothing_is_wrong_with_a_good_set() -> None:
    assert found(GOOD) == {}
    assert as_text(examine_set(GOOD, AIM)).startswith("Nothing is wrong")


def test_pictures_left_out_are_not_judged() -> None:
    out = item("bad.png", None, Choices(left_out=True), sharpness=1, width=10, frames=3, turned=True)
    assert found([*GOOD, out]) == {}


@pytest.mark.parametrize(
    ("items", "expected", "severity"),
    [
        ([item("only.png")], "too_few", "warning"),
        ([item(f"{i}.png", None) for i in range(6)], "no_captions", "warning"),
        (alike(*"abcde"), "all_alike", "problem"),
        (GOOD[1:], "no_validation", "hint"),
        ([replace(one, choices=Choices(held_out=True)) for one in GOOD], "all_held_out", "problem"),
    ],
)
def test_sets_at_the_edge_are_named(items: list[Item], expected: str, severity: str) -> None:
    assert found(items)[expected].severity == severity


def test_groups_are_told_apart() -> None:
    report = found([*GOOD, *alike("a.png", "b.png"), item("again.png", perceptual=bits("1.png", 2))])
    assert report["duplicates"].groups == (("a.png", "b.png"),)
    assert report["near_duplicates"].groups == (("1.png", "again.png"),)


@pytest.mark.parametrize(
    ("good", "small", "side", "fix"),
    [(8, 1, 400, "leave_out"), (2, 4, 400, "smaller_target"), (8, 8, 400, "smaller_target"), (8, 8, 100, "leave_out"), (2, 4, 100, None), (0, 4, 400, "smaller_target")],
)
def test_a_few_small_pictures_are_left_out_and_of_many_the_target_is_too_large(good: int, small: int, side: int, fix: str | None) -> None:
    items = [*GOOD[:good], *(item(f"s{i}.png", width=side, height=side) for i in range(small))]
    assert found(items)["too_small"].fix == fix


def test_leaving_out_is_not_offered_when_nothing_would_be_left() -> None:
    soft = pictures(6, sharpness=1)
    assert found(soft)["blurred"].fix is None
    assert found([*soft, item("unknown.png", sharpness=90)])["blurred"].fix == "leave_out"


def test_a_key_stays_while_the_pictures_stay() -> None:
    first = found([*GOOD, item("soft.png", sharpness=60)])["blurred"]
    again = found([*reversed(GOOD), item("soft.png", sharpness=50)])["blurred"]
    other = found([*GOOD, item("soft.png", sharpness=60), item("softer.png", sharpness=30)])["blurred"]
    assert first.key == again.key != other.key
    report = examine_set([*GOOD, item("soft.png", sharpness=60)], AIM, ignored={first.key})
    assert report.findings == () and [finding.id for finding in report.ignored] == ["blurred"]
    assert [finding.id for finding in examine_set([*GOOD, item("soft.png", sharpness=60), item("softer.png", sharpness=30)], AIM, ignored={first.key}).findings] == ["blurred"]


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(InputError, match="magic"):
        examine_set(GOOD, replace(AIM, method="magic"))


def test_a_very_long_caption_is_judged() -> None:
    assert found([*GOOD, item("long.png", "hat, " * 100_000)])["caption_too_long"].values["most"] > 100_000


def test_five_thousand_pictures_are_looked_at_whole() -> None:
    many = [item(f"{i}.png", f"a hero on street number {i}") for i in range(5000)]
    report = examine_set([*many, replace(many[7], name="again.png", choices=Choices(held_out=True))], AIM)
    by_id = {finding.id: finding for finding in report.findings}
    assert by_id["duplicates"].items == ("7.png", "again.png") and by_id["leakage"].items == ("7.png", "again.png")
    assert by_id["too_many"].values["count"] == 5000
    assert report.statistics.pictures == 5001


def test_both_forms_say_the_same() -> None:
    report = examine_set([*GOOD, *(item(f"soft {i}.png", sharpness=5) for i in range(11)), *alike("a.png", "b.png")], AIM)
    shown = json.loads(json.dumps(as_json(report, LABELS)))
    assert shown["problems"] == report.problems == 0
    blurred = next(finding for finding in shown["findings"] if finding["id"] == "blurred")
    assert blurred["fix_label"] == "Leave these pictures out" and len(blurred["items"]) == 11 and not blurred["ignored"]
    assert blurred["text"].format(**blurred["values"]) == blurred["sentence"]
    assert shown["advice"]["count"] == 20 and shown["advice"]["reasons"]
    text = as_text(report)
    assert f"WARNING: {blurred['sentence']}" in text and "soft 7.png and 3 more" in text and "20" in text
    assert all(finding["sentence"] in text for finding in shown["findings"])


def scene(seed: int) -> Image.Image:
    """A drawing of its own: a checked ground with shapes in other places and colours."""
    spread = hashlib.sha256(str(seed).encode()).digest()
    image = Image.new("RGB", (640, 600), (230, 230, 230))
    draw = ImageDraw.Draw(image)
    for at in range(0, 640, 16):
        draw.line((at, 0, at, 600), fill=(20, 20, 20), width=3)
    for i in range(3, 27, 4):
        x, y = spread[i] * 2, spread[i + 1] * 2
        draw.ellipse((x, y, x + 60 + spread[i + 2] // 2, y + 90), fill=(spread[i + 3], 255 - spread[i], spread[i + 1]))
    return image


def test_real_pictures(tmp_path) -> None:
    for i in range(5):
        scene(i).save(tmp_path / f"{i}.png")
    scene(0).save(tmp_path / "copy.jpg", quality=60)
    scene(1).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "mirror.png")
    scene(2).resize((320, 300), Image.Resampling.LANCZOS).save(tmp_path / "half.png")
    (tmp_path / "twin.png").write_bytes((tmp_path / "3.png").read_bytes())
    scene(6).filter(ImageFilter.GaussianBlur(6)).save(tmp_path / "blurred.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "4.png").read_bytes()[:800])
    scene(7).save(tmp_path / "moving.gif", save_all=True, append_images=[scene(8)])
    exif = Image.Exif()
    exif[0x0112] = 6
    scene(9).save(tmp_path / "turned.jpg", exif=exif)
    clear = scene(10).convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    clear.save(tmp_path / "clear.png")
    scene(11).crop((0, 200, 640, 300)).resize((1280, 200)).save(tmp_path / "wide.png")
    items = [Item(path.name, f"a hero {path.name}", True, f"{path.name}.txt", facts=examine(path)) for path in sorted(tmp_path.iterdir())]

    report = found(items, replace(AIM, width=512, height=512))

    assert report["duplicates"].groups == (("3.png", "twin.png"),)
    assert {frozenset(group) for group in report["near_duplicates"].groups} == {frozenset(pair) for pair in (("0.png", "copy.jpg"), ("1.png", "mirror.png"), ("2.png", "half.png"))}
    assert report["blurred"].items == ("blurred.png",)
    assert report["unreadable"].items == ("cut.png",) and "cut.png" in report["unreadable"].sentence
    assert report["animated"].items == ("moving.gif",)
    assert report["turned"].items == ("turned.jpg",)
    assert report["alpha"].items == ("clear.png",)
    assert report["too_small"].items == ("half.png", "wide.png")
    assert report["extreme_shape"].items == ("wide.png",)
