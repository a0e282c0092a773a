"""What the header of an adapter says, field by field as kohya's tools and modelspec define them."""

import base64
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from studio.formats.adapter import Adapter, adapter_facts, read_adapter
from studio.formats.adapter_metadata import adapter_metadata
from studio.formats.adapter_writing import write_adapter
from studio.formats.delta import Delta, kind_of
from studio.formats.provenance import Provenance
from studio.requests.train import LoraConfig

LAYER = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
CONV = "lora_unet_down_blocks_0_resnets_0_conv1"


def delta(alpha: float | None = None, **tensors: Tensor) -> Delta:
    kind = kind_of(frozenset(tensors))
    assert kind is not None
    return Delta(kind, tensors, alpha)


def lora(rank: int = 4, alpha: float | None = 2.0, width: int = 768, **more: Tensor) -> Delta:
    return delta(alpha, lora_up=torch.ones(8, rank), lora_down=torch.ones(rank, width), **more)


CONFIG = LoraConfig(
    name="hero",
    data="/pictures",
    learn_rate="1e-4:500, 5e-5",
    text_encoder_rate=5e-5,
    batch_size=2,
    steps=1000,
    warmup=10,
    optimizer="AdamW 8-bit",
    weight_decay=0.01,
    clip_grad_mode="norm",
    clip_grad_value=1.0,
    dropout=0.1,
    rank_dropout=0.2,
    plus_ratio=16,
    clip_skip=2,
    seed=7,
    noise_offset=0.05,
    caption_dropout=0.25,
    buckets=True,
    class_word="dog",
    prior="prediction",
    prior_loss_weight=0.5,
)
FULL = Provenance(
    name="hero",
    family="SD1",
    resolution=(512, 768),
    checkpoint="base.safetensors",
    checkpoint_hash="0123456789",
    method="lora",
    step=250,
    steps_per_epoch=10,
    pictures=19,
    folders={"10_hero": (10, 2), "1_hero": (1, 17)},
    prior_pictures=100,
    started=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    finished=datetime(2026, 1, 2, 3, 5, 5, tzinfo=UTC),
    config=CONFIG.model_dump(),
    tags={"10_hero": {"red hat": 3, "雪": 9}},
    trigger="hero dog",
    description="A dog.",
    author="Ann",
    extra={"ss_mixed_precision": "bf16"},
)
SAID = {
    "ss_output_name": "hero",
    "ss_sd_model_name": "base.safetensors",
    "ss_new_sd_model_hash": "0123456789",
    "ss_base_model_version": "sd_v1",
    "ss_v2": "False",
    "ss_network_module": "networks.lora",
    "ss_network_dim": "4",
    "ss_network_alpha": "2.0",
    "ss_network_dropout": "0.1",
    "ss_learning_rate": "0.0001",
    "ss_unet_lr": "0.0001",
    "ss_text_encoder_lr": "5e-05",
    "ss_optimizer": "AdamW8bit(weight_decay=0.01)",
    "ss_lr_scheduler": "piecewise_constant",
    "ss_lr_warmup_steps": "10",
    "ss_max_grad_norm": "1.0",
    "ss_gradient_checkpointing": "False",
    "ss_gradient_accumulation_steps": "1",
    "ss_seed": "7",
    "ss_clip_skip": "2",
    "ss_steps": "250",
    "ss_epoch": "25",
    "ss_num_epochs": "100",
    "ss_max_train_steps": "1000",
    "ss_noise_offset": "0.05",
    "ss_min_snr_gamma": "5.0",
    "ss_prior_loss_weight": "0.5",
    "ss_num_train_images": "37",
    "ss_num_reg_images": "100",
    "ss_num_batches_per_epoch": "19",
    "ss_resolution": "(512, 768)",
    "ss_batch_size_per_device": "2",
    "ss_total_batch_size": "2",
    "ss_cache_latents": "True",
    "ss_enable_bucket": "True",
    "ss_shuffle_caption": "False",
    "ss_caption_dropout_rate": "0.25",
    "ss_training_started_at": "1767323045.0",
    "ss_training_finished_at": "1767323105.0",
    "ss_training_comment": "A dog.",
    "ss_mixed_precision": "bf16",
    "modelspec.sai_model_spec": "1.0.1",
    "modelspec.architecture": "stable-diffusion-v1/lora",
    "modelspec.implementation": "diffusers",
    "modelspec.title": "hero",
    "modelspec.resolution": "512x768",
    "modelspec.prediction_type": "epsilon",
    "modelspec.description": "A dog.",
    "modelspec.author": "Ann",
    "modelspec.date": "2026-01-02T03:05:05+00:00",
    "modelspec.trigger_phrase": "hero dog",
    "modelspec.tags": "雪, red hat",
    "modelspec.encoder_layer": "2",
}


