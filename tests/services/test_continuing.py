"""Continuing a run: each setting of a new request is used or refused by name, for every field of every method."""

from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import torch

from studio.config import controls
from studio.diffusion.cache import ModelCache
from studio.errors import InputError
from studio.jobs import SilentLane
from studio.requests.continuing import BY_STEP, FROM_START, KEPT, WHOLE_BATCH
from studio.requests.train import CONFIGS, TrainConfig, TrainRequest
from studio.services.desk import Desk
from studio.services.training import run
from studio.services.training_folder import going_on
from studio.settings import Paths
from studio.training.course import Course
from studio.training.journal import Journal
from studio.training.run import Checkpoint, Run
from tests.services.trainings import curve

BASE = {"embedding": "gnarl", "name": "hero", "data": "pictures", "class_word": "dog", "steps": 20, "prior": "none", "batch_size": 2}
TEXTS = {
    "learn_rate": "3e-4:8, 1e-4",
    "embedding": "other",
    "name": "other",
    "layer_structure": "1, 3, 1",
    "dropout_structure": "0, 0.3, 0",
    "block_ranks": ", ".join(["1"] * 17),
    "block_rates": ", ".join(["1"] * 17),
}
"""Other values of texts that are not free."""


def base(cls: type[TrainConfig]) -> dict[str, Any]:
    """Settings of a method that a run began with."""
    return {name: value for name, value in BASE.items() if name in cls.model_fields}


def other(cls: type[TrainConfig], name: str) -> Any:
    """A valid value of a field that the run did not begin with."""
    field, now = cls.model_fields[name], getattr(cls.check(base(cls)), name)
    if get_origin(field.annotation) is Literal:
        return next(value for value in get_args(field.annotation) if value != now)
    if isinstance(now, bool):
        return not now
    if isinstance(now, tuple):
        return now[:1]
    if isinstance(now, str):
        return TEXTS.get(name, "other")
    control = next(control for control in controls(cls) if control.name == name)
    step = control.step or 1
    values = (type(now)(value) for value in (now + step, now - step, 0.5, 8 * step))
    return next(value for value in values if value != now and accepted(cls, name, value))


def accepted(cls: type[TrainConfig], name: str, value: Any) -> bool:
    """Whether a form may hold a value."""
    try:
        cls.check({**base(cls), name: value})
    except InputError:
        return False
    return True


def begun(runs: Path, cls: type[TrainConfig]) -> Run:
    """The folder of a run that has a checkpoint at step 5, opened again by a second job."""
    Run.open(runs, "hero", "one").note("config", {"method": cls.method, "config": cls.check(base(cls)).model_dump(mode="json"), "facts": {"checkpoint": "tiny"}})
    folder = Run.open(runs, "hero", "two", next(runs.iterdir()).name)
    folder.save(Checkpoint(5, {"x": torch.zeros(1)}, {"tally": {"first": 0, "halvings": 0}}))
    return folder


def test_every_field_of_every_method_is_classified_once() -> None:
    lists = (*BY_STEP, *FROM_START, *WHOLE_BATCH, *KEPT)
    assert len(lists) == len(set(lists))
    assert set(lists) == {name for cls in CONFIGS for name in cls.model_fields}


@pytest.mark.parametrize("cls", CONFIGS, ids=lambda cls: cls.method)
def test_each_setting_is_used_or_refused_by_its_name(tmp_path: Path, cls: type[TrainConfig]) -> None:
    titles = {control.name: control.label for control in controls(cls)}
    folder = begun(tmp_path, cls)
    for name in cls.model_fields:
        if name in (*KEPT, *WHOLE_BATCH):
            with pytest.raises(InputError, match="this run began with") as refused:
                going_on(folder, TrainRequest(method=cls.method, config=cls.check({**base(cls), name: other(cls, name)}), run=folder.folder.name))
            assert refused.value.message.startswith(f"{titles[name]}: "), name
            assert "Set them back" in refused.value.hint
    assert not folder.journal.exists()
    usable = [name for name in cls.model_fields if name in (*BY_STEP, *FROM_START)]
    changed = cls.check({**base(cls), **{name: other(cls, name) for name in usable}})
    request = TrainRequest(method=cls.method, config=changed, run=folder.folder.name)
    used = going_on(folder, request)
    later = Journal.open(folder.journal).course(Course(used, 0)).config
    for name in usable:
        assert getattr(later, name) == getattr(changed, name), name
        assert (getattr(used, name) == getattr(changed, name)) == (name in FROM_START), name
    assert going_on(folder, request) == used, "a job that is killed and taken up again"


def test_cards_may_change_as_long_as_the_batch_of_all_stays(tmp_path: Path) -> None:
    cls = CONFIGS[1]
    folder = begun(tmp_path, cls)
    used = going_on(folder, TrainRequest(method=cls.method, config=cls.check({**base(cls), "batch_size": 1, "devices": 2}), run=folder.folder.name))
    assert (used.batch_size, used.devices, used.whole_batch) == (1, 2, 2)


def test_every_setting_that_is_refused_is_named_at_once_and_the_run_stays_as_it_was(root: Paths, tiny_cache: ModelCache, captioned: Path) -> None:
    desk = Desk(root, tiny_cache)
    knobs = {"name": "hero", "data": str(captioned), "rank": 2, "steps": 4, "width": 64, "height": 64, "probe_every": 0, "preview_every": 0, "save_every": 0, "learn_rate": "1e-3"}
    first = run(TrainRequest.check({"method": "lora", "config": knobs}), SilentLane("one"), desk)
    folder = Path(first["run"])
    before = (folder / "config.json").read_bytes()
    with pytest.raises(InputError, match=r"Optimizer: this run began with 'AdamW', and the form says 'Lion'\. .*Rank: this run began with 2, and the form says 4\."):
        run(TrainRequest.check({"method": "lora", "config": {**knobs, "rank": 4, "optimizer": "Lion", "steps": 8}, "run": folder.name}), SilentLane("two"), desk)
    assert (folder / "config.json").read_bytes() == before
    run(TrainRequest.check({"method": "lora", "config": {**knobs, "rate_shape": "linear", "steps": 8}, "run": folder.name}), SilentLane("three"), desk)
    assert [float(row["learn_rate"]) for row in curve(folder)] == pytest.approx([1e-3] * 4 + [1e-3 * (8 - step) / 8 for step in range(4, 8)])


def test_a_lora_that_goes_on_from_a_file_is_refused_what_the_file_contradicts(root: Paths, tiny_cache: ModelCache, captioned: Path) -> None:
    desk = Desk(root, tiny_cache)
    knobs = {"name": "hero", "data": str(captioned), "rank": 2, "alpha": 1, "steps": 1, "width": 64, "height": 64, "probe_every": 0, "preview_every": 0, "save_every": 0}
    path = Path(run(TrainRequest.check({"method": "lora", "config": knobs}), SilentLane("one"), desk)["path"])
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"Rank: 'hero' has 2, and the form says 8\. Set it to 2\. Alpha: 'hero' has 1, and the form says 4\. Set it to 1\."):
        run(TrainRequest.check({"method": "lora", "config": {**knobs, "start_from": "hero", "rank": 8, "alpha": 4}}), SilentLane("two"), desk)
    assert path.read_bytes() == before
    run(TrainRequest.check({"method": "lora", "config": {**knobs, "start_from": "hero", "learn_rate": "1e-3"}}), SilentLane("three"), desk)
    assert path.read_bytes() != before
