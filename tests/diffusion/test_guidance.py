"""The guide of every step: editing, AND, padding, each text encoded once; and what SD2 and SDXL are told."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from studio.diffusion.conditioning import CHUNK_LIMIT, Reading, condition, guidance, used_embeddings
from studio.diffusion.emphasis import weighed
from studio.diffusion.families import SD1, SD2, SDXL, Family
from studio.diffusion.model import Model
from studio.errors import InputError
from studio.prompts.vocabulary import END, START, tokens_of

PLAIN = Reading(size=(64, 96))


def encoder(width: int, projected: bool, seed: int) -> nn.Module:
    """A small random text encoder over CLIP's vocabulary."""
    torch.manual_seed(seed)
    config = CLIPTextConfig(hidden_size=width, intermediate_size=2 * width, num_hidden_layers=3, num_attention_heads=2, projection_dim=24, eos_token_id=END, bos_token_id=START, pad_token_id=1)
    model = (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)
    # A trained encoder's output has a mean; that of a new one is nothing but rounding.
    nn.init.normal_(getattr(model, "text_model", model).final_layer_norm.bias, 0.3, 0.1)
    return model


def made(family: Family) -> Model:
    """A model of a family with nothing but text encoders: 16 wide, and 32 for the second."""
    encoders = tuple(encoder(16 * (i + 1), one.pooled, i) for i, one in enumerate(family.text_encoders))
    bare = nn.Module()
    bare.config = SimpleNamespace(sample_size=8, block_out_channels=(1, 1))
    return Model(family, f"{family.name}.safetensors", "", bare, bare, encoders, {}, torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def sd1() -> Model:
    """Of the SD1 family."""
    return made(SD1)


@pytest.fixture(scope="module")
def sd2() -> Model:
    """Of the SD2 family."""
    return made(SD2)


@pytest.fixture(scope="module")
def xl() -> Model:
    """Of the SDXL family."""
    return made(SDXL)


@pytest.fixture
def encoded(sd1: Model, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Tensor]]:
    """Every row of ids that visits the text encoder."""
    seen: list[Tensor] = []
    inner = sd1.encode

    def watched(ids: Tensor, *rest: object) -> tuple[Tensor, Tensor | None]:
        seen.extend(ids)
        return inner(ids, *rest)

    monkeypatch.setattr(sd1, "encode", watched, raising=False)
    yield seen


def alone(model: Model, text: str, reading: Reading = PLAIN) -> Tensor:
    """What `condition` says of one text."""
    return condition(model, [text], {}, reading).context


def close(one: Tensor, other: Tensor) -> bool:
    """Equal but for the order of additions."""
    return one.shape == other.shape and torch.allclose(one, other, atol=1e-5)


def test_a_plain_pair_of_prompts_is_one_guide_for_all_steps(sd1: Model, encoded: list[Tensor]) -> None:
    guide = guidance(sd1, ("a red circle", "blue"), {}, PLAIN, 20)
    first = guide(0)
    assert all(guide(step) is first for step in range(20))
    assert [weight for _, weight in first.positive] == [1.0]
    assert close(first.positive[0][0].context, alone(sd1, "a red circle"))
    assert close(first.negative.context, alone(sd1, "blue"))
    assert len(encoded) == 4  # two here, and two to compare with


def test_editing_switches_both_prompts_at_their_steps(sd1: Model) -> None:
    guide = guidance(sd1, ("a [red:blue:3] circle", "[dog:cat:.5]"), {}, PLAIN, 10)
    for step in range(10):
        found = guide(step)
        assert close(found.positive[0][0].context, alone(sd1, "a red circle" if step <= 3 else "a blue circle"))
        assert close(found.negative.context, alone(sd1, "dog" if step <= 5 else "cat"))


def test_each_text_is_encoded_once_however_often_it_comes_back(sd1: Model, encoded: list[Tensor]) -> None:
    guide = guidance(sd1, ("[red|blue] circle AND [red|blue] circle:0.5", "red circle"), {}, PLAIN, 30)
    for step in range(30):
        guide(step)
    assert len(encoded) == 2


def test_chunks_that_texts_share_are_encoded_once(sd1: Model, encoded: list[Tensor]) -> None:
    guidance(sd1, ("red " * 75 + "[a|b|c]", ""), {}, PLAIN, 9)
    assert len(encoded) == 5


def test_parts_that_and_joins_keep_their_weights_and_get_one_length(sd1: Model) -> None:
    long = "red " * 80
    found = guidance(sd1, (f"blue:0.5 AND {long}:-1", "cat"), {}, PLAIN, 4)(0)
    (short, half), (other, minus) = found.positive
    assert (half, minus) == (0.5, -1.0)
    assert close(short.context[:, :77], alone(sd1, "blue"))
    assert torch.equal(short.context[:, 77:], short.context[:, 76:77].expand(-1, 77, -1))
    assert close(other.context, alone(sd1, long))
    assert found.negative.context.shape[1] == 77


