"""Names in prompts find the embeddings they mean, and what is not found is told in the result."""

import unicodedata
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from studio.diffusion.cache import ModelCache
from studio.formats.embedding import Embedding, embed_in_png, write_embedding
from studio.formats.infotext import read_infotext
from studio.jobs import SilentLane
from studio.requests.generate import GenerateRequest
from studio.services.desk import Desk
from studio.services.generation import run
from studio.settings import Paths

NFD = unicodedata.normalize("NFD", "café")
NFC = unicodedata.normalize("NFC", "café")


@pytest.fixture
def desk(root: Paths, tiny_cache: ModelCache) -> Desk:
    """A desk with three embeddings: of a name with brackets, of one in macOS's form, and in a picture that was renamed."""
    for name in ("foo (v2)", NFD):
        write_embedding(root.embeddings / f"{name}.pt", Embedding(name, torch.randn(2, 128)))
    image, info = embed_in_png(Image.new("RGB", (64, 64), "red"), Embedding(unicodedata.normalize("NFD", "señor"), torch.randn(2, 128)))
    image.save(root.embeddings / "renamed.png", pnginfo=info)
    return Desk(root, tiny_cache)


def painted(desk: Desk, **values: Any) -> tuple[list[str], str]:
    """What a job said, and the embeddings that its infotext names."""
    result = run(GenerateRequest(**{"steps": 1, "seed": 3, "width": 64, "height": 64, "preview_every": 0, **values}), SilentLane(), desk)
    return result["notes"], read_infotext(result["infotexts"][0]).get("TI hashes", "")


@pytest.mark.parametrize(
    ("prompt", "name"),
    [(r"a foo \(v2\)", "foo (v2)"), (r"(FOO \(v2\):1.2)", "foo (v2)"), (f"a {NFC}", NFD), (f"a {NFD}", NFD), ("a señor", unicodedata.normalize("NFD", "señor")), ("a renamed", "renamed")],
)
def test_a_name_finds_its_embedding_escaped_and_in_either_form_of_unicode(desk: Desk, prompt: str, name: str) -> None:
    notes, used = painted(desk, prompt=prompt)
    assert notes == [] and used.startswith(f"{name}: ")


def test_what_a_prompt_does_not_get_is_told_and_the_picture_painted(desk: Desk) -> None:
    notes, used = painted(desk, prompt="a foo (v2) in __colours__", negative_prompt="renamd <lora:ghost:1>", hires=True, hires_scale=1, hires_prompt="rename_d", hires_negative_prompt="FOO_V2")
    assert used == ""
    assert [note.split(".")[0] for note in notes] == [
        "'foo (v2)' in the prompt was not used as the embedding 'foo (v2)'",
        "'__colours__' looks like a wildcard",
        "'renamd' in the prompt was not used as the embedding 'renamed'",
        "<lora:ghost> is in the negative prompt, where networks have no effect; it was read as text",
        "'rename_d' in the prompt was not used as the embedding 'renamed'",
        "'FOO_V2' in the prompt was not used as the embedding 'foo (v2)'",
    ]


def test_hashes_of_the_second_pass_are_written_too(desk: Desk) -> None:
    notes, used = painted(desk, prompt="a cat", hires=True, hires_scale=1, hires_prompt="a renamed cat")
    assert notes == [] and used.startswith("renamed: ")


def test_a_damaged_embedding_is_named_also_with_brackets_in_its_name(desk: Desk) -> None:
    Path(desk.paths.embeddings / "bad [1].pt").write_bytes(b"nonsense")
    with pytest.raises(Exception, match=r"'bad \[1\]' cannot be used"):
        painted(desk, prompt=r"bad \[1\]")
    assert painted(desk, prompt="a badge")[0] == []
