"""The texts of a header in an order a person can read, the tags its training saw, and the texts a person may write into it."""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from studio.networks.facts import COVERS

SECTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Identity", ("ss_output_name", "ss_session_id", "ss_training_", "ss_sd_scripts_commit_hash")),
    ("Base model", ("ss_sd_model", "ss_new_sd_model", "ss_vae", "ss_new_vae", "ss_v2", "ss_base_model", "ss_clip_skip", "ss_max_token_length", "ss_zero_terminal_snr")),
    ("Network", ("ss_network_",)),
    (
        "Training settings",
        (
            *("ss_learning_rate", "ss_unet_lr", "ss_text_encoder_lr", "ss_optimizer", "ss_lr_", "ss_max_grad_norm", "ss_gradient_", "ss_mixed_precision", "ss_full_"),
            *("ss_seed", "ss_steps", "ss_epoch", "ss_num_epochs", "ss_max_train_", "ss_noise_offset", "ss_multires_", "ss_adaptive_", "ss_min_snr", "ss_debiased", "ss_ip_noise"),
            *("ss_loss_type", "ss_huber_", "ss_prior_loss", "ss_scale_weight_norms"),
        ),
    ),
    (
        "Pictures",
        (
            "ss_num_",
            "ss_resolution",
            "ss_batch_size",
            "ss_total_batch",
            "ss_cache_",
            "ss_enable_bucket",
            "ss_bucket",
            "ss_min_bucket",
            "ss_max_bucket",
            "ss_dataset",
            "ss_reg_",
            "ss_keep_",
            "ss_shuffle_",
            "ss_caption_",
            "ss_color_",
            "ss_flip_",
            "ss_random_crop",
        ),
    ),
    ("Model card", ("modelspec.", "ssmd_")),
    ("Hashes", ("sshs_",)),
    ("Other", ("",)),
)
"""Headings, and how the keys below them begin; the first heading that fits takes a key."""
APART = ("ss_tag_frequency", *COVERS)
"""Texts that are shown in a way of their own."""
LONGEST = 4000
MOST_TAGS = 300


def sections(metadata: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every text but those shown apart, under its heading, long ones cut."""
    found: dict[str, list[list[str]]] = {title: [] for title, _ in SECTIONS}
    for key in sorted(metadata):
        if key not in APART and metadata[key] not in ("", "None"):
            title = next(title for title, starts in SECTIONS if key.startswith(starts))
            found[title].append([key, metadata[key][:LONGEST]])
    return [{"title": title, "rows": rows} for title, rows in found.items() if rows]


def tags(metadata: Mapping[str, str]) -> list[dict[str, Any]]:
    """Tags of every folder of the training with how often they stood there, the most frequent first; what is damaged is passed over."""
    try:
        said = json.loads(metadata.get("ss_tag_frequency", "{}"))
    except (ValueError, RecursionError):
        said = {}
    found = []
    for folder, counts in said.items() if isinstance(said, dict) else ():
        listed = [(str(tag).strip(), count) for tag, count in counts.items() if isinstance(count, int)] if isinstance(counts, dict) else []
        listed.sort(key=lambda item: (-item[1], item[0]))
        if listed:
            found.append({"folder": str(folder), "count": len(listed), "tags": listed[:MOST_TAGS]})
    return found


def with_card(metadata: Mapping[str, str], title: str, words: Mapping[str, str], picture: tuple[str, bytes] | None, family: str | None) -> dict[str, str]:
    """The texts with a model card (modelspec 1.0.1): `words` are description, author, trigger_phrase and tags, empty ones are taken out; a picture is (media type, bytes)."""
    card = {f"modelspec.{name}": value for name, value in words.items()}
    if picture is not None:
        card["modelspec.thumbnail"] = f"data:{picture[0]};base64,{base64.b64encode(picture[1]).decode('ascii')}"
    missing = {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": {"SD1": "stable-diffusion-v1/lora", "SD2": "stable-diffusion-v2-512/lora", "SDXL": "stable-diffusion-xl-v1-base/lora"}.get(family or "", ""),
        "modelspec.date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    merged = {**missing, **metadata, **card, "modelspec.title": title}
    return {key: value for key, value in merged.items() if value or (key in metadata and key not in card)}
