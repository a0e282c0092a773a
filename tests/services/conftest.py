"""What tests of the services share."""

from pathlib import Path

import pytest
from PIL import Image, ImageDraw


@pytest.fixture
def captioned(tmp_path: Path) -> Path:
    """A folder with three pictures and their captions."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, colour in enumerate(["red", "green", "orange"]):
        image = Image.new("RGB", (128, 128), "white")
        ImageDraw.Draw(image).ellipse((20 + 5 * number, 30, 100, 110), fill=colour)
        image.save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"{colour}, round, on white")
    return folder
