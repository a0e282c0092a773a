"""The model cache under any sequence of lending, returning, changing and unloading: what may never happen, and what is always true."""

import gc
import os
import tempfile
import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from torch import nn

from studio.diffusion.cache import ModelCache
from studio.diffusion.offload import RAM
from studio.settings import Paths

SIZES = {"a": 400, "b": 800, "c": 1200, "d": 2000, "e": 4000}
"""Bytes of each part."""
BUDGET, RAM_BUDGET = 2500, 3000
NAMES = st.sampled_from(sorted(SIZES))


class Lending(RuleBasedStateMachine):
    """A person who does anything in any order; `device` says whether there is a card beside the memory."""

    device = "cuda:0"

    def __init__(self) -> None:
        super().__init__()
        gc.freeze()  # what was there before is not looked through at every drop
        self.folder = tempfile.TemporaryDirectory()
        self.where: dict[int, torch.device] = {}
        self.patch = patch("studio.diffusion.cache.put", self.put)
        self.patch.start()
        self.cache = ModelCache(Paths(Path(self.folder.name)), self.device, BUDGET, "normal", RAM_BUDGET)
        self.versions = dict.fromkeys(SIZES, 0)
        self.made: dict[tuple[str, int], list[weakref.ref[nn.Module]]] = {}
        self.open: list[tuple[str, int, ExitStack, nn.Module]] = []
        self.used: dict[tuple[str, int], int] = {}
        self.clock = 0
        for name in SIZES:
            self.write(name)

    def teardown(self) -> None:
        """Give everything back."""
        for *_, stack, _ in self.open:
            stack.close()
        self.patch.stop()
        self.folder.cleanup()
        gc.unfreeze()

    def put(self, modules: Sequence[nn.Module], device: torch.device) -> None:
        """Note where a part is now."""
        self.where.update({id(module): device for module in modules})

    def write(self, name: str) -> None:
        """The file of a part, newer than before."""
        path = Path(self.folder.name) / name
        path.write_bytes(b"x" * SIZES[name])
        os.utime(path, ns=(1, 1_000_000 + self.versions[name]))

    def read(self, name: str) -> nn.Module:
        """A part, newly made, in RAM."""
        part = nn.Linear(SIZES[name] // 4, 1, bias=False)
        self.where[id(part)] = RAM
        self.made.setdefault((name, self.versions[name]), []).append(weakref.ref(part))
        return part

    # what is done

    @rule(name=NAMES)
    def lend(self, name: str) -> None:
        """Take a part."""
        self.clock += 1
        alive = [ref() for ref in self.made.get((name, self.versions[name]), []) if ref() is not None]
        stack = ExitStack()
        part = stack.enter_context(self.cache.lend_part("part", Path(self.folder.name) / name, lambda: self.read(name)))
        assert not alive or alive == [part]
        self.used[(name, self.versions[name])] = self.clock
        self.open.append((name, self.versions[name], stack, part))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        """Return one of the parts that are lent."""
        self.clock += 1
        name, version, stack, part = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        del part
        stack.close()
        self.used[(name, version)] = self.clock
        if version != self.versions[name] and (name, version) not in {entry[:2] for entry in self.open}:
            assert all(ref() is None for ref in self.made[(name, version)])

    @rule(names=st.lists(NAMES, min_size=1, max_size=6))
    def use(self, names: list[str]) -> None:
        """Take parts and return them, one after another."""
        for name in names:
            self.lend(name)
            name, version, stack, part = self.open.pop()
            del part
            self.clock += 1
            stack.close()
            self.used[(name, version)] = self.clock

    @rule(name=NAMES)
    def change(self, name: str) -> None:
        """The file of a part is exchanged."""
        self.versions[name] += 1
        self.write(name)

    @rule(wanted=st.one_of(st.none(), st.integers(1, 5000)))
    def make_room(self, wanted: int | None) -> None:
        """Memory ran out somewhere."""
        before = self.bytes_free_to_go()
        freed = self.cache.make_room(wanted)
        assert freed <= sum(before)
        if wanted is not None and before[0]:
            assert freed >= min(wanted, before[0])
        if wanted is None:
            assert self.bytes_free_to_go()[0] == 0

    @rule()
    def unload(self) -> None:
        """Everything that is not lent goes."""
        before = sum(self.bytes_free_to_go())
        assert self.cache.unload() == before
        assert self.bytes_free_to_go() == (0, 0)

    # what is always true

    def parts(self, lent: bool, on_device: bool) -> list[tuple[str, int]]:
        """Names and versions of what is alive, by whether it is lent and where it is."""
        there = torch.device(self.device).type
        out = {(name, version) for name, version, _, _ in self.open}
        found = [(key, ref()) for key, refs in self.made.items() for ref in refs if ref() is not None]
        return [key for key, part in found if (key in out) == lent and (self.device == "cpu" or (self.where[id(part)].type == there) == on_device)]

    def bytes_free_to_go(self) -> tuple[int, int]:
        """Bytes of what is not lent, on the device and in RAM."""
        device = sum(SIZES[name] for name, _ in self.parts(False, True))
        return device, 0 if self.device == "cpu" else sum(SIZES[name] for name, _ in self.parts(False, False))

    @invariant()
    def what_is_lent_is_where_it_computes(self) -> None:
        """Nobody moves or drops it."""
        for *_, part in self.open:
            assert self.device == "cpu" or self.where[id(part)].type == "cuda"

    @invariant()
    def nothing_is_there_twice(self) -> None:
        """One state of a file is in memory once."""
        assert all(sum(ref() is not None for ref in refs) <= 1 for refs in self.made.values())

    @invariant()
    def budgets_are_kept(self) -> None:
        """Over the budget there is only what is lent, or one part alone that was used last."""
        for on_device, budget in ((True, BUDGET), (False, RAM_BUDGET)):
            if self.device == "cpu" and not on_device:
                continue
            free, lent = self.parts(False, on_device), [] if self.device != "cpu" and not on_device else self.parts(True, True)
            total = sum(SIZES[name] for name, _ in (*free, *lent))
            alone = len(free) == 1 and not lent
            assert total <= budget or not free or alone

    @invariant()
    def what_was_used_last_is_nearest(self) -> None:
        """Of what is not lent, everything on the device was used after everything in RAM."""
        if self.device != "cpu":
            near, far = ([self.used[key] for key in self.parts(False, on_device)] for on_device in (True, False))
            assert not near or not far or min(near) > max(far)

    @invariant()
    def the_cache_says_what_is_alive(self) -> None:
        """Nothing lives that it does not tell of, and the other way round."""
        alive = sorted((key[0], SIZES[key[0]]) for key, refs in self.made.items() for ref in refs if ref() is not None)
        assert sorted((name, size) for name, size, _ in self.cache.resident()) == alive


class LendingOnOneMemory(Lending):
    """The same on a CPU."""

    device = "cpu"


LIMITS = settings(max_examples=100, stateful_step_count=30, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TestCard = Lending.TestCase
TestCard.settings = LIMITS
TestProcessor = LendingOnOneMemory.TestCase
TestProcessor.settings = LIMITS
