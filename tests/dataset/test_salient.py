"""ONNX files of background networks are read and computed by OpenCV alone; what is none is told."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from studio.dataset.background import Seed
from studio.dataset.salient import CENTRED, IMAGENET, Salient, input_shape, load_salient
from studio.errors import Unreadable
from tests.dataset.onnx_file import write_pointwise

RED = (6.0, -3.0, -3.0)
"""Weights that find red, as a network that was trained on red subjects would."""


def picture(size: tuple[int, int] = (200, 120)) -> tuple[Image.Image, Image.Image]:
    """A red disc on blue, and where it is."""
    image, truth = Image.new("RGB", size, (30, 60, 200)), Image.new("L", size)
    for target, fill in ((image, (230, 30, 20)), (truth, 255)):
        ImageDraw.Draw(target).ellipse((size[0] // 5, size[1] // 5, size[0] // 2, size[1] * 4 // 5), fill=fill)
    return image, truth


def overlap(one: Image.Image, other: Image.Image) -> float:
    """Intersection over union."""
    a, b = (np.asarray(mask) >= 128 for mask in (one, other))
    return float((a & b).sum() / max(1, (a | b).sum()))


@pytest.mark.parametrize("after", [("Sigmoid",), ()], ids=["probabilities", "logits"])
@pytest.mark.parametrize("shape", [(1, 3, 320, 320), (1, 3, 64, 96), ("batch", 3, "height", "width")], ids=str)
def test_a_network_finds_its_subject_at_the_pictures_size(tmp_path: Path, shape: tuple[int | str, ...], after: tuple[str, ...]) -> None:
    image, truth = picture()
    network = load_salient(write_pointwise(tmp_path / "u2net.onnx", shape, RED, 0.0, after), runtime=False)
    cut = network.mask(image, Seed())
    assert cut.mask.size == image.size and cut.problem == "" and cut.confidence > 0.8
    assert overlap(cut.mask, truth) > 0.93
    assert cut.mask.tobytes() == network.mask(image, Seed()).mask.tobytes()


def test_the_input_is_what_the_file_says_and_the_name_says_how_colours_are_brought(tmp_path: Path) -> None:
    plain = load_salient(write_pointwise(tmp_path / "u2net.onnx", (1, 3, 64, 96), RED, 0.0), runtime=False)
    other = load_salient(write_pointwise(tmp_path / "isnet-general-use.onnx", ("n", 3, "h", "w"), RED, 0.0), runtime=False)
    assert (plain.size, plain.norm) == ((64, 96), IMAGENET)
    assert (other.size, other.norm) == ((320, 320), CENTRED)
    assert input_shape(tmp_path / "isnet-general-use.onnx") == (3, 0, 0)


def test_a_picture_without_a_subject_is_told(tmp_path: Path) -> None:
    network = load_salient(write_pointwise(tmp_path / "u2net.onnx", (1, 3, 64, 64), RED, 0.0), runtime=False)
    for image in (Image.new("RGB", (50, 40), "blue"), Image.new("RGB", (1, 1)), Image.new("L", (16, 900), 90)):
        cut = network.mask(image, Seed())
        assert cut.problem and cut.confidence == 0 and cut.mask.size == image.size


def test_the_runtime_is_asked_by_its_own_interface(tmp_path: Path) -> None:
    class Session:
        """What onnxruntime's session offers, computed by numpy."""

        def get_inputs(self) -> list[object]:
            return [type("Input", (), {"name": "pixels"})()]

        def run(self, outputs: None, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
            batch = feed["pixels"]
            assert batch.dtype == np.float32 and batch.shape == (1, 3, 64, 96)
            return [1 / (1 + np.exp(-(batch * np.float32(RED)[None, :, None, None]).sum(1, keepdims=True)))]

    image, _ = picture()
    by_opencv = load_salient(write_pointwise(tmp_path / "u2net.onnx", (1, 3, 64, 96), RED, 0.0), runtime=False).mask(image, Seed())
    by_session = Salient(Session(), (64, 96)).mask(image, Seed())
    assert np.abs(np.asarray(by_opencv.mask).astype(int) - np.asarray(by_session.mask)).max() <= 1


@pytest.mark.parametrize("content", [b"", b"not an onnx file at all", b"\x08\x07" + b"\xff" * 30, b"\x3a\xff\xff\xff\xff\x0f12"])
def test_what_is_no_onnx_file_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "u2net.onnx"
    path.write_bytes(content)
    with pytest.raises(Unreadable, match=r"u2net\.onnx is not an ONNX file"):
        load_salient(path, runtime=False)


def test_a_cut_off_file_and_networks_of_another_kind_are_told(tmp_path: Path) -> None:
    path = write_pointwise(tmp_path / "u2net.onnx", (1, 3, 64, 64), RED, 0.0)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Unreadable):
        load_salient(path, runtime=False)
    with pytest.raises(Unreadable, match="1 channels"):
        load_salient(write_pointwise(tmp_path / "grey.onnx", (1, 1, 64, 64), RED[:1], 0.0), runtime=False)
    with pytest.raises(Unreadable, match="2 dimensions"):
        load_salient(write_pointwise(tmp_path / "words.onnx", (1, 77), RED, 0.0), runtime=False)
    with pytest.raises(Unreadable, match="onnxruntime"):
        load_salient(write_pointwise(tmp_path / "odd.onnx", (1, 3, 64, 64), RED, 0.0, ("NoSuchLayer",)), runtime=False)
    flat = load_salient(write_pointwise(tmp_path / "flat.onnx", (1, 3, 64, 64), RED, 0.0, ("Flatten",)), runtime=False)
    with pytest.raises(Unreadable, match="not a mask"):
        flat.mask(picture()[0], Seed())
