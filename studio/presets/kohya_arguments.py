"""Every argument of kohya's trainers for Stable Diffusion 1, 2 and XL, and what becomes of it here: used, named to the person as without counterpart, or of no meaning for a training here."""

from collections.abc import Mapping
from typing import Any

from studio.presets.taking import LEFT_OUT, Taken, empty, flag, last_part, number, shown

_USED = """
learning_rate unet_lr text_encoder_lr learning_rate_te learning_rate_te1 learning_rate_te2 train_text_encoder network_train_unet_only optimizer_type optimizer optimizer_args
use_8bit_adam use_lion_optimizer lr_scheduler lr_scheduler_type lr_warmup_steps lr_warmup max_grad_norm gradient_accumulation_steps gradient_checkpointing train_batch_size
batch_size batch_size_per_device total_batch_size max_train_steps max_train_epochs epoch save_every_n_steps save_every_n_epochs save_precision seed clip_skip resolution
max_resolution noise_offset noise_offset_type min_snr_gamma shuffle_caption caption_dropout_rate caption_tag_dropout_rate flip_aug enable_bucket masked_loss alpha_mask
prior_loss_weight network_module network_dim network_alpha network_dropout network_args conv_dim conv_alpha rank_dropout module_dropout loraplus_lr_ratio loraplus_unet_lr_ratio
down_lr_weight mid_lr_weight up_lr_weight block_dims algo preset factor use_tucker use_cp use_conv_cp dora_wd dropout train_on_input LoRA_type LyCORIS_preset token_string init_word
num_vectors_per_token use_object_template use_style_template template output_name pretrained_model_name_or_path sd_model_name sdxl sdxl_checkbox v2 base_model_version
v_parameterization mixed_precision vae train_data_dir image_dir reg_data_dir is_reg class_tokens num_repeats dataset_repeats image_folder datasets general subsets num_reg_images
sample_every_n_steps sample_every_n_epochs sample_prompts sample_sampler
"""
_OFF_AT_ZERO = """
adaptive_noise_scale multires_noise_iterations ip_noise_gamma scale_weight_norms v_pred_like_loss keep_tokens caption_dropout_every_n_epochs token_warmup_step
block_lr_zero_threshold save_n_epoch_ratio save_last_n_epochs save_last_n_steps validation_split lr_decay_steps lr_scheduler_min_lr_ratio constrain min_timestep initial_epoch
initial_step
"""
_OFF_WHEN_EMPTY = """
bucket_no_upscale zero_terminal_snr debiased_estimation debiased_estimation_loss scale_v_pred_loss_like_noise_pred color_aug random_crop weighted_captions enable_wildcard
no_token_padding network_train_text_encoder_only cache_text_encoder_outputs sdxl_cache_text_encoder_outputs fp8_base fp8_base_unet full_fp16 full_bf16 train_norm use_scalar
decompose_both rescaled bypass_mode rank_dropout_scale rs_lora noise_offset_random_strength ip_noise_gamma_random_strength dim_from_weights skip_until_initial_step
secondary_separator keep_tokens_separator resize_interpolation conditioning_data_dir custom_attributes dataset_class face_crop_aug_range caption_prefix caption_suffix
network_weights lora_network_weights resume weights base_weights base_weights_multiplier block_alphas conv_block_dims conv_block_alphas block_lr additional_parameters
lr_scheduler_args loraplus_text_encoder_lr_ratio unit enable_all_linear enable_conv
"""
_APART = """
async_upload blocks_to_swap cache_info cache_latents cache_latents_to_disk cache_text_encoder_outputs_to_disk config_file ddp_gradient_as_bucket_view ddp_static_graph ddp_timeout
debug_dataset disable_mmap_load_safetensors dynamo_backend fused_backward_pass fused_optimizer_groups highvram huggingface_path_in_repo huggingface_repo_id huggingface_repo_type
huggingface_repo_visibility huggingface_token in_json metadata_file log_config log_prefix log_tracker_config log_tracker_name log_with logging_dir logit_mean logit_std lowram
max_data_loader_n_workers mem_eff_attn mode_scale output_config output_dir persistent_data_loader_workers resume_from_huggingface sample_at_first save_last_n_epochs_state
save_last_n_steps_state save_state save_state_on_train_end save_state_to_huggingface sdpa skip_cache_check text_encoder_batch_size tokenizer_cache_dir torch_compile use_safetensors
vae_batch_size wandb_api_key wandb_run_name weighting_scheme xformers cpu_offload_checkpointing max_validation_steps no_half_vae no_metadata training_comment
validate_every_n_epochs validate_every_n_steps validation_seed diffusers_xformers deepspeed fp16_master_weights_and_gradients offload_optimizer_device offload_optimizer_nvme_path
offload_param_device offload_param_nvme_path zero3_init_flag zero3_save_16bit_model zero_stage metadata_author metadata_description metadata_is_negative_embedding metadata_license
metadata_merged_from metadata_preprocessor metadata_tags metadata_thumbnail metadata_title metadata_trigger_phrase metadata_usage_hint
"""
USED = frozenset(_USED.split())
"""Taken over, or named in a sentence of their own, by the modules beside this one."""
WITHOUT: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(
        _OFF_AT_ZERO.split(),
        (0,),
    ),
    "max_timestep": (1000,),
    "max_token_length": (0, 75),
    "token_warmup_min": (0, 1),
    "stop_text_encoder_training": (0, -1),
    "lr_scheduler_num_cycles": (0, 1),
    "lr_scheduler_power": (0, 1),
    "lr_scheduler_timescale": (0,),
    "network_multiplier": (1,),
    "min_bucket_reso": (0, 256),
    "max_bucket_reso": (0, 1024, 2048),
    "bucket_reso_steps": (0, 64),
    "multires_noise_discount": (0, 0.3),
    "huber_c": (0.1,),
    "huber_scale": (1,),
    "huber_schedule": ("snr",),
    "loss_type": ("l2",),
    "caption_separator": (",", ", "),
    "caption_extension": (".txt", "txt"),
    "caption_extention": (".txt", "txt"),
    "save_model_as": ("safetensors", "same as source model"),
    **dict.fromkeys(
        _OFF_WHEN_EMPTY.split(),
        (),
    ),
}
"""Arguments that have no counterpart here, and the values at which they change nothing: a note names each that has another."""
BELONGS = {"multires_noise_discount": "multires_noise_iterations", "huber_c": "loss_type", "huber_scale": "loss_type", "huber_schedule": "loss_type"} | dict.fromkeys(
    ("min_bucket_reso", "max_bucket_reso", "bucket_reso_steps", "bucket_no_upscale"), "enable_bucket"
)
"""Arguments that count only together with another one."""
APART = frozenset(_APART.split())
"""Places, logs, uploads, memory, speed, and measurements that change nothing of what is learned."""


