"""kohya's arguments: each is used, named as without counterpart, or of no meaning here; nothing that a file says is dropped silently."""

import json
from pathlib import Path

import pytest

from studio.presets.importing import imported, imported_text
from studio.presets.kohya_arguments import APART, USED, WITHOUT
from tests.presets.test_importing import LORA, written

ARGUMENTS = """
adaptive_noise_scale alpha_mask async_upload base_weights base_weights_multiplier block_lr blocks_to_swap bucket_no_upscale bucket_reso_steps cache_info cache_latents cache_latents_to_disk
cache_text_encoder_outputs cache_text_encoder_outputs_to_disk caption_dropout_every_n_epochs caption_dropout_rate caption_extension caption_extention caption_prefix caption_separator caption_suffix
caption_tag_dropout_rate clip_skip color_aug conditioning_data_dir config_file cpu_offload_checkpointing dataset_class dataset_repeats ddp_gradient_as_bucket_view ddp_static_graph ddp_timeout
debiased_estimation_loss debug_dataset deepspeed diffusers_xformers dim_from_weights disable_mmap_load_safetensors dynamo_backend enable_bucket enable_wildcard face_crop_aug_range flip_aug
fp16_master_weights_and_gradients fp8_base fp8_base_unet full_bf16 full_fp16 fused_backward_pass fused_optimizer_groups gradient_accumulation_steps gradient_checkpointing highvram huber_c huber_scale
huber_schedule huggingface_path_in_repo huggingface_repo_id huggingface_repo_type huggingface_repo_visibility huggingface_token in_json init_word initial_epoch initial_step ip_noise_gamma
ip_noise_gamma_random_strength keep_tokens keep_tokens_separator learning_rate learning_rate_te learning_rate_te1 learning_rate_te2 log_config log_prefix log_tracker_config log_tracker_name log_with
logging_dir logit_mean logit_std loss_type lowram lr_decay_steps lr_scheduler lr_scheduler_args lr_scheduler_min_lr_ratio lr_scheduler_num_cycles lr_scheduler_power lr_scheduler_timescale
lr_scheduler_type lr_warmup_steps masked_loss max_bucket_reso max_data_loader_n_workers max_grad_norm max_timestep max_token_length max_train_epochs max_train_steps max_validation_steps mem_eff_attn
metadata_author metadata_description metadata_is_negative_embedding metadata_license metadata_merged_from metadata_preprocessor metadata_tags metadata_thumbnail metadata_title metadata_trigger_phrase
metadata_usage_hint min_bucket_reso min_snr_gamma min_timestep mixed_precision mode_scale multires_noise_discount multires_noise_iterations network_alpha network_args network_dim network_dropout
network_module network_train_text_encoder_only network_train_unet_only network_weights no_half_vae no_metadata no_token_padding noise_offset noise_offset_random_strength num_vectors_per_token
offload_optimizer_device offload_optimizer_nvme_path offload_param_device offload_param_nvme_path optimizer_args optimizer_type output_config output_dir output_name persistent_data_loader_workers
pretrained_model_name_or_path prior_loss_weight random_crop reg_data_dir resize_interpolation resolution resume resume_from_huggingface sample_at_first sample_every_n_epochs sample_every_n_steps
sample_prompts sample_sampler save_every_n_epochs save_every_n_steps save_last_n_epochs save_last_n_epochs_state save_last_n_steps save_last_n_steps_state save_model_as save_n_epoch_ratio
save_precision save_state save_state_on_train_end save_state_to_huggingface scale_v_pred_loss_like_noise_pred scale_weight_norms sdpa secondary_separator seed shuffle_caption skip_cache_check
skip_until_initial_step stop_text_encoder_training text_encoder_batch_size text_encoder_lr token_string token_warmup_min token_warmup_step tokenizer_cache_dir torch_compile train_batch_size
train_data_dir train_text_encoder training_comment unet_lr use_8bit_adam use_lion_optimizer use_object_template use_safetensors use_style_template v2 v_parameterization v_pred_like_loss vae
vae_batch_size validate_every_n_epochs validate_every_n_steps validation_seed validation_split wandb_api_key wandb_run_name weighted_captions weighting_scheme weights xformers zero3_init_flag
zero3_save_16bit_model zero_stage zero_terminal_snr
"""
"""Arguments of kohya's train_network.py, train_textual_inversion.py, train_db.py, fine_tune.py and sdxl_train.py (sd-scripts, 2026)."""
OF_DATASETS = """
alpha_mask batch_size bucket_no_upscale bucket_reso_steps cache_info caption_dropout_every_n_epochs caption_dropout_rate caption_extension caption_prefix caption_separator caption_suffix
caption_tag_dropout_rate class_tokens color_aug conditioning_data_dir custom_attributes enable_bucket enable_wildcard face_crop_aug_range flip_aug image_dir is_reg keep_tokens keep_tokens_separator
max_bucket_reso metadata_file min_bucket_reso network_multiplier num_repeats random_crop resize_interpolation resolution secondary_separator shuffle_caption token_warmup_min token_warmup_step
validation_seed validation_split
"""
"""Settings of a data set's TOML."""
OF_NETWORKS = """
block_alphas block_dims block_lr_zero_threshold conv_alpha conv_block_alphas conv_block_dims conv_dim down_lr_weight loraplus_lr_ratio loraplus_text_encoder_lr_ratio loraplus_unet_lr_ratio
mid_lr_weight module_dropout rank_dropout up_lr_weight unit enable_all_linear enable_conv algo preset factor use_tucker dora_wd train_norm use_scalar decompose_both rescaled constrain bypass_mode
rank_dropout_scale rs_lora train_on_input
"""
"""Arguments of kohya's networks and of LyCORIS."""


