"""A zip is unpacked flat into its folder and nowhere else, bounded in count and size, or refused in words."""

import io
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from studio.errors import Unreadable
from studio.projects import archive
from studio.projects.captions import existing_caption


def png(shade: int = 0) -> bytes:
    """The bytes of a small picture."""
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20), (shade, shade, shade)).save(buffer, "PNG")
    return buffer.getvalue()


def zipped(path: Path, members: Mapping[str, bytes]) -> Path:
    """A zip with these members, named as they are."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.filename = name
            info.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(info, data)
    return path


def gbk_zip(path: Path, members: Mapping[str, bytes]) -> Path:
    """A zip as Chinese Windows writes it: names in GBK and no word about it."""
    body, index = b"", b""
    for name, data in members.items():
        raw = name.encode("gbk")
        sizes = struct.pack("<III", zlib.crc32(data), len(data), len(data))
        head = struct.pack("<HHHHH", 20, 0, 0, 0, 33) + sizes + struct.pack("<HH", len(raw), 0)
        index += b"PK\1\2" + struct.pack("<H", 20) + head + struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + raw
        body += b"PK\3\4" + head + raw + data
    path.write_bytes(body + index + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, len(members), len(members), len(index), len(body), 0))
    return path


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    """The folder that may be written to, two levels down, so that an escape would be seen."""
    folder = tmp_path / "outer" / "inner"
    folder.mkdir(parents=True)
    return folder


def everything(folder: Path) -> list[str]:
    """Every file below a folder, by its relative path."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


TRAVERSALS = [
    "../../evil.png",
    "../evil.png",
    "a/../../../evil.png",
    "a/../evil.png",
    "..\\..\\evil.png",
    "a\\..\\..\\evil.png",
    "/evil.png",
    "//host/share/evil.png",
    "\\\\host\\share\\evil.png",
    "\\\\?\\C:\\evil.png",
    "C:\\Windows\\evil.png",
    "C:/evil.png",
    "C:evil.png",
    "c:..\\evil.png",
    "../evil.png\0.txt",
    "/proc/self/environ.png",
]
HARMLESS = [
    "./evil.png",
    "a%2f..%2f..%2fevil.png",
    "a%5c..%5c..%5cevil.png",
    "%2e%2e/evil.png",
    "file:evil.png",
    "~/evil.png",
    "$HOME/evil.png",
    "evil.png::$DATA.png",
    "evil\n.png",
    "．．／evil.png",
    "evil.png\0.txt",
]
"""Names that only look as if they pointed elsewhere: their last part is used, cleaned."""


@pytest.mark.parametrize("name", TRAVERSALS)
def test_a_path_that_points_elsewhere_is_refused_and_the_good_ones_come(tmp_path: Path, inside: Path, name: str) -> None:
    done = archive.unpack_told(zipped(tmp_path / "z.zip", {name: png(), "good.png": png(1)}), inside)
    assert everything(tmp_path) == ["outer/inner/good.png", "z.zip"]
    assert done.count == 1
    assert [refused.reason for refused in done.refused] == [f"{done.refused[0].name} was left out: its name points outside the folder."]


@pytest.mark.parametrize("name", HARMLESS)
def test_a_path_that_only_looks_so_lands_in_the_folder(tmp_path: Path, inside: Path, name: str) -> None:
    assert archive.unpack(zipped(tmp_path / "z.zip", {name: png()}), inside) == 1
    (found,) = inside.iterdir()
    assert everything(tmp_path) == [f"outer/inner/{found.name}", "z.zip"]
    assert found.read_bytes() == png()


@pytest.mark.parametrize(
    "name",
    [
        "..%2f..%2fevil.png",
        "..%5c..%5cevil.png",
        "....//....//evil.png",
        "a/.../evil.png",
        "..;/evil.png",
        ".studio/thumbs/evil.png",
        "..\u2215evil.png",
        ".../evil/.png",
        "...\\.evil.png",
        ". ./. ./.evil.png",
    ],
)
def test_hidden_names_are_passed_over(tmp_path: Path, inside: Path, name: str) -> None:
    assert archive.unpack(zipped(tmp_path / "z.zip", {name: png()}), inside) == 0
    assert everything(tmp_path) == ["z.zip"]


def test_an_absolute_path_is_not_written_to(tmp_path: Path, inside: Path) -> None:
    target = tmp_path / "target" / "evil.png"
    target.parent.mkdir()
    assert archive.unpack(zipped(tmp_path / "z.zip", {str(target): png()}), inside) == 0
    assert everything(tmp_path) == ["z.zip"]


