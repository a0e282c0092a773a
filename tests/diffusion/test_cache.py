"""What the model cache keeps, lends and drops."""

import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from studio.diffusion.cache import ModelCache
from studio.errors import NotFound, Unreadable
from studio.settings import SHIPPED_ROOT, Paths

ONE = 4000
"""Bytes of one part."""


class Shelf:
    """A cache and a few parts of 4000 bytes, each with a file; counts how often each was read."""

    def __init__(self, folder: Path, budget: int) -> None:
        self.folder = folder
        self.cache = ModelCache(Paths(folder), device="cpu", budget_bytes=budget)
        self.reads: list[str] = []

    def lend(self, name: str, kind: str = "part") -> object:
        """A part by name."""
        path = self.folder / name
        if not path.exists():
            path.write_text(name)
        return self.cache.lend_part(kind, path, lambda: self.read(name))

    def read(self, name: str) -> torch.nn.Module:
        """A part, newly made."""
        self.reads.append(name)
        return torch.nn.Linear(ONE // 4, 1, bias=False)

    def use(self, *names: str) -> None:
        """Lend and give back, one after the other."""
        for name in names:
            with self.lend(name):
                pass

    def names(self) -> list[str]:
        """What is resident, least recently used first."""
        return [name for name, _, _ in self.cache.resident()]


@pytest.fixture
def shelf(tmp_path: Path) -> Callable[[float], Shelf]:
    """A shelf that holds so many parts."""
    return lambda parts: Shelf(tmp_path, int(parts * ONE))


@pytest.fixture
def copied(root: Paths) -> Path:
    """A checkpoint folder of one's own."""
    folder = root.checkpoints / "mine"
    shutil.copytree(SHIPPED_ROOT / "models" / "Stable-diffusion" / "tiny-world", folder)
    return folder


def test_the_same_model_object_is_lent_while_it_is_resident(tiny_cache: ModelCache, tiny: object) -> None:
    with tiny_cache.lend("") as one, tiny_cache.lend("tiny-world") as two:
        assert one is two is tiny
    assert tiny_cache.resident()[-1][0] == "tiny-world"


def test_a_models_size_is_the_bytes_of_its_tensors(tiny_cache: ModelCache, tiny: object) -> None:
    tensors = [t for m in (tiny.unet, tiny.vae, tiny.text_encoder) for t in (*m.parameters(), *m.buffers())]
    assert {name: size for name, size, _ in tiny_cache.resident()}["tiny-world"] == sum(t.numel() * t.element_size() for t in tensors)


def test_a_name_that_is_not_on_the_shelf_is_told_in_words(tiny_cache: ModelCache) -> None:
    with pytest.raises(NotFound) as caught, tiny_cache.lend("nothing"):
        pass
    assert "'nothing'" in caught.value.message
    assert "tiny-world" in caught.value.hint


def test_a_part_is_read_once_while_it_is_resident(shelf: Callable[[float], Shelf]) -> None:
    it = shelf(3)
    with it.lend("a") as one:
        pass
    with it.lend("a") as two, it.lend("a") as three:
        assert one is two is three
    assert it.reads == ["a"]
    assert it.cache.resident() == [("a", ONE, "cpu")]


def test_the_least_recently_used_part_is_dropped_first(shelf: Callable[[float], Shelf]) -> None:
    it = shelf(2)
    it.use("a", "b", "a", "c")
    assert it.names() == ["a", "c"]
    it.use("b")
    assert it.names() == ["c", "b"]
    assert it.reads == ["a", "b", "c", "b"]


def test_parts_that_just_fit_all_stay(shelf: Callable[[float], Shelf]) -> None:
    it = shelf(3)
    it.use("a", "b", "c")
    assert it.names() == ["a", "b", "c"]


def test_what_is_lent_is_never_dropped(shelf: Callable[[float], Shelf]) -> None:
    it = shelf(1)
    with it.lend("a") as one:
        it.use("b", "c")
        assert "a" in it.names()
        with it.lend("a") as again:
            assert again is one
        it.use("e")
        assert "a" in it.names()
    assert it.reads.count("a") == 1


def test_two_lent_parts_may_exceed_the_budget_and_one_goes_when_both_are_back(shelf: Callable[[float], Shelf]) -> None:
    it = shelf(1)
    with it.lend("a"), it.lend("b"):
        assert it.names() == ["a", "b"]
    assert len(it.names()) == 1


def test_a_part_larger_than_the_budget_is_lent_all_the_same(shelf: Callable[[float], Shelf]) -> None:
    it = shelf(0.5)
    with it.lend("a") as part:
        assert part.weight.numel() * 4 == ONE
    it.use("b")
    assert it.names() == ["b"]


def test_a_part_is_given_back_when_the_block_raises(shelf: Callable[[float], Shelf]) -> None:
    it = shelf(1)
    with pytest.raises(RuntimeError, match="inside"), it.lend("a"):
        raise RuntimeError("inside")
    it.use("b")
    assert it.names() == ["b"]


def test_a_part_that_cannot_be_read_is_not_kept(shelf: Callable[[float], Shelf]) -> None:
    it = shelf(3)
    path = it.folder / "bad"
    path.write_text("bad")

    def fail() -> None:
        raise Unreadable("it is bad")

    with pytest.raises(Unreadable), it.cache.lend_part("part", path, fail):
        pass
    assert it.names() == []
    with it.cache.lend_part("part", path, lambda: it.read("bad")):
        assert it.names() == ["bad"]


def test_a_changed_file_is_read_again_and_the_old_part_goes(shelf: Callable[[float], Shelf]) -> None:
    it = shelf(5)
    with it.lend("a") as old:
        pass
    stat = (it.folder / "a").stat()
    os.utime(it.folder / "a", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000_000))
    with it.lend("a") as new:
        assert new is not old
    assert it.reads == ["a", "a"]
    assert it.names() == ["a"]


