"""BLIP speaks as transformers' own generation does, from a folder and from the file it was released as; damaged files are refused in words."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from studio.dataset.captioners import find_blip, load_blip
from studio.dataset.captioners.released import NEW_NAMES, renamed
from studio.errors import NotFound, Unreadable
from studio.requests.caption import CaptionOptions
from studio.settings import Paths
from tests.dataset.captioners.small import WORDS, picture, write_blip

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BLIP, with words enough that two pictures get different sentences."""
    return write_blip(tmp_path_factory.mktemp("BLIP") / "small")


def released(folder: Path, file: Path) -> Path:
    """A BLIP folder as one file of the original release, its names written out apart from the reader; returns the file."""
    state = {}
    for name, value in load_file(folder / "model.safetensors").items():
        for new, old in (
            ("vision_model.embeddings.class_embedding", "visual_encoder.cls_token"),
            ("vision_model.embeddings.position_embedding", "visual_encoder.pos_embed"),
            ("vision_model.embeddings.patch_embedding", "visual_encoder.patch_embed.proj"),
            ("vision_model.post_layernorm", "visual_encoder.norm"),
            ("vision_model.encoder.layers", "visual_encoder.blocks"),
            ("self_attn.projection", "attn.proj"),
            ("self_attn.qkv", "attn.qkv"),
            ("layer_norm", "norm"),
        ):
            name = name.replace(new, old) if new != "layer_norm" or "visual" in name else name
        state[name] = value.clone()
    state["text_decoder.bert.embeddings.position_ids"] = torch.arange(64)[None]
    state["text_decoder.cls.predictions.decoder.weight"] = state["text_decoder.bert.embeddings.word_embeddings.weight"]
    state["text_decoder.cls.predictions.decoder.bias"] = state["text_decoder.cls.predictions.bias"]
    state["vision_proj.weight"] = torch.zeros(4, 64)
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": state}, file)
    file.with_name("vocab.txt").write_text("\n".join(WORDS) + "\n")
    return file


def test_a_sentence_is_the_one_of_transformers_own_generation(folder: Path) -> None:
    from transformers import BlipForConditionalGeneration, BlipProcessor

    model, processor = BlipForConditionalGeneration.from_pretrained(folder), BlipProcessor.from_pretrained(folder)
    for beams, shortest, longest in ((1, 0, 12), (3, 0, 12), (1, 10, 12), (1, 0, 5)):
        options = CaptionOptions(sentence_beams=beams, sentence_min=shortest, sentence_max=longest)
        ids = model.generate(**processor(images=picture(1), return_tensors="pt"), num_beams=beams, min_length=shortest, max_length=longest)
        assert load_blip(folder, CPU).caption(picture(1), options) == processor.decode(ids[0], skip_special_tokens=True).strip()


def test_pictures_looked_at_together_get_the_sentences_they_get_alone(folder: Path) -> None:
    blip, options = load_blip(folder, CPU), CaptionOptions(sentence_max=12)
    pictures = [picture(seed) for seed in range(5)]
    together = [saying.sentence for saying in blip.sayings(pictures, options)]
    assert together == [blip.caption(p, options) for p in pictures]
    assert len(set(together)) > 1


def test_the_first_words_can_be_given(folder: Path) -> None:
    from transformers import BlipForConditionalGeneration, BlipProcessor

    model, processor = BlipForConditionalGeneration.from_pretrained(folder), BlipProcessor.from_pretrained(folder)
    ids = model.generate(**processor(images=picture(1), text="a photo of", return_tensors="pt"), max_length=12)
    options = CaptionOptions(sentence_start=" a photo of ", sentence_max=12)
    said = load_blip(folder, CPU).caption(picture(1), options)
    assert said.startswith("a photo of")
    assert said == processor.decode(ids[0], skip_special_tokens=True).strip()
    assert load_blip(folder, CPU).caption(picture(1), CaptionOptions(sentence_start="a photo of", sentence_max=1)).startswith("a photo of")


def test_a_number_in_the_place_of_options_changes_nothing_for_a_sentence(folder: Path) -> None:
    blip = load_blip(folder, CPU)
    assert blip.caption(picture(), 0.9) == blip.caption(picture(), CaptionOptions())


def test_only_a_network_of_full_size_is_asked_for_twenty_four_tokens(folder: Path) -> None:
    blip = load_blip(folder, CPU)
    assert blip._shortest(CaptionOptions()) == 0
    blip.model.config.text_config.hidden_size = 768
    assert blip._shortest(CaptionOptions()) == 24
    assert blip._shortest(CaptionOptions(sentence_min=3)) == 3


