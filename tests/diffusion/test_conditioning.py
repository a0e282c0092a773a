"""Prompts to contexts: chunks of 75, weights, and embeddings spliced in as words."""

import pytest
import torch

from studio.diffusion.conditioning import Reading, condition
from studio.diffusion.model import Model
from studio.errors import InputError, StudioError
from studio.prompts.vocabulary import END, START, tokens_of


def vectors(model: Model, count: int, seed: int = 0) -> torch.Tensor:
    """Random vectors as long as the model's own tokens."""
    x = torch.randn(count, model.width, generator=torch.Generator().manual_seed(seed))
    return x / x.norm(dim=1, keepdim=True) * model.median_norm


def plain(model: Model, ids: list[int]) -> torch.Tensor:
    """The text encoder's own answer to one chunk of ids."""
    row = [START, *ids, *[END] * (76 - len(ids))]
    return model.text_encoder(torch.tensor([row])).last_hidden_state


@pytest.mark.parametrize(("count", "chunks"), [(0, 1), (1, 1), (75, 1), (76, 2), (150, 2), (151, 3)])
def test_each_75_tokens_give_77_rows_of_context(tiny: Model, count: int, chunks: int) -> None:
    assert len(tokens_of("red " * count)) == count
    assert condition(tiny, ["red " * count], {}).context.shape == (1, 77 * chunks, tiny.width)


def test_a_plain_prompt_is_what_the_text_encoder_says(tiny: Model) -> None:
    found = condition(tiny, ["a red circle"], {}).context
    assert torch.allclose(found, plain(tiny, tokens_of("a red circle")), atol=1e-5)


def test_the_second_chunk_is_encoded_by_itself(tiny: Model) -> None:
    found = condition(tiny, ["red " * 75 + "blue square"], {}).context
    assert torch.allclose(found[:, 77:], plain(tiny, tokens_of("blue square")), atol=1e-5)


def test_a_short_prompt_beside_a_long_one_is_padded_with_an_empty_chunk(tiny: Model) -> None:
    found = condition(tiny, ["a red circle", "red " * 80], {}).context
    assert found.shape == (2, 154, tiny.width)
    assert torch.allclose(found[:1, 77:], plain(tiny, []), atol=1e-5)
    assert torch.allclose(found[1:], condition(tiny, ["red " * 80], {}).context, atol=1e-5)


def test_break_begins_a_new_chunk(tiny: Model) -> None:
    found = condition(tiny, ["red circle BREAK blue square"], {}).context
    assert torch.allclose(found, torch.cat([plain(tiny, tokens_of("red circle")), plain(tiny, tokens_of("blue square"))], 1), atol=1e-5)


def test_a_weight_changes_the_context_and_keeps_its_mean(tiny: Model) -> None:
    before, after = (condition(tiny, [p], {}).context for p in ("a red circle", "a (red:1.5) circle"))
    assert not torch.allclose(before, after, atol=1e-4)
    assert after.mean().item() == pytest.approx(before.mean().item(), abs=1e-6)
    ratio = (after / before)[0].median(dim=1).values
    assert (ratio[2] / ratio[1]).item() == pytest.approx(1.5, rel=1e-3)


@pytest.mark.parametrize("text", ["(" * 10_000 + "red", "(red" * 3_000, "(red:99999999999999999999999999999999999999999)"])
def test_weights_too_large_for_numbers_are_refused_in_words(tiny: Model, text: str) -> None:
    with pytest.raises(InputError, match="weight in the prompt is too large") as caught:
        condition(tiny, [text], {})
    assert "brackets" in caught.value.hint


@pytest.mark.parametrize("text", ["(red:0)", "(red:-1) circle", "[" * 10_000 + "red", "(red:1000)"])
def test_odd_weights_still_give_finite_contexts(tiny: Model, text: str) -> None:
    assert torch.isfinite(condition(tiny, [text], {}).context).all()


def test_a_weight_of_one_changes_nothing(tiny: Model) -> None:
    assert torch.equal(condition(tiny, ["a (red:1) circle"], {}).context, condition(tiny, ["a red circle"], {}).context)


@pytest.mark.parametrize("text", ["{} red", "red {} circle", "red {}", "a,{},b", "({}:1.0) red", "[({})] red"])
def test_an_embedding_is_found_anywhere_in_the_prompt(tiny: Model, text: str) -> None:
    one, two = (condition(tiny, [text.format("mywordx")], {"mywordx": vectors(tiny, 2, seed)}) for seed in (1, 2))
    assert one.used == two.used == ("mywordx",)
    assert not torch.allclose(one.context, two.context, atol=1e-4)


