"""Settings of other programs, in files written by hand as those programs lay them out."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from studio.errors import InputError, NotFound, StudioError, Unreadable
from studio.presets.importing import Imported, imported, imported_text
from studio.requests.train import config_class

OWN = {"embedding": "x", "name": "x", "data": "/x"}


def sent(found: Imported) -> Any:
    """The form with what was taken over; raises when it could not be sent."""
    cls = config_class(found.method)
    return cls.check({**{k: v for k, v in OWN.items() if k in cls.model_fields}, **found.values})


def written(path: Path, metadata: Mapping[str, str], tensors: Mapping[str, tuple[int, ...]] | None = None, alpha: float | None = None) -> Path:
    """A safetensors file: eight bytes of length, a JSON header, tensors of zeros in half precision, and one alpha."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    data = b""
    for name, shape in (tensors or {}).items():
        size = 2
        for side in shape:
            size *= side
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [len(data), len(data) + size]}
        data += bytes(size)
    if alpha is not None:
        header["lora_unet_down_blocks_0_attentions_0_proj_in.alpha"] = {"dtype": "BF16", "shape": [], "data_offsets": [len(data), len(data) + 2]}
        data += struct.pack("<f", alpha)[2:]
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


LORA = {
    "ss_network_module": "networks.lora",
    "ss_network_dim": "32",
    "ss_network_alpha": "16.0",
    "ss_network_dropout": "None",
    "ss_network_args": json.dumps({"conv_dim": "8", "conv_alpha": "4", "rank_dropout": "0.1"}),
    "ss_learning_rate": "0.0001",
    "ss_unet_lr": "0.0002",
    "ss_text_encoder_lr": "5e-05",
    "ss_optimizer": "bitsandbytes.optim.adamw.AdamW8bit(weight_decay=0.1,betas=(0.9, 0.99))",
    "ss_lr_scheduler": "cosine_with_restarts",
    "ss_lr_warmup_steps": "100",
    "ss_max_train_steps": "2400",
    "ss_batch_size_per_device": "2",
    "ss_total_batch_size": "4",
    "ss_gradient_accumulation_steps": "1",
    "ss_gradient_checkpointing": "True",
    "ss_max_grad_norm": "1.0",
    "ss_mixed_precision": "bf16",
    "ss_seed": "42",
    "ss_clip_skip": "None",
    "ss_noise_offset": "0.0357",
    "ss_min_snr_gamma": "None",
    "ss_multires_noise_iterations": "6",
    "ss_resolution": "(512, 768)",
    "ss_enable_bucket": "True",
    "ss_output_name": "sks_dog",
    "ss_sd_model_name": "D:\\models\\v1-5-pruned.safetensors",
    "ss_base_model_version": "sd_v1",
    "ss_v2": "False",
    "ss_num_reg_images": "200",
    "ss_dataset_dirs": json.dumps({"10_sks dog": {"n_repeats": 10, "img_count": 20}}),
    "ss_datasets": json.dumps([{"is_dreambooth": True, "subsets": [{"flip_aug": True, "shuffle_caption": True, "keep_tokens": 1, "caption_dropout_rate": 0.05, "class_tokens": "sks dog"}]}]),
}


def test_a_lora_of_kohyas_trainer(tmp_path: Path) -> None:
    found = imported(written(tmp_path / "hero.safetensors", LORA), ["v1-5-pruned.ckpt"])
    config = sent(found)
    assert found.method == "lora"
    for knob, value in {
        "rank": 32,
        "alpha": 16.0,
        "conv_rank": 8,
        "conv_alpha": 4.0,
        "rank_dropout": 0.1,
        "learn_rate": "0.0002",
        "text_encoder_rate": 5e-5,
        "optimizer": "AdamW 8-bit",
        "weight_decay": 0.1,
        "rate_shape": "cosine",
        "warmup": 100,
        "steps": 2400,
        "batch_size": 2,
        "gradient_accumulation": 2,
        "gradient_checkpointing": True,
        "clip_grad_mode": "norm",
        "clip_grad_value": 1.0,
        "seed": 42,
        "clip_skip": 1,
        "noise_offset": 0.0357,
        "min_snr_gamma": 0.0,
        "width": 512,
        "height": 768,
        "buckets": True,
        "flip": True,
        "shuffle_tags": True,
        "caption_dropout": 0.05,
        "name": "sks_dog",
        "trigger": "sks",
        "class_word": "dog",
        "prior": "class pictures",
        "class_pictures": 200,
        "checkpoint": "v1-5-pruned.ckpt",
        "layers": "attention+MLP",
    }.items():
        assert getattr(config, knob) == value, knob
    notes = " ".join(found.sentences)
    for said in ("cosine_with_restarts is not here; cosine", "betas=(0.9, 0.99)", "2 cards", "keep_tokens (1)", "multires_noise_iterations (6)", "bf16", "trained on SD1"):
        assert said in notes, said
    assert "models" not in notes


