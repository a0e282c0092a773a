"""Caption files as artists have them: any usual suffix, any usual encoding, or one file for the folder; shown, trained on and changed alike."""

import json
from pathlib import Path

import pytest
from PIL import Image

from studio.dataset.folder import read_folder
from studio.errors import Conflict
from studio.projects.captions import caption_file, caption_of, existing_caption, is_captioned
from studio.projects.doctor import examine_set
from studio.projects.facts import Change
from studio.projects.findings import mend, report_for
from studio.projects.importing import import_into
from studio.projects.project import Project
from studio.projects.room import aim_of, keep_settings
from studio.projects.text_encodings import AUTOMATIC, ENCODINGS, detect_encoding, detect_together, folder_encoding, legacy_encoding
from studio.requests.room import RoomSettings

WORDS = {
    "gb18030": ["1个女孩, 红色头发, 微笑", "白发, 红眼, 长发", "一只猫坐在窗台上，水墨画", "蓝色的眼睛, 站立", "高清, 杰作"],
    "big5": ["一個女孩, 紅色頭髮, 微笑", "在草地上奔跑的紅色小狗，背景是藍天", "藍色的眼睛", "長髮, 看著觀眾", "白色背景"],
    "cp932": ["1人の女の子, 赤い髪, 笑顔", "青い空の下で走っている赤い犬", "赤い髪, 青い目", "ひらがなのテスト, 白い背景", "長い髪の少女"],
    "cp949": ["빨간 머리 소녀, 웃음", "파란 하늘 아래에서 달리는 빨간 개", "파란 눈", "흰 배경, 서 있는", "긴 머리"],
    "cp1252": ["une fille à la crinière rousse, café", "eine grüne Wiese mit großen Bäumen", "niño pequeño con sombrero", "forêt enneigée", "a naïve painting of a café"],
    "cp1251": ["рыжая девушка, улыбка", "красная собака бежит по траве, голубое небо", "синие глаза", "белый фон", "длинные волосы"],
}
"""Captions as they stand in real folders, by Python's name of the encoding."""


def folder_of(place: Path, texts: list[bytes], suffix: str = ".txt") -> Path:
    """Images with captions of these bytes."""
    place.mkdir(exist_ok=True)
    for number, data in enumerate(texts):
        Image.new("RGB", (64, 64), (40 * number, 80, 120)).save(place / f"{number}.png")
        (place / f"{number}{suffix}").write_bytes(data)
    return place


def shown(project: Project) -> list[str]:
    """Captions as the page has them."""
    return [item.caption for item in project.items()]


@pytest.mark.parametrize("encoding", WORDS)
def test_captions_of_a_folder_are_read_in_the_encoding_they_share(encoding: str, tmp_path: Path) -> None:
    texts = WORDS[encoding]
    folder = folder_of(tmp_path / "set", [text.encode(encoding) for text in texts])
    assert folder_encoding(folder) == encoding and legacy_encoding(folder) == ENCODINGS[encoding]
    assert shown(Project(folder)) == texts
    assert [item.caption for item in read_folder(folder)[0]] == texts
    assert [existing_caption(folder / f"{number}.png") for number in range(5)] == texts
    (tmp_path / "into").mkdir()
    import_into(tmp_path / "into", folder)
    assert shown(Project(tmp_path / "into")) == texts


def test_single_short_captions_are_mostly_right() -> None:
    wrong = [text for encoding, texts in WORDS.items() for text in texts if detect_encoding(text.encode(encoding)) != encoding]
    assert len(wrong) <= 4, wrong
    assert [text for text in WORDS["gb18030"] if detect_encoding(text.encode("gb18030")) != "gb18030"] == []


