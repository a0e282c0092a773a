"""Checkpoints in the model cache: what they share, what is one's own, where it lies, and what the memory modes do."""

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from studio.diffusion import loading
from studio.diffusion.cache import ModelCache
from studio.diffusion.model import Model
from studio.diffusion.offload import RAM, bytes_of
from studio.errors import NotFound, StudioError, Unreadable
from studio.preferences import Preferences, write_preferences
from studio.settings import SHIPPED_ROOT, Paths

TINY = SHIPPED_ROOT / "models" / "Stable-diffusion" / "tiny-world"


class Reads:
    """Counts what is read from disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bodies: list[str] = []
        self.vaes: list[str] = []
        whole, part = loading.load_model, loading.load_vae
        monkeypatch.setattr(loading, "load_model", lambda path, *rest, **more: (self.bodies.append(path.name), whole(path, *rest, **more))[1])
        monkeypatch.setattr(loading, "load_vae", lambda path, *rest, **more: (self.vaes.append(path.name), part(path, *rest, **more))[1])


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """What is read from now on."""
    return Reads(monkeypatch)


@pytest.fixture
def stocked(root: Paths) -> Paths:
    """A studio with two checkpoints of its own and a VAE."""
    for name in ("one", "two"):
        (root.checkpoints / name).symlink_to(TINY)
    shutil.copyfile(TINY / "vae" / "diffusion_pytorch_model.safetensors", root.vae / "soft.safetensors")
    return root


@pytest.fixture
def cache(stocked: Paths) -> ModelCache:
    """A cache with room for everything."""
    return ModelCache(stocked, device="cpu", budget_bytes=2**40)


def touch(path: Path) -> None:
    """Make a file look newer."""
    path = path.resolve()
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 10**12))


def names(cache: ModelCache) -> list[tuple[str, str]]:
    """What is resident, and where."""
    return [(name, where) for name, _, where in cache.resident()]


# sharing


def test_two_autoencoders_for_one_checkpoint_share_its_networks(cache: ModelCache, reads: Reads) -> None:
    with cache.lend("one") as own, cache.lend("one", "soft") as soft, cache.lend("one", "soft.safetensors") as again:
        assert own is not soft
        assert again is soft
        assert own.unet is soft.unet
        assert own.text_encoders[0] is soft.text_encoders[0]
        assert own.vae is not soft.vae
        assert (own.vae_name, soft.vae_name) == ("", "soft.safetensors")
        assert len(soft.vae_hash) == 10
    assert (reads.bodies, reads.vaes) == (["one"], ["soft.safetensors"])


def test_one_autoencoder_file_serves_two_checkpoints(cache: ModelCache, reads: Reads) -> None:
    with cache.lend("one", "soft") as one, cache.lend("two", "soft") as two:
        assert one.vae is two.vae
        assert one.unet is not two.unet
        assert not any(p.requires_grad for p in one.vae.parameters())
    assert (reads.bodies, reads.vaes) == (["one", "two"], ["soft.safetensors"])


def test_a_checkpoint_whose_own_autoencoder_was_not_read_gets_it_when_it_is_wanted(cache: ModelCache, reads: Reads, tiny: Model) -> None:
    with cache.lend("one", "soft") as soft:
        unet = soft.unet
    assert sum(size for _, size, _ in cache.resident()) == sum(bytes_of(part) for part in [(tiny.unet,), (tiny.vae,), tiny.text_encoders])
    with cache.lend("one", "None") as own:
        assert own.unet is unet
        assert own.vae_name == ""
        assert torch.equal(next(own.vae.parameters()), next(soft.vae.parameters()))
    assert (reads.bodies, reads.vaes) == (["one"], ["soft.safetensors", "vae"])


def test_automatic_follows_a_file_that_appears_beside_the_checkpoint(cache: ModelCache, stocked: Paths) -> None:
    with cache.lend("one") as before:
        assert before.vae_name == ""
    (stocked.vae / "soft.safetensors").rename(stocked.vae / "one.safetensors")
    with cache.lend("one") as after:
        assert after.vae_name == "one.safetensors"
        assert after.unet is before.unet


def test_a_vae_that_is_not_there_is_told_in_words_and_nothing_is_loaded(cache: ModelCache) -> None:
    with pytest.raises(NotFound, match="'hard'"), cache.lend("one", "hard"):
        pass
    assert cache.resident() == []


def test_a_damaged_vae_leaves_the_checkpoint_usable(cache: ModelCache, stocked: Paths) -> None:
    (stocked.vae / "bad.safetensors").write_bytes(b"not a model")
    with pytest.raises(Unreadable, match=r"bad\.safetensors"), cache.lend("one", "bad"):
        pass
    with cache.lend("one") as model:
        assert model.vae_name == ""
    assert cache.unload() > 0
    assert cache.resident() == []


def test_a_changed_vae_file_is_read_again_and_the_networks_stay(cache: ModelCache, stocked: Paths, reads: Reads) -> None:
    with cache.lend("one", "soft") as old:
        pass
    touch(stocked.vae / "soft.safetensors")
    with cache.lend("one", "soft") as new:
        assert new is not old
        assert new.vae is not old.vae
        assert new.unet is old.unet
    assert reads.vaes == ["soft.safetensors"] * 2
    assert [name for name, _ in names(cache)].count("soft.safetensors") == 1


def test_a_file_that_changed_while_it_was_lent_goes_when_it_comes_back(cache: ModelCache, stocked: Paths) -> None:
    with cache.lend("one", "soft"):
        touch(stocked.vae / "soft.safetensors")
    assert [name for name, _ in names(cache)] == ["one"]


# one's own


def test_private_networks_can_be_changed_and_are_dropped_at_the_end(cache: ModelCache, reads: Reads) -> None:
    with cache.lend("one") as shared:
        before = shared.unet.conv_in.weight.clone()
    with cache.lend("one", private=True) as mine:
        assert mine.unet is not shared.unet
        assert mine.text_encoders[0] is not shared.text_encoders[0]
        assert mine.vae is shared.vae
        with torch.no_grad():
            mine.unet.conv_in.weight.add_(1)
        with cache.lend("one") as others:
            assert others is shared
            assert torch.equal(others.unet.conv_in.weight, before)
        assert len(cache.resident()) == 1
        assert cache.resident()[0][1] > bytes_of((mine.unet,)) * 2
    assert reads.bodies == ["one"]
    with cache.lend("one", private=True) as fresh:
        assert fresh is not mine
        assert torch.equal(fresh.unet.conv_in.weight, before)
    assert sum(size for _, size, _ in cache.resident()) == bytes_of((shared.unet, shared.vae, *shared.text_encoders))


def test_a_private_copy_is_read_anew_while_others_use_the_networks(cache: ModelCache, reads: Reads) -> None:
    with cache.lend("one") as shared, cache.lend("one", private=True) as mine:
        assert mine.unet is not shared.unet
    assert reads.bodies == ["one", "one"]


def test_a_private_copy_comes_first_where_both_do_not_fit(stocked: Paths, reads: Reads) -> None:
    cache = ModelCache(stocked, device="cpu", budget_bytes=1)
    with cache.lend("one"):
        pass
    with cache.lend("one", private=True) as mine:
        assert sum(size for _, size, _ in cache.resident()) == bytes_of((mine.unet, mine.vae, *mine.text_encoders))


# places: a device that is only written down


class Device:
    """Stands for the way to a card: notes where each network was put, and how much is on the card."""

    def __init__(self) -> None:
        self.where: dict[int, torch.device] = {}
        self.moves: list[str] = []
        self.full = 0

    def put(self, modules: Sequence[nn.Module], device: torch.device) -> None:
        """Note the move, or fail as often as `full` says."""
        if device != RAM and self.full:
            self.full -= 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.moves.append(device.type)
        self.where.update({id(module): device for module in modules})

    def holds(self, model: Model) -> set[str]:
        """Where the parts of a model are."""
        return {self.where.get(id(part), RAM).type for part in (model.unet, model.vae, *model.text_encoders)}


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    """A card on which nothing is."""
    device = Device()
    monkeypatch.setattr("studio.diffusion.cache.put", device.put)
    monkeypatch.setattr("studio.diffusion.cache.place", lambda model, where: setattr(model, "device", where))
    return device


def card(paths: Paths, models: float, ram: float = 99, mode: str = "normal") -> ModelCache:
    """A cache of a card that holds so many models, beside a memory that holds so many."""
    size = sum(p.stat().st_size for p in TINY.rglob("*.safetensors"))  # 16 bits a number, there as here
    return ModelCache(paths, "cuda:0", int(models * size), mode, int(ram * size))  # type: ignore[arg-type]


def test_what_was_not_used_for_longest_waits_in_ram_and_comes_back(stocked: Paths, device: Device, reads: Reads) -> None:
    cache = card(stocked, 1.05)
    with cache.lend("one") as one:
        assert device.holds(one) == {"cuda"}
        assert one.device.type == "cuda"
    with cache.lend("two"):
        assert names(cache) == [("one", "RAM"), ("two", "cuda:0")]
    with cache.lend("one") as again:
        assert again is one
        assert device.holds(one) == {"cuda"}
        assert names(cache) == [("two", "RAM"), ("one", "cuda:0")]
    assert reads.bodies == ["one", "two"]


def test_what_does_not_fit_into_ram_either_is_dropped(stocked: Paths, device: Device, reads: Reads) -> None:
    cache = card(stocked, 1.05, ram=1.2)
    for name in ("one", "two", "tiny-world"):
        with cache.lend(name):
            pass
    assert names(cache) == [("two", "RAM"), ("tiny-world", "cuda:0")]
    with cache.lend("one"):
        pass
    assert reads.bodies == ["one", "two", "tiny-world", "one"]


def test_what_is_lent_stays_on_the_card(stocked: Paths, device: Device) -> None:
    cache = card(stocked, 0.5)
    with cache.lend("one") as one, cache.lend("two") as two:
        assert device.holds(one) == device.holds(two) == {"cuda"}
        cache.make_room()
        assert device.holds(one) == {"cuda"}
    assert names(cache) == [("two", "RAM"), ("one", "cuda:0")]  # what was used last may stay although it is too large


def test_a_model_that_does_not_fit_makes_room_first(stocked: Paths, device: Device) -> None:
    cache = card(stocked, 9)
    with cache.lend("one"):
        pass
    device.full = 1
    with cache.lend("two") as two:
        assert device.holds(two) == {"cuda"}
        assert names(cache) == [("one", "RAM"), ("two", "cuda:0")]


def test_a_model_that_never_fits_is_told_in_words_and_waits_in_ram(stocked: Paths, device: Device) -> None:
    cache = card(stocked, 9)
    device.full = 99
    with pytest.raises(StudioError, match=r"out of memory.*2\.00 GiB"), cache.lend("one"):
        pass
    assert {where for _, where in names(cache)} == {"RAM"}
    device.full = 0
    with cache.lend("one") as one:
        assert device.holds(one) == {"cuda"}


def test_unload_drops_what_is_not_lent_and_reload_brings_the_last_one_back(stocked: Paths, device: Device, reads: Reads) -> None:
    cache = card(stocked, 1.05)
    with cache.lend("two"):
        pass
    with cache.lend("one", "soft") as one:
        assert cache.unload() > 0
        assert {name for name, _ in names(cache)} == {"one", "soft.safetensors"}
        assert device.holds(one) == {"cuda"}
    freed = sum(size for _, size, _ in cache.resident())
    assert cache.unload() == freed
    assert cache.resident() == []
    assert cache.unload() == 0
    cache.reload()
    assert {name for name, _ in names(cache)} == {"one", "soft.safetensors"}
    assert reads.bodies == ["two", "one", "one"]


def test_room_is_made_only_as_far_as_it_is_wanted(stocked: Paths, device: Device) -> None:
    cache = card(stocked, 9)
    for name in ("one", "two"):
        with cache.lend(name):
            pass
    assert cache.make_room(1) > 0
    assert ("two", "cuda:0") in names(cache)
    assert cache.make_room() > 0
    assert {where for _, where in names(cache)} == {"RAM"}
    assert cache.make_room() > 0  # the card is empty: what waits in RAM is dropped
    assert cache.resident() == []
    assert cache.make_room() == 0


def test_a_cpu_has_one_memory(cache: ModelCache) -> None:
    for name in ("one", "two"):
        with cache.lend(name):
            pass
    assert {where for _, where in names(cache)} == {"cpu"}
    assert cache.make_room() > 0
    assert cache.resident() == []


# memory modes


def hooks(model: Model) -> int:
    """How many hooks stand before the forwards of a model."""
    return sum(len(inner._forward_pre_hooks) for part in (model.unet, model.vae, *model.text_encoders) for inner in part.modules())


@pytest.mark.parametrize("mode", ["medvram", "lowvram"])
def test_in_a_memory_mode_parts_wait_in_ram_with_hooks_while_they_are_lent(stocked: Paths, device: Device, mode: str) -> None:
    cache = card(stocked, 1.05, mode=mode)
    with cache.lend("one") as one:
        count = hooks(one)
        assert count > 0
        assert device.holds(one) == {"cpu"}
        with cache.lend("one", "soft") as soft:
            assert soft.unet is one.unet
            assert hooks(one) == count
        assert hooks(soft) < hooks(one)
        assert {where for _, where in names(cache)} == {"RAM"}
    assert hooks(one) == 0
    assert device.moves == []


def test_a_captioner_goes_to_the_card_whole_in_every_mode(stocked: Paths, device: Device, tmp_path: Path) -> None:
    cache = card(stocked, 1, mode="lowvram")
    file = tmp_path / "captioner"
    file.write_text("captioner")
    with cache.lend_part("captioner", file, lambda: nn.Linear(9, 9)) as part:
        assert device.where[id(part)].type == "cuda"
    assert names(cache) == [("captioner", "cuda:0")]


def test_the_mode_and_the_budget_follow_the_preferences(stocked: Paths, device: Device) -> None:
    cache = ModelCache(stocked, "cuda:0", ram_bytes=2**40)
    with cache.lend("one") as one:
        assert hooks(one) == 0
    write_preferences(stocked.settings, Preferences(memory_mode="medvram", cache_gb=0.5))
    with cache.lend("one") as again:
        assert again is one
        assert hooks(one) > 0
        assert device.holds(one) == {"cpu"}
    assert cache.budget == 2**29
    write_preferences(stocked.settings, Preferences())
    with cache.lend("one"):
        assert hooks(one) == 0
        assert device.holds(one) == {"cuda"}


def test_a_small_budget_in_the_preferences_is_kept(stocked: Paths) -> None:
    cache = ModelCache(stocked, "cpu")
    write_preferences(stocked.settings, Preferences(cache_gb=0.03))
    for name in ("one", "two"):
        with cache.lend(name):
            pass
    assert [name for name, _ in names(cache)] == ["two"]


def test_damaged_preferences_are_told_when_something_is_lent(stocked: Paths) -> None:
    stocked.settings.write_text("{")
    cache = ModelCache(stocked, "cpu")
    with pytest.raises(StudioError, match=r"settings\.json"), cache.lend("one"):
        pass
    stocked.settings.unlink()
    with cache.lend("one") as model:
        assert model.checkpoint == "one"


def test_an_autoencoder_that_was_widened_is_measured_again(cache: ModelCache) -> None:
    with cache.lend("one") as model:
        before = cache.resident()[0][1]
        model.vae.to(torch.float64)
    assert cache.resident()[0][1] == before + bytes_of((model.vae,)) // 2


def test_what_happens_to_parts_is_logged(cache: ModelCache, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "studio.cache"), cache.lend("one"):
        cache.unload()
    assert caplog.text == ""
    with caplog.at_level(logging.INFO, "studio.cache"):
        cache.unload()
    assert "checkpoint of one is dropped" in caplog.text
