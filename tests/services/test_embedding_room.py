"""The embedding room on the tiny world: figures that can be worked out by hand, and edits that lose nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from studio import embedding_shelf as shelf
from studio import shelves
from studio.diffusion.cache import ModelCache
from studio.diffusion.model import Model
from studio.diffusion.tokenizer import tokens_of
from studio.errors import Conflict, InputError, StudioError, Unreadable
from studio.formats.embedding import Embedding, read_embedding, write_embedding
from studio.formats.embedding_writing import write_layout
from studio.jobs import JobStore, SilentLane
from studio.requests.embedding_room import EditEmbeddingRequest, InspectEmbeddingRequest
from studio.services.desk import Desk
from studio.services.embedding_room import edit_embedding, inspect_embedding, nearest_words, run
from studio.settings import Paths
from studio.training.run import Checkpoint, Run


@pytest.fixture
def desk(root: Paths, tiny_cache: ModelCache) -> Desk:
    """A desk over an empty root."""
    return Desk(root, tiny_cache)


def put(desk: Desk, name: str, vectors: torch.Tensor, suffix: str = ".pt") -> Path:
    path = desk.paths.embeddings / f"{name}{suffix}"
    write_embedding(path, Embedding(name, vectors, 40, "0123456789", "tiny"))
    return path


def row(model: Model, word: str) -> torch.Tensor:
    """A word's own row of the token table."""
    return model.token_table[tokens_of(word)[0]].detach().float().clone()


def edit(desk: Desk, **values: Any) -> dict[str, Any]:
    return edit_embedding(EditEmbeddingRequest.check(values), desk)


def refused(desk: Desk, error: type[StudioError], words: str, **values: Any) -> None:
    """An edit that is refused and changes nothing."""
    before = {p.name: p.read_bytes() for p in desk.paths.embeddings.iterdir()}
    with pytest.raises(error, match=words):
        edit(desk, **values)
    assert {p.name: p.read_bytes() for p in desk.paths.embeddings.iterdir()} == before


def test_the_room_knows_lengths_nearest_words_likeness_and_the_way_from_the_start(desk: Desk, tiny: Model) -> None:
    monster, red = row(tiny, "monster"), row(tiny, "red")
    vectors = torch.stack([monster * 3, red, torch.zeros_like(red)])
    put(desk, "hero two", vectors)
    folder = Run.open(desk.paths.runs, "hero two", "job1")
    start = torch.stack([monster, red + 3, red])
    folder.note("config", {"config": {"embedding": "hero two"}})
    folder.save(Checkpoint(5, {"vectors": vectors, "start": start}, {}))
    told = inspect_embedding(InspectEmbeddingRequest(name="hero two"), desk)
    json.dumps(told, allow_nan=False)
    (encoder,) = told["encoders"]
    assert (told["vectors"], told["width"], told["fits"], told["step"], told["trained_on"]) == (3, tiny.width, True, 40, "tiny")
    assert encoder["norms"] == pytest.approx([float(monster.norm()) * 3, float(red.norm()), 0.0], abs=1e-3)
    assert encoder["median"] == pytest.approx(float(tiny.token_table.norm(dim=1).median()), rel=1e-3)
    assert [found[0] for found in encoder["nearest"][:2]] == [{"word": "monster", "cosine": 1.0}, {"word": "red", "cosine": 1.0}]
    assert [len(found) for found in encoder["nearest"]] == [5, 5, 5]
    assert [told["similarity"][i][i] for i in range(3)] == [1.0, 1.0, 0.0]
    assert told["similarity"][0][1] == told["similarity"][1][0] == pytest.approx(float(torch.cosine_similarity(monster, red, 0)), abs=1e-3)
    assert told["start"]["run"] == folder.folder.name
    assert told["start"]["distance"] == pytest.approx([float(monster.norm()) * 2, 3 * tiny.width**0.5, float(red.norm())], rel=1e-3)
    assert told["start"]["cosine"][0] == 1.0 and told["start"]["cosine"][2] == 0.0


