"""Findings: each fix, applied to a real data set, removes its finding in one step, and undo brings it back; what is ignored stays away while its pictures stay."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from studio.dataset.examine import examine
from studio.dataset.masks import trouble
from studio.errors import Conflict, InputError
from studio.projects.doctor import Aim, Finding
from studio.projects.facts import Change, Crop, Facts
from studio.projects.findings import FIXES, Mended, ignore, ignored, keep_mask_trouble, mend, report_for, unignore
from studio.projects.project import Project

AIM = Aim(trigger="hero", vectors=4)
FACE = (0.02, 0.45, 0.12, 0.55)


def facts(name: str, **values: Any) -> Facts:
    """A sharp picture of its own that is large enough."""
    mark = hashlib.sha256(name.encode()).hexdigest()
    return replace(Facts(800, 800, "PNG", "RGB", sharpness=500, perceptual=mark[:16], digest=mark), **values)


@dataclass
class Folder:
    """A folder that becomes a data set: pictures with facts, choices and captions."""

    path: Path
    known: dict[str, Facts] = field(default_factory=dict)
    choices: list[Change] = field(default_factory=list)

    def add(self, name: str, caption: str | bytes | None = "", choices: dict[str, Any] | None = None, **values: Any) -> "Folder":
        """A picture with what is said and known about it."""
        Image.new("RGB", (8, 8), tuple(hashlib.sha256(name.encode()).digest()[:3])).save(self.path / name)
        text = f"hero number {name}" if caption == "" else caption
        if text is not None:
            (self.path / name).with_suffix(".txt").write_bytes(text if isinstance(text, bytes) else text.encode())
        self.known[name] = facts(name, **values)
        defaults = {"held_out": False, "left_out": False, "crop": None, "repeats": 1}
        self.choices += [Change(name, key, defaults[key], value) for key, value in (choices or {}).items()]
        return self

    def good(self, count: int = 8) -> "Folder":
        """Pictures nothing is wrong with, the first kept for validation."""
        for i in range(count):
            self.add(f"{i}.png", choices={"held_out": True} if i == 0 else None)
        return self

    def alike(self, *names: str, **values: Any) -> "Folder":
        """Pictures whose files are the same."""
        for name in names:
            self.add(name, **{"digest": "one", "perceptual": "0" * 16, **values})
        return self

    def open(self) -> Project:
        """The data set."""
        project = Project(self.path)
        project.put_facts(list(self.known.items()))
        project.edit("begin", self.choices)
        return project


def finding(project: Project, name: str, aim: Aim = AIM) -> Finding | None:
    return next((one for one in report_for(project, aim).findings if one.id == name), None)


def fixed(project: Project, name: str, aim: Aim = AIM) -> Mended:
    before = finding(project, name, aim)
    assert before is not None
    return mend(project, aim, before.key)


Fill = Callable[[Folder], Folder]
CASES: dict[str, tuple[str, Fill, Aim]] = {
    "leave_out": ("blurred", lambda f: f.good().add("soft.png", sharpness=5), AIM),
    "take_back": ("all_left_out", lambda f: f.add("a.png", choices={"left_out": True}), AIM),
    "keep_best": ("duplicates", lambda f: f.good().alike("a.png", "b.png"), AIM),
    "hold_in": ("all_held_out", lambda f: [f.add(f"{i}.png", choices={"held_out": True}) for i in range(6)][-1], AIM),
    "hold_some_out": ("no_validation", lambda f: [f.add(f"{i}.png") for i in range(6)][-1], AIM),
    "mend_leak": ("leakage", lambda f: f.good().add("again.png", digest=facts("0.png").digest), AIM),
    "center_face": ("face_cut", lambda f: f.good().add("face.png", width=1400, faces=(FACE,), choices={"crop": Crop(0.5, 0.5)}), AIM),
    "level_repeats": ("uneven_repeats", lambda f: f.good().add("often.png", choices={"repeats": 30}), AIM),
    "trim": ("caption_too_long", lambda f: f.good().add("long.png", ", ".join(f"red hat {i}" for i in range(40))), AIM),
    "add_trigger": ("trigger_missing", lambda f: f.good().add("nameless.png", "a dog").add("silent.png", None), replace(AIM, template=("[filewords]",))),
    "escape_brackets": ("brackets", lambda f: f.good().add("odd.png", r"hero (film), [red], \(tall\), [name]"), AIM),
    "dedupe": ("tags_repeated", lambda f: f.good().add("twice.png", "red hat，tall, Red Hat"), AIM),
    "remove_common_tags": ("tags_common", lambda f: [f.add(f"{i}.png", f"hero, Red hat, number {i}") for i in range(6)][-1], AIM),
    "remove_caption": ("caption_empty", lambda f: f.good().add("silent.png", " \n "), AIM),
    "reencode": ("caption_trouble", lambda f: f.good().add("odd.png", "\ufeffhero, 红帽子".encode("utf-16-le")), AIM),
    "own_caption": ("caption_shared", lambda f: f.good().add("1.jpg", None), AIM),
}
"""Fix, the finding it mends, the data set it is found in."""
SETTINGS = {"smaller_target", "focal_crop"}
"""Fixes that change a setting and no picture."""


def test_every_fix_has_a_case() -> None:
    assert set(CASES) | SETTINGS | {"remove_mask"} == set(FIXES)


@pytest.mark.parametrize("fix", CASES)
def test_a_fix_removes_its_finding_and_undo_brings_it_back(fix: str, tmp_path: Path) -> None:
    name, fill, aim = CASES[fix]
    project = fill(Folder(tmp_path)).open()
    before, files = finding(project, name, aim), texts(tmp_path)
    assert before is not None and before.fix == fix

    done = mend(project, aim, before.key)

    assert finding(project, name, aim) is None
    assert done.name == FIXES[fix].label and done.count == project.history()[0].count > 0 and project.history()[0].name == done.name
    assert project.undo().name == done.name
    assert finding(project, name, aim) == before
    assert texts(tmp_path) == files
    project.redo()
    assert finding(project, name, aim) is None


def texts(folder: Path) -> dict[str, bytes]:
    """Caption files, byte for byte."""
    return {path.name: path.read_bytes() for path in folder.glob("*.txt")}


def test_of_look_alikes_the_largest_and_sharpest_stays(tmp_path: Path) -> None:
    project = Folder(tmp_path).good().alike("a.png", "b.png", sharpness=900).alike("c.png", sharpness=400).alike("large.png", width=1600, height=1600, sharpness=100).open()
    fixed(project, "duplicates")
    assert [item.name for item in project.items() if item.choices.left_out] == ["a.png", "b.png", "c.png"]


def test_of_equal_copies_the_one_with_a_caption_stays(tmp_path: Path) -> None:
    project = Folder(tmp_path).good().add("a.png", None, digest="one").add("b.png", "hero, dog", digest="one").open()
    fixed(project, "duplicates")
    assert project.item("a.png").choices.left_out and not project.item("b.png").choices.left_out


def test_a_leak_is_mended_without_emptying_validation(tmp_path: Path) -> None:
    project = Folder(tmp_path).good().add("again.png", digest=facts("0.png").digest).open()
    fixed(project, "leakage")
    assert [item.name for item in project.items() if item.choices.held_out] == ["0.png", "again.png"]


def test_a_torn_group_goes_to_its_larger_side(tmp_path: Path) -> None:
    twins = {"digest": "one", "perceptual": "0" * 16}
    project = Folder(tmp_path).good().add("x.png", choices={"held_out": True}, **twins).add("y.png", **twins).add("z.png", **twins).open()
    fixed(project, "leakage")
    assert [item.name for item in project.items() if item.choices.held_out] == ["0.png"]


def test_all_the_same_is_taken_out_of_validation(tmp_path: Path) -> None:
    project = Folder(tmp_path).alike("a.png", "b.png").alike("c.png", choices={"held_out": True}).open()
    fixed(project, "leakage")
    assert not any(item.choices.held_out for item in project.items())


def test_validation_is_spread_and_takes_no_look_alikes(tmp_path: Path) -> None:
    folder = Folder(tmp_path).alike("a.png", "b.png")
    for i in range(28):
        folder.add(f"{i}.png")
    project = folder.open()
    fixed(project, "no_validation")
    assert [item.name for item in project.items() if item.choices.held_out] == ["4.png", "14.png", "23.png"]


def test_a_smaller_size_is_offered_at_which_nothing_is_enlarged(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    for i in range(8):
        folder.add(f"{i}.png", width=500, height=700, choices={"held_out": True} if i == 0 else None)
    project, aim = folder.open(), replace(AIM, width=768, height=1024)
    done = fixed(project, "too_small", aim)
    assert dict(done.settings) == {"width": 448, "height": 576} and done.edit is None
    assert finding(project, "too_small", replace(aim, **done.settings)) is None


def test_a_small_target_can_become_smaller(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    for i in range(6):
        folder.add(f"{i}.png", width=100, height=90)
    project, aim = folder.open(), replace(AIM, width=128, height=128)
    assert dict(fixed(project, "too_small", aim).settings) == {"width": 88, "height": 88}


def test_cutting_the_middle_is_changed_by_a_setting(tmp_path: Path) -> None:
    project, aim = Folder(tmp_path).good().add("wide.png", width=1000).open(), replace(AIM, sizing="Center")
    done = fixed(project, "mixed_shapes", aim)
    assert dict(done.settings) == {"crop": "Focal"} and finding(project, "mixed_shapes", replace(aim, sizing="Focal")) is None


@pytest.mark.parametrize(
    ("caption", "begins"),
    [
        (", ".join(f"red hat {i}" for i in range(40)), "red hat 0, red hat 1"),
        ("word " * 200, "word word"),
        ("红" * 300, "红红"),
        ("x" * 2000, "xxxx"),
        ("hat, " * 20_000, "hat, hat"),
    ],
)
def test_a_caption_is_cut_at_a_tag_a_word_or_a_letter(tmp_path: Path, caption: str, begins: str) -> None:
    project = Folder(tmp_path).good().add("long.png", caption).open()
    fixed(project, "caption_too_long")
    left = project.item("long.png").caption
    assert caption.startswith(left) and left.startswith(begins) and len(left) > 20
    assert finding(project, "caption_too_long") is None


def test_only_brackets_of_emphasis_are_escaped(tmp_path: Path) -> None:
    project = Folder(tmp_path).good().add("odd.png", r"hero (film), \(tall\), \\(b), [name], [filewords], [red]").open()
    fixed(project, "brackets")
    assert project.item("odd.png").caption == r"hero \(film\), \(tall\), \\\(b\), [name], [filewords], \[red\]"


def test_a_shared_caption_is_changed_once(tmp_path: Path) -> None:
    project = Folder(tmp_path).good().add("odd.jpg", "hero (film)").add("odd.png", "hero (film)").open()
    assert fixed(project, "brackets").count == 1
    assert project.item("odd.jpg").caption == project.item("odd.png").caption == r"hero \(film\)"


def test_a_face_is_brought_into_the_crop(tmp_path: Path) -> None:
    project = Folder(tmp_path).good().add("face.png", width=1400, faces=(FACE,), choices={"crop": Crop(0.5, 0.5, 2.0)}).open()
    fixed(project, "face_cut")
    assert project.item("face.png").choices.crop == Crop(pytest.approx(0.07), pytest.approx(0.5), 1.0)


def test_what_is_ignored_comes_back_when_its_pictures_change(tmp_path: Path) -> None:
    project = Folder(tmp_path).good().add("soft.png", sharpness=5).add("softer.png", sharpness=4).open()
    key = finding(project, "blurred").key

    ignore(project, key)
    ignore(project, key)
    assert finding(project, "blurred") is None
    assert [one.id for one in report_for(Project(tmp_path), AIM).ignored] == ["blurred"]

    project.edit("leave out", [Change("soft.png", "left_out", False, True)])
    assert finding(project, "blurred").items == ("softer.png",)
    project.undo()
    assert finding(project, "blurred") is None

    unignore(project, key)
    assert finding(project, "blurred") is not None and ignored(project) == frozenset()


def test_a_finding_that_is_no_longer_true_is_not_mended(tmp_path: Path) -> None:
    project = Folder(tmp_path).good().add("soft.png", sharpness=5).open()
    key = finding(project, "blurred").key
    project.edit("leave out", [Change("soft.png", "left_out", False, True)])
    with pytest.raises(Conflict):
        mend(project, AIM, key)


def test_what_has_no_fix_says_so(tmp_path: Path) -> None:
    project = Folder(tmp_path).add("a.png").open()
    with pytest.raises(InputError, match="Few pictures"):
        mend(project, AIM, finding(project, "too_few").key)


def test_files_without_a_picture_are_found(tmp_path: Path) -> None:
    folder = Folder(tmp_path).good()
    for name in ("lost.txt", "0.png.txt", "1.png.bak", "x.png.txt", "LICENSE.txt"):
        (tmp_path / name).write_text("hero, dog", encoding="utf-8")
    for name in ("lost-masklabel.png", "1-masklabel.png"):
        Image.new("L", (8, 8)).save(tmp_path / name)
    project = folder.open()
    assert finding(project, "orphan_captions").items == ("lost.txt", "x.png.txt")
    assert finding(project, "orphan_masks").items == ("lost-masklabel.png",)


def test_masks_are_judged_by_their_reader_and_deleted(tmp_path: Path) -> None:
    folder = Folder(tmp_path).good()
    mask = tmp_path / "1-masklabel.png"
    Image.new("L", (8, 8)).save(mask)
    project, bytes_before = folder.open(), mask.read_bytes()
    assert report_for(project, AIM).findings == ()

    keep_mask_trouble(project, {item.name: trouble(project.picture(item.name)) for item in project.items()})
    before = report_for(project, AIM).findings
    assert [(one.id, one.items) for one in before] == [("mask_trouble", ("1.png",))] and "black" in before[0].sentence
    mend(project, AIM, before[0].key)
    assert not mask.exists() and report_for(project, AIM).findings == ()
    project.undo()
    assert mask.read_bytes() == bytes_before
    assert report_for(project, AIM, {"1.png": trouble(tmp_path / "1.png")}).findings == before


def test_what_was_said_of_a_mask_counts_until_it_changes(tmp_path: Path) -> None:
    folder = Folder(tmp_path).good()
    Image.new("L", (8, 8)).save(tmp_path / "1-masklabel.png")
    project = folder.open()
    keep_mask_trouble(project, {"1.png": "The mask is all black."})
    keep_mask_trouble(project, {"2.png": "", "gone.png": "The mask is odd."})
    assert finding(project, "mask_trouble").items == ("1.png",)
    Image.linear_gradient("L").resize((8, 8)).save(tmp_path / "1-masklabel.png")
    assert finding(project, "mask_trouble") is None


def test_captions_that_cannot_be_read_whole_have_no_fix(tmp_path: Path) -> None:
    project = Folder(tmp_path).good().add("long.png", "hero" + " " * 2**20).open()
    assert finding(project, "caption_out_of_reach").fix is None


def test_of_a_shared_caption_one_stays_and_no_file_is_orphaned(tmp_path: Path) -> None:
    project = Folder(tmp_path).good().add("x.jpg", "hero, dog").add("x.png", "hero, dog").add("x.webp", "hero, dog").open()
    fixed(project, "caption_shared")
    assert {item.caption_name: item.caption for item in project.items() if item.name.startswith("x.")} == {"x.txt": "hero, dog", "x.png.txt": "hero, dog", "x.webp.txt": "hero, dog"}
    assert finding(project, "orphan_captions") is None


def test_a_caption_in_another_encoding_keeps_its_words(tmp_path: Path) -> None:
    project = Folder(tmp_path).good().add("odd.png", "hero, 红帽子".encode("gb18030")).open()
    fixed(project, "caption_encoding")
    assert (tmp_path / "odd.txt").read_bytes() == "hero, 红帽子".encode()


def test_a_folder_from_its_files_to_its_fixes(tmp_path: Path) -> None:
    for i in range(3):
        Image.effect_noise((600, 600), 40 + i).save(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.txt").write_text(f"hero {i}", encoding="utf-8")
    (tmp_path / "copy.png").write_bytes((tmp_path / "1.png").read_bytes())
    (tmp_path / "text.jpg").write_text("no picture", encoding="utf-8")
    project = Project(tmp_path)
    assert finding(project, "not_examined").values["count"] == 5
    project.put_facts([(item.name, examine(project.picture(item.name))) for item in project.items()])
    assert finding(project, "not_examined") is None
    assert finding(project, "duplicates").items == ("1.png", "copy.png")
    fixed(project, "duplicates")
    fixed(project, "unreadable")
    assert [item.name for item in project.items() if item.choices.left_out] == ["copy.png", "text.jpg"]
    assert report_for(project, AIM).problems == 0
