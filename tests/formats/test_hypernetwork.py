"""Hypernetwork files in A1111's layout, built here from its description, and refused when they are spoilt or dangerous."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from studio.errors import InputError, Unreadable
from studio.formats.hypernetwork import Hypernetwork, read_hypernetwork, write_hypernetwork


def state(width: int = 4, middle: int = 2, old: bool = False) -> dict[str, Tensor]:
    """One network of three widths, 1, `middle`, 1, as A1111 saves it."""
    names = ("linear1", "linear2") if old else ("linear.0", "linear.1")
    wide = width * middle
    return {f"{names[0]}.weight": torch.ones(wide, width), f"{names[0]}.bias": torch.zeros(wide), f"{names[1]}.weight": torch.ones(width, wide), f"{names[1]}.bias": torch.zeros(width)}


def saved(path: Path, data: Any, zipped: bool = True) -> Path:
    torch.save(data, path, _use_new_zipfile_serialization=zipped)
    return path


FULL = {
    4: (state(), state()),
    6: (state(6), state(6)),
    "step": 1500,
    "name": "hero",
    "layer_structure": [1, 2, 1],
    "activation_func": "swish",
    "is_layer_norm": False,
    "weight_initialization": "KaimingNormal",
    "use_dropout": True,
    "sd_checkpoint": "0123456789",
    "sd_checkpoint_name": "tiny",
    "activate_output": False,
    "last_layer_dropout": False,
    "dropout_structure": [0, 0.25, 0],
    "optional_info": "note",
}


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_with_everything(tmp_path: Path, zipped: bool) -> None:
    back = read_hypernetwork(saved(tmp_path / "hero-1500.pt", FULL, zipped))
    assert (back.name, back.widths, back.structure, back.activation, back.step) == ("hero-1500", (4, 6), (1, 2, 1), "swish", 1500)
    assert (back.activate_output, back.layer_norm, back.dropout, back.initialization) == (False, False, (0.0, 0.25, 0.0), "KaimingNormal")
    assert (back.checkpoint_hash, back.checkpoint_name, back.facts["optional_info"]) == ("0123456789", "tiny", "note")
    assert {k: tuple(v.shape) for k, v in back.layers[6][1].items()} == {"linear.0.weight": (12, 6), "linear.0.bias": (12,), "linear.1.weight": (6, 12), "linear.1.bias": (6,)}


def test_an_old_file_has_the_defaults_of_its_time(tmp_path: Path) -> None:
    back = read_hypernetwork(saved(tmp_path / "x.pt", {4: (state(old=True), state(old=True))}))
    assert (back.structure, back.activation, back.activate_output, back.dropout, back.step) == ((1, 2, 1), "linear", True, (), None)
    assert list(back.layers[4][0]) == ["linear.0.weight", "linear.0.bias", "linear.1.weight", "linear.1.bias"]


@pytest.mark.parametrize(
    ("structure", "last", "rates"),
    [([1, 2, 1], False, (0.0, 0.0, 0.0)), ([1, 2, 1], True, (0.0, 0.3, 0.0)), ([1, 2, 2, 1], False, (0.0, 0.3, 0.0, 0.0)), ([1, 2, 2, 1], True, (0.0, 0.3, 0.3, 0.0)), ([1, 1], True, (0.3, 0.0))],
)
def test_the_older_switches_of_dropout(tmp_path: Path, structure: list, last: bool, rates: tuple) -> None:
    layers = {f"linear.{i}.{k}": torch.ones(4 * b, 4 * a) if k == "weight" else torch.ones(4 * b) for i, (a, b) in enumerate(pairwise(structure)) for k in ("weight", "bias")}
    assert read_hypernetwork(saved(tmp_path / "x.pt", {4: (layers, layers), "layer_structure": structure, "use_dropout": True, "last_layer_dropout": last})).dropout == rates


def test_what_is_written_is_a1111s_layout_and_is_read_back(tmp_path: Path) -> None:
    network = Hypernetwork("hero", {4: (state(), state())}, activation="relu", dropout=(0.0, 0.1, 0.0), step=7, checkpoint_hash="0123456789", checkpoint_name="tiny")
    write_hypernetwork(tmp_path / "hero.pt", network)
    assert not (tmp_path / "hero.pt").read_bytes().startswith(b"PK")
    data = torch.load(tmp_path / "hero.pt", weights_only=True)
    assert set(data) == set(FULL) - {6}
    assert isinstance(data[4], tuple) and list(data[4][0]) == ["linear.0.weight", "linear.0.bias", "linear.1.weight", "linear.1.bias"]
    assert (data["layer_structure"], data["dropout_structure"], data["use_dropout"], data["step"]) == ([1, 2, 1], [0.0, 0.1, 0.0], True, 7)
    back = read_hypernetwork(tmp_path / "hero.pt")
    assert (back.activation, back.dropout, back.step, back.checkpoint_name) == ("relu", (0.0, 0.1, 0.0), 7, "tiny")
    assert torch.equal(back.layers[4][0]["linear.0.weight"], torch.ones(8, 4))


def test_spoilt_numbers_never_replace_a_good_file(tmp_path: Path) -> None:
    path = saved(tmp_path / "hero.pt", FULL)
    before = path.read_bytes()
    with pytest.raises(InputError, match="NaN or infinity for width 4"):
        write_hypernetwork(path, Hypernetwork("hero", {4: (state(), {**state(), "linear.0.bias": torch.full((8,), float("nan"))})}))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"string_to_param": {"*": torch.ones(1, 4)}}, "not a hypernetwork"),
        ([1], "holds a list"),
        ({4: state()}, "no pair"),
        ({4: (state(),)}, "no pair"),
        ({4: (state(), 1)}, "no pair"),
        ({4: (state(), {"conv.weight": torch.ones(2)})}, "conv.weight"),
        ({4: (state(), {"linear.0.weight": 1})}, "linear.0.weight"),
        ({4: (state(), state(5))}, "has layers"),
        ({4: (state(middle=3), state(middle=3))}, "structure 1, 2, 1 asks for"),
        ({4: (state(), {**state(), "linear.1.bias": torch.tensor([float("inf")])})}, "NaN or infinity"),
        ({4: (state(), state()), "layer_structure": [1]}, "layer structure"),
        ({4: (state(), state()), "layer_structure": [1, 2, 3]}, "layer structure"),
        ({4: (state(), state()), "layer_structure": [1, float("nan"), 1]}, "layer structure"),
        ({4: (state(), state()), "layer_structure": "1,2,1"}, "layer structure"),
    ],
)
def test_a_file_that_is_no_hypernetwork_is_refused_in_words(tmp_path: Path, data: Any, words: str) -> None:
    with pytest.raises(Unreadable, match=words):
        read_hypernetwork(saved(tmp_path / "x.pt", data))


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02", b"PK\x03\x04 not a zip"])
def test_bytes_that_are_no_file_of_the_kind_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(Unreadable, match="x"):
        read_hypernetwork(tmp_path / "x.pt")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="no hypernetwork file"):
        read_hypernetwork(tmp_path / "gone.pt")


def test_a_file_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "canary",)

    with pytest.raises(Unreadable):
        read_hypernetwork(saved(tmp_path / "x.pt", {**FULL, "x": Bomb()}))
    assert not (tmp_path / "canary").exists()
