"""Pictures and masks of the room over HTTP: every kind of file is shown or told, small copies are kept, and masks are steps."""

import io
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from studio.api import room_pictures
from studio.api.app import bare_app
from studio.engine import Engine
from studio.settings import Paths
from tests.projects.small_pictures import encoded, lay, masked

ROOM = "/studio/v1/datasets/room"


@pytest.fixture
def engine(root: Paths) -> Engine:
    return Engine(root)


@pytest.fixture
def folder(engine: Engine) -> Path:
    """The data set's folder, with one picture."""
    return lay(engine.paths.datasets / "room", {"a.png": encoded(0x0000FF, side=40)})


@pytest.fixture
def http(engine: Engine, folder: Path) -> TestClient:
    return TestClient(bare_app(engine))


def shown(http: TestClient, name: str, route: str = "thumb") -> Image.Image:
    """A small copy as a picture."""
    answer = http.get(f"{ROOM}/{route}", params={"picture": name})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg"), answer.text
    return Image.open(io.BytesIO(answer.content))


def png(image: Image.Image) -> bytes:
    """A picture as PNG."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG that claims to be of any size and holds nothing."""
    head = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + head + zlib.crc32(head).to_bytes(4, "big") + b"\0\0\0\0IDAT\x35\xaf\x06\x1e"


def ramp(width: int, height: int, most: int = 65535) -> np.ndarray:
    """Numbers that grow evenly from 0."""
    return np.linspace(0, most, width * height).reshape(height, width)


KINDS: dict[str, Callable[[Path], Any]] = {
    "grey16.png": lambda path: Image.fromarray(ramp(300, 200).astype(np.uint16)).save(path),
    "large16.png": lambda path: Image.fromarray(ramp(1500, 1000).astype(np.uint16)).save(path),
    "grey16.tif": lambda path: Image.fromarray(ramp(300, 200).astype(">u2")).save(path),
    "grey32.tif": lambda path: Image.fromarray(ramp(300, 200).astype(np.int32)).save(path),
    "share.tif": lambda path: Image.fromarray(ramp(300, 200, 1).astype(np.float32)).save(path),
    "grey.jpg": lambda path: Image.fromarray(ramp(300, 200, 255).astype(np.uint8)).save(path),
    "palette.gif": lambda path: Image.fromarray(ramp(300, 200, 255).astype(np.uint8)).convert("P").save(path),
    "cmyk.jpg": lambda path: Image.fromarray(ramp(300, 200, 255).astype(np.uint8)).convert("CMYK").save(path),
}
"""Pictures that all show the same: black above, white below."""


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_picture_is_shown_as_it_is(http: TestClient, folder: Path, name: str) -> None:
    KINDS[name](folder / name)
    grey = np.asarray(shown(http, name).convert("L")).astype(float)
    assert grey.shape == (171, 256)
    assert grey[:8].mean() < 24
    assert grey[-8:].mean() > 231
    assert abs(grey.mean() - 127.5) < 4


@pytest.mark.parametrize("turn", [3, 6, 8])
def test_a_photo_is_shown_upright(http: TestClient, folder: Path, turn: int) -> None:
    photo, exif = Image.new("RGB", (600, 300), "white"), Image.Exif()
    photo.paste("red", (0, 0, 300, 300))
    exif[0x0112] = turn
    photo.save(folder / "photo.jpg", exif=exif)
    small = shown(http, "photo.jpg", "view")
    assert small.size == ((300, 600) if turn > 4 else (600, 300))
    red = {3: (590, 150), 6: (150, 10), 8: (150, 590)}[turn]
    assert np.allclose(small.getpixel(red), (254, 0, 0), atol=4)


def test_what_is_transparent_is_shown_on_white(http: TestClient, folder: Path) -> None:
    Image.new("RGBA", (30, 30), (255, 0, 0, 0)).save(folder / "clear.png")
    assert shown(http, "clear.png").getpixel((15, 15)) == (255, 255, 255)


