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
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in model.parameters():
            if value.dim() > 1:
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


def byte_tokenizer() -> Any:
    """A small byte-level tokenizer of GPT-2's kind, with a token that stands for a piece of a picture."""
    from transformers import GPT2Tokenizer

    letters = [*"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,?", "Ġ"]
    vocab = {t: i for i, t in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<image>", *letters])}
    return GPT2Tokenizer(vocab=vocab, merges=[], bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>", extra_special_tokens={"image_token": "<image>"})


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
    torch.manual_seed(0)
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


def write_blip2(folder: Path) -> Path:
    """A BLIP-2 folder with OPT; returns it."""
    from transformers import Blip2Config, Blip2ForConditionalGeneration, Blip2Processor, BlipImageProcessor

    tokenizer = byte_tokenizer()
    hidden = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    text = {"model_type": "opt", "vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 32, "max_position_embeddings": 64}
    text |= {"word_embed_proj_dim": 32, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    image = tokenizer.convert_tokens_to_ids("<image>")
    config = Blip2Config(
        vision_config={**hidden, "image_size": 32, "patch_size": 16},
        qformer_config={**hidden, "vocab_size": 30, "encoder_hidden_size": 32, "cross_attention_frequency": 1},
        text_config=text,
        num_query_tokens=4,
        image_token_index=image,
    )
    model = shaken(Blip2ForConditionalGeneration(config))
    model.save_pretrained(folder)
    Blip2Processor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer, num_query_tokens=4).save_pretrained(folder)
    return folder


def write_florence2(folder: Path) -> Path:
    """A Florence-2 folder of transformers' own layout; returns it."""
    from transformers import CLIPImageProcessor, Florence2Config, Florence2ForConditionalGeneration, Florence2Processor

    tokenizer = byte_tokenizer()
    vision = {"embed_dim": (8, 16, 16, 32), "num_heads": (1, 1, 1, 1), "num_groups": (1, 1, 1, 1), "depths": (1, 1, 1, 1), "window_size": 4, "projection_dim": 32, "drop_path_rate": 0.0}
    text = {"vocab_size": len(tokenizer), "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    text |= {"encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2, "max_position_embeddings": 256}
    model = shaken(Florence2ForConditionalGeneration(Florence2Config(vision_config=vision, text_config=text, image_token_id=tokenizer.image_token_id)))
    model.save_pretrained(folder)
    images = CLIPImageProcessor(size={"height": 64, "width": 64}, crop_size={"height": 64, "width": 64}, do_center_crop=False)
    images.image_seq_length = 5
    Florence2Processor(images, tokenizer, post_processor_config={"pure_text": {}}).save_pretrained(folder)
    return folder
