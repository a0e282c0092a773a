"""Every detector finds faces where they are and none where there is none; files and packages that a person adds come first, and broken ones do no harm."""

import sys
from pathlib import Path
from random import Random

import cv2
import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageDraw

from studio.dataset import faces
from studio.dataset.examine import measure
from studio.dataset.faces import CASCADES, by_cascade, detectors, find_faces, merged, yunet_file
from studio.projects.cropping import Weights, box_of, suggest
from studio.projects.facts import Box
from tests.dataset.onnx_file import described, node, number, part, tensor

ASTRONAUT = (177, 66, 272, 161)
FACELESS = ("chelsea", "coffee", "rocket", "brick", "grass", "camera", "moon", "page")


def overlap(one: Box, other: Box) -> float:
    """Shared area over that of both."""
    across, down = (max(0, min(one[i + 2], other[i + 2]) - max(one[i], other[i])) for i in (0, 1))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return across * down / (sum(areas) - across * down)


def with_face(index: int, side: int) -> tuple[np.ndarray, Box]:
    """The rocket with a face of Labeled Faces in the Wild pasted in, and where."""
    picture = cv2.resize(skimage.data.rocket(), (384, 288))
    x, y = index * 37 % (384 - side), index * 53 % (288 - side)
    face = (skimage.data.lfw_subset()[index] * 255).astype(np.uint8)
    picture[y : y + side, x : x + side] = cv2.resize(face, (side, side), interpolation=cv2.INTER_CUBIC)[..., None]
    return picture, (x, y, x + side, y + side)


def cartoon(dice: Random) -> tuple[Image.Image, Box]:
    """A drawn face with hair, eyes, nose and mouth away from the middle of a wide picture, and where."""
    picture = Image.new("RGB", (640, 400), tuple(dice.randint(120, 240) for _ in range(3)))
    pen = ImageDraw.Draw(picture)
    height = dice.randint(150, 220)
    width = round(height * 0.75)
    x, y = dice.choice((dice.randint(10, 120), dice.randint(520 - width, 630 - width))), dice.randint(40, 380 - height)

    def at(*shares: float) -> list[float]:
        """Shares of the face as pixels."""
        return [(x, y)[i % 2] + share * (width, height)[i % 2] for i, share in enumerate(shares)]

    hair = dice.choice(((40, 26, 13), (90, 56, 37), (230, 200, 80), (120, 20, 20)))
    pen.ellipse(at(-0.06, -0.1, 1.06, 0.75), fill=hair)
    pen.ellipse(at(0, 0, 1, 1), fill=dice.choice(((255, 224, 189), (234, 192, 134), (141, 85, 36), (198, 134, 66))), outline=(60, 40, 30), width=3)
    pen.chord(at(0, -0.05, 1, 0.5), 180, 360, fill=hair)
    for eye in (0.3, 0.7):
        pen.ellipse(at(eye - 0.12, 0.38, eye + 0.12, 0.52), fill="white", outline="black", width=2)
        pen.ellipse(at(eye - 0.05, 0.4, eye + 0.05, 0.5), fill=(40, 30, 20))
    pen.line(at(0.5, 0.5, 0.45, 0.66, 0.52, 0.66), fill=(120, 80, 60), width=3)
    pen.chord(at(0.28, 0.68, 0.72, 0.88), 0, 180, fill=(170, 40, 50))
    return picture, (x, y, x + width, y + height)


@pytest.mark.parametrize("name", CASCADES)
def test_each_cascade_finds_the_astronaut(name: str) -> None:
    (face,) = by_cascade(skimage.data.astronaut(), name)
    assert overlap(face, ASTRONAUT) > 0.8


