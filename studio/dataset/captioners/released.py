"""BLIP as it was released: one .pth with `{"model": state}`, its architecture read from shapes and its tensors renamed for transformers."""

import json
import re
from pathlib import Path
from typing import Any

from torch import Tensor

from studio.dataset.captioners.speaking import told
from studio.errors import Unreadable
from studio.formats.pickles import load_pickle

HEAD = 64
"""Width of an attention head in every BLIP."""
NEW_NAMES = (
    (r"^visual_encoder\.cls_token$", "vision_model.embeddings.class_embedding"),
    (r"^visual_encoder\.pos_embed$", "vision_model.embeddings.position_embedding"),
    (r"^visual_encoder\.patch_embed\.proj\.", "vision_model.embeddings.patch_embedding."),
    (r"^visual_encoder\.norm\.", "vision_model.post_layernorm."),
    (r"^visual_encoder\.blocks\.(\d+)\.norm(\d)\.", r"vision_model.encoder.layers.\1.layer_norm\2."),
    (r"^visual_encoder\.blocks\.(\d+)\.attn\.qkv\.", r"vision_model.encoder.layers.\1.self_attn.qkv."),
    (r"^visual_encoder\.blocks\.(\d+)\.attn\.proj\.", r"vision_model.encoder.layers.\1.self_attn.projection."),
    (r"^visual_encoder\.blocks\.(\d+)\.mlp\.", r"vision_model.encoder.layers.\1.mlp."),
)
"""The picture half is called otherwise in transformers; the text half has its names already."""
NEEDS = "Get the file again; it is called model_base_caption_capfilt_large.pth where it is published."


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the release under transformers' names; heads for other tasks and stored positions are left out."""
    found = {}
    for name, value in state.items():
        if not name.startswith(("visual_encoder.", "text_decoder.")) or name.endswith("position_ids"):
            continue
        for old, new in NEW_NAMES:
            name = re.sub(old, new, name)
        found[name] = value
    return found


def config_of(state: dict[str, Tensor], words: list[str]) -> Any:
    """The architecture of a release, from the shapes of its tensors; raises KeyError or ValueError for what is no BLIP."""
    from transformers import BlipConfig

    patch, positions = state["visual_encoder.patch_embed.proj.weight"], state["visual_encoder.pos_embed"]
    embeddings, crossed = state["text_decoder.bert.embeddings.word_embeddings.weight"], state["text_decoder.bert.encoder.layer.0.crossattention.self.key.weight"]
    width, hidden = patch.shape[0], embeddings.shape[1]
    if not len(words) <= embeddings.shape[0] <= len(words) + 2:
        raise ValueError(f"it knows {embeddings.shape[0]} words and the vocabulary beside it has {len(words)}")
    vision = {"hidden_size": width, "num_attention_heads": width // HEAD, "num_hidden_layers": _count(state, r"visual_encoder\.blocks\.(\d+)\."), "layer_norm_eps": 1e-6}
    vision |= {"intermediate_size": state["visual_encoder.blocks.0.mlp.fc1.weight"].shape[0], "patch_size": patch.shape[-1]}
    vision |= {"image_size": round((positions.shape[1] - 1) ** 0.5) * patch.shape[-1], "projection_dim": hidden}
    first = len(words) if embeddings.shape[0] > len(words) else words.index("[CLS]")
    text = {"vocab_size": embeddings.shape[0], "hidden_size": hidden, "encoder_hidden_size": crossed.shape[1], "num_attention_heads": hidden // HEAD, "is_decoder": True}
    text |= {"num_hidden_layers": _count(state, r"text_decoder\.bert\.encoder\.layer\.(\d+)\."), "intermediate_size": state["text_decoder.bert.encoder.layer.0.intermediate.dense.weight"].shape[0]}
    text |= {"max_position_embeddings": state["text_decoder.bert.embeddings.position_embeddings.weight"].shape[0], "projection_dim": hidden}
    text |= {"bos_token_id": first, "eos_token_id": words.index("[SEP]"), "sep_token_id": words.index("[SEP]"), "pad_token_id": words.index("[PAD]")}
    return BlipConfig(text_config=text, vision_config=vision, projection_dim=hidden, image_text_hidden_size=hidden)


def _count(state: dict[str, Tensor], pattern: str) -> int:
    """How many layers are numbered in the names."""
    return 1 + max(int(found[1]) for name in state if (found := re.match(pattern, name)))


def vocabulary_of(path: Path) -> list[str]:
    """BERT's words for a release: `<stem>.vocab.txt` or vocab.txt beside it, else of a BLIP folder beside it that is of full size; raises Unreadable when there is none."""
    for file in (path.with_suffix(".vocab.txt"), path.with_name("vocab.txt"), *sorted(path.parent.glob("*/vocab.txt")), *sorted(path.parent.glob("*/tokenizer.json"))):
        if file.is_file() and (file.parent == path.parent or file.stat().st_size > 100_000):
            return _words(file)
    raise Unreadable(f"The BLIP captioner {path.name} has no vocabulary.", "Put vocab.txt of bert-base-uncased beside it in models/BLIP; the release does not carry it.")


def _words(file: Path) -> list[str]:
    """Words of a vocabulary in their order; raises Unreadable."""
    try:
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".txt":
            return text.splitlines()
        numbered = json.loads(text)["model"]["vocab"]
        return sorted(numbered, key=numbered.__getitem__)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreadable(f"The vocabulary {file.name} beside BLIP cannot be read ({str(error)[:100]}).", "Put vocab.txt of bert-base-uncased there.") from error


def load_released(path: Path) -> tuple[Any, Any]:
    """The network and its processor, on the CPU; raises Unreadable."""
    from transformers import BertTokenizer, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

    whole = load_pickle(path)
    state = whole.get("model", whole) if isinstance(whole, dict) else None
    if not isinstance(state, dict) or not {"visual_encoder.pos_embed", "text_decoder.bert.embeddings.word_embeddings.weight"} <= state.keys():
        raise Unreadable(f"{path.name} is not a BLIP captioner: it has no visual_encoder and text_decoder.", NEEDS)
    words = vocabulary_of(path)
    with told("BLIP", path, NEEDS):
        config = config_of(state, words)
        model = BlipForConditionalGeneration(config)
        missing, unknown = model.load_state_dict(renamed(state), strict=False)
        missing = [name for name in missing if "position_ids" not in name]
        if missing or unknown:
            raise ValueError(f"{len(missing)} weights are missing and {len(unknown)} are unknown, such as {(missing + unknown)[0]}")
        tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(words)}, do_lower_case=True)
        size = {"height": config.vision_config.image_size, "width": config.vision_config.image_size}
        return model.float().eval().requires_grad_(False), BlipProcessor(BlipImageProcessor(size=size), tokenizer)