def test_every_argument_of_kohyas_trainers_is_in_one_table() -> None:
    known = {*ARGUMENTS.split(), *OF_DATASETS.split(), *OF_NETWORKS.split()}
    assert len(known) > 240
    assert sorted(known - USED - WITHOUT.keys() - APART) == []
    assert not (USED & WITHOUT.keys() or USED & APART or APART & WITHOUT.keys())


@pytest.mark.parametrize("name", sorted(WITHOUT))
def test_each_setting_without_a_counterpart_is_named_when_it_is_on_and_not_otherwise(name: str) -> None:
    usual = {"network_module": "networks.lora", "learning_rate": 1e-4, "multires_noise_iterations": 6, "loss_type": "huber", "enable_bucket": True}
    off = WITHOUT[name][0] if WITHOUT[name] else False
    assert f"{name} (" not in " ".join(imported(json.dumps({**usual, name: off})).sentences)
    assert f"{name} (" in " ".join(imported(json.dumps({**usual, name: 0.25 if off == 0 else "other"})).sentences)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"network_module": "networks.oft"}, "network_module networks.oft is not here; LoRA takes its place."),
        ({"network_module": "networks.dylora"}, "network_module networks.dylora is not here; LoRA takes its place."),
        ({"network_module": "networks.lora_fa"}, "network_module networks.lora_fa is not here; LoRA takes its place."),
        ({"LoRA_type": "LoRA-FA"}, "LoRA_type LoRA-FA is not here; LoRA takes its place."),
        ({"LoRA_type": "Kohya DyLoRA"}, "LoRA_type Kohya DyLoRA is not here; LoRA takes its place."),
        ({"network_module": "networks.lora", "v_parameterization": True}, "It predicted velocity (v_parameterization); here that follows the checkpoint."),
        ({"network_module": "networks.lora", "max_train_epochs": 4, "max_train_steps": 900}, "It ran for 4 epochs, but how many pictures it had is not written"),
        ({"network_module": "networks.lora", "brand_new": "hush", "another": 2}, "Settings that are not known here were left out: another, brand_new."),
        ({"network_module": "networks.lora", "optimizer_type": "AdamW", "optimizer_args": ["betas=0.9,0.95"]}, "The optimiser's arguments betas=0.9"),
        ({"network_module": "networks.lora", "network_args": ["block_lr_zero_threshold=0.1"]}, "block_lr_zero_threshold (0.1) has no counterpart here"),
    ],
)
def test_what_kohya_does_otherwise_is_said(settings: dict[str, object], said: str) -> None:
    found = imported(json.dumps({"learning_rate": 1e-4, "train_batch_size": 1, **settings}))
    assert said in " ".join(found.sentences)
    assert "hush" not in " ".join(found.sentences)
    assert "max_train_epochs" not in settings or "steps" not in found.values, "kohya's epochs count more than its steps"


def test_plain_loras_are_not_said_to_be_others() -> None:
    for settings in ({"network_module": "networks.lora"}, {"LoRA_type": "Standard"}, {"LoRA_type": "Kohya LoCon"}, {"network_module": "lycoris.kohya", "network_args": ["algo=lokr"]}):
        assert "takes its place" not in " ".join(imported(json.dumps({"learning_rate": 1e-4, "train_batch_size": 1, **settings})).sentences)


def test_each_setting_that_differs_between_folders_of_pictures_is_named(tmp_path: Path) -> None:
    text = """
[general]
caption_extension = ".txt"
[[datasets]]
resolution = 512
batch_size = 2
[[datasets.subsets]]
image_dir = "a"
num_repeats = 10
keep_tokens_separator = "|||"
[[datasets]]
resolution = 768
batch_size = 2
[[datasets.subsets]]
image_dir = "b"
num_repeats = 1
flip_aug = true
[[datasets.subsets]]
image_dir = "class"
is_reg = true
"""
    notes = imported_text(text).sentences
    assert sum(note.startswith("It had 2 folders of pictures; the first one counts here.") for note in notes) == 1
    assert "resolution differs between its folders of pictures (512, 768); here the first one counts for all." in notes
    assert "flip_aug differs between its folders of pictures (-, True); here the first one counts for all." in notes
    assert "keep_tokens_separator (|||) has no counterpart here; it was left out." in notes
    assert not any(note.startswith(("batch_size", "num_repeats", "image_dir", "caption_extension")) for note in notes)
    sets = [{"resolution": [512, 512], "subsets": [{"shuffle_caption": True, "img_count": 3}, {"shuffle_caption": False, "img_count": 4}]}]
    header = imported(written(tmp_path / "two.safetensors", {**LORA, "ss_datasets": json.dumps(sets)})).sentences
    assert "shuffle_caption differs between its folders of pictures (True, False); here the first one counts for all." in header
