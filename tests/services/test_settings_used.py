"""Every setting of every method's form reaches the training: code of the studio asks for each in a real run, and those without effect are said."""

from pathlib import Path
from typing import Any

import pytest

from studio.diffusion.cache import ModelCache
from studio.jobs import SilentLane
from studio.requests.train import CONFIGS, CreateEmbeddingRequest, DreamboothConfig, LoraConfig, LycorisConfig, TextualInversionConfig, TogetherConfig, TrainConfig, TrainRequest
from studio.requests.unused_settings import OF_CAPTIONS, RULES, unused_settings
from studio.services.desk import Desk
from studio.services.library import create_embedding
from studio.services.training import run
from studio.settings import Paths
from tests.services.trainings import events

KNOBS: dict[str, Any] = {
    "steps": 2,
    "width": 64,
    "height": 64,
    "clip_grad_mode": "norm",
    "use_masks": True,
    "warmup": 1,
    "stop_rule": "patience",
    "preview_every": 2,
    "preview_steps": 1,
    "probe_every": 2,
    "save_every": 1,
    "prior": "class pictures",
    "class_word": "monster",
    "class_pictures": 1,
    "conv_rank": 1,
    "rank": 1,
    "modules": ("768", "320", "640", "1280", "1024"),
}
"""Settings that make a run ask for those that belong to them."""


def recording(cls: type[TrainConfig], seen: set[str]) -> type[TrainConfig]:
    """The same settings, which note what is asked of them; writing them down as a whole asks for none."""

    class Recording(cls):  # type: ignore[misc, valid-type]
        def __getattribute__(self, name: str) -> Any:
            seen.add(name)
            return super().__getattribute__(name)

    return Recording


class Forgetful(TextualInversionConfig):
    """Settings with one that no code knows."""

    forgotten: int = 1


@pytest.mark.parametrize(("cls", "ignored"), [*((cls, []) for cls in CONFIGS), (Forgetful, ["forgotten"])], ids=lambda part: getattr(part, "__name__", ""))
def test_a_training_asks_for_every_setting_of_its_form(root: Paths, tiny_cache: ModelCache, captioned: Path, cls: type[TrainConfig], ignored: list[str]) -> None:
    desk, seen = Desk(root, tiny_cache), set[str]()
    create_embedding(CreateEmbeddingRequest(name="gnarl", initialization_text="monster"), desk)
    known = {name: value for name, value in {**KNOBS, "name": "hero", "embedding": "gnarl", "data": str(captioned)}.items() if name in cls.model_fields}
    config = recording(cls, seen).model_validate(known)
    seen.clear()
    run(TrainRequest(method=cls.method, config=config), SilentLane(), desk)
    skipped = {"rank"} if issubclass(cls, DreamboothConfig) else set()
    assert sorted(set(cls.model_fields) - seen - skipped) == ignored


def test_settings_without_effect_are_said_and_others_are_not() -> None:
    cases: list[tuple[type[TrainConfig], dict[str, Any], list[str]]] = [
        (LycorisConfig, {"algorithm": "(IA)3", "dora": True}, ["DoRA has no effect: (IA)3 has no ranks."]),
        (LycorisConfig, {"algorithm": "LoHa", "factor": 4}, ["LoKr factor has no effect: only LoKr has it."]),
        (LoraConfig, {"conv_alpha": 2}, ["Convolution alpha has no effect: no convolution is trained, since their rank is 0."]),
        (LoraConfig, {"prior": "none", "prior_loss_weight": 0.5}, ["Prior loss weight has no effect: there is no prior preservation."]),
        (LoraConfig, {"prior": "prediction", "class_word": "dog", "class_pictures": 5}, ["Class pictures has no effect: no class pictures are painted."]),
        (LoraConfig, {"mask_floor": 0.5}, ["Weight of what is masked off has no effect: masks are not used."]),
        (LoraConfig, {"clip_grad_value": 1}, ["Gradient clip value has no effect: gradients are not clipped."]),
        (LoraConfig, {"patience": 9}, ["Patience has no effect: the rule that stops the training is another."]),
        (DreamboothConfig, {"class_word": "dog", "rank": 8}, ["Rank has no effect: a whole checkpoint is trained."]),
        (DreamboothConfig, {"class_word": "dog", "result": "LoRA", "ema_decay": 0.9}, ["EMA decay has no effect: a LoRA is trained."]),
        (TogetherConfig, {"switch": 0.2}, ["Where it changes over has no effect: both learn at once."]),
        (LoraConfig, {"optimizer": "Prodigy", "learn_rate": "1", "text_encoder_rate": 1, "plus_ratio": 4}, ["LoRA+ ratio has no effect: Prodigy finds one rate for everything that learns."]),
    ]
    assert len(cases) == len(RULES)
    for cls, knobs, said in cases:
        assert [reason.sentence for reason in unused_settings(cls.check({"name": "x", "data": "y", **knobs}))] == said
    for cls in CONFIGS:
        needed = {"name": "x", "embedding": "x", "data": "y", "class_word": "dog"}
        assert unused_settings(cls.check({name: value for name, value in needed.items() if name in cls.model_fields}), ["[filewords]"]) == []


@pytest.mark.parametrize("name", OF_CAPTIONS)
def test_settings_of_captions_are_said_where_the_template_uses_none(root: Paths, tiny_cache: ModelCache, captioned: Path, name: str) -> None:
    config = TextualInversionConfig(embedding="gnarl", data="x", **{name: True if name == "shuffle_tags" else 0.5})
    said = [reason.sentence for reason in unused_settings(config, ["a photo of [name]"])]
    assert len(said) == 1 and said[0].endswith("has no effect: the prompt template has no [filewords].")
    assert unused_settings(config, ["a photo of [name], [filewords]"]) == unused_settings(config) == []
    if name == "caption_dropout":
        desk, lane = Desk(root, tiny_cache), SilentLane()
        create_embedding(CreateEmbeddingRequest(name="gnarl", initialization_text="monster"), desk)
        knobs = {"embedding": "gnarl", "data": str(captioned), "steps": 1, "width": 64, "height": 64, "probe_every": 0, "preview_every": 0, "template": "subject", name: 0.5}
        run(TrainRequest.check({"config": knobs}), lane, desk)
        assert [one["text"] for one in events(lane, "warning") if "has no effect" in one["text"]] == said
