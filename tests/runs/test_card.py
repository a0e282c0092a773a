"""Recipe cards: out of one studio and into another, as zip and as picture, with what is missing said and nothing trusted."""

import io
import json
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from studio.errors import InputError, Unreadable
from studio.requests.train import TextualInversionConfig, config_class
from studio.runs import card, chunks
from studio.settings import Paths
from tests.runs.folders import full, png

RUN = "2026-01-02-hero-abc"


@pytest.fixture
def run(root: Paths) -> Path:
    return full(root.runs / RUN, data="/home/me/secret/hero-photos", shuffle_tags=True)


@pytest.mark.parametrize("kind", ["zip", "png"])
def test_a_card_comes_in_as_the_same_form(root: Paths, run: Path, tmp_path: Path, kind: str) -> None:
    made = tmp_path / f"card.{kind}"
    made.write_bytes(card.as_zip(root, RUN) if kind == "zip" else card.as_png(root, RUN))
    assert b"secret" not in made.read_bytes()
    other = Paths(tmp_path / "other").prepare()
    found = card.import_card(other, made)
    expected = {"embedding": "hero", "learn_rate": "0.005", "steps": 100, "preview_prompt": "a [name]", "preview_seed": 7, "shuffle_tags": True}
    assert found["values"] == expected and found["recipe"]["template"] == ["a photo of [name]"]
    words = " ".join(found["notes"])
    assert all(part in words for part in ("tiny.safetensors", "ababababab", "'hero'", "'hero-photos'")), words
    (other.datasets / "hero-photos").mkdir()
    (other.embeddings / "hero.pt").write_bytes(b"")
    (other.checkpoints / "tiny.safetensors").write_bytes(b"")
    again = card.import_card(other, made)
    assert again["notes"] == [] and again["values"] == {**expected, "data": str(other.datasets / "hero-photos"), "checkpoint": "tiny.safetensors"}
    TextualInversionConfig.check(again["values"])
    assert "cdcdcdcdcd" in card.import_card(other, made, hashes={"tiny.safetensors": "cd" * 5})["notes"][0]


def test_a_picture_with_a_recipe_is_still_a_picture(root: Paths, run: Path) -> None:
    data = card.as_png(root, RUN)
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        assert picture.getpixel((0, 0)) == (20, 0, 0), "the preview of the best step"
        assert json.loads(picture.text["studio-recipe"])["name"] == "hero"
    twice = chunks.with_text(data, "studio-recipe", "第二")
    assert chunks.text_of(twice, "studio-recipe") == "第二" and twice.count(b"studio-recipe") == 1


def test_a_zip_holds_the_best_weights_and_the_pictures_only_when_asked(root: Paths, run: Path, tmp_path: Path) -> None:
    names = zipfile.ZipFile(io.BytesIO(card.as_zip(root, RUN))).namelist()
    assert {"recipe.json", "curve.csv", "template.json", "preview.png", "embeddings/hero-best.pt"} <= set(names) and "config.json" not in names
    place = tmp_path / "pictures"
    place.mkdir()
    (place / "a.png").write_bytes(png())
    (place / "a.txt").write_text("a caption")
    (run / "config.json").write_text((run / "config.json").read_text().replace("/home/me/secret/hero-photos", str(place)))
    assert {"data/a.png", "data/a.txt"} <= set(zipfile.ZipFile(io.BytesIO(card.as_zip(root, RUN, pictures=True))).namelist())


def packed(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as pack:
        pack.writestr(name, data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"nothing", "not a zip"),
        (packed("other.json", b"{}"), "no recipe"),
        (packed("../recipe.json", b"{}"), "no recipe"),
        (packed("recipe.json", b"{"), "damaged"),
        (packed("recipe.json", b"[" * 100_000), "damaged"),
        (packed("recipe.json", b'{"format": 99, "config": {}}'), "not one that is understood"),
        (packed("recipe.json", b" " * (5 * 2**20)), "larger than 4 MB"),
        (png(), "no recipe"),
        (png()[:-9], "cut off"),
        (chunks.with_text(png(), "studio-recipe", " " * (5 * 2**20)), "more than 4 MB"),
        (chunks.with_text(png(), "studio-recipe", "{}").replace(b"studio-recipe", b"studio-rec\0pe"), "damaged"),
    ],
    ids=["no zip", "empty zip", "outside", "half", "deep", "newer", "bomb", "plain png", "cut png", "png bomb", "hurt png"],
)
def test_what_is_no_card_is_refused_in_words(root: Paths, tmp_path: Path, data: bytes, words: str) -> None:
    file = tmp_path / "card"
    file.write_bytes(data)
    with pytest.raises(Unreadable, match=words):
        card.import_card(root, file)


def test_settings_that_cannot_be_are_left_out_and_told(root: Paths, tmp_path: Path) -> None:
    known = {"format": 1, "method": "textual_inversion", "config": {"steps": -4, "learn_rate": "0.1", "from_the_future": True, "batch_size": "two"}}
    (tmp_path / "card").write_bytes(packed("recipe.json", json.dumps(known).encode()))
    found = card.import_card(root, tmp_path / "card")
    assert found["values"] == {"learn_rate": "0.1"}
    assert [word for word in ("Steps", "from_the_future", "Batch size") if word not in " ".join(found["notes"])] == []
    with pytest.raises(InputError):
        TextualInversionConfig.check(found["values"])


@pytest.mark.parametrize(
    ("method", "knobs"),
    [
        ("lora", {"name": "hero", "trigger": "hro", "rank": 4, "start_from": "older"}),
        ("hypernetwork", {"name": "hero", "modules": ["768", "320"]}),
        ("dreambooth", {"name": "hero", "prior": "class pictures", "class_word": "man"}),
    ],
)
def test_a_card_of_another_method_comes_in_as_that_method(root: Paths, run: Path, tmp_path: Path, method: str, knobs: dict[str, object]) -> None:
    noted = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**noted, "method": method, "config": {"data": "/home/me/hero-photos", "steps": 9, **knobs}}))
    (tmp_path / "card").write_bytes(card.as_png(root, RUN))
    found = card.import_card(root, tmp_path / "card")
    begun = {name: value for name, value in knobs.items() if name != "start_from"}
    assert (found["method"], found["values"]) == (method, {"steps": 9, **begun})
    assert [note for note in found["notes"] if "embedding" in note] == []
    assert any("'older'" in note for note in found["notes"]) is ("start_from" in knobs)
    config_class(method).check({**found["values"], "data": "x"})


def test_a_card_takes_along_what_belongs_together_unless_it_is_too_large(root: Paths, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted = json.loads((run / "config.json").read_text())
    shelves = {".safetensors": "models/Lora/hero.safetensors", ".pt": "embeddings/hero.pt"}
    (run / "config.json").write_text(json.dumps({**noted, "method": "together", "config": {"name": "hero", "data": "x"}, "facts": {**noted["facts"], "shelves": shelves}}))
    (run / "embeddings/hero-20.safetensors").write_bytes(b"beside the word")
    (run / "best.json").unlink()

    def held() -> set[str]:
        return {name for name in zipfile.ZipFile(io.BytesIO(card.as_zip(root, RUN))).namelist() if name.startswith("embeddings/")}

    assert held() == {"embeddings/hero-20.safetensors", "embeddings/hero-20.pt"}
    monkeypatch.setattr(card, "MOST_WEIGHTS", 20)
    assert held() == set()