def test_files_that_say_little(tmp_path: Path) -> None:
    shapes = {"lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": (8, 320, 1, 1), "lora_unet_a_conv1.lora_down.weight": (4, 320, 3, 3)}
    bare = imported(written(tmp_path / "bare.safetensors", {}, shapes, alpha=3.0))
    assert (bare.method, bare.values["rank"], bare.values["alpha"], bare.values["conv_rank"]) == ("lora", 8, 3.0, 4)
    assert "steps" not in bare.values
    assert "min_snr_gamma" not in bare.values, "what is not known is left to the form"
    lokr = written(
        tmp_path / "lokr.safetensors", {"ss_network_module": "lycoris.kohya", "ss_network_dim": "100000", "ss_network_args": json.dumps({"algo": "lokr", "factor": "4", "preset": "attn-mlp"})}
    )
    assert {k: imported(lokr).values.get(k) for k in ("algorithm", "factor", "full_matrix", "rank", "layers")} == {
        "algorithm": "LoKr",
        "factor": 4,
        "full_matrix": True,
        "rank": None,
        "layers": "attention+MLP",
    }
    words = imported(written(tmp_path / "word.safetensors", {"ss_learning_rate": "0.005", "ss_output_name": "hero", "ss_max_train_steps": "900"}, {"emb_params": (4, 768)}))
    assert (words.method, words.values["embedding"], words.values["learn_rate"], words.values["steps"]) == ("textual_inversion", "hero", "0.005", 900)
    for found in (bare, imported(lokr), words):
        sent(found)
    with pytest.raises(InputError, match="says nothing"):
        imported(written(tmp_path / "vae.safetensors", {}, {"decoder.conv_in.weight": (4, 4, 3, 3)}))
    with pytest.raises(InputError, match="trained on flux1"):
        imported(written(tmp_path / "flux.safetensors", {"ss_base_model_version": "flux1", "ss_network_module": "networks.lora_flux"}))


GUI = {
    "LoRA_type": "LyCORIS/LoHa",
    "LyCORIS_preset": "attn-only",
    "learning_rate": 0.0001,
    "unet_lr": 0.0,
    "text_encoder_lr": 0.0,
    "network_dim": 16,
    "network_alpha": 8,
    "conv_dim": 4,
    "conv_alpha": 1,
    "optimizer": "DAdaptAdam",
    "optimizer_args": '"decouple=True" "weight_decay=0.2"',
    "lr_scheduler": "polynomial",
    "lr_warmup": 10,
    "epoch": 3,
    "max_train_epochs": "",
    "max_train_steps": "",
    "train_batch_size": 2,
    "max_resolution": "764,512",
    "min_snr_gamma": 5,
    "max_grad_norm": 0,
    "clip_skip": "2",
    "sample_prompts": "a photo of sks dog --n lowres, bad --d 7 --l 5.5 --s 24\n# later\na sketch --w 512",
    "sample_sampler": "euler_a",
    "sample_every_n_steps": 50,
    "wandb_api_key": "hush",
    "output_name": "hero",
    "save_precision": "float",
    "use_tucker": True,
    "debiased_estimation_loss": True,
    "noise_offset": 0.05,
    "noise_offset_type": "Multires",
    "multires_noise_iterations": 8,
    "xformers": "xformers",
    "pretrained_model_name_or_path": "C:/models/foreign.safetensors",
    "down_lr_weight": "0,0,1,1,1,1,1,1,1,1,1,1",
    "mid_lr_weight": "0.5",
    "up_lr_weight": "1,1,1,1,1,1,1,1,1,1,1,2",
}