def test_unicode_needs_no_guess(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set", ["猫".encode(), b"\xef\xbb\xbfcat", "犬".encode("utf-16")])
    assert (folder_encoding(folder), legacy_encoding(folder), detect_together([b"a"])) == ("", "", "")
    assert shown(Project(folder)) == ["猫", "cat", "犬"]


def test_a_user_chooses_the_encoding_and_everything_is_read_anew(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set", ["白发".encode("gb18030"), b"red hat"])
    project = Project(folder)
    assert shown(project) == ["白发", "red hat"] and RoomSettings().caption_encoding == AUTOMATIC
    keep_settings(project, {"caption_encoding": "Korean (EUC-KR)"})
    wrong = "白发".encode("gb18030").decode("cp949")
    assert shown(project) == [wrong, "red hat"] == shown(Project(folder))
    assert caption_of(folder / "0.png") == wrong
    keep_settings(project, {"caption_encoding": "Chinese (GBK)"})
    assert shown(project) == ["白发", "red hat"]


def test_check_shows_the_encoding_and_writes_unicode(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set", [text.encode("cp932") for text in WORDS["cp932"]])
    project = Project(folder)
    aim = aim_of(project, lambda name: "a photo of [name], [filewords]")
    finding = next(one for one in report_for(project, aim).findings if one.id == "caption_encoding")
    assert finding.values["encoding"] == "Japanese (Shift-JIS)" and finding.values["sample"] == WORDS["cp932"][0] and len(finding.items) == 5
    mend(project, aim, finding.key)
    assert [(folder / f"{number}.txt").read_text(encoding="utf-8") for number in range(5)] == WORDS["cp932"] == shown(project)
    project.undo()
    assert (folder / "0.txt").read_bytes() == WORDS["cp932"][0].encode("cp932")


@pytest.mark.parametrize("suffix", [".caption", ".cap", ".TXT", ".Caption", ".CAP"])
def test_caption_files_of_any_usual_suffix_count(suffix: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set", [b"a red cat", b"a dog"], suffix)
    project = Project(folder)
    assert shown(project) == ["a red cat", "a dog"] and all(item.captioned for item in project.items())
    assert caption_of(folder / "0.png") == "a red cat" and caption_file(folder / "0.png").name == f"0{suffix}" and is_captioned(folder / "0.png")
    assert report_for(project, aim_of(project, lambda name: "[name]")).findings is not None
    assert "orphan_captions" not in {one.id for one in examine_set(project.items(), aim_of(project, lambda name: "[name]")).findings}
    project.write_caption("0.png", "a blue cat", "a red cat")
    assert (folder / f"0{suffix}").read_text() == "a blue cat" and not (folder / "0.txt").exists()
    (folder / "1.txt").write_text("the text file counts first")
    assert shown(project) == ["a blue cat", "the text file counts first"]


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv"])
def test_one_file_may_describe_a_folder(name: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set", [b"", b""])
    for path in folder.glob("*.txt"):
        path.unlink()
    rows = [{"file_name": "0.png", "text": "a red cat"}, {"file_name": "1.png", "text": "a dog"}]
    (folder / name).write_text("\n".join(map(json.dumps, rows)) if name.endswith("jsonl") else "file_name,text\n0.png,a red cat\n1.png,a dog\n")
    project = Project(folder)
    assert shown(project) == ["a red cat", "a dog"] and [item.caption for item in read_folder(folder)[0]] == ["a red cat", "a dog"]
    with pytest.raises(Conflict):
        project.write_caption("0.png", "mine", "something else")
    project.write_caption("0.png", "a blue cat", "a red cat")
    assert (folder / "0.txt").read_text() == "a blue cat" and shown(project) == ["a blue cat", "a dog"]
    project.undo()
    assert not (folder / "0.txt").exists() and shown(project) == ["a red cat", "a dog"]
    project.redo()
    assert shown(project) == ["a blue cat", "a dog"]
    project.edit("both", [Change("1.png", "caption", "a dog", "two dogs")])
    assert (folder / "1.txt").read_text() == "two dogs"
    project.undo()
    assert shown(project) == ["a blue cat", "a dog"]