@pytest.mark.parametrize("name", CASCADES)
@pytest.mark.parametrize("photograph", FACELESS)
def test_each_cascade_finds_no_face_where_there_is_none(name: str, photograph: str) -> None:
    picture = getattr(skimage.data, photograph)()
    colour = picture if picture.ndim == 3 else np.dstack([picture] * 3)
    assert by_cascade(cv2.resize(colour, (384, 384 * colour.shape[0] // colour.shape[1])), name) == []


@pytest.mark.parametrize(("name", "least"), [("Haar alt2", 36), ("Haar default", 24)])
def test_each_cascade_finds_most_photographed_faces(name: str, least: int) -> None:
    found = 0
    for index in range(40):
        picture, place = with_face(index, 80)
        found += any(overlap(box, place) > 0.3 for box in by_cascade(picture, name))
    assert found >= least


def test_the_faces_of_a_photograph_are_found_once() -> None:
    (face,) = find_faces(skimage.data.astronaut())
    assert overlap(face, ASTRONAUT) > 0.75
    grey = cv2.cvtColor(skimage.data.astronaut(), cv2.COLOR_RGB2GRAY)
    (same,) = find_faces(grey)
    assert overlap(face, same) > 0.9


def test_a_large_picture_gives_boxes_in_its_own_pixels() -> None:
    (face,) = find_faces(cv2.resize(skimage.data.astronaut(), (1536, 1536)))
    assert overlap(face, tuple(v * 3 for v in ASTRONAUT)) > 0.75


def test_of_two_faces_the_larger_comes_first() -> None:
    picture = np.full((512, 900, 3), 128, np.uint8)
    face = skimage.data.astronaut()[20:220, 120:320]
    picture[40:220, 40:220] = cv2.resize(face, (180, 180), interpolation=cv2.INTER_AREA)
    picture[150:450, 500:800] = cv2.resize(face, (300, 300), interpolation=cv2.INTER_CUBIC)
    large, small = find_faces(picture)
    assert large[0] > 500
    assert small[2] < 220


@pytest.mark.parametrize("size", [(1, 1), (23, 400), (400, 23), (24, 24), (3000, 30), (600, 400)])
@pytest.mark.parametrize("grey", [False, True])
def test_a_picture_of_any_size_without_a_face_has_none(size: tuple[int, int], grey: bool) -> None:
    assert find_faces(np.full(size if grey else (*size, 3), 200, np.uint8)) == []


def test_noise_has_no_face() -> None:
    assert find_faces(np.random.default_rng(0).integers(0, 256, (384, 384, 3), dtype=np.uint8)) == []


def test_the_second_cascade_is_asked_when_the_first_finds_nothing() -> None:
    first, second = detectors()
    blind = faces.Detector("blind", lambda colour: [])
    assert (first.name, second.name) == tuple(CASCADES)
    assert len(find_faces(skimage.data.astronaut(), [blind, second])) == 1
    assert find_faces(skimage.data.astronaut(), [blind]) == []
    asked: list[str] = []
    late = faces.Detector("late", lambda colour: asked.append("late") or [])
    assert len(find_faces(skimage.data.astronaut(), [first, late])) == 1
    assert asked == []


def test_a_cascade_that_is_missing_finds_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cv2.data, "haarcascades", str(tmp_path))
    faces._cascade.cache_clear()
    try:
        assert find_faces(skimage.data.astronaut()) == []
    finally:
        faces._cascade.cache_clear()


def test_boxes_that_repeat_each_other_are_one() -> None:
    assert merged([(10, 10, 50, 50), (12, 8, 52, 49), (100, 100, 120, 120)], 200, 200) == [(12, 8, 52, 49), (100, 100, 120, 120)]
    assert merged([(0, 0, 100, 100), (20, 20, 50, 50)], 200, 200) == [(0, 0, 100, 100)]
    assert merged([(-10, -10, 30, 30), (190, 50, 260, 90)], 200, 200) == [(0, 0, 30, 30), (190, 50, 200, 90)]
    assert merged([(300, 300, 320, 320), (50, 50, 50, 60)], 200, 200) == []


def test_where_no_detector_knows_a_drawn_face_detail_leads_the_crop_to_it() -> None:
    whole, unknown = 0, 0
    for seed in range(24):
        picture, (left, _, right, _) = cartoon(Random(seed))
        facts = measure(picture)
        if facts.faces:
            continue
        unknown += 1
        box = box_of(picture.size, (512, 512), suggest(facts, (512, 512), Weights()))
        whole += box[0] <= left and right <= box[2]
    assert unknown >= 8, "the cascades know about four in ten drawn faces"
    assert whole == unknown


def test_a_drawn_face_that_is_found_is_where_it_was_drawn() -> None:
    for seed in range(24):
        picture, place = cartoon(Random(seed))
        for box in find_faces(np.asarray(picture)):
            assert overlap(box, place) > 0.3


def lights(path: Path) -> Path:
    """A file with the twelve outputs of YuNet for which a bright spot of 8 pixels is a face of 36; written by hand."""

    def pooled(source: str, output: str, side: int) -> bytes:
        """Means of squares."""
        sides = b"".join(part(5, part(1, name) + number(8, side) + number(8, side) + number(20, 7)) for name in ("kernel_shape", "strides"))
        return node("AveragePool", (source,), output) + sides

    nodes, weights, outputs = [], [], []
    for name, channels, weight, bias in (("light", 1, 1 / 765, 0.0), ("dark", 1, 0.0, 0.0), ("four", 4, 0.0, 1.5), ("ten", 10, 0.0, 1.5)):
        weights += [tensor(f"{name}_w", np.full((channels, 3, 1, 1), weight, np.float32)), tensor(f"{name}_b", np.full(channels, bias, np.float32))]
        nodes.append(node("Conv", ("input", f"{name}_w", f"{name}_b"), name))
    for kind, source, channels in (("cls", "light", 1), ("obj", "light", 1), ("bbox", "four", 4), ("kps", "ten", 10)):
        for side in (8, 16, 32):
            nodes.append(pooled("dark" if channels == 1 and side > 8 else source, f"{kind}_{side}", side))
            outputs.append(described(f"{kind}_{side}", (1, channels, "h", "w")))
    graph = b"".join(part(1, one) for one in nodes) + part(2, "g") + b"".join(part(5, one) for one in weights)
    graph += part(11, described("input", (1, 3, "h", "w"))) + b"".join(part(12, one) for one in outputs)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(number(1, 7) + part(8, part(1, "") + number(2, 11)) + part(7, graph))
    return path


def test_yunet_is_asked_first_when_its_file_is_there(tmp_path: Path) -> None:
    file = lights(tmp_path / "opencv" / faces.YUNET_NAMES[0])
    assert yunet_file(tmp_path / "opencv") == file
    assert [detector.name for detector in detectors(file)] == ["YuNet", *CASCADES]
    picture = np.zeros((200, 300, 3), np.uint8)
    picture[80:88, 160:168] = 255
    (face,) = find_faces(picture, detectors(file)[:1])
    assert overlap(face, (154, 74, 190, 110)) > 0.8


def test_an_older_file_of_yunet_is_taken_when_there_is_no_newer(tmp_path: Path) -> None:
    assert yunet_file(tmp_path / "missing") is None
    lights(tmp_path / faces.YUNET_NAMES[1])
    assert yunet_file(tmp_path) == tmp_path / faces.YUNET_NAMES[1]
    lights(tmp_path / faces.YUNET_NAMES[0])
    assert yunet_file(tmp_path) == tmp_path / faces.YUNET_NAMES[0]


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"\x08\x07" * 50])
def test_a_damaged_file_of_yunet_leaves_the_work_to_the_cascades(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / faces.YUNET_NAMES[0]
    file.write_bytes(content)
    (face,) = find_faces(skimage.data.astronaut(), detectors(file))
    assert overlap(face, ASTRONAUT) > 0.75


def test_a_file_of_yunet_that_is_not_there_is_no_detector(tmp_path: Path) -> None:
    assert [detector.name for detector in detectors(tmp_path / "none.onnx")] == list(CASCADES)


MTCNN = '''
"""Stands for the package: the same call and the same kinds of answers."""
import numpy as np


class MTCNN:
    def __init__(self, keep_all, device):
        assert keep_all and device == "cpu"

    def detect(self, picture):
        assert picture.dtype == np.uint8 and picture.flags["C_CONTIGUOUS"]
        if picture.mean() < 1:
            return None, [None]
        return np.array([[10.4, 20.6, 60.2, 90.0], [70.0, 70.0, 99.0, 99.0]], np.float32), np.array([0.999, 0.6])
'''


def test_mtcnn_is_asked_where_its_package_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "facenet_pytorch.py").write_text(MTCNN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "facenet_pytorch", raising=False)
    faces._mtcnn.cache_clear()
    try:
        chosen = detectors()
        assert chosen[0].name == "MTCNN"
        assert find_faces(np.full((100, 100, 3), 99, np.uint8), chosen) == [(10, 21, 60, 90)]
        assert find_faces(np.zeros((100, 100, 3), np.uint8), chosen) == []
    finally:
        faces._mtcnn.cache_clear()
        sys.modules.pop("facenet_pytorch", None)
