"""Presets: every cell of the grid is a form that can be sent, every value says why, and what differs is found."""

from itertools import product

import pytest

from studio.errors import InputError
from studio.presets.compare import differences
from studio.presets.fitting import GIB, fits
from studio.presets.intents import FAMILIES, INTENTS, preset
from studio.requests.train import CONFIGS, CreateEmbeddingRequest, config_class

METHODS = [cls.method for cls in CONFIGS]
COUNTS = (0, 1, 4, 15, 50, 3000)
OWN = {"textual_inversion": {"embedding": "hero", "data": "/x"}}


def own(method: str) -> dict[str, str]:
    """What a person writes beside a preset."""
    return OWN.get(method, {"name": "hero", "data": "/x"})


@pytest.mark.parametrize("method", METHODS)
def test_every_cell_is_a_form_that_can_be_sent(method: str) -> None:
    for intent, family, count, captions in product(INTENTS, FAMILIES, COUNTS, (True, False)):
        made = preset(intent, family, method, count, captions)
        config = config_class(method).check({**own(method), **made.values})
        assert differences(config, made) == []
        sentences = [choice.reason.sentence for choice in made.choices]
        assert all(len(s) > 20 and s.endswith((".", "!")) and "{" not in s for s in sentences)
        assert len({choice.knob for choice in made.choices}) == len(sentences)
        CreateEmbeddingRequest.check({"name": "hero", **made.beside})


def test_a_case_gets_what_it_needs() -> None:
    for method, family, count in product(METHODS, FAMILIES, COUNTS):
        of = {intent: preset(intent, family, method, count).values for intent in INTENTS}
        assert not of["person"]["flip"]
        assert not of["character"]["flip"]
        assert of["style"]["template"] == "style_filewords"
        assert of["person"]["batch_size"] <= max(1, count)
        assert family != "SDXL" or (of["object"]["batch_size"], of["object"]["gradient_checkpointing"]) == (1, True)
        assert family != "SDXL" or method == "textual_inversion" or of["object"]["optimizer"] == "Adafactor"
    steps = [preset("person", "SD1", "dreambooth", n).values["steps"] for n in COUNTS]
    assert steps == sorted(steps)
    assert steps[0] < steps[-1]
    assert preset("character", "SD1", "lora", 9).values["clip_skip"] == 2
    assert preset("character", "SDXL", "lora", 9).values["clip_skip"] == 1
    assert preset("person", "SD2 inpainting", "textual_inversion", 20).beside["vectors"] == 6
    assert preset("person", "SDXL", "dreambooth", 9).values["learn_rate"] == "0.0001", "into a LoRA, at a LoRA's rate"
    assert preset("person", "SD1", "dreambooth", 9).values["learn_rate"] == "5e-6"


def test_what_differs_is_found() -> None:
    made = preset("object", "SD1", "lora", 20)
    config = config_class("lora").check({**own("lora"), **made.values, "rank": 99, "learn_rate": f"{float(made.values['learn_rate']):e}", "preview_prompt": made.values["preview_prompt"] + "\n"})
    assert differences(config, made) == [("rank", 8, 99)]
    assert differences({"flip": True}, made) == [("flip", False, True)]


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(InputError, match="preset for 'horse'"):
        preset("horse", "SD1", "lora", 3)
    with pytest.raises(InputError, match="method 'lore'"):
        preset("person", "SD1", "lore", 3)


def test_what_a_card_can_do() -> None:
    said = {(m, f, gb): fits(m, f, None if gb is None else gb * GIB - 2**28).sentence for m in METHODS for f in FAMILIES for gb in (None, 4, 8, 12, 24)}
    assert all("{" not in s and s.endswith(".") for s in said.values())
    assert "only with gradient checkpointing" in said["lora", "SDXL", 8]
    assert "does not fit" in said["fine_tune", "SDXL", 4]
    assert "LoRA does the same for less" in said["fine_tune", "SD1", 8]
    assert all("without care" in said[m, f, 24] for m in METHODS for f in FAMILIES)
