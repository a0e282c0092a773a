"""Creating embeddings: what they start from, which names are free, and the file that is written."""

import zipfile
from pathlib import Path

import pytest
import torch

from studio.diffusion.cache import ModelCache
from studio.diffusion.model import Model
from studio.diffusion.tokenizer import tokens_of
from studio.errors import Conflict, InputError, NotFound
from studio.formats.embedding import Embedding, read_embedding, write_embedding
from studio.jobs import SilentLane
from studio.requests.train import CreateEmbeddingRequest
from studio.services.desk import Desk
from studio.services.library import create_embedding, find_embedding, run
from studio.settings import Paths


@pytest.fixture
def desk(root: Paths, tiny_cache: ModelCache) -> Desk:
    """A desk over an empty root."""
    return Desk(root, tiny_cache)


def made(desk: Desk, name: str = "gnarl", **rest: object) -> torch.Tensor:
    """The vectors of an embedding just created, read by torch alone."""
    path = create_embedding(CreateEmbeddingRequest(name=name, **rest), desk)["path"]
    return torch.load(path, weights_only=True)["string_to_param"]["*"]


def rows(model: Model, text: str) -> list[torch.Tensor]:
    """Rows of the token table for a text."""
    return [model.token_table[i].detach() for i in tokens_of(text)]


def test_one_word_fills_every_vector(desk: Desk, tiny: Model) -> None:
    vectors = made(desk, initialization_text="monster", vectors=3)
    (row,) = rows(tiny, "monster")
    assert vectors.shape == (3, tiny.width)
    assert all(torch.equal(v, row) for v in vectors)


def test_two_words_are_spread_evenly_over_five_vectors(desk: Desk, tiny: Model) -> None:
    first, second = rows(tiny, "red monster")
    assert not torch.equal(first, second)
    vectors = made(desk, initialization_text="red monster", vectors=5)
    assert all(torch.equal(v, w) for v, w in zip(vectors, [first, first, first, second, second], strict=True))


def test_as_many_words_as_vectors_stand_in_their_order(desk: Desk, tiny: Model) -> None:
    wanted = rows(tiny, "a red round monster")
    vectors = made(desk, initialization_text="a red round monster", vectors=4)
    assert torch.equal(vectors, torch.stack(wanted))


@pytest.mark.parametrize("text", ["", "   "])
def test_an_empty_initialization_text_gives_zeros(desk: Desk, tiny: Model, text: str) -> None:
    vectors = made(desk, initialization_text=text, vectors=2)
    assert torch.equal(vectors, torch.zeros(2, tiny.width))


def test_a_text_that_is_too_long_keeps_its_first_words_and_tells_what_was_dropped(desk: Desk, tiny: Model, lane: SilentLane) -> None:
    result = run(CreateEmbeddingRequest(name="gnarl", initialization_text="red round monster with horns", vectors=2), lane, desk)
    assert result["dropped"] == "monster with horns"
    assert torch.equal(read_embedding(Path(result["path"])).vectors, torch.stack(rows(tiny, "red round")))
    warnings = [data["text"] for kind, data in lane.events if kind == "warning"]
    assert len(warnings) == 1
    assert "2 vectors" in warnings[0]
    assert "monster with horns" in warnings[0]
    assert ("saved", {"path": result["path"]}) in lane.events


def test_a_text_that_fits_warns_of_nothing(desk: Desk, lane: SilentLane) -> None:
    result = run(CreateEmbeddingRequest(name="gnarl", initialization_text="red monster", vectors=2), lane, desk)
    assert result["dropped"] == ""
    assert [kind for kind, _ in lane.events] == ["saved"]


def test_the_file_has_the_layout_of_a1111(desk: Desk, tiny: Model) -> None:
    path = Path(create_embedding(CreateEmbeddingRequest(name="gnarl", vectors=2), desk)["path"])
    assert path == desk.paths.embeddings / "gnarl.pt"
    assert not zipfile.is_zipfile(path)
    data = torch.load(path, weights_only=True)
    assert data["string_to_token"] == {"*": 265}
    assert list(data["string_to_param"]) == ["*"]
    assert data["string_to_param"]["*"].dtype == torch.float32
    assert data["string_to_param"]["*"].shape == (2, tiny.width)
    assert not data["string_to_param"]["*"].requires_grad
    assert data["name"] == "gnarl"
    assert data["step"] is None
    assert data["sd_checkpoint"] is None
    assert data["sd_checkpoint_name"] is None


def test_a_taken_name_is_refused_and_the_file_stays(desk: Desk) -> None:
    path = Path(create_embedding(CreateEmbeddingRequest(name="gnarl", initialization_text="red"), desk)["path"])
    before = path.read_bytes()
    with pytest.raises(Conflict, match="Name: 'gnarl' is taken"):
        create_embedding(CreateEmbeddingRequest(name="gnarl", initialization_text="blue"), desk)
    assert path.read_bytes() == before


def test_a_taken_name_is_replaced_when_overwriting_was_ticked(desk: Desk, tiny: Model) -> None:
    made(desk, initialization_text="red", vectors=4)
    vectors = made(desk, initialization_text="blue", vectors=1, overwrite=True)
    assert torch.equal(vectors, torch.stack(rows(tiny, "blue")))


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_name_that_differs_only_in_letter_case_is_refused(desk: Desk, overwrite: bool) -> None:
    made(desk, "Gnarl")
    with pytest.raises(Conflict, match=r"Gnarl\.pt"):
        create_embedding(CreateEmbeddingRequest(name="gnarl", overwrite=overwrite), desk)
    assert [p.name for p in desk.paths.embeddings.iterdir()] == ["Gnarl.pt"]


@pytest.mark.parametrize("taken", ["gnarl.safetensors", "style/gnarl.pt"])
def test_the_same_word_under_another_suffix_or_in_a_subfolder_is_refused(desk: Desk, taken: str) -> None:
    path = desk.paths.embeddings / taken
    path.parent.mkdir(exist_ok=True)
    write_embedding(path, Embedding("gnarl", torch.ones(1, 768)))
    with pytest.raises(Conflict):
        create_embedding(CreateEmbeddingRequest(name="gnarl", overwrite=True), desk)


def test_nothing_is_written_when_the_checkpoint_does_not_exist(desk: Desk) -> None:
    with pytest.raises(NotFound, match="no-such"):
        create_embedding(CreateEmbeddingRequest(name="gnarl", checkpoint="no-such"), desk)
    assert list(desk.paths.embeddings.iterdir()) == []


def test_an_embedding_is_found_whatever_its_letter_case(desk: Desk) -> None:
    made(desk, "Gnarl")
    assert find_embedding(desk.paths, "gnarl").name == "Gnarl.pt"
    assert find_embedding(desk.paths, "Gnarl").name == "Gnarl.pt"


def test_a_missing_embedding_is_told_by_name(desk: Desk) -> None:
    with pytest.raises(NotFound, match=r"'gnarl' in embeddings\. Create it first"):
        find_embedding(desk.paths, "gnarl")


@pytest.mark.parametrize("name", ["", "../out", "a/b", "nul", "x" * 200, ".hidden", "a\\b"])
def test_a_name_that_cannot_be_a_file_is_refused_with_its_label(name: str) -> None:
    with pytest.raises(InputError, match=r"^Name: "):
        CreateEmbeddingRequest.check({"name": name})


def test_a_name_outside_ascii_is_a_file_like_any_other(desk: Desk) -> None:
    made(desk, "møñster-獣")
    found = find_embedding(desk.paths, "møñster-獣")
    assert read_embedding(found).name == "møñster-獣"