def test_small_and_large_copies_fit_their_sides(http: TestClient, folder: Path) -> None:
    Image.new("RGB", (4000, 10), "green").save(folder / "thin.png")
    assert (shown(http, "thin.png").size, shown(http, "thin.png", "view").size, shown(http, "a.png", "view").size) == ((256, 1), (1280, 3), (40, 40))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("empty.png", b""),
        ("text.png", b"no picture"),
        ("page.jpg", b"<html><script>alert(1)</script>"),
        ("cut.png", encoded(3, side=200)[:60]),
        ("bomb.png", bomb(60_000, 60_000)),
        ("wide.png", bomb(2**31 - 1, 1)),
        ("vast.png", bomb(13_400, 13_400)),
        ("x.avif", b"\0\0\0\x20ftypavif\0\0\0\0avif" + b"\0" * 80),
        ("drawing.webp", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"),
    ],
)
def test_what_cannot_be_shown_is_told(http: TestClient, folder: Path, name: str, data: bytes) -> None:
    (folder / name).write_bytes(data)
    for answer in (http.get(f"{ROOM}/thumb", params={"picture": name}), http.put(f"{ROOM}/mask", params={"picture": name}, content=masked())):
        assert (answer.status_code, answer.json()["error"]) == (422, "unreadable"), answer.text
        assert name in answer.json()["detail"]
        assert str(folder) not in answer.json()["detail"]
    assert list(folder.glob("*-masklabel.png")) == []


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_bytes_are_shown_or_told(http: TestClient, folder: Path) -> None:
    source, dice = Image.effect_noise((60, 40), 80).convert("RGB"), np.random.default_rng(5)
    for suffix in ("png", "jpg", "webp", "gif", "tif", "avif", "bmp"):
        source.save(folder / f"good.{suffix}")
        good = (folder / f"good.{suffix}").read_bytes()
        for number in range(8):
            data = bytearray(good[: dice.integers(1, len(good)) if number % 2 else len(good)])
            for place in dice.integers(0, min(len(data), 300), 6):
                data[place] = dice.integers(256)
            (folder / f"bad.{suffix}").write_bytes(data)
            assert http.get(f"{ROOM}/thumb", params={"picture": f"bad.{suffix}"}).status_code in (200, 422)


def test_a_copy_is_kept_for_good_under_the_address_of_its_time(http: TestClient, engine: Engine, folder: Path) -> None:
    version = http.get(f"{ROOM}/room").json()["items"][0]["version"]
    first = http.get(f"{ROOM}/thumb", params={"picture": "a.png", "v": version})
    assert "immutable" in first.headers["cache-control"]
    assert "private" in first.headers["cache-control"]
    plain = http.get(f"{ROOM}/thumb", params={"picture": "a.png"})
    assert ("immutable" in plain.headers["cache-control"], plain.headers["etag"]) == (False, first.headers["etag"])
    assert {answer.headers["x-content-type-options"] for answer in (first, plain)} == {"nosniff"}
    kept = list(engine.paths.thumbnails.rglob("*.jpg"))
    assert len(kept) == 1
    (folder / "a.png").write_bytes(encoded(0xFF0000, side=44))
    later = http.get(f"{ROOM}/room").json()["items"][0]["version"]
    assert later != version
    assert shown(http, "a.png").size == (44, 44)
    assert http.get(f"{ROOM}/thumb", params={"picture": "a.png", "v": later}).headers["etag"] != first.headers["etag"]