def test_the_released_file_says_what_the_folder_says(folder: Path, tmp_path: Path) -> None:
    file = released(folder, tmp_path / "BLIP" / "model_base_caption_capfilt_large.pth")
    one, other = load_blip(folder, CPU), load_blip(file, CPU)
    options = CaptionOptions(sentence_max=12, sentence_beams=2)
    assert [one.caption(picture(s), options) for s in range(3)] == [other.caption(picture(s), options) for s in range(3)]
    pixels = one.processor(images=picture(), return_tensors="pt")["pixel_values"]
    assert torch.equal(pixels, other.processor(images=picture(), return_tensors="pt")["pixel_values"])
    ids = torch.tensor([[len(WORDS), 5, 6]])
    assert torch.equal(one.model(pixel_values=pixels, input_ids=ids).logits, other.model(pixel_values=pixels, input_ids=ids).logits)


def test_every_rule_of_the_renaming_is_used_and_other_heads_are_left_out(folder: Path, tmp_path: Path) -> None:
    state = torch.load(released(folder, tmp_path / "a.pth"))["model"]
    assert all(any(re.search(old, name) for name in state) for old, _ in NEW_NAMES)
    assert "vision_proj.weight" not in renamed(state)
    assert set(load_file(folder / "model.safetensors")) <= set(renamed(state))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda s: s.pop("visual_encoder.pos_embed"), "no visual_encoder"),
        (lambda s: s.pop("visual_encoder.blocks.1.attn.qkv.bias"), "weights are missing"),
        (lambda s: s.update({"text_decoder.more": torch.zeros(1)}), "unknown"),
        (lambda s: s.update({"visual_encoder.patch_embed.proj.weight": torch.zeros(3)}), "cannot be loaded"),
        (lambda s: s.update({"text_decoder.bert.embeddings.word_embeddings.weight": torch.zeros(999, 64)}), "999 words"),
        (lambda s: s.clear(), "not a BLIP"),
    ],
)
def test_a_release_of_another_layout_is_refused_in_words(folder: Path, tmp_path: Path, spoil: object, reason: str) -> None:
    file = released(folder, tmp_path / "wrong.pth")
    whole = torch.load(file)
    spoil(whole["model"])
    torch.save(whole, file)
    with pytest.raises(Unreadable, match=reason) as caught:
        load_blip(file, CPU)
    assert "wrong.pth" in str(caught.value)
    assert caught.value.hint


def test_a_release_without_a_vocabulary_says_what_is_missing(folder: Path, tmp_path: Path) -> None:
    file = released(folder, tmp_path / "alone.pth")
    file.with_name("vocab.txt").unlink()
    with pytest.raises(Unreadable, match=r"alone\.pth has no vocabulary.*vocab\.txt of bert-base-uncased"):
        load_blip(file, CPU)
    file.with_name("vocab.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(Unreadable, match=r"vocab\.txt beside BLIP cannot be read"):
        load_blip(file, CPU)


def broken(folder: Path, copy: Path, part: str) -> Path:
    """A copy of a folder with one file spoilt."""
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    if part == "weights cut":
        (copy / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:5000])
    elif part == "a weight missing":
        save_file({k: v for k, v in load_file(folder / "model.safetensors").items() if "layers.1.mlp.fc1" not in k}, copy / "model.safetensors", {"format": "pt"})
    elif part == "config damaged":
        (copy / "config.json").write_text("{")
    elif part == "config of another":
        (copy / "config.json").write_text(json.dumps({"model_type": "blip", "text_config": {"hidden_size": 48}}))
    elif part == "no weights":
        (copy / "model.safetensors").unlink()
    elif part == "no words":
        for name in ("tokenizer.json", "vocab.txt", "tokenizer_config.json"):
            (copy / name).unlink(missing_ok=True)
    return copy


@pytest.mark.parametrize("part", ["weights cut", "a weight missing", "config damaged", "config of another", "no weights", "no words"])
def test_a_damaged_folder_is_refused_in_words(folder: Path, tmp_path: Path, part: str) -> None:
    with pytest.raises(Unreadable, match=r"The BLIP captioner broken cannot be loaded") as caught:
        load_blip(broken(folder, tmp_path / "broken", part), CPU)
    assert "config.json" in caught.value.hint


def test_the_shipped_one_is_found_after_an_own_one(root: Paths, folder: Path) -> None:
    assert find_blip(root).name == "tiny-blip"
    root.blip.mkdir(parents=True, exist_ok=True)
    (root.blip / "mine").symlink_to(folder)
    assert find_blip(root) == root.blip / "mine"


def test_without_any_blip_the_place_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studio.settings.SHIPPED_ROOT", tmp_path / "elsewhere")
    with pytest.raises(NotFound, match=r"models/BLIP"):
        find_blip(Paths(tmp_path / "new"))