@pytest.mark.parametrize("count", [1, 3, 8])
def test_an_embedding_takes_as_many_places_as_it_has_vectors(tiny: Model, count: int) -> None:
    words = {"myword": vectors(tiny, count)}
    assert condition(tiny, ["myword " + "red " * (75 - count)], words).context.shape[1] == 77
    assert condition(tiny, ["myword " + "red " * (76 - count)], words).context.shape[1] == 154


def test_vectors_copied_from_the_token_table_act_like_those_tokens(tiny: Model) -> None:
    ids = tokens_of("red circle")
    words = {"myword": tiny.token_table[ids].clone()}
    assert torch.allclose(condition(tiny, ["a myword on blue"], words).context, condition(tiny, ["a red circle on blue"], {}).context, atol=1e-5)


def test_an_embedding_used_twice_is_spliced_twice_and_named_once(tiny: Model) -> None:
    words = {"myword": tiny.token_table[tokens_of("red")].clone()}
    found = condition(tiny, ["myword and myword"], words)
    assert found.used == ("myword",)
    assert torch.allclose(found.context, condition(tiny, ["red and red"], {}).context, atol=1e-5)


def test_two_embeddings_do_not_mix_up_their_vectors(tiny: Model) -> None:
    words = {"one": tiny.token_table[tokens_of("red circle")].clone(), "two": tiny.token_table[tokens_of("blue")].clone()}
    found = condition(tiny, ["two beside one", "one"], words)
    assert set(found.used) == {"one", "two"}
    assert torch.allclose(found.context, condition(tiny, ["blue beside red circle", "red circle"], {}).context, atol=1e-5)


def test_an_embedding_is_not_torn_between_two_chunks(tiny: Model) -> None:
    words = {"myword": tiny.token_table[tokens_of("blue square")].clone()}
    found = condition(tiny, ["red " * 74 + "myword"], words).context
    assert torch.allclose(found[:, 77:], plain(tiny, tokens_of("blue square")), atol=1e-5)


@pytest.mark.parametrize("text", ["MyWord", "myword", "MYWORD", "a MYword."])
def test_upper_and_lower_case_name_the_same_embedding(tiny: Model, text: str) -> None:
    assert condition(tiny, [text], {"MyWord": vectors(tiny, 1)}).used == ("MyWord",)


@pytest.mark.parametrize("text", ["mywords", "amyword", "my word", "myword_2", "myword-2", "x-myword", ""])
def test_part_of_another_word_names_no_embedding(tiny: Model, text: str) -> None:
    found = condition(tiny, [text], {"myword": vectors(tiny, 1)})
    assert found.used == ()
    assert torch.equal(found.context, condition(tiny, [text], {}).context)


def test_the_longest_name_wins(tiny: Model) -> None:
    words = {"my": vectors(tiny, 1), "my style": vectors(tiny, 1, 1)}
    assert condition(tiny, ["a my style here"], words).used == ("my style",)


def test_letters_with_a_meaning_in_patterns_are_plain_in_a_name(tiny: Model) -> None:
    words = {"a.b+": vectors(tiny, 1)}
    assert condition(tiny, ["red a.b+ circle"], words).used == ("a.b+",)
    assert condition(tiny, ["red axbb circle"], words).used == ()


def test_an_embedding_that_is_not_in_the_prompt_changes_nothing(tiny: Model) -> None:
    found = condition(tiny, ["a red circle"], {"myword": vectors(tiny, 1), "wide": torch.zeros(1, 3)})
    assert torch.equal(found.context, condition(tiny, ["a red circle"], {}).context)


@pytest.mark.parametrize("extra", [1, -1, 640])
def test_an_embedding_of_another_width_is_refused_in_words(tiny: Model, extra: int) -> None:
    with pytest.raises(StudioError) as caught:
        condition(tiny, ["a myword"], {"myword": torch.zeros(2, tiny.width + extra)})
    for word in ("myword", str(tiny.width + extra), str(tiny.width), tiny.checkpoint):
        assert word in caught.value.message
    assert caught.value.hint


def test_an_embedding_longer_than_a_chunk_is_refused_in_words(tiny: Model) -> None:
    assert condition(tiny, ["myword"], {"myword": vectors(tiny, 75)}).context.shape[1] == 77
    with pytest.raises(InputError, match="76 vectors"):
        condition(tiny, ["myword"], {"myword": vectors(tiny, 76)})


