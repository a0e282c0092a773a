"""Families are recognised from the names and shapes in a header alone, and what is no family of ours is told in words."""

import pytest

from studio.diffusion.families import FAMILIES, SD1, SD2, SD2_INPAINT, SD2_V, SDXL, SDXL_INPAINT, Family, recognise
from studio.errors import Unreadable

UNET = "model.diffusion_model."
ONE = "cond_stage_model.transformer.text_model.final_layer_norm.bias"
TWO = "cond_stage_model.model.ln_final.bias"
XL = ("conditioner.embedders.0.transformer.text_model.final_layer_norm.bias", "conditioner.embedders.1.model.ln_final.bias")


def header(channels: int, *texts: str) -> dict[str, tuple[int, ...]]:
    """The names that tell a family, with the shapes they have in published files."""
    return {f"{UNET}input_blocks.0.0.weight": (320, channels, 3, 3), f"{UNET}out.2.bias": (4,), "first_stage_model.quant_conv.bias": (8,), **dict.fromkeys(texts, (768,))}


@pytest.mark.parametrize(
    ("name", "channels", "texts", "prediction"),
    [
        ("SD1", 4, (ONE,), None),
        ("SD1", 4, (ONE.replace("text_model.", ""),), None),
        ("SD1", 4, (ONE,), "v_prediction"),
        ("SD1 inpainting", 9, (ONE,), None),
        ("SD2", 4, (TWO,), None),
        ("SD2", 4, (TWO,), "epsilon"),
        ("SD2 v", 4, (TWO,), "v_prediction"),
        ("SD2 inpainting", 9, (TWO,), None),
        ("SDXL", 4, XL, None),
        ("SDXL", 4, XL, "v_prediction"),
        ("SDXL inpainting", 9, XL, None),
    ],
)
def test_each_family_by_its_header(name: str, channels: int, texts: tuple[str, ...], prediction: str | None) -> None:
    family = recognise("file", header(channels, *texts), prediction)
    assert family.name == name
    assert family.matches(header(channels, *texts))


def test_no_header_is_of_two_families_but_for_what_it_predicts() -> None:
    for channels in (4, 9):
        for texts in ((ONE,), (TWO,), XL):
            found = [family for family in FAMILIES if family.matches(header(channels, *texts))]
            assert len({(f.unet_channels, f.text_encoders) for f in found}) == 1


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (header(8, ONE), "8 channels"),
        (header(5, TWO), "5 channels"),
        (header(4), "no text encoder"),
        ({"conditioner.embedders.0.model.ln_final.bias": (1280,), **header(4)}, "SDXL refiner"),
        ({"model.diffusion_model.joint_blocks.0.x.weight": (1, 1)}, "Stable Diffusion 3"),
        ({"model.diffusion_model.double_blocks.0.x.weight": (1, 1)}, "Flux"),
        ({"lora_te_text_model_x.lora_up.weight": (1, 1)}, "models/Lora"),
        ({"encoder.conv_in.weight": (128, 3, 3, 3)}, "models/VAE"),
        ({"emb_params": (1, 768)}, "embeddings"),
        ({"control_model.x": (1,)}, "ControlNet"),
        ({"down_blocks.0.resnets.0.conv1.weight": (1, 1, 3, 3)}, "diffusers layout"),
        ({"a": (1,)}, "no text encoder, UNet and VAE"),
        ({}, "no text encoder, UNet and VAE"),
    ],
)
def test_what_is_no_family_of_ours_is_refused_by_what_it_is(names: dict[str, tuple[int, ...]], words: str) -> None:
    with pytest.raises(Unreadable, match=words) as caught:
        recognise("that file", names)
    assert "that file" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("shape", [(), (4,), (1, 4, 3, 3)])
def test_a_first_convolution_of_nonsense_is_no_crash(shape: tuple[int, ...]) -> None:
    try:
        recognise("file", {f"{UNET}input_blocks.0.0.weight": shape, ONE: (768,)})
    except Unreadable as error:
        assert error.hint


FACTS = {
    SD1: (768, 512, 0.18215, "epsilon", False, [(49407, 1, True, False)]),
    SD2: (1024, 512, 0.18215, "epsilon", False, [(0, 1, True, False)]),
    SD2_V: (1024, 768, 0.18215, "v_prediction", False, [(0, 1, True, False)]),
    SD2_INPAINT: (1024, 512, 0.18215, "epsilon", False, [(0, 1, True, False)]),
    SDXL: (2048, 1024, 0.13025, "epsilon", True, [(49407, 2, False, False), (0, 2, False, True)]),
    SDXL_INPAINT: (2048, 1024, 0.13025, "epsilon", True, [(49407, 2, False, False), (0, 2, False, True)]),
}


@pytest.mark.parametrize("family", FACTS, ids=lambda family: family.name)
def test_what_each_family_is_published_with(family: Family) -> None:
    texts = [(e.pad, e.layer, e.normed, e.pooled) for e in family.text_encoders]
    assert (family.context_width, family.resolution, family.latent_scale, family.prediction, family.micro_conditions, texts) == FACTS[family]
    assert family.inpaints == (family.unet_channels == 9)


def test_names_are_unique_and_only_the_first_familys_clip_skip_is_heard() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    assert {family.name for family in FAMILIES if any(e.skippable for e in family.text_encoders)} == {"SD1", "SD1 inpainting"}