def name_left_out(taken: Taken, args: Mapping[str, Any]) -> None:
    """Add a note for each setting that has no counterpart here and is on."""
    for name, off in WITHOUT.items():
        if is_on(args.get(name), off) and (name not in BELONGS or is_on(args.get(BELONGS[name]), WITHOUT.get(BELONGS[name], ()))):
            value = args[name]
            text = "on" if isinstance(value, bool) or str(value).lower() == "true" else shown(last_part(value) if "weights" in name or name in ("resume", "conditioning_data_dir") else value)
            taken.say(LEFT_OUT, label=name, value=text)


def name_unknown(taken: Taken, args: Mapping[str, Any]) -> None:
    """Add one note with the names of settings of a settings file that none of the lists holds; their values may be private."""
    unknown = sorted(name for name, value in args.items() if name not in USED and name not in WITHOUT and name not in APART and is_on(value, (0,)))
    if unknown:
        taken.say("Settings that are not known here were left out: {names}.", names=", ".join(map(shown, unknown)))


def is_on(value: Any, off: tuple[Any, ...]) -> bool:
    """Whether a value changes something: it is there, is not no, and is none of `off`."""
    if empty(value) or str(value) in off or (isinstance(value, bool) and not value) or str(value).strip().lower() in ("false", "off"):
        return False
    found = number(value)
    if found is None:
        return True
    return found not in off if off else flag(value) or found != 0
