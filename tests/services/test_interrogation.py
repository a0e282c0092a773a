"""One picture is put into words by any captioner that is there, or the lack of it is told."""

from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from studio.dataset.captioners import load_blip, load_tagger, wanted
from studio.diffusion.cache import ModelCache
from studio.errors import InputError, NotFound, Unreadable
from studio.jobs import SilentLane
from studio.requests.interrogate import InterrogateRequest
from studio.services import interrogation
from studio.services.desk import Desk
from studio.settings import Paths
from tests.dataset.captioners.small import write_clip

CPU = torch.device("cpu")


@pytest.fixture
def desk(root: Paths) -> Desk:
    """A worker's desk without a GPU."""
    return Desk(root, ModelCache(root, device="cpu"))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A red disc on white."""
    drawn = Image.new("RGB", (128, 128), "white")
    ImageDraw.Draw(drawn).ellipse((20, 20, 100, 100), fill="red")
    drawn.save(tmp_path / "disc.png")
    return tmp_path / "disc.png"


def ask(desk: Desk, lane: SilentLane, image: Path, captioner: str = "BLIP", **more: object) -> str:
    """What is said."""
    return interrogation.run(InterrogateRequest(image=str(image), captioner=captioner, **more), lane, desk)["caption"]


def test_each_captioner_says_what_it_says_alone_and_several_are_joined(desk: Desk, lane: SilentLane, image: Path) -> None:
    with Image.open(image) as picture:
        sentence = load_blip(wanted(desk.paths, ["BLIP"])[0].path, CPU).caption(picture.convert("RGB"), 0.5)
        tags = load_tagger(wanted(desk.paths, ["DeepBooru"])[0].path, CPU).caption(picture.convert("RGB"), 0.3)
    assert sentence
    assert ask(desk, lane, image) == ask(desk, lane, image, "blip: tiny-blip") == sentence
    assert ask(desk, lane, image, "DeepBooru", threshold=0.3) == tags
    assert ask(desk, lane, image, "DeepBooru, BLIP", threshold=0.3) == ", ".join(filter(None, (sentence, tags)))
    assert ask(desk, lane, image, trigger="ohwx") == f"ohwx, {sentence}"


def test_the_clip_interrogator_puts_blips_sentence_before_its_phrases(desk: Desk, lane: SilentLane, image: Path) -> None:
    write_clip(desk.paths.models / "CLIP" / "small")
    sentence = ask(desk, lane, image)
    whole = ask(desk, lane, image, "CLIP interrogator")
    assert whole.startswith(f"{sentence}, by ")
    assert len(whole.removeprefix(f"{sentence}, ").split(", ")) == 4
    assert ask(desk, lane, image, "BLIP, CLIP interrogator") == whole
    assert (desk.paths.outputs / "cache" / "phrases").is_dir()


def test_progress_names_who_speaks(desk: Desk, lane: SilentLane, image: Path) -> None:
    caption = ask(desk, lane, image, "BLIP, DeepBooru")
    assert [data["text"] for kind, data in lane.events if kind == "progress"] == ["BLIP: tiny-blip", "DeepBooru: model-resnet_custom_v3.pt", caption]
    assert [data["step"] for kind, data in lane.events if kind == "progress"] == [0, 1, 2]


def test_what_cannot_be_is_told_in_words(desk: Desk, lane: SilentLane, image: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"'oracle'.*BLIP: tiny-blip"):
        ask(desk, lane, image, "oracle")
    with pytest.raises(NotFound, match=r"models/Florence-2"):
        ask(desk, lane, image, "Florence-2")
    with pytest.raises(InputError, match="names none"):
        ask(desk, lane, image, " , ")
    (tmp_path / "words.png").write_text("no picture")
    with pytest.raises(Unreadable, match=r"words\.png"):
        ask(desk, lane, tmp_path / "words.png")