def test_the_json_of_kohyas_form(tmp_path: Path) -> None:
    folder = tmp_path / "img" / "5_sks dog"
    folder.mkdir(parents=True)
    for i in range(8):
        (folder / f"{i}.png").touch()
    found = imported(json.dumps({**GUI, "train_data_dir": str(folder.parent)}))
    config = sent(found)
    assert (found.method, config.algorithm, config.layers, config.tucker, config.conv_rank) == ("lycoris", "LoHa", "attention", True, 4)
    assert (config.learn_rate, config.text_encoder_rate) == ("0.0001", 1e-4), "0 and 0 mean both at the learning rate"
    assert (config.optimizer, config.weight_decay, config.rate_shape, config.clip_grad_mode) == ("Prodigy", 0.2, "linear", "disabled")
    assert (config.steps, config.warmup) == (60, 6), "8 pictures 5 times, 2 at once, 3 epochs; a tenth of that"
    assert (config.data, config.width, config.height, config.save_precision) == (str(folder), 768, 512, "fp32")
    assert (config.preview_prompt, config.preview_negative_prompt) == ("a photo of sks dog\na sketch", "lowres, bad")
    assert (config.preview_seed, config.preview_cfg_scale, config.preview_steps, config.preview_sampler, config.preview_every) == (7, 5.5, 24, "Euler a", 50)
    assert [float(x) for x in config.block_rates.split(",")] == [1, 0, 0, *[1] * 10, 0.5, *[1] * 11, 2]
    notes = " ".join(found.sentences)
    assert "hush" not in notes + str(found.values)
    assert "foreign.safetensors, which is not here" in notes
    assert "C:/" not in notes
    assert "debiased_estimation_loss" in notes
    assert "multires_noise_iterations (8)" in notes
    assert "noise_offset" not in found.values, "kohya's form takes one kind of noise, and here it took the other"
    elsewhere = imported(json.dumps({**GUI, "train_data_dir": "E:\\private\\img"}))
    assert "data" not in elsewhere.values
    assert any("(img) are not here" in s for s in elsewhere.sentences)
    assert any("3 epochs" in s for s in elsewhere.sentences)
    assert "steps" not in elsewhere.values


TOML = """
pretrained_model_name_or_path = "/elsewhere/base.safetensors"
[network]
network_module = "networks.lora"
network_args = ["loraplus_lr_ratio=16"]
network_train_unet_only = true
[optim]
optimizer_type = "Adafactor"
optimizer_args = ["relative_step=False", "scale_parameter=False"]
learning_rate = 4e-4
max_train_steps = 1500
lr_warmup_steps = 0.1
[general]
enable_bucket = true
shuffle_caption = true
[[datasets]]
resolution = 1024
batch_size = 4
[[datasets.subsets]]
image_dir = "/elsewhere/pictures"
class_tokens = "ohwx man"
num_repeats = 10
[[datasets.subsets]]
image_dir = "/elsewhere/men"
class_tokens = "man"
is_reg = true
"""