def test_texts_of_one_schedule_are_made_equally_long_by_empty_chunks(sd1: Model) -> None:
    guide = guidance(sd1, ("[blue:" + "red " * 80 + ":2]", ""), {}, PLAIN, 4)
    assert close(guide(0).positive[0][0].context, torch.cat([alone(sd1, "blue"), alone(sd1, "")], 1))


def test_weights_of_one_schedule_are_balanced_over_all_its_steps(sd1: Model) -> None:
    guide = guidance(sd1, ("(red:1.5) [a:b:1]", ""), {}, PLAIN, 4)
    raw = torch.cat([alone(sd1, "red a"), alone(sd1, "red b")])
    weights = torch.ones(77)
    weights[1] = 1.5
    scaled = raw * weights[None, :, None]
    # The schedule holds two texts, one entry each: A1111 takes the mean over both.
    ratio = raw.mean() / scaled.mean()
    for step, row in ((0, 0), (3, 1)):
        assert close(guide(step).positive[0][0].context, scaled[row : row + 1] * ratio)


def test_alternating_texts_count_as_often_as_they_come(sd1: Model) -> None:
    guide = guidance(sd1, ("(red:1.5) [a|b]", ""), {}, PLAIN, 3)
    raw = torch.cat([alone(sd1, "red a"), alone(sd1, "red b"), alone(sd1, "red a")])
    weights = torch.ones(77)
    weights[1] = 1.5
    scaled = raw * weights[None, :, None]
    assert close(guide(0).positive[0][0].context, scaled[:1] * raw.mean() / scaled.mean())


def test_the_second_pass_counts_on_from_the_first(sd1: Model) -> None:
    first, second = (guidance(sd1, ("[red:blue:1.5]", ""), {}, PLAIN, 10, hires) for hires in (0, 4))
    assert all(close(first(step).positive[0][0].context, alone(sd1, "red")) for step in range(10))
    assert [close(second(step).positive[0][0].context, alone(sd1, "blue")) for step in range(4)] == [False, False, False, True]


def test_embeddings_are_spliced_in_every_text_and_named(sd1: Model) -> None:
    words = {"one": sd1.token_table[tokens_of("red")].clone(), "two": sd1.token_table[tokens_of("blue square")].clone()}
    guide = guidance(sd1, ("[a one:a two:2]", "one"), words, PLAIN, 4)
    assert close(guide(0).positive[0][0].context, alone(sd1, "a red"))
    assert close(guide(3).positive[0][0].context, alone(sd1, "a blue square"))
    assert close(guide(0).negative.context, alone(sd1, "red"))
    assert (guide(0).positive[0][0].used, guide(3).positive[0][0].used, guide(0).negative.used) == (("one",), ("two",), ("one",))


def test_used_embeddings_are_those_of_every_step() -> None:
    prompts = ("a [ONE:two:0.5] AND (three:1.2)", "[x|four], five-2")
    assert used_embeddings(prompts, ["one", "two", "three", "four", "five", "six"], 10) == ("one", "two", "three", "four")
    assert used_embeddings(("[one:two:5]", ""), ["one", "two"], 10, 10) == ("two",)


def test_a_prompt_that_needs_too_many_chunks_is_refused_in_words(sd1: Model) -> None:
    with pytest.raises(InputError, match="more than 2,048 chunks"):
        guidance(sd1, ("红" * 15_000 + "[" + "|".join("abcdefghijkl") + "]", ""), {}, PLAIN, 20)
    with pytest.raises(InputError, match="chunks"):
        condition(sd1, ["BREAK " * (CHUNK_LIMIT + 1) + "a"], {})


def test_a_prompt_of_a_million_letters_is_refused_in_words(sd1: Model) -> None:
    with pytest.raises(InputError, match="1,000,000 letters"):
        guidance(sd1, ("(" * 1_000_000, ""), {}, PLAIN, 20)


@pytest.mark.parametrize(("emphasis", "keeps"), [("Original", True), ("No norm", False)])
def test_weights_scale_each_token_and_original_brings_the_mean_back(sd1: Model, emphasis: str, keeps: bool) -> None:
    plain = alone(sd1, "a red circle")
    weights = torch.ones(77, dtype=torch.float64)
    weights[2], weights[3] = 1.5, 0.5
    wanted = plain.double() * weights[None, :, None]
    wanted = wanted * (plain.double().mean() / wanted.mean()) if keeps else wanted
    found = alone(sd1, "a (red:1.5) (circle:.5)", Reading(emphasis=emphasis, size=(64, 64)))
    assert torch.allclose(found.double(), wanted, atol=1e-5)