def test_a_full_disk_is_told_and_leaves_nothing_half(http: TestClient, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("studio.api.thumbnails.os.replace", full)
    answer = http.get(f"{ROOM}/thumb", params={"picture": "a.png"})
    assert (answer.status_code, answer.json()["error"]) == (507, "out_of_space")
    assert [path for path in engine.paths.thumbnails.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    "name",
    [
        "../a.png",
        "..\\a.png",
        "..%2fa.png",
        "/etc/passwd",
        "/proc/self/environ",
        "a.png\0",
        "\0",
        "",
        ".",
        "..",
        "a.txt",
        ".studio/project.db",
        "x" * 300 + ".png",
        "a.PNG ",
        "folder.png",
        "C:\\a.png",
        "room/a.png",
    ],
)
def test_no_name_leads_to_another_file_and_none_tells_what_is_there(http: TestClient, engine: Engine, folder: Path, name: str) -> None:
    (folder / "folder.png").mkdir()
    lay(folder.parent, {"a.png": encoded(9), "a.txt": "a secret"})
    nobody = http.get(f"{ROOM}/item", params={"picture": "nobody.png"}).json()["detail"]
    for method, route, sent in [
        ("GET", "thumb", {}),
        ("GET", "view", {}),
        ("GET", "mask", {}),
        ("GET", "item", {}),
        ("GET", "prompts", {}),
        ("GET", "revisions", {}),
        ("PUT", "mask", {"content": masked()}),
        ("DELETE", "mask", {}),
    ]:
        answer = http.request(method, f"{ROOM}/{route}", params={"picture": name}, **sent)
        assert (answer.status_code, answer.json()["detail"]) == (404, nobody.replace("'nobody.png'", repr(name))), (method, route)
    for route, sent in (("caption", {"name": name, "text": "x", "force": True}), ("choices", {"names": [name], "field": "flipped", "value": True})):
        assert http.request("PUT" if route == "caption" else "POST", f"{ROOM}/{route}", json=sent).status_code == 404
    assert (folder.parent / "a.txt").read_text() == "a secret"


def test_links_in_the_folder_give_nothing_away_and_are_not_written_through(http: TestClient, folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("a secret")
    for name in ("link.png", "a.txt", "a-masklabel.png"):
        os.symlink(secret, folder / name)
    os.symlink(tmp_path, folder / "folder.png")
    os.symlink("/dev/zero", folder / "endless.png")
    os.symlink(tmp_path / "gone", folder / "gone.png")
    assert [item["name"] for item in http.get(f"{ROOM}/room").json()["items"]] == ["a.png", "link.png"]
    for answer, status in [
        (http.get(f"{ROOM}/thumb", params={"picture": "link.png"}), 422),
        (http.get(f"{ROOM}/mask", params={"picture": "a.png"}), 422),
        *((http.get(f"{ROOM}/thumb", params={"picture": name}), 404) for name in ("folder.png", "endless.png", "gone.png")),
    ]:
        assert (answer.status_code, "secret" in answer.text.replace("secret.txt", "")) == (status, False), answer.text
    assert http.put(f"{ROOM}/caption", json={"name": "a.png", "text": "mine", "force": True}).status_code == 200
    assert http.put(f"{ROOM}/mask", params={"picture": "a.png"}, content=masked()).status_code == 200
    assert (secret.read_text(), (folder / "a.txt").read_text()) == ("a secret", "mine")


def mask_of(http: TestClient, name: str = "a.png") -> np.ndarray:
    """A mask as it is served."""
    answer = http.get(f"{ROOM}/mask", params={"picture": name})
    assert (answer.status_code, answer.headers["content-type"], answer.headers["cache-control"]) == (200, "image/png", "no-store")
    return np.asarray(Image.open(io.BytesIO(answer.content)))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "L", "RGB", "1", "P", "I;16", "P with a clear colour"])