def test_nearest_words_are_those_of_a_plain_search_over_the_whole_table(tiny: Model) -> None:
    vectors = torch.randn(2, tiny.width, generator=torch.Generator().manual_seed(3))
    table = tiny.token_table.detach().float()
    plain = torch.stack([torch.cosine_similarity(vector[None], table[:49406], 1) for vector in vectors]).topk(7, 1).values
    found = nearest_words(table, vectors, 7)
    assert torch.allclose(torch.tensor([[one["cosine"] for one in words] for words in found]), plain, atol=1e-4)


def test_an_embedding_of_another_family_has_a_verdict_and_what_can_be_said_without_its_words(desk: Desk) -> None:
    put(desk, "old", torch.ones(2, 768))
    put(desk, "two", torch.ones(1, 1024))
    put(desk, "xl", torch.cat([torch.full((1, 768), 1.0), torch.full((1, 1280), 2.0)], 1), ".safetensors")
    for name, family, count in (("old", "SD 1.x", 1), ("two", "SD 2.x", 1), ("xl", "SDXL", 2)):
        told = inspect_embedding(InspectEmbeddingRequest(name=name), desk)
        assert (told["fits"], told["family"], len(told["encoders"]), told["encoders"][0]["nearest"]) == (False, family, count, [])
        assert "cannot be used" in told["verdict"] and f"for {family}" in told["verdict"]
    torch.save({"string_to_param": {"*": torch.full((1, 8), float("nan"))}}, desk.paths.embeddings / "spoilt.pt")
    with pytest.raises(Unreadable, match="1 of 1 vectors hold NaN"):
        inspect_embedding(InspectEmbeddingRequest(name="spoilt"), desk)


def test_pruning_keeps_the_chosen_vectors_and_the_old_file_can_be_brought_back(desk: Desk, lane: SilentLane) -> None:
    vectors = torch.arange(12.0).reshape(3, 4)
    path = put(desk, "hero", vectors)
    before = path.read_bytes()
    refused(desk, Conflict, "taken by hero.pt.*Replace", act="prune", names=["hero"], keep=[1])
    refused(desk, InputError, "has 3 vectors, and there is no number 4", act="prune", names=["hero"], keep=[4], result="x")
    made = run(EditEmbeddingRequest(act="prune", names=("hero",), keep=(3, 1), replace=True), lane, desk)
    assert ("saved", {"path": str(path)}) in lane.events
    assert torch.equal(read_embedding(path).vectors, vectors[[2, 0]])
    assert (read_embedding(path).step, read_embedding(path).checkpoint_name) == (40, "tiny")
    shelf.delete(desk.paths, "hero")
    shelf.restore(desk.paths, made["trash"])
    assert path.read_bytes() == before


def test_merging_joins_or_averages_and_says_why_it_cannot(desk: Desk) -> None:
    one, two = torch.full((2, 4), 1.0), torch.full((2, 4), 5.0)
    put(desk, "one", one)
    put(desk, "two", two)
    put(desk, "long", torch.ones(74, 4))
    put(desk, "wide", torch.ones(2, 6))
    joined = edit(desk, act="merge", names=["two", "one"], result="both")
    assert torch.equal(read_embedding(Path(joined["path"])).vectors, torch.cat([two, one])) and joined["trash"] == ""
    mean = edit(desk, act="merge", names=["one", "two"], how="average", weights=[3, 1], result="mean")
    back = read_embedding(Path(mean["path"]))
    assert back.vectors.unique().tolist() == [2.0] and (back.step, back.checkpoint_name) == (None, "tiny")
    refused(desk, InputError, "widths: 'one' 4, 'wide' 6", act="merge", names=["one", "wide"], result="x")
    refused(desk, InputError, "76 vectors, and a prompt has 75", act="merge", names=["one", "long"], result="x")
    refused(desk, InputError, "'one' 2, 'long' 74", act="merge", names=["one", "long"], how="average", result="x")
    refused(desk, InputError, "sum is 0", act="merge", names=["one", "two"], how="average", weights=[1, -1], result="x")