def test_ignored_weights_leave_the_words_without_brackets(sd1: Model) -> None:
    assert torch.equal(alone(sd1, "a ((red:1.5)) [circle]", Reading(emphasis="Ignore", size=(64, 64))), alone(sd1, "a red circle"))


def test_each_chunk_has_its_own_mean(sd1: Model) -> None:
    found = alone(sd1, "(red:1.5) BREAK blue")
    assert close(found[:, 77:], alone(sd1, "blue"))
    assert close(found[:, :77], alone(sd1, "(red:1.5)"))


def test_sdxl_is_told_pooled_text_of_the_first_chunk_and_sizes(xl: Model) -> None:
    found = condition(xl, ["a red circle BREAK blue", "square"], {}, PLAIN)
    _, pooled = xl.encode(torch.tensor([[START, *tokens_of(text), *[END] * (76 - len(tokens_of(text)))] for text in ("a red circle", "square")]))
    assert found.context.shape == (2, 154, 48)
    assert close(found.pooled, pooled)
    assert found.sizes.tolist() == [[96, 64, 0, 0, 96, 64]] * 2


def test_weights_do_not_touch_pooled_text_and_each_encoder_keeps_its_own_mean(xl: Model) -> None:
    plain, heavy = (condition(xl, [text], {}, PLAIN) for text in ("a red circle", "a (red:1.5) circle"))
    assert torch.equal(plain.pooled, heavy.pooled)
    for part in (slice(0, 16), slice(16, 48)):
        assert heavy.context[..., part].mean().item() == pytest.approx(plain.context[..., part].mean().item(), abs=1e-6)
        assert not torch.allclose(plain.context[..., part], heavy.context[..., part], atol=1e-3)


def test_an_sdxl_embedding_speaks_to_both_encoders(xl: Model) -> None:
    ids = tokens_of("red circle")
    both = torch.cat([one.get_input_embeddings().weight[ids] for one in xl.text_encoders], 1)
    found = condition(xl, ["a myword here"], {"myword": both}, PLAIN)
    wanted = condition(xl, ["a red circle here"], {}, PLAIN)
    assert close(found.context, wanted.context)
    assert close(found.pooled, wanted.pooled)


@pytest.mark.parametrize(("text", "silent"), [("", True), ("a", False), ("[:a:3]", False)])
def test_sdxl_hears_zeros_for_a_negative_prompt_that_is_always_empty(xl: Model, text: str, silent: bool) -> None:
    found = guidance(xl, ("red", text), {}, PLAIN, 5)(0).negative
    assert bool((found.context == 0).all()) == bool((found.pooled == 0).all()) == silent
    assert found.sizes.tolist() == [[96, 64, 0, 0, 96, 64]]


def test_sd1_and_sd2_hear_an_empty_negative_prompt_as_words(sd1: Model, sd2: Model) -> None:
    for model in (sd1, sd2):
        found = guidance(model, ("red", ""), {}, PLAIN, 5)(0).negative
        assert bool((found.context != 0).any())
        assert (found.pooled, found.sizes) == (None, None)


def test_sd2_is_padded_with_zeros_and_hears_no_clip_skip(sd2: Model) -> None:
    ids = torch.tensor([[START, *tokens_of("red"), END, *[0] * 74]])
    inner = sd2.text_encoder
    wanted = inner(ids).last_hidden_state
    assert close(alone(sd2, "red"), wanted)
    assert torch.equal(alone(sd2, "red", Reading(clip_skip=2, size=(64, 64))), alone(sd2, "red"))


@pytest.mark.parametrize(("width", "family"), [(768, "SD1"), (1024, "SD2"), (2048, "SDXL")])
def test_an_embedding_of_another_family_is_refused_naming_both(sd1: Model, width: int, family: str) -> None:
    with pytest.raises(InputError, match=rf"width {width}, as {family} has them, but SD1\.safetensors \(SD1\) needs 16") as caught:
        guidance(sd1, ("a", "myword"), {"myword": torch.zeros(2, width)}, PLAIN, 5)
    assert family in caught.value.hint


def test_nothing_of_a_guide_holds_gradients(sd1: Model) -> None:
    live = torch.zeros(1, 16, requires_grad=True)
    found = guidance(sd1, ("myword", ""), {"myword": live}, PLAIN, 5)(0)
    assert not found.positive[0][0].context.requires_grad


def test_a_mean_that_is_nothing_but_rounding_is_left_alone() -> None:
    hidden = torch.tensor([1.0, -1.0]).repeat(38).reshape(1, 1, 76, 1)
    weights = torch.ones(1, 1, 76)
    weights[..., :2] = 1.5
    assert torch.equal(weighed(hidden, weights, "Original", (1,)), hidden * weights[..., None])
