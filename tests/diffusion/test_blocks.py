"""Blocks of a UNet and weights for them: the published counts, presets, and text that is none."""

import pytest
from diffusers import UNet2DConditionModel

from studio.diffusion.blocks import ALL, LAYOUTS, PRESETS, block_of, block_weights
from studio.errors import InputError

SD = {"down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",), "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3, "block_out_channels": (8, 8, 8, 8)}
XL = {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"), "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), "block_out_channels": (8, 8, 8)}


def blocks(attending: bool, **shape: object) -> set[str]:
    unet = UNet2DConditionModel(norm_num_groups=4, cross_attention_dim=8, attention_head_dim=4, layers_per_block=2, **shape)
    found = block_of([path for path, module in unet.named_modules() if getattr(module, "weight", None) is not None])
    return {block for path, block in found.items() if not attending or ".attentions." in path}


@pytest.mark.parametrize(("shape", "count", "attending"), [(SD, 26, False), (SD, 17, True), (XL, 20, False), (XL, 12, True)])
def test_the_published_counts_are_those_of_the_networks(shape: dict, count: int, attending: bool) -> None:
    assert blocks(attending, **shape) | {"BASE"} == set(LAYOUTS[count]) and len(LAYOUTS[count]) == count


@pytest.mark.parametrize("xl", [False, True])
@pytest.mark.parametrize("name", PRESETS)
def test_presets_give_every_block_of_the_family_a_weight(name: str, xl: bool) -> None:
    weights = block_weights(name.lower(), xl)
    assert set(weights) == set(ALL) and set(weights.values()) <= {0.0, 1.0}
    used = [block for block in LAYOUTS[20 if xl else 26] if weights[block]]
    assert len(used) == {"NONE": 0, "ALL": 20 if xl else 26}.get(name, len(used)) and (name in ("NONE", "ALL") or 1 < len(used) < 20)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("INS", "1,1,1,1,0,0,0,0,0,0,0,0,0,0,0,0,0"),
        ("IND", "1,0,0,0,1,1,1,0,0,0,0,0,0,0,0,0,0"),
        ("INALL", "1,1,1,1,1,1,1,0,0,0,0,0,0,0,0,0,0"),
        ("MIDD", "1,0,0,0,1,1,1,1,1,1,1,1,0,0,0,0,0"),
        ("OUTD", "1,0,0,0,0,0,0,0,1,1,1,1,0,0,0,0,0"),
        ("OUTS", "1,0,0,0,0,0,0,0,0,0,0,0,1,1,1,1,1"),
        ("OUTALL", "1,0,0,0,0,0,0,0,1,1,1,1,1,1,1,1,1"),
    ],
)
def test_presets_are_the_usual_seventeen_numbers(name: str, values: str) -> None:
    preset, given = block_weights(name, False), block_weights(values, False)
    assert {block: preset[block] for block in LAYOUTS[17]} == {block: given[block] for block in LAYOUTS[17]}


def test_numbers_go_to_their_blocks_and_the_rest_gets_nothing() -> None:
    weights = block_weights(" 0.5, 0,1, 0,0,0,0,0,0,0,0,0,0,0,0,0,-2.5 ", False)
    assert {block: weight for block, weight in weights.items() if weight} == {"BASE": 0.5, "IN02": 1.0, "OUT11": -2.5}


def test_own_presets_come_first_and_letter_case_does_not_matter() -> None:
    assert block_weights("face", True, {"Face": "0,1" + ",0" * 10})["IN04"] == 1.0
    assert block_weights("ALL", False, {"all": "NONE"})["M00"] == 0.0


def test_r_and_u_are_drawn_by_the_seed_and_x_is_given() -> None:
    text = "R,U,X" + ",0" * 14
    one = block_weights(text, False, seed=1, x=0.25)
    assert one == block_weights(text, False, seed=1, x=0.25) != block_weights(text, False, seed=2, x=0.25)
    assert one["IN02"] == 0.25 and 0 <= one["BASE"] <= 1 and -0.5 <= one["IN01"] <= 1.5


@pytest.mark.parametrize(
    ("text", "xl", "words"),
    [
        ("1" + ",1" * 16, True, "17 block weights.*12 or 20"),
        ("1" + ",1" * 11, False, "12 block weights.*17 or 26"),
        ("FACE", False, "no block weights called 'FACE'"),
        ("", False, "called ''"),
        ("1,b" + ",1" * 15, False, "is 'b'"),
    ],
)
def test_text_that_is_no_block_weights_is_refused(text: str, xl: bool, words: str) -> None:
    with pytest.raises(InputError, match=words):
        block_weights(text, xl)