@pytest.mark.parametrize("clip_skip", [1, 2])
def test_gradient_flows_to_every_vector_and_to_no_weight(tiny: Model, clip_skip: int) -> None:
    x = vectors(tiny, 3).requires_grad_()
    unused = vectors(tiny, 1).requires_grad_()
    condition(tiny, ["a (myword:1.2) circle"], {"myword": x, "other": unused}, Reading(clip_skip)).context.square().sum().backward()
    assert torch.isfinite(x.grad).all()
    assert (x.grad.norm(dim=1) > 0).all()
    assert unused.grad is None
    assert all(p.grad is None for p in tiny.text_encoder.parameters())


def test_clip_skip_takes_an_earlier_layer(tiny: Model) -> None:
    one, two, three = (condition(tiny, ["a red circle"], {}, Reading(skip)).context for skip in (1, 2, 3))
    assert one.shape == two.shape == three.shape
    assert not torch.allclose(one, two, atol=1e-3)
    assert not torch.allclose(two, three, atol=1e-3)


def test_the_model_is_as_before_after_an_embedding_was_used(tiny: Model) -> None:
    before = condition(tiny, ["a red circle"], {}).context
    condition(tiny, ["a myword"], {"myword": vectors(tiny, 2)})
    assert torch.equal(condition(tiny, ["a red circle"], {}).context, before)


def test_names_that_begin_alike_are_told_apart(tiny: Model) -> None:
    ids = {"style": tokens_of("red"), "style-a": tokens_of("blue square"), "style-ab": tokens_of("green")}
    words = {name: tiny.token_table[i].clone() for name, i in ids.items()}
    found = condition(tiny, ["style-a beside style"], words)
    assert found.used == ("style-a", "style")
    assert torch.allclose(found.context, condition(tiny, ["blue square beside red"], {}).context, atol=1e-5)


@pytest.mark.parametrize("text", ["一个红圈在蓝色上", "红圈", "(红圈:1.0)，蓝色", "a 红圈 b"])
def test_a_chinese_name_is_found_in_chinese_text(tiny: Model, text: str) -> None:
    words = {"红圈": tiny.token_table[tokens_of("red circle")].clone()}
    found = condition(tiny, [text], words)
    assert found.used == ("红圈",)
    assert torch.allclose(found.context, condition(tiny, [text.replace("红圈", " red circle ")], {}).context, atol=1e-5)


def test_a_full_chunk_goes_back_to_a_comma_that_is_near_enough(tiny: Model) -> None:
    text = "red " * 60 + ", " + "blue " * 20
    near, far = (condition(tiny, [text], {}, Reading(comma_backtrack=back)).context for back in (20, 5))
    assert torch.allclose(near[:, :77], plain(tiny, tokens_of("red " * 60 + ",")), atol=1e-5)
    assert torch.allclose(near[:, 77:], plain(tiny, tokens_of("blue " * 20)), atol=1e-5)
    assert torch.allclose(far[:, 77:], plain(tiny, tokens_of("blue " * 6)), atol=1e-5)


@pytest.mark.parametrize("text", ["red AND blue", "red <lora:x:1>", "red # blue", "red |blue"])
def test_what_only_generation_reads_stays_text(tiny: Model, text: str) -> None:
    assert torch.allclose(condition(tiny, [text], {}).context, plain(tiny, tokens_of(text)), atol=1e-5)


def test_editing_stays_text_with_less_weight(tiny: Model) -> None:
    found = condition(tiny, ["[red:blue:3]"], {}, Reading(emphasis="Ignore")).context
    assert torch.allclose(found, plain(tiny, tokens_of("red:blue:3")), atol=1e-5)


def test_a_break_inside_brackets_begins_a_new_chunk(tiny: Model) -> None:
    found = condition(tiny, ["(red circle BREAK blue:1.2)"], {}, Reading(emphasis="Ignore")).context
    assert torch.allclose(found, torch.cat([plain(tiny, tokens_of("red circle")), plain(tiny, tokens_of("blue"))], 1), atol=1e-5)


@pytest.mark.parametrize("emphasis", ["Original", "No norm", "Ignore"])
def test_gradients_flow_through_every_kind_of_emphasis(tiny: Model, emphasis: str) -> None:
    x = vectors(tiny, 2).requires_grad_()
    condition(tiny, ["a (myword:1.3) BREAK myword", "red"], {"myword": x}, Reading(emphasis=emphasis)).context.square().sum().backward()
    assert (x.grad.norm(dim=1) > 0).all()


def test_a_prompt_of_a_million_letters_ends_in_words(tiny: Model) -> None:
    with pytest.raises(InputError, match="more than 2,048 chunks"):
        condition(tiny, ["red, " * 200_000], {})