def test_everything_that_is_known_is_said_as_text_and_survives_the_file(tmp_path: Path) -> None:
    write_adapter(tmp_path / "hero.safetensors", Adapter("hero", {LAYER: lora(), CONV: lora(2, 1.0)}), FULL)
    with safe_open(tmp_path / "hero.safetensors", "pt") as file:
        fields = file.metadata()
    assert {key: fields.get(key) for key in SAID} == SAID
    assert json.loads(fields["ss_network_args"]) == {"conv_dim": "2", "conv_alpha": "1.0", "rank_dropout": "0.2", "loraplus_lr_ratio": "16.0"}
    assert json.loads(fields["ss_tag_frequency"]) == {"10_hero": {"red hat": 3, "雪": 9}}
    assert json.loads(fields["ss_dataset_dirs"]) == {"10_hero": {"n_repeats": 10, "img_count": 2}, "1_hero": {"n_repeats": 1, "img_count": 17}}
    assert not [key for key, value in fields.items() if value in ("", "None")]
    facts = adapter_facts(tmp_path / "hero.safetensors")
    assert (facts.alias, facts.rank, facts.family) == ("hero", 4, "SD1")


@pytest.mark.parametrize(
    ("family", "prediction", "version", "v2", "architecture", "implementation"),
    [
        ("SD1", "epsilon", "sd_v1", "False", "stable-diffusion-v1/lora", "diffusers"),
        ("SD1", "v_prediction", "sd_v1_v", "False", "stable-diffusion-v1/lora", "diffusers"),
        ("SD2", "epsilon", "sd_v2", "True", "stable-diffusion-v2-512/lora", "diffusers"),
        ("SD2", "v_prediction", "sd_v2_v", "True", "stable-diffusion-v2-768-v/lora", "diffusers"),
        ("SDXL", "epsilon", "sdxl_base_v1-0", "False", "stable-diffusion-xl-v1-base/lora", "https://github.com/Stability-AI/generative-models"),
    ],
)
def test_each_family_has_its_names(family: str, prediction: str, version: str, v2: str, architecture: str, implementation: str) -> None:
    fields = adapter_metadata(Adapter("x", {LAYER: lora()}), Provenance(name="x", family=family, prediction=prediction, config={"clip_skip": 2}))
    assert (fields["ss_base_model_version"], fields["ss_v2"]) == (version, v2)
    assert (fields["modelspec.architecture"], fields["modelspec.implementation"], fields["modelspec.prediction_type"]) == (architecture, implementation, "v" if "v_" in prediction else "epsilon")
    assert ("modelspec.encoder_layer" in fields) is (family != "SDXL")


HADA = {"hada_w1_a": torch.ones(8, 4), "hada_w1_b": torch.ones(4, 6), "hada_w2_a": torch.ones(8, 4), "hada_w2_b": torch.ones(4, 6)}