@pytest.mark.parametrize(("kind", "words"), [(0o120777, "a link"), (0o060666, "a device"), (0o020666, "a device"), (0o010666, "a device"), (0o140666, "a device")])
def test_links_and_devices_are_refused_with_the_reason(tmp_path: Path, inside: Path, kind: int, words: str) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as file:
        odd = zipfile.ZipInfo("odd.png")
        odd.external_attr = kind << 16
        file.writestr(odd, "../../secret.png")
        file.writestr("a.png", png())
    done = archive.unpack_told(tmp_path / "z.zip", inside)
    assert everything(inside) == ["a.png"]
    assert [words in refused.reason for refused in done.refused] == [True]


def test_names_that_differ_in_case_alone_are_refused_but_the_first(tmp_path: Path, inside: Path) -> None:
    done = archive.unpack_told(zipped(tmp_path / "z.zip", {"A.png": png(1), "a.PNG": png(2), "\u00e9.png": png(3), "e\u0301.png": png(4), "x/a.png": png(5)}), inside)
    assert [refused.name for refused in done.refused] == ["a.PNG", "e\u0301.png"]
    assert all("same name" in refused.reason for refused in done.refused)
    assert {p.read_bytes() for p in inside.iterdir()} == {png(1), png(3), png(5)}
    assert len({p.name.lower() for p in inside.iterdir()}) == 3


