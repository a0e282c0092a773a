"""The shelf of embeddings: nothing is lost by renaming, copying, deleting or bringing back, and what a training uses stays."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from studio import embedding_shelf as shelf
from studio import shelves
from studio.engine import Engine
from studio.errors import Conflict, InputError, NotFound, StudioError
from studio.formats.embedding import Embedding, read_embedding, write_embedding
from studio.jobs import JobStore
from studio.settings import Paths


def put(root: Paths, name: str = "hero", suffix: str = ".pt", folder: str = "", value: float = 1.0) -> Path:
    path = root.embeddings / folder / f"{name}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_embedding(path, Embedding(name, torch.full((2, 8), value), 7))
    return path


def everything(root: Paths) -> dict[str, bytes]:
    """Every file of the shelf."""
    return {p.relative_to(root.embeddings).as_posix(): p.read_bytes() for p in root.embeddings.rglob("*") if p.is_file()}


def test_what_lies_beside_an_embedding_goes_with_it_and_comes_back(root: Paths) -> None:
    put(root, folder="people")
    for name in ("hero.pt.optim", "hero.preview.png", "hero.png", "hero2.txt"):
        (root.embeddings / "people" / name).write_bytes(name.encode())
    before = everything(root)
    gone = shelf.delete(root, "HERO")
    assert (gone.name, list(everything(root)), shelves.embedding_files(root)) == ("hero", ["people/hero2.txt"], [])
    assert shelf.trashed(root) == [gone]
    assert shelf.restore(root, gone.id) == {"name": "hero", "path": str(root.embeddings / "people" / "hero.pt")}
    assert (everything(root), shelf.trashed(root)) == (before, [])
    told = shelf.rename(root, "hero", "Heroine 二")
    assert (told["before"], "'Heroine 二' in prompts" in told["note"]) == ("hero", True)
    renamed = {name.replace("people/hero.", "people/Heroine 二."): content for name, content in before.items()}
    assert everything(root) == renamed
    shelf.rename(root, "Heroine 二", "heroine 二")
    assert read_embedding(shelf.file_of(root, "heroine 二")).step == 7
    shelf.duplicate(root, "heroine 二", "twin")
    assert everything(root)["people/twin.pt"] == before["people/hero.pt"] and len(everything(root)) == 9


def test_the_second_half_of_a_pair_stays_with_the_first(root: Paths) -> None:
    for name, width in (("xl", 768), ("xl_2", 1280)):
        save_file({"<xl>": torch.ones(1, width)}, root.embeddings / f"{name}.safetensors")
    save_file({"<other>": torch.ones(1, 768)}, root.embeddings / "other_2.safetensors")
    save_file({"<other>": torch.ones(1, 768)}, root.embeddings / "other.safetensors")
    shelf.rename(root, "xl", "sdxl")
    shelf.rename(root, "other", "another")
    assert sorted(everything(root)) == ["another.safetensors", "other_2.safetensors", "sdxl.safetensors", "sdxl_2.safetensors"]
    assert read_embedding(root.embeddings / "sdxl.safetensors").width == 2048


def test_a_name_that_is_taken_is_taken_whatever_its_case_suffix_or_folder(root: Paths) -> None:
    put(root)
    put(root, "Villain", ".safetensors", "people")
    before = everything(root)
    for act in (shelf.rename, shelf.duplicate):
        with pytest.raises(Conflict, match="Villain"):
            act(root, "hero", "villain")
        for bad in ("", "../x", "a/b", "nul", "a:b"):
            with pytest.raises(InputError, match="Name: "):
                act(root, "hero", bad)
    with pytest.raises(InputError, match="called 'hero' already"):
        shelf.rename(root, "hero", "hero")
    (root.embeddings / "free.pt.optim").write_bytes(b"of something else")
    (root.embeddings / "hero.pt.optim").write_bytes(b"ours")
    with pytest.raises(Conflict, match=r"free.pt.optim exists"):
        shelf.rename(root, "hero", "free")
    assert {name: content for name, content in everything(root).items() if ".optim" not in name} == before
    first = shelf.delete(root, "hero")
    put(root, value=2.0)
    with pytest.raises(Conflict, match="taken"):
        shelf.restore(root, first.id)
    second = shelf.delete(root, "hero")
    assert {one.id for one in shelf.trashed(root)} == {first.id, second.id}
    shelf.restore(root, first.id)
    assert read_embedding(root.embeddings / "hero.pt").vectors.max() == 1.0


def test_what_a_training_uses_or_waits_for_stays(root: Paths) -> None:
    put(root)
    store = JobStore(root.database)
    job = store.submit("train", {"config": {"embedding": "Hero"}})
    for act in (lambda: shelf.delete(root, "hero"), lambda: shelf.rename(root, "hero", "other")):
        with pytest.raises(Conflict, match="a training of it is queued"):
            act()
    shelf.duplicate(root, "hero", "other")
    Engine(root).ask(job, "stop")
    store.delete(job)
    shelf.delete(root, "hero")


@pytest.mark.parametrize("name", ["", "..", "../../x", ".hidden", "a\\b", "nothing~20260101-000000"])
def test_only_what_is_in_the_trash_comes_back(root: Paths, name: str) -> None:
    shelf.delete(root, put(root).stem)
    with pytest.raises(NotFound, match="in the trash"):
        shelf.restore(root, name)


def test_a_file_that_a_run_replaced_comes_back_too_and_a_forged_note_leads_nowhere(root: Paths, tmp_path: Path) -> None:
    trash = root.outputs / "trash" / "embeddings"
    trash.mkdir(parents=True)
    put(root).rename(trash / "hero~20260102-030405.pt")
    assert [one.name for one in shelf.trashed(root)] == ["hero"]
    assert shelf.restore(root, "hero~20260102-030405.pt")["path"] == str(root.embeddings / "hero.pt")
    gone = shelf.delete(root, "hero")
    (trash / gone.id / shelf.WHERE).write_text('{"file": "hero.pt", "folder": "../../.."}')
    assert shelf.restore(root, gone.id)["path"] == str(root.embeddings / "hero.pt")


def test_a_disk_that_refuses_is_told_and_everything_stays(root: Paths) -> None:
    put(root)
    (root.outputs / "trash").write_text("a file where the folder should be")
    with pytest.raises(StudioError, match="'hero' was not deleted"):
        shelf.delete(root, "hero")
    assert list(everything(root)) == ["hero.pt"]