@pytest.mark.parametrize(
    ("module", "network", "rank", "args"),
    [
        (lora(dora_scale=torch.ones(1, 768)), "lycoris.kohya", "4", {"algo": "locon", "dora_wd": "True", "wd_on_output": "False"}),
        (delta(2.0, lora_up=torch.ones(8, 4, 1, 1), lora_mid=torch.ones(4, 4, 3, 3), lora_down=torch.ones(4, 6, 1, 1)), "lycoris.kohya", "4", {"algo": "locon", "use_tucker": "True"}),
        (delta(2.0, **HADA), "lycoris.kohya", "4", {"algo": "loha"}),
        (delta(None, lokr_w1=torch.ones(2, 2), lokr_w2=torch.ones(4, 3)), "lycoris.kohya", "100000", {"algo": "lokr", "factor": "8"}),
        (delta(None, weight=torch.ones(6), on_input=torch.tensor(True)), "lycoris.kohya", None, {"algo": "ia3"}),
        (delta(None, diff=torch.ones(8, 6)), "lycoris.kohya", None, {"algo": "full"}),
    ],
    ids=["DoRA", "Tucker", "LoHa", "LoKr", "IA3", "Full"],
)
def test_the_network_is_called_as_lyco_calls_it(module: Delta, network: str, rank: str | None, args: dict[str, str]) -> None:
    fields = adapter_metadata(Adapter("x", {LAYER: module}), Provenance(config={"factor": 8}))
    assert (fields["ss_network_module"], fields.get("ss_network_dim"), json.loads(fields["ss_network_args"])) == (network, rank, args)


def test_without_a_training_the_tensors_speak(tmp_path: Path) -> None:
    fields = adapter_metadata(Adapter("x", {LAYER: lora(width=2048)}))
    assert (fields["ss_base_model_version"], fields["modelspec.architecture"], fields["modelspec.resolution"]) == ("sdxl_base_v1-0", "stable-diffusion-xl-v1-base/lora", "1024x1024")
    assert set(fields) == {
        *("ss_output_name", "ss_network_module", "ss_network_dim", "ss_network_alpha", "ss_network_args", "ss_base_model_version", "ss_v2"),
        *(f"modelspec.{key}" for key in ("sai_model_spec", "architecture", "implementation", "title", "resolution")),
    }
    assert not [key for key in adapter_metadata(Adapter("x", {LAYER: lora(width=1024)})) if key.startswith("modelspec.")]


def test_what_a_file_said_is_kept_when_it_is_written_again(tmp_path: Path) -> None:
    write_adapter(tmp_path / "a.safetensors", Adapter("a", {LAYER: lora(8)}), FULL)
    old = read_adapter(tmp_path / "a.safetensors")
    write_adapter(tmp_path / "b.safetensors", Adapter("b", {LAYER: lora(2, 1.0)}, old.metadata))
    new = read_adapter(tmp_path / "b.safetensors")
    assert (new.metadata["ss_network_dim"], new.metadata["ss_network_alpha"], new.metadata["ss_learning_rate"], new.alias) == ("2", "1.0", "0.0001", "b")
    assert new.hash != old.hash
    assert new.metadata["modelspec.hash_sha256"] == f"0x{new.hash}"


@pytest.mark.parametrize(("mode", "size", "kept"), [("RGBA", (1024, 256), (512, 128)), ("RGB", (64, 48), (64, 48))])
def test_a_cover_is_small_and_bare(tmp_path: Path, mode: str, size: tuple[int, int], kept: tuple[int, int]) -> None:
    Image.new(mode, size).save(tmp_path / "cover.png")
    fields = adapter_metadata(Adapter("x", {LAYER: lora()}), Provenance(cover=tmp_path / "cover.png"))
    (cover,) = json.loads(fields["ssmd_cover_images"])
    assert fields["modelspec.thumbnail"] == f"data:image/jpeg;base64,{cover}"
    with Image.open(io.BytesIO(base64.b64decode(cover))) as image:
        assert (image.format, image.size, image.convert("RGB").getpixel((0, 0))) == ("JPEG", kept, (255, 255, 255) if mode == "RGBA" else (0, 0, 0))


def test_a_spoilt_cover_does_not_cost_the_result(tmp_path: Path) -> None:
    (tmp_path / "cover.png").write_bytes(b"no picture")
    for cover in (tmp_path / "cover.png", tmp_path / "gone.png"):
        assert "ssmd_cover_images" not in adapter_metadata(Adapter("x", {LAYER: lora()}), Provenance(cover=cover))


def test_names_that_no_file_can_hold_are_mended(tmp_path: Path) -> None:
    write_adapter(tmp_path / "x.safetensors", Adapter("x", {LAYER: lora()}), Provenance(checkpoint="a\udcff.safetensors", tags={"1_\udcff": {"tag\udcff": 1}}))
    assert read_adapter(tmp_path / "x.safetensors").metadata["ss_sd_model_name"] == "a?.safetensors"
