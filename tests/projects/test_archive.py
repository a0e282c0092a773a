"""A zip is unpacked flat into its folder and nowhere else, bounded in count and size, or refused in words."""

import io
import struct
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


@pytest.mark.parametrize("name", ["../../evil.png", "../evil.png", "a/../../../evil.png", "..\\..\\evil.png", "C:\\Windows\\evil.png", "//host/share/evil.png", "./evil.png", "C:evil.png"])
def test_a_path_that_points_elsewhere_lands_in_the_folder(tmp_path: Path, inside: Path, name: str) -> None:
    assert archive.unpack(zipped(tmp_path / "z.zip", {name: png()}), inside) == 1
    assert everything(tmp_path) == ["outer/inner/C_evil.png" if name == "C:evil.png" else "outer/inner/evil.png", "z.zip"]


def test_an_absolute_path_lands_in_the_folder(tmp_path: Path, inside: Path) -> None:
    target = tmp_path / "target" / "evil.png"
    target.parent.mkdir()
    archive.unpack(zipped(tmp_path / "z.zip", {str(target): png()}), inside)
    assert everything(tmp_path) == ["outer/inner/evil.png", "z.zip"]


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


def test_a_name_that_is_too_long_is_unpacked_or_refused_in_words(tmp_path: Path, inside: Path) -> None:
    with pytest.raises(Unreadable, match=r"z\.zip"):
        archive.unpack(zipped(tmp_path / "z.zip", {"n" * 400 + ".png": png()}), inside)
    assert everything(inside) == []
