"""Small random captioners in the layouts they are published in."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *["a", "photo", "of", "cat", "dog", "red", "green", "hat", "on", "the", "grass", "with", "blue", "sky", "round"]]


def picture(seed: int = 0, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Noise."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    """A network whose weights are large enough that its words depend on the picture."""
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(torch.randn(value.shape, generator=source) * 0.4)
    return model.eval()


def write_blip(folder: Path) -> Path:
    """A BLIP folder of transformers; returns it."""
    from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

    hidden = {"hidden_size": 64, "intermediate_size": 64, "projection_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 1}
    text = {**hidden, "encoder_hidden_size": 64, "vocab_size": len(WORDS) + 2, "bos_token_id": len(WORDS), "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0, "max_position_embeddings": 64}
    vision = {**hidden, "image_size": 32, "patch_size": 16, "layer_norm_eps": 1e-6}
    model = shaken(BlipForConditionalGeneration(BlipConfig(text_config={**text, "is_decoder": True}, vision_config=vision, projection_dim=64, image_text_hidden_size=64)))
    model.save_pretrained(folder)
    tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(WORDS)}, do_lower_case=True)
    BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    return folder


def written_bpe(folder: Path) -> Any:
    """A small byte-level tokenizer of GPT-2's kind."""
    from transformers import GPT2Tokenizer

    letters = [*"abcdefghijklmnopqrstuvwxyz.,?", "Ġ"]
    vocab = {t: i for i, t in enumerate(["<s>", "<pad>", "</s>", "<unk>", *letters])}
    return GPT2Tokenizer(vocab=vocab, merges=[], bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>")


def write_tags(file: Path, tags: list[tuple[str, int]]) -> None:
    """A WD14 list of tags."""
    with file.open("w", newline="", encoding="utf-8") as lines:
        rows = csv.writer(lines)
        rows.writerow(["tag_id", "name", "category", "count"])
        rows.writerows([number, name, category, 100] for number, (name, category) in enumerate(tags))


def write_wd14(folder: Path, tags: list[tuple[str, int]], side: int = 32) -> Path:
    """A WD14 folder with a small ViT of timm; returns it."""
    import timm
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    arguments = {"img_size": side, "patch_size": 16, "depth": 2, "embed_dim": 32, "num_heads": 2, "class_token": False, "global_pool": "avg", "fc_norm": False}
    model = shaken(timm.create_model("vit_tiny_patch16_224", num_classes=len(tags), **arguments))
    save_file(model.state_dict(), folder / "model.safetensors")
    prepared = {"input_size": [3, side, side], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "center"}
    config = {"architecture": "vit_tiny_patch16_224", "num_classes": len(tags), "num_features": 32, "model_args": arguments, "pretrained_cfg": {**prepared, "num_classes": len(tags)}}
    (folder / "config.json").write_text(json.dumps(config))
    write_tags(folder / "selected_tags.csv", tags)
    return folder


CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}
"""The smallest CLIP that takes the real vocabulary."""


def write_clip(folder: Path) -> Path:
    """An open_clip folder; returns it."""
    import open_clip
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    prepared = {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28], "interpolation": "bicubic", "resize_mode": "shortest"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": CLIP, "preprocess_cfg": prepared}))
    torch.manual_seed(0)
    save_file(open_clip.CLIP(**CLIP).state_dict(), folder / "open_clip_model.safetensors")
    return folder
