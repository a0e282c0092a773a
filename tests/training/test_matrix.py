"""Every method on every family, cell by cell; and that the matrix sees what is wrong."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from studio.diffusion.growing import Grown
from studio.training.methods import METHODS
from studio.training.methods.textual_inversion import TextualInversion
from tests.training.matrix import SMALL, Cell, Seen, World, cells, look

CELLS = cells(every=False)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The checkpoints of all families."""
    return World(tmp_path_factory.mktemp("matrix"))


def test_every_method_is_looked_at_on_every_family() -> None:
    assert {(cell.method, cell.family) for cell in CELLS} == {(method.name, family) for method in METHODS for family in SMALL if family != "SD2"}
    assert {(cell.method, cell.family) for cell in cells(every=True)} == {(method.name, family) for method in METHODS for family in SMALL}


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_it_learns_stops_goes_on_is_read_used_and_taken_off(world: World, cell: Cell) -> None:
    seen = look(world, cell)
    assert all(vars(seen).values()), seen


def test_what_stays_on_the_model_is_seen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def stay(_grown: Grown) -> AbstractContextManager[None]:
        return nullcontext()

    monkeypatch.setattr(Grown, "off", stay)
    with pytest.raises(AssertionError, match="others find another model"):
        look(world, next(cell for cell in CELLS if cell.method == "lora"))


def test_a_file_that_does_not_hold_what_was_learned_is_seen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    shelve, seen = TextualInversion.shelve, Seen()

    def forget(learner: TextualInversion, path: Path, step: int) -> None:
        now = learner.vectors.data
        learner.vectors.data = learner.start
        shelve(learner, path, step)
        learner.vectors.data = now

    monkeypatch.setattr(TextualInversion, "shelve", forget)
    with pytest.raises(AssertionError, match="something else than the live network"):
        look(world, next(cell for cell in CELLS if cell.method == "textual_inversion"), seen)
    assert seen.resume and not seen.apply
