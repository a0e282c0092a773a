"""A zip comes into a data set as its folder would, and nothing in it reaches further."""

import zipfile
from pathlib import Path

import pytest

from studio.errors import Unreadable
from studio.projects import archive
from studio.projects.importing import ImportOptions, import_into
from tests.projects.small_pictures import encoded, lay, masked, read, reasons, said, zipped


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """A new, empty data set."""
    folder = tmp_path / "data set"
    folder.mkdir()
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder to fill with files."""
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def test_a_folder_comes_the_same_from_a_zip(tmp_path: Path, source: Path) -> None:
    lay(source, {"a.png": encoded(1), "a.txt": "a cat", "a-masklabel.png": masked(), "b/a.png": encoded(2), "b/a.txt": "乙".encode("gbk"), "b/c.gif": encoded(3, "GIF")})
    rooms = [lay(tmp_path / name, {}) for name in ("one", "two")]
    for room in rooms:
        room.mkdir()
    import_into(rooms[0], source, ImportOptions(recursive=True))
    import_into(rooms[1], zipped(tmp_path / "z.zip", source))
    assert read(rooms[0]) == read(rooms[1])
    assert said(rooms[1]) == {"a.png": "a cat", "b-a.png": "乙", "c.gif": ""}


@pytest.mark.parametrize("name", ["../../evil.png", "/evil.png", "C:\\evil.png", "..\\evil.png", "a/../../evil.png", "//h/s/evil.png"])
def test_nothing_of_a_zip_leaves_the_data_set(tmp_path: Path, room: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as file:
        for member, data in ((name, encoded(1)), ("good.png", encoded(2)), ("inner.zip", b"PK")):
            info = zipfile.ZipInfo(member)
            info.filename = member
            file.writestr(info, data)
    before = set(tmp_path.iterdir())
    done = import_into(room, tmp_path / "z.zip")
    assert done.added == ("good.png",)
    assert len(done.skipped) == 2
    assert set(tmp_path.iterdir()) == before
    assert set(read(room)) == {"good.png"}


def test_a_damaged_picture_in_a_zip_is_told_and_the_others_come(tmp_path: Path, room: Path, source: Path) -> None:
    lay(source, {"a.png": encoded(1), "b.png": encoded(2)})
    data = bytearray(zipped(tmp_path / "z.zip", source).read_bytes())
    data[data.index(encoded(1)) + 40] ^= 0xFF
    (tmp_path / "z.zip").write_bytes(data)
    done = import_into(room, tmp_path / "z.zip")
    assert done.added == ("b.png",)
    assert "a.png in z.zip is damaged" in reasons(done)["a.png"]
    assert set(read(room)) == {"b.png"}


def test_a_zip_bomb_is_refused_and_leaves_nothing(tmp_path: Path, room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MOST_BYTES", 2**20)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for number in range(4):
            file.writestr(f"{number}.png", encoded(1) + bytes(2**20))
    with pytest.raises(Unreadable, match="unpacks to more than"):
        import_into(room, tmp_path / "bomb.zip")
    done = import_into(room, [tmp_path / "bomb.zip"])
    assert (done.added, list(reasons(done))) == ((), ["bomb.zip"])
    assert read(room) == {}
