"""A LoRA file that is trained further: what it was built with is compared with the form, setting by setting."""

from pathlib import Path
from typing import Any

import pytest
import torch

from studio.config import controls
from studio.diffusion.model import Model
from studio.requests.hypernetwork_build import HypernetworkBuild
from studio.requests.train import DreamboothConfig, HypernetworkConfig, LoraConfig, LycorisConfig, NetworkConfig
from studio.training.continued_file import OF_FILE
from studio.training.methods import method_of
from studio.training.methods.lora import Lora
from tests.diffusion.small import made

NEEDED = {"name": "thing", "data": "pictures"}
LORA = {"rank": 4, "alpha": 2, "layers": "full", "conv_rank": 2, "conv_alpha": 1}
LOKR = {"algorithm": "LoKr", "rank": 1, "alpha": 1, "layers": "full", "conv_rank": 1, "conv_alpha": 1, "factor": 2}


@pytest.fixture(scope="module")
def model() -> Model:
    return made()


def learner(model: Model, method: str, start: Path | None = None, **knobs: Any) -> Lora:
    """What learns with these settings."""
    cls = {"lora": LoraConfig, "lycoris": LycorisConfig}[method]
    found = method_of(method).attach(model, start, cls(**{**NEEDED, **knobs}))
    assert isinstance(found, Lora)
    return found


def kept(learned: Lora, path: Path, precision: torch.dtype = torch.float16) -> Path:
    """A file of it."""
    learned.precision = precision
    learned.shelve(path, 1)
    return path


CASES: list[tuple[str, str, dict[str, Any], dict[str, Any], str]] = [
    ("rank", "lora", LORA, {"rank": 8}, "Rank: 'old' has 4, and the form says 8. Set it to 4."),
    ("alpha", "lora", LORA, {"alpha": 3}, "Alpha: 'old' has 2, and the form says 3. Set it to 2."),
    ("conv_rank", "lora", LORA, {"conv_rank": 1}, "Convolution rank: 'old' has 2, and the form says 1. Set it to 2."),
    ("conv_alpha", "lora", LORA, {"conv_alpha": 0}, "Convolution alpha: 'old' has 1, and the form says 2. Set it to 1."),
    ("block_ranks", "lora", LORA, {"block_ranks": ", ".join(["0.5"] + ["1"] * 25)}, "Rank of each block: 'old' has 4, and the form would have other ranks in some blocks."),
    ("dora", "lora", {**LORA, "dora": True}, {"dora": False}, "DoRA: 'old' has on, and the form says off. Set it to on."),
    ("tucker", "lycoris", {**LORA, "algorithm": "LoCon", "tucker": True}, {"tucker": False}, "Tucker decomposition: 'old' has on, and the form says off."),
    ("factor", "lycoris", LOKR, {"factor": 4}, "LoKr factor: 'old' has 2, and the form says 4."),
    ("full_matrix", "lycoris", {**LOKR, "full_matrix": True}, {"full_matrix": False}, "LoKr with a full matrix: 'old' has on, and the form says off."),
]


@pytest.mark.parametrize(("setting", "method", "built", "form", "sentence"), CASES, ids=[case[0] for case in CASES])
def test_a_setting_that_the_file_contradicts_is_refused_by_its_name(model: Model, tmp_path: Path, setting: str, method: str, built: dict[str, Any], form: dict[str, Any], sentence: str) -> None:
    path = kept(learner(model, method, **built), tmp_path / "old.safetensors")
    assert learner(model, method, path, **built).contradictions() == []
    refused = learner(model, method, path, **{**built, **form}).contradictions()
    title = next(control.label for control in controls(LycorisConfig) if control.name == setting)
    assert any(one.startswith(f"{title}: ") and sentence in one for one in refused), refused


def test_every_setting_that_builds_a_lora_is_compared() -> None:
    learned_anew = {"layers", "block_rates", "plus_ratio", "dropout", "rank_dropout", "module_dropout", "save_precision", "text_encoder_rate", "learn_rate"}
    own = {name for cls in (NetworkConfig, LoraConfig, LycorisConfig) for name in vars(cls)["__annotations__"] if name in LycorisConfig.model_fields}
    assert own == {*OF_FILE, "algorithm", *learned_anew}, "classify a new setting: compared with the file, or used by the new training"
    assert {case[0] for case in CASES} == set(OF_FILE)


def test_layers_with_ranks_of_their_own_are_kept_and_said(model: Model, tmp_path: Path) -> None:
    path = kept(learner(model, "lora", **LORA, block_ranks=", ".join(["2"] + ["1"] * 25)), tmp_path / "old.safetensors")
    again = learner(model, "lora", path, **LORA)
    assert again.contradictions() == []
    assert "Rank: 'old' has 4, 8, and keeps them." in again.warnings()
    assert any(one.startswith("Rank: 'old' has 4, 8, and the form says 16. Set it to") for one in learner(model, "lora", path, **{**LORA, "rank": 16}).contradictions())


def test_layers_that_the_form_leaves_out_and_those_that_the_file_has_not_are_said(model: Model, tmp_path: Path) -> None:
    whole, part = kept(learner(model, "lora", **LORA), tmp_path / "whole.safetensors"), kept(learner(model, "lora", **{**LORA, "conv_rank": 0}), tmp_path / "part.safetensors")
    assert any("are not among the chosen ones: they stay in the file as they are" in one for one in learner(model, "lora", whole, **{**LORA, "conv_rank": 0}).warnings())
    grown = learner(model, "lora", part, **LORA)
    assert any("chosen layers are not in 'part': they begin anew." in one for one in grown.warnings())
    assert grown.contradictions() == []


def test_dreambooth_is_compared_in_what_its_form_has(model: Model, tmp_path: Path) -> None:
    path = kept(learner(model, "lora", rank=4, alpha=1), tmp_path / "old.safetensors")
    for rank, refused in ((4, []), (8, ["Rank: 'old' has 4, and the form says 8. Set it to 4."])):
        config = DreamboothConfig(**NEEDED, class_word="dog", result="LoRA", rank=rank, learn_rate="1e-4", text_encoder_rate=5e-5)
        assert method_of("dreambooth").attach(model, path, config).contradictions() == refused


def test_a_hypernetwork_says_each_setting_that_its_file_decides(model: Model, tmp_path: Path) -> None:
    built = {"modules": ("768",), "layer_structure": "1, 2, 1", "activation": "relu"}
    method, width = method_of("hypernetwork"), str(model.unet.config.cross_attention_dim)
    first = method.attach(model, None, HypernetworkConfig(**NEEDED, **built))
    path = tmp_path / "old.pt"
    first.shelve(path, 1)
    others = {"modules": ("320",), "layer_structure": "1, 3, 1", "activation": "tanh", "weight_init": "XavierNormal", "layer_norm": True, "dropout_structure": "0, 0.5, 0"}
    assert others.keys() == HypernetworkBuild.model_fields.keys()
    words = {"modules": "modules", "layer_structure": "layer structure", "activation": "activation function", "weight_init": "weights initialization"}
    words |= {"layer_norm": "layer normalization", "dropout_structure": "dropout structure"}
    for name, value in others.items():
        told = method.attach(model, path, HypernetworkConfig(**{**NEEDED, **built, name: value})).warnings()
        assert any(f"keeps the {words[name]} it was built with" in one for one in told) or name == "modules", (name, told, width)
