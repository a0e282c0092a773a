"""Bodies that clients of A1111's API send: its names and its defaults; a field that nobody knows is left alone."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Body(BaseModel):
    """A body whose unset fields may be null, as many clients send them."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    def unknown(self) -> list[str]:
        """Fields that were sent and mean nothing here."""
        return sorted(self.model_extra or {})


class Painting(Body):
    """What txt2img and img2img share."""

    prompt: str | None = ""
    negative_prompt: str | None = ""
    styles: list[str] | None = None
    seed: int | None = -1
    subseed: int | None = -1
    subseed_strength: float | None = 0
    seed_resize_from_h: int | None = -1
    seed_resize_from_w: int | None = -1
    sampler_name: str | None = None
    sampler_index: str | None = None
    scheduler: str | None = None
    batch_size: int | None = 1
    n_iter: int | None = 1
    steps: int | None = 50
    cfg_scale: float | None = 7.0
    width: int | None = 512
    height: int | None = 512
    restore_faces: bool | None = None
    tiling: bool | None = None
    do_not_save_samples: bool | None = False
    do_not_save_grid: bool | None = False
    eta: float | None = None
    denoising_strength: float | None = 0.75
    s_min_uncond: float | None = None
    s_churn: float | None = None
    s_tmax: float | None = None
    s_tmin: float | None = None
    s_noise: float | None = None
    override_settings: dict[str, Any] | None = None
    override_settings_restore_afterwards: bool | None = True
    refiner_checkpoint: str | None = None
    refiner_switch_at: float | None = None
    disable_extra_networks: bool | None = False
    firstpass_image: str | None = None
    comments: dict[str, Any] | None = None
    script_name: str | None = None
    script_args: list[Any] | None = None
    send_images: bool | None = True
    save_images: bool | None = False
    alwayson_scripts: dict[str, Any] | None = None
    force_task_id: str | None = None
    infotext: str | None = None


class Txt2Img(Painting):
    """Body of /txt2img."""

    enable_hr: bool | None = False
    firstphase_width: int | None = 0
    firstphase_height: int | None = 0
    hr_scale: float | None = 2.0
    hr_upscaler: str | None = None
    hr_second_pass_steps: int | None = 0
    hr_resize_x: int | None = 0
    hr_resize_y: int | None = 0
    hr_checkpoint_name: str | None = None
    hr_sampler_name: str | None = None
    hr_scheduler: str | None = None
    hr_prompt: str | None = ""
    hr_negative_prompt: str | None = ""


class Img2Img(Painting):
    """Body of /img2img."""

    init_images: list[str] | None = None
    mask: str | None = None
    mask_blur: int | None = None
    mask_blur_x: int | None = 4
    mask_blur_y: int | None = 4
    mask_round: bool | None = True
    inpainting_fill: int | None = 0
    inpaint_full_res: bool | int | None = True
    inpaint_full_res_padding: int | None = 0
    inpainting_mask_invert: int | None = 0
    initial_noise_multiplier: float | None = None
    image_cfg_scale: float | None = None
    latent_mask: str | None = None
    resize_mode: int | None = 0
    include_init_images: bool | None = False


class Extras(Body):
    """What both extras routes share."""

    resize_mode: int | None = 0
    show_extras_results: bool | None = True
    gfpgan_visibility: float | None = 0
    codeformer_visibility: float | None = 0
    codeformer_weight: float | None = 0
    upscaling_resize: float | None = 2
    upscaling_resize_w: int | None = 512
    upscaling_resize_h: int | None = 512
    upscaling_crop: bool | None = True
    upscaler_1: str | None = "None"
    upscaler_2: str | None = "None"
    extras_upscaler_2_visibility: float | None = 0
    upscale_first: bool | None = False


class ExtrasSingle(Extras):
    """Body of /extra-single-image."""

    image: str | None = ""


class FileData(Body):
    """One picture of a batch."""

    data: str
    name: str = ""


class ExtrasBatch(Extras):
    """Body of /extra-batch-images."""

    imageList: list[FileData] = []


class PngInfo(Body):
    """Body of /png-info."""

    image: str | None = ""


class Interrogate(Body):
    """Body of /interrogate."""

    image: str | None = ""
    model: str | None = "clip"


class Progress(Body):
    """Body of /internal/progress."""

    id_task: str = ""
    id_live_preview: int | None = -1
    live_preview: bool | None = True


class CreateEmbedding(Body):
    """Body of /create/embedding."""

    name: str = ""
    num_vectors_per_token: int | None = 1
    overwrite_old: bool | None = False
    init_text: str | None = "*"


class Preprocess(Body):
    """Body of /preprocess."""

    id_task: str | None = None
    process_src: str = ""
    process_dst: str = ""
    process_width: int | None = 512
    process_height: int | None = 512
    preprocess_txt_action: str | None = "ignore"
    process_keep_original_size: bool | None = False
    process_flip: bool | None = False
    process_split: bool | None = False
    process_caption: bool | None = False
    process_caption_deepbooru: bool | None = False
    split_threshold: float | None = 0.5
    overlap_ratio: float | None = 0.2
    process_focal_crop: bool | None = False
    process_focal_crop_face_weight: float | None = 0.9
    process_focal_crop_entropy_weight: float | None = 0.15
    process_focal_crop_edges_weight: float | None = 0.5
    process_focal_crop_debug: bool | None = False
    process_multicrop: bool | None = False
    process_multicrop_mindim: int | None = None
    process_multicrop_maxdim: int | None = None
    process_multicrop_minarea: int | None = None
    process_multicrop_maxarea: int | None = None
    process_multicrop_objective: str | None = None
    process_multicrop_threshold: float | None = None


class Training(Body):
    """What both trainings share."""

    id_task: str | None = None
    learn_rate: str | float | None = None
    batch_size: int | None = 1
    gradient_step: int | None = 1
    data_root: str = ""
    log_directory: str | None = "textual_inversion"
    training_width: int | None = 512
    training_height: int | None = 512
    varsize: bool | None = False
    steps: int | None = 100_000
    clip_grad_mode: str | None = "disabled"
    clip_grad_value: str | float | None = "0.1"
    shuffle_tags: bool | None = False
    tag_drop_out: float | None = 0
    latent_sampling_method: str | None = "once"
    use_weight: bool | None = False
    create_image_every: int | None = 500
    template_filename: str | None = "style_filewords.txt"
    preview_from_txt2img: bool | None = False
    preview_prompt: str | None = ""
    preview_negative_prompt: str | None = ""
    preview_steps: int | None = 20
    preview_sampler_name: str | None = None
    preview_sampler_index: int | str | None = None
    preview_cfg_scale: float | None = 7
    preview_seed: int | None = -1
    preview_width: int | None = 512
    preview_height: int | None = 512


class TrainEmbedding(Training):
    """Body of /train/embedding."""

    embedding_name: str = ""
    learn_rate: str | float | None = "0.005"
    save_embedding_every: int | None = 500
    save_image_with_stored_embedding: bool | None = True


class CreateHypernetwork(Body):
    """Body of /create/hypernetwork; lists may also be texts with commas."""

    name: str = ""
    enable_sizes: list[int | str] | None = None
    overwrite_old: bool | None = False
    layer_structure: str | list[float] | None = None
    activation_func: str | None = None
    weight_init: str | None = None
    add_layer_norm: bool | None = False
    use_dropout: bool | None = False
    dropout_structure: str | list[float] | None = None


class TrainHypernetwork(Training):
    """Body of /train/hypernetwork."""

    hypernetwork_name: str = ""
    learn_rate: str | float | None = "0.00001"
    save_hypernetwork_every: int | None = 500