def test_a_painted_mask_is_kept_at_the_pictures_size_and_can_be_undone(http: TestClient, folder: Path, mode: str) -> None:
    half = Image.new("L", (80, 80), 0)
    half.paste(255, (40, 0, 80, 80))
    if mode in ("RGBA", "LA"):
        painted = Image.new(mode, half.size)
        painted.putalpha(half)
    elif mode == "I;16":
        painted = Image.fromarray(np.asarray(half).astype(np.uint16) * 257)
    elif mode.startswith("P with"):
        painted = Image.fromarray((np.asarray(half) > 0).astype(np.uint8), "P")
        painted.info["transparency"] = b"\0\xff"
    else:
        painted = half.convert(mode)
    told = http.put(f"{ROOM}/mask", params={"picture": "a.png"}, content=png(painted))
    assert told.json() == {"name": "Mask of a.png", "count": 1}
    kept = mask_of(http)
    assert kept.shape == (40, 40)
    assert (kept[:, :18].max(), kept[:, 22:].min()) == (0, 255)
    assert http.get(f"{ROOM}/item", params={"picture": "a.png"}).json()["mask"].startswith("a-masklabel.png-")
    assert http.delete(f"{ROOM}/mask", params={"picture": "a.png"}).json()["count"] == 1
    assert http.get(f"{ROOM}/mask", params={"picture": "a.png"}).status_code == 404
    http.post(f"{ROOM}/undo")
    assert (mask_of(http) == kept).all()
    http.post(f"{ROOM}/undo")
    assert http.get(f"{ROOM}/mask", params={"picture": "a.png"}).status_code == 404
    assert not (folder / "a-masklabel.png").exists()


def test_a_mask_of_a_turned_photo_is_upright(http: TestClient, folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 30)).save(folder / "photo.jpg", exif=exif)
    assert http.put(f"{ROOM}/mask", params={"picture": "photo.jpg"}, content=masked()).status_code == 200
    assert mask_of(http, "photo.jpg").shape == (60, 30)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("data", "status"), [(b"", 422), (b"no picture", 422), (masked()[:40], 422), (b"<svg/>", 422), (bomb(60_000, 60_000), 413), (bomb(12_000, 12_000), 413)])
def test_what_is_no_mask_is_refused_and_the_old_one_stays(http: TestClient, folder: Path, data: bytes, status: int) -> None:
    http.put(f"{ROOM}/mask", params={"picture": "a.png"}, content=masked())
    before = (folder / "a-masklabel.png").read_bytes()
    answer = http.put(f"{ROOM}/mask", params={"picture": "a.png"}, content=data)
    assert (answer.status_code, "Mask" in answer.json()["detail"]) == (status, True), answer.text
    assert (folder / "a-masklabel.png").read_bytes() == before


def test_a_mask_that_is_too_large_is_not_read_to_its_end(http: TestClient, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room_pictures, "LARGEST_MASK", 2**20)
    assert http.put(f"{ROOM}/mask", params={"picture": "a.png"}, content=iter([b"\0" * 2**18] * 8)).status_code == 413
    assert http.put(f"{ROOM}/mask", params={"picture": "a.png"}, content=b"x", headers={"Content-Length": str(2**40)}).status_code == 413
    (folder / "a-masklabel.png").write_bytes(b"\0" * (2**20 + 1))
    assert http.get(f"{ROOM}/mask", params={"picture": "a.png"}).status_code == 413


def test_a_mask_from_outside_is_served_in_eight_bits_and_damage_is_told(http: TestClient, folder: Path) -> None:
    Image.fromarray(np.full((40, 40), 32896, np.uint16)).save(folder / "a-masklabel.png")
    assert set(mask_of(http).flatten()) <= {127, 128}
    (folder / "a-masklabel.png").write_bytes(b"nothing")
    assert http.get(f"{ROOM}/mask", params={"picture": "a.png"}).status_code == 422


def test_a_mask_changed_from_outside_is_not_undone_unseen(http: TestClient, folder: Path) -> None:
    http.put(f"{ROOM}/mask", params={"picture": "a.png"}, content=masked())
    (folder / "a-masklabel.png").write_bytes(masked(7))
    refused = http.post(f"{ROOM}/undo")
    assert (refused.status_code, "a.png" in refused.json()["detail"]) == (409, True)
    assert (folder / "a-masklabel.png").read_bytes() == masked(7)
    assert http.post(f"{ROOM}/undo", params={"force": True}).json()["count"] == 1
    assert not (folder / "a-masklabel.png").exists()