def test_the_toml_of_sd_scripts(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(TOML, encoding="utf-8")
    found = imported(str(file))
    config = sent(found)
    assert (found.method, config.rank, config.alpha, config.plus_ratio, config.text_encoder_rate) == ("lora", 4, 1.0, 16.0, 0.0)
    assert (config.optimizer, config.learn_rate, config.steps, config.warmup, config.batch_size) == ("Adafactor", "0.0004", 1500, 150, 4)
    assert (config.width, config.height, config.buckets, config.shuffle_tags) == (1024, 1024, True, True)
    assert (config.trigger, config.class_word, config.prior) == ("ohwx", "man", "class pictures")
    sets = imported_text("[[datasets]]\nresolution = 768\n[[datasets.subsets]]\nflip_aug = true\n")
    assert sets.values == {"flip": True, "width": 768, "height": 768, "layers": "attention+MLP"}
    other = {"optimizer_type": "AdamW", "learning_rate": 1e-5, "max_train_steps": 10}
    assert imported_text(json.dumps(other)).method == "dreambooth"
    xl = {"sdxl": True, "learning_rate_te": 3e-5, "learning_rate_te1": 1e-5, "learning_rate_te2": 0}
    assert imported_text(json.dumps({**other, **xl})).values["text_encoder_rate"] == 1e-5
    assert imported_text(json.dumps({**other, "token_string": "hero", "num_vectors_per_token": 4, "use_style_template": True})).values["template"] == "style"
    assert imported_text(json.dumps({**other, "in_json": "meta.json"})).values["text_encoder_rate"] == 0.0


A1111 = {
    "datetime": "2023-02-01 10:00:00",
    "batch_size": 2,
    "clip_grad_mode": "norm",
    "clip_grad_value": "0.1",
    "create_image_every": 50,
    "data_root": "D:\\private\\pictures",
    "gradient_step": 3,
    "initial_step": 0,
    "latent_sampling_method": "deterministic",
    "learn_rate": "0.05:100, 0.005:2000",
    "log_directory": "textual_inversion/2023-02-01/hero",
    "model_hash": "cc6cb27103",
    "model_name": "v1-5-pruned-emaonly",
    "num_of_dataset_images": 14,
    "steps": 100000,
    "template_file": "/home/else/textual_inversion_templates/style_filewords.txt",
    "training_height": 512,
    "training_width": 768,
}


def test_the_settings_of_a1111() -> None:
    words = {
        **A1111,
        "embedding_name": "hero",
        "num_vectors_per_token": 5,
        "save_embedding_every": 250,
        "save_image_with_stored_embedding": True,
        "preview_prompt": "hero",
        "preview_seed": -1,
        "preview_width": 512,
    }
    found = imported(json.dumps(words), ["v1-5-pruned-emaonly.safetensors"])
    config = sent(found)
    assert (found.method, config.embedding, config.learn_rate, config.steps) == ("textual_inversion", "hero", "0.05:100, 0.005:2000", 2000)
    assert (config.batch_size, config.gradient_accumulation, config.latent_sampling, config.template) == (2, 3, "deterministic", "style_filewords")
    assert (config.width, config.height, config.preview_every, config.save_every, config.min_snr_gamma) == (768, 512, 50, 250, 0)
    assert (config.clip_grad_mode, config.clip_grad_value, config.checkpoint, config.preview_seed) == ("norm", 0.1, "v1-5-pruned-emaonly.safetensors", 1)
    notes = " ".join(found.sentences)
    for said in ("ends with its schedule: 2000 steps", "5 vectors", "65536", "(pictures) are not here"):
        assert said in notes
    build = {
        "hypernetwork_name": "hyper",
        "activation_func": "relu",
        "add_layer_norm": True,
        "layer_structure": [1.0, 2.0, 1.0],
        "use_dropout": True,
        "weight_init": "KaimingNormal",
        "save_hypernetwork_every": 100,
    }
    found = imported(json.dumps({**A1111, **build, "learn_rate": 0.00001}))
    config = sent(found)
    assert (found.method, config.name, config.activation, config.layer_norm, config.layer_structure, config.weight_init) == ("hypernetwork", "hyper", "relu", True, "1, 2, 1", "KaimingNormal")
    assert (config.steps, float(config.learn_rate), config.save_every) == (100000, 1e-5, 100)
    assert any("dropout" in s for s in found.sentences)


def test_settings_of_the_studio() -> None:
    found = imported_text(json.dumps({"method": "lora", "config": {"name": "hero", "rank": 12, "data": "/home/else", "steps": -3, "colour": "red"}}))
    assert found.values == {"name": "hero", "rank": 12}
    assert len(found.notes) == 2


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.safetensors", b"", Unreadable),
        ("a.safetensors", struct.pack("<Q", 2**40) + b"{}", Unreadable),
        ("a.safetensors", struct.pack("<Q", 4) + b"{{{{", Unreadable),
        ("a.safetensors", struct.pack("<Q", 2) + b"[]", Unreadable),
        ("a.json", b"{" * 5000, Unreadable),
        ("a.json", b'{"steps": 3}', InputError),
        ("a.json", b'{"learn_rate": [], "embedding_name": {"x": 1}, "steps": NaN, "batch_size": 1e999}', None),
        ("a.json", b'{"datasets": 3, "general": 4, "network_args": {"a": []}, "optimizer": [], "learning_rate": NaN}', None),
        ("a.json", b'{"datasets": [3, {"subsets": [4, {"is_reg": true}]}], "down_lr_weight": "sine", "LoRA_type": 7}', None),
        ("a.toml", b"steps = = 3", Unreadable),
        ("a.toml", b"\xff\xfe\x00", Unreadable),
        ("a.pt", b"PK", InputError),
        ("a.png", b"\x89PNG", InputError),
    ],
)
def test_what_is_damaged_is_said(tmp_path: Path, name: str, data: bytes, kind: type[StudioError] | None) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    if kind is None:
        sent(imported(path))
        return
    with pytest.raises(kind) as caught:
        imported(path)
    assert caught.value.hint


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(NotFound, match=r"nowhere\.toml"):
        imported("/x/nowhere.toml")
    with pytest.raises(Unreadable):
        imported_text("/etc/passwd")


def test_a_file_of_the_studio_brings_every_knob_and_no_place_of_another_machine(tmp_path: Path) -> None:
    held = {"method": "lora", "config": {"learn_rate": "1e-3:100, 5e-4", "rank": 24, "dora": True, "data": "/elsewhere"}}
    header = json.dumps({"__metadata__": {"sd_training_studio": json.dumps(held), "ss_network_dim": "4"}}).encode()
    file = tmp_path / "made-here.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    found = imported(file)
    assert (found.method, dict(found.values)) == ("lora", {"learn_rate": "1e-3:100, 5e-4", "rank": 24, "dora": True})