def test_an_archive_in_the_archive_is_told_and_not_opened(tmp_path: Path, inside: Path) -> None:
    inner = zipped(tmp_path / "inner.zip", {"b.png": png()}).read_bytes()
    done = archive.unpack_told(zipped(tmp_path / "z.zip", {"inner.zip": inner, "more.RAR": b"Rar!", "a.png": png()}), inside)
    assert everything(inside) == ["a.png"]
    assert [(refused.name, "not opened" in refused.reason) for refused in done.refused] == [("inner.zip", True), ("more.RAR", True)]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_packing_whose_growth_cannot_be_bounded_is_refused_in_words(tmp_path: Path, inside: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as file:
        file.writestr("bomb.png", bytes(2**20), method)
        file.writestr("a.png", png())
    done = archive.unpack_told(tmp_path / "z.zip", inside)
    assert everything(inside) == ["a.png"]
    assert "ordinary zip" in done.refused[0].reason


def test_a_link_in_the_zip_is_not_followed_or_made(tmp_path: Path, inside: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as file:
        link = zipfile.ZipInfo("link.txt")
        link.external_attr = 0o120777 << 16
        file.writestr(link, str(secret))
        file.writestr("a.png", png())
    assert archive.unpack(tmp_path / "z.zip", inside) == 1
    assert everything(inside) == ["a.png"]


def test_a_zip_that_unfolds_to_more_than_the_limit_is_refused(tmp_path: Path, inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MOST_BYTES", 3 * 2**20)
    bomb = zipped(tmp_path / "bomb.zip", {f"{i}.png": bytes(2**20) for i in range(8)})
    assert bomb.stat().st_size < 2**16
    with pytest.raises(Unreadable, match=r"unpacks to more than"):
        archive.unpack(bomb, inside)
    assert sum(p.stat().st_size for p in inside.iterdir()) <= 4 * 2**20


def test_a_zip_that_lies_about_its_size_is_refused(tmp_path: Path, inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MOST_BYTES", 2**20)
    size = 4 * 2**20
    file = zipped(tmp_path / "lie.zip", {"a.png": bytes(size)})
    data = file.read_bytes()
    assert data.count(struct.pack("<I", size)) == 2
    file.write_bytes(data.replace(struct.pack("<I", size), struct.pack("<I", 10)))
    with pytest.raises(Unreadable):
        archive.unpack(file, inside)
    assert sum(p.stat().st_size for p in inside.iterdir()) <= 2**20


def test_the_message_about_a_bomb_names_the_file_and_not_its_folder(tmp_path: Path, inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MOST_BYTES", 1000)
    with pytest.raises(Unreadable) as caught:
        archive.unpack(zipped(tmp_path / "bomb.zip", {"a.png": bytes(2000)}), inside)
    assert str(caught.value).startswith("bomb.zip")


def test_a_zip_of_too_many_files_is_refused_before_anything_is_written(tmp_path: Path, inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MOST_FILES", 5)
    with pytest.raises(Unreadable, match=r"many\.zip holds 6 files; at most 5"):
        archive.unpack(zipped(tmp_path / "many.zip", {f"{i}.png": b"x" for i in range(6)}), inside)
    assert everything(inside) == []


def many(path: Path, count: int, declared: int, tail: bytes = b"") -> Path:
    """A zip whose directory lists `count` files that all point to one body, and claims `declared` (APPNOTE 4.3, ZIP64)."""
    body = b"PK\3\4" + struct.pack("<HHHHHIIIHH", 20, 0, 0, 0, 33, 0, 0, 0, 1, 0) + b"x"
    fixed = struct.pack("<HHHHHHIIIHHHHHII", 20, 20, 0, 0, 0, 33, 0, 0, 0, 11, 0, 0, 0, 0, 0, 0)
    with path.open("wb") as file:
        file.write(body)
        for number in range(count):
            file.write(b"PK\1\2" + fixed + b"%07d.png" % number)
        length = file.tell() - len(body)
        file.write(b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, declared, declared, length, len(body)))
        file.write(b"PK\6\7" + struct.pack("<IQI", 0, len(body) + length, 1))
        file.write(b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, len(tail)) + tail)
    return path


def test_the_crafted_directory_is_one_that_zipfile_reads(tmp_path: Path) -> None:
    with zipfile.ZipFile(many(tmp_path / "few.zip", 7, 7)) as file:
        assert len(file.infolist()) == 7
    with archive.Archive(tmp_path / "few.zip") as opened:
        assert len(opened.members) == 7


@pytest.mark.parametrize("declared", [1_000_000, 1])
@pytest.mark.parametrize("tail", [b"", b"a comment", b"PK\5\6 in a comment that is long enough"])
def test_a_million_entries_are_refused_without_taking_the_directory_into_memory(tmp_path: Path, declared: int, tail: bytes) -> None:
    file = many(tmp_path / "million.zip", 100_000, declared, tail)
    tracemalloc.start()
    try:
        with pytest.raises(Unreadable, match=r"million\.zip"):
            archive.Archive(file)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("data", [b"", b"no zip at all" * 20, b"PK\3\4" + bytes(60), b"Rar!\x1a\x07\x00" + bytes(60)])
def test_what_is_not_a_zip_is_refused_in_words(tmp_path: Path, inside: Path, data: bytes) -> None:
    (tmp_path / "fake.zip").write_bytes(data)
    with pytest.raises(Unreadable, match=r"fake\.zip is not a zip file"):
        archive.unpack(tmp_path / "fake.zip", inside)


def test_a_zip_that_is_missing_is_refused_in_words(tmp_path: Path, inside: Path) -> None:
    with pytest.raises(Unreadable, match=r"gone\.zip"):
        archive.unpack(tmp_path / "gone.zip", inside)


def test_a_zip_cut_anywhere_is_unpacked_or_refused_in_words(tmp_path: Path, inside: Path) -> None:
    data = zipped(tmp_path / "whole.zip", {"a.png": png(), "b.png": png(9)}).read_bytes()
    for length in range(0, len(data), 5):
        (tmp_path / "cut.zip").write_bytes(data[:length])
        with pytest.raises(Unreadable, match=r"cut\.zip"):
            archive.unpack(tmp_path / "cut.zip", inside)


def test_a_zip_with_wrong_bytes_is_unpacked_or_refused_in_words(tmp_path: Path, inside: Path) -> None:
    data = zipped(tmp_path / "whole.zip", {"a.png": png(), "b.txt": b"words" * 50}).read_bytes()
    outcomes = set()
    for place in range(0, len(data), 2):
        for bit in (0x01, 0x80):
            (tmp_path / "hurt.zip").write_bytes(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :])
            try:
                archive.unpack(tmp_path / "hurt.zip", inside)
                outcomes.add("unpacked")
            except Unreadable:
                outcomes.add("refused")
        for path in inside.iterdir():
            path.unlink()
    assert outcomes == {"unpacked", "refused"}
    assert everything(tmp_path) == ["hurt.zip", "whole.zip"]


def test_a_locked_zip_is_refused_in_words(tmp_path: Path, inside: Path) -> None:
    data = bytearray(zipped(tmp_path / "locked.zip", {"a.png": png()}).read_bytes())
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(bytes(data))
    with pytest.raises(Unreadable, match=r"password"):
        archive.unpack(tmp_path / "locked.zip", inside)


def test_nested_folders_are_laid_flat_and_only_pictures_and_captions_are_taken(tmp_path: Path, inside: Path) -> None:
    members = {"set/": b"", "set/a.png": png(1), "set/a.txt": b"one", "set/deep/er/b.JPG": png(2), "set/run.exe": b"MZ", "__MACOSX/set/._a.png": b"x", "set/.hidden.png": b"x", "Thumbs.db": b"x"}
    assert archive.unpack(zipped(tmp_path / "z.zip", members), inside) == 3
    assert everything(inside) == ["a.png", "a.txt", "b.JPG"]
    assert (inside / "a.png").read_bytes() == png(1)


@pytest.mark.parametrize("order", [("x/a.png", "x/a.txt", "y/a.png", "y/a.txt"), ("x/a.png", "y/a.png", "x/a.txt", "y/a.txt"), ("y/a.txt", "x/a.txt", "y/a.png", "x/a.png")])
def test_pictures_of_one_name_in_two_folders_are_both_kept_with_their_captions(tmp_path: Path, inside: Path, order: tuple[str, ...]) -> None:
    members = {"x/a.png": png(10), "x/a.txt": b"ten", "y/a.png": png(20), "y/a.txt": b"twenty"}
    archive.unpack(zipped(tmp_path / "z.zip", {name: members[name] for name in order}), inside)
    said = {p.read_bytes(): existing_caption(p) for p in inside.glob("*.png")}
    assert said == {png(10): "ten", png(20): "twenty"}


def test_a_caption_does_not_move_to_a_picture_of_the_same_name_that_has_none(tmp_path: Path, inside: Path) -> None:
    archive.unpack(zipped(tmp_path / "z.zip", {"x/a.png": png(10), "y/a.png": png(20), "y/a.txt": b"twenty"}), inside)
    said = {p.read_bytes(): existing_caption(p) for p in inside.glob("*.png")}
    assert said == {png(10): "", png(20): "twenty"}


def test_chinese_names_in_utf8_are_kept(tmp_path: Path, inside: Path) -> None:
    archive.unpack(zipped(tmp_path / "z.zip", {"图片/猫.png": png(), "图片/猫.txt": "一只猫".encode()}), inside)
    assert everything(inside) == ["猫.png", "猫.txt"]
    assert existing_caption(inside / "猫.png") == "一只猫"


def test_chinese_names_in_gbk_are_read_as_such(tmp_path: Path, inside: Path) -> None:
    archive.unpack(gbk_zip(tmp_path / "z.zip", {"图片/猫咪.png": png(), "图片/猫咪.txt": "一只猫，水墨画".encode("gbk")}), inside)
    assert everything(inside) == ["猫咪.png", "猫咪.txt"]
    assert existing_caption(inside / "猫咪.png") == "一只猫，水墨画"


def test_a_name_that_is_too_long_is_shortened(tmp_path: Path, inside: Path) -> None:
    assert archive.unpack(zipped(tmp_path / "z.zip", {"n" * 400 + ".png": png(), "n" * 400 + ".txt": b"long"}), inside) == 2
    (picture,) = inside.glob("*.png")
    assert len(picture.name.encode()) <= 255
    assert existing_caption(picture) == "long"


def test_names_that_some_system_cannot_keep_are_mended_with_their_captions_and_masks(tmp_path: Path, inside: Path) -> None:
    members = {"CON.png": png(1), "CON.txt": b"con", "x/a?.png": png(2), "x/a?.txt": b"a", "x/a?-masklabel.png": png(3), "y/a?.png": png(4), "y/a?-masklabel.png": png(5), "y/a?.png.txt": b"own"}
    assert archive.unpack(zipped(tmp_path / "z.zip", members), inside) == 8
    assert everything(inside) == ["CON_.png", "CON_.txt", "a_-2-masklabel.png", "a_-2.png", "a_-2.png.txt", "a_-masklabel.png", "a_.png", "a_.txt"]
    assert (inside / "a_-2-masklabel.png").read_bytes() == png(5)


@pytest.mark.parametrize(
    ("system", "raw", "name"),
    [(3, "café.png".encode(), "café.png"), (0, "猫咪.png".encode(), "猫咪.png"), (0, "小.png".encode("gbk"), "小.png"), (3, "猫咪.png".encode("gbk"), "猫咪.png"), (0, b"caf\x82.png", "café.png")],
)
def test_names_are_read_in_the_encoding_they_were_written_in(tmp_path: Path, inside: Path, system: int, raw: bytes, name: str) -> None:
    mark = "q" * len(raw)
    data = bytearray(zipped(tmp_path / "z.zip", {mark: png()}).read_bytes().replace(mark.encode(), raw))
    data[data.index(b"PK\1\2") + 5] = system
    (tmp_path / "z.zip").write_bytes(data)
    assert archive.unpack(tmp_path / "z.zip", inside) == 1
    assert everything(inside) == [name]