def test_converting_writes_each_layout_and_overwrites_nothing(desk: Desk, tmp_path: Path) -> None:
    vectors = torch.linspace(-1, 1, 768 * 2).reshape(2, 768)
    path = put(desk, "hero", vectors)
    for layout in ("safetensors", "png", "diffusers", "pt", "png"):
        made = edit(desk, names=["hero"], layout=layout, shelf=False)
        assert Path(made["path"]).is_relative_to(desk.paths.outputs / "exports" / "embeddings")
        assert torch.equal(read_embedding(Path(made["path"])).vectors, vectors)
    assert made["path"].endswith("2/hero.png")
    assert [p.name for p in desk.paths.embeddings.iterdir()] == ["hero.pt"]
    refused(desk, InputError, "cannot be scaled to SDXL", names=["hero"], layout="safetensors", family="SDXL", result="x")
    refused(desk, InputError, "Picture: 'no.png' is not a file", names=["hero"], layout="png", picture="no.png", result="x")
    made = edit(desk, names=["hero"], layout="safetensors", replace=True)
    assert [p.name for p in desk.paths.embeddings.iterdir()] == ["hero.safetensors"]
    (tmp_path / "bad.png").write_bytes(b"no picture")
    refused(desk, Unreadable, "not a picture", names=["hero"], layout="png", picture=str(tmp_path / "bad.png"), replace=True)
    shelf.delete(desk.paths, "hero")
    shelf.restore(desk.paths, made["trash"])
    assert path.exists()


def test_what_is_being_trained_is_not_replaced(desk: Desk) -> None:
    put(desk, "hero", torch.ones(2, 4))
    JobStore(desk.paths.database).submit("train", {"config": {"embedding": "hero"}})
    refused(desk, Conflict, "a training of it is queued", act="prune", names=["hero"], keep=[1], replace=True)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"names": []}, "Names"),
        ({"names": ["a", "b"]}, "convert takes one"),
        ({"act": "merge", "names": ["a"]}, "at least two"),
        ({"act": "prune", "names": ["a"]}, "at least one vector"),
        ({"act": "prune", "names": ["a"], "keep": [0]}, "counted from 1"),
        ({"act": "merge", "names": ["a", "b"], "weights": [1]}, "1 are given for 2"),
        ({"names": ["a"], "layout": "diffusers"}, "cannot lie on the shelf"),
        ({"names": ["a"], "result": "../x"}, "Result: a name cannot hold '/'"),
    ],
)
def test_an_edit_that_makes_no_sense_is_refused_at_the_door(values: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        EditEmbeddingRequest.check(values)


def test_every_file_of_a_mixed_shelf_has_a_verdict_and_the_good_ones_load(desk: Desk, tiny: Model) -> None:
    folder, good = desk.paths.embeddings, torch.ones(2, tiny.width)
    put(desk, "two words", good)
    put(desk, "møñster 獣", good, ".safetensors")
    write_layout(folder, Embedding("shared", good, 40), "png")
    put(desk, "sd2", torch.ones(1, 1024))
    put(desk, "full", torch.ones(75, tiny.width))
    (folder / "empty.pt").write_bytes(b"")
    torch.save({"string_to_param": {"*": torch.full((1, tiny.width), float("nan"))}}, folder / "spoilt.pt")
    torch.save({"string_to_param": {"*": torch.ones(76, tiny.width)}}, folder / "long.pt")
    verdicts = {}
    for path in shelves.embedding_files(desk.paths):
        try:
            verdicts[path.stem] = inspect_embedding(InspectEmbeddingRequest(name=path.stem, nearest=1), desk)["verdict"]
        except Unreadable as error:
            verdicts[path.stem] = error.message
    for name in ("two words", "møñster 獣", "shared", "full"):
        assert verdicts.pop(name) == f"It can be used with {tiny.checkpoint}."
        assert torch.equal(desk.words(f"a photo of {name}")[name][0], good[0])
    said = {"sd2": "which are for SD 2.x", "empty": "empty (0 bytes)", "spoilt": "NaN", "long": "76 vectors; a prompt has 75"}
    assert {name: words in verdicts[name] for name, words in said.items()} == dict.fromkeys(verdicts, True)