def test_a_file_that_changes_while_it_is_lent_leaves_the_lent_part_alone(shelf: Callable[[float], Shelf]) -> None:
    it = shelf(5)
    with ExitStack() as stack:
        old = stack.enter_context(it.lend("a"))
        os.utime(it.folder / "a", ns=(1, 1))
        new = stack.enter_context(it.lend("a"))
        assert new is not old
        assert it.names() == ["a", "a"]
    with it.lend("a") as last:
        assert last is new


def test_two_kinds_of_part_from_one_file_are_kept_apart(shelf: Callable[[float], Shelf]) -> None:
    it = shelf(5)
    with it.lend("a", "one") as one, it.lend("a", "two") as two:
        assert one is not two
    assert it.reads == ["a", "a"]


def test_a_changed_checkpoint_folder_is_loaded_again(root: Paths, copied: Path) -> None:
    cache = ModelCache(root, device="cpu", budget_bytes=2**40)
    with cache.lend("mine") as old, cache.lend("mine") as same:
        assert same is old
    weights = next((copied / "unet").glob("*.safetensors"))
    os.utime(weights, ns=(weights.stat().st_atime_ns, weights.stat().st_mtime_ns + 10**12))
    with cache.lend("mine") as new:
        assert new is not old
        assert new.hash == old.hash
    assert [name for name, _, _ in cache.resident()] == ["mine"]


def test_a_checkpoint_is_dropped_for_another_when_both_do_not_fit(root: Paths, copied: Path) -> None:
    cache = ModelCache(root, device="cpu", budget_bytes=1)
    with cache.lend("mine"):
        pass
    with cache.lend("tiny-world"):
        assert [name for name, _, _ in cache.resident()] == ["tiny-world"]


def test_an_own_checkpoint_comes_before_the_shipped_one_of_the_same_name(root: Paths, copied: Path) -> None:
    own = copied.rename(root.checkpoints / "tiny-world")
    (own / "unet" / "config.json").unlink()
    with pytest.raises(Unreadable, match="tiny-world"), ModelCache(root, device="cpu").lend(""):
        pass
