"""The tiny BLIP: a captioner in BLIP's own layout that says what is in a picture of the world."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from studio.tinyworld.backgrounds import PATTERNS as BACKGROUND_PATTERNS
from studio.tinyworld.backgrounds import SCENES
from studio.tinyworld.monsters import BODIES, EYES, HATS, MOUTHS
from studio.tinyworld.monsters import PATTERNS as SKIN_PATTERNS
from studio.tinyworld.palette import NAMES, SIDE
from studio.tinyworld.study import Drawn, Plan, chosen, drawn, shaken, study
from studio.tinyworld.things import EMOJI, SHAPES
from studio.tinyworld.world import STYLES

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WIDTH = 96
BATCH = 48
LENGTH = 40
SEEN, FRESH = 20_000_000, 30_000_000
"""First number of the pictures it learns from and of those it is judged by."""


def vocabulary() -> list[str]:
    """Every word that a full caption can hold, after the special ones."""
    phrases = (*EMOJI, *SHAPES, *NAMES, *BODIES, *HATS, *SKIN_PATTERNS, *SKIN_PATTERNS.values(), *EYES.values(), *MOUTHS.values(), *BACKGROUND_PATTERNS)
    sayings = (*(words for way in (*SCENES.values(), *STYLES.values()) for words in way), "a an and with on monster background gradient wall")
    words = {word for text in (*phrases, *sayings) for word in re.findall(r"[a-z]+", text)}
    return [*SPECIAL, *sorted(words)]


def make(words: Sequence[str]) -> Any:
    """A new BlipForConditionalGeneration of the world's size."""
    from transformers import BlipConfig, BlipForConditionalGeneration

    bos, end = words.index("[CLS]"), words.index("[SEP]")
    text = {"vocab_size": len(words), "hidden_size": WIDTH, "encoder_hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "projection_dim": WIDTH, "num_hidden_layers": 3}
    text |= {"num_attention_heads": 4, "max_position_embeddings": 64, "bos_token_id": bos, "eos_token_id": end, "sep_token_id": end, "pad_token_id": 0, "is_decoder": True}
    text |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    vision = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "projection_dim": WIDTH, "num_hidden_layers": 4, "num_attention_heads": 4, "image_size": SIDE, "patch_size": 16}
    return BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=vision, projection_dim=WIDTH, image_text_hidden_size=WIDTH))


def write_words(folder: Path, words: Sequence[str]) -> None:
    """The processor's files: a word tokenizer in BERT's form, and how pictures are prepared."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    tokenizer = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": True,
        "model_max_length": 64,
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "mask_token": "[MASK]",
    }
    pictures = {
        "image_processor_type": "BlipImageProcessor",
        "do_resize": True,
        "size": {"height": SIDE, "width": SIDE},
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
        "resample": 3,
    }
    pictures |= {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "processor_class": "BlipProcessor"}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer, indent=1), encoding="utf-8")
    (folder / "preprocessor_config.json").write_text(json.dumps(pictures, indent=1), encoding="utf-8")


def ids_of(sentences: Sequence[str], words: Sequence[str]) -> Tensor:
    """Token numbers [n, LENGTH], padded with 0."""
    index = {word: i for i, word in enumerate(words)}
    rows = torch.zeros(len(sentences), LENGTH, dtype=torch.long)
    for row, sentence in zip(rows, sentences, strict=True):
        numbers = [index["[CLS]"], *(index[w] for w in re.findall(r"[a-z]+", sentence)), index["[SEP]"]][:LENGTH]
        row[: len(numbers)] = torch.tensor(numbers)
    return rows


def train(folder: Path, state: Path, seconds: float, pictures: int = 40_000) -> None:
    """Learn to caption, and write models/BLIP's layout into `folder`."""
    words = vocabulary()
    write_words(folder, words)
    known, fresh = drawn(SEEN, pictures), drawn(FRESH, 256)
    sentences = ids_of([f.full for f in known.facts], words)
    network = make(words)

    def loss_of(step: int) -> Tensor:
        dice = torch.Generator().manual_seed(step)
        numbers = chosen(known.facts, BATCH, dice)
        ids = sentences[numbers]
        ids = ids[:, : int((ids != 0).sum(1).max())]
        labels = ids.masked_fill(ids == 0, -100)
        pixels = shaken(known.batch(numbers.tolist()), dice) * 2 - 1
        answer = network(pixel_values=pixels, input_ids=ids, attention_mask=(ids != 0).long(), labels=labels)
        return answer.loss

    def save(average: nn.Module) -> None:
        half = make(words)
        half.load_state_dict(average.state_dict())
        half.half().save_pretrained(folder)

    study(network, loss_of, Plan(state, seconds, 1e-3, lambda average: f"exact words {accuracy(average, fresh, words):.3f}", save))


@torch.no_grad()
def accuracy(network: Any, fresh: Drawn, words: Sequence[str]) -> float:
    """Share of pictures whose whole caption is said word for word; spelling of articles counts too."""
    network.eval()
    said: list[str] = []
    for at in range(0, len(fresh.facts), 64):
        pixels = fresh.batch(range(at, min(at + 64, len(fresh.facts)))) * 2 - 1
        for row in network.generate(pixel_values=pixels, max_new_tokens=LENGTH).tolist():
            said.append(" ".join(words[i] for i in row if i >= len(SPECIAL)))
    network.train()
    return sum(s == " ".join(re.findall(r"[a-z]+", f.full)) for s, f in zip(said, fresh.facts, strict=True)) / len(said)
