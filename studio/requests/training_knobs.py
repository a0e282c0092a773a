"""What every training can be told: the knobs that all methods share, in A1111's order."""

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from studio.config import Config
from studio.requests.generate import PROMPT_LIMIT, Sampler


class TrainConfig(Config):
    """The knobs of every method; a method adds its own, and its name."""

    method: ClassVar[str] = ""
    """What a request calls it."""
    title: ClassVar[str] = ""
    """What a person calls it."""

    learn_rate: str = Field("0.005", max_length=500, title="Learning rate")
    """A number, or a schedule such as "0.005:100, 1e-3:1000, 1e-5": each rate until that step."""
    batch_size: int = Field(1, ge=1, le=64)
    """Pictures looked at in one go."""
    gradient_accumulation: int = Field(1, ge=1, le=64, title="Gradient accumulation steps")
    """Goes before what learns is changed once; steadier, and slower."""
    data: str = Field(min_length=1, title="Dataset directory")
    """Folder of prepared pictures with their captions."""
    rate_shape: Literal["constant", "cosine", "linear"] = Field("constant", title="Rate falls")
    """Constant keeps the written rates; cosine and linear let them fall to nothing toward the last step."""
    warmup: int = Field(0, ge=0, le=100_000, title="Warm-up steps")
    """Steps over which the rate rises from nothing to what is written."""
    optimizer: Literal["AdamW", "AdamW 8-bit", "Prodigy", "Adafactor", "Lion"] = "AdamW"
    """What turns gradients into steps. Prodigy finds its own rate: write 1."""
    clip_grad_mode: Literal["disabled", "value", "norm"] = Field("disabled", title="Gradient clipping")
    """Keep single pictures from pushing too hard: cap each number of the gradient, or its length."""
    clip_grad_value: float = Field(0.1, gt=0, le=1000, title="Gradient clip value")
    """Where gradients are capped."""
    template: str = Field("subject_filewords", title="Prompt template")
    """File of training prompts; [name] is the word that is taught, [filewords] the caption."""
    width: int = Field(0, ge=0, le=2048, json_schema_extra={"step": 8})
    """Pixels, a multiple of 8; 0 = the checkpoint's own."""
    height: int = Field(0, ge=0, le=2048, json_schema_extra={"step": 8})
    """Pixels, a multiple of 8; 0 = the checkpoint's own."""
    steps: int = Field(1000, ge=1, le=1_000_000, title="Max steps")
    """Stop at this step, counted from the first step ever."""
    save_every: int = Field(100, ge=0, title="Save a copy every N steps")
    """Keep a copy this often; 0 = only at the end."""
    preview_every: int = Field(100, ge=0, title="Save an image every N steps")
    """Paint a preview this often; 0 = never."""
    preview_prompt: str = Field("", max_length=PROMPT_LIMIT)
    """Prompts of the previews, one in each line, with [name] for the word; empty means "a photo of [name]"."""
    preview_images: int = Field(1, ge=1, le=4, title="Previews of each prompt")
    """Pictures of each prompt, at the seed and those after it."""
    preview_negative_prompt: str = Field("", max_length=PROMPT_LIMIT)
    """Negative prompt of the previews."""
    preview_seed: int = Field(1, ge=0, le=2**32 - 1)
    """Seed of the previews: the same at every step, so that they can be compared."""
    preview_sampler: Sampler = "DPM++ 2M"
    """Sampling method of the previews."""
    preview_steps: int = Field(15, ge=1, le=150)
    """Sampling steps of the previews."""
    preview_cfg_scale: float = Field(4.0, ge=1, le=30)
    """CFG scale of the previews."""
    shuffle_tags: bool = Field(False, title="Shuffle tags by ','")
    """Put the caption's tags in a new order each time."""
    drop_out_tags: float = Field(0.0, ge=0, le=1, title="Drop out tags when creating prompts", json_schema_extra={"step": 0.1})
    """Leave each tag out with this probability."""
    caption_dropout: float = Field(0.0, ge=0, le=1, title="Caption dropout", json_schema_extra={"step": 0.05})
    """Train on the name alone, without the caption, with this probability."""
    flip: bool = Field(False, title="Flip pictures at random")
    """Show each picture mirrored half of the time; not for faces, writing or anything that has a side."""
    buckets: bool = Field(False, title="Aspect buckets")
    """Keep each picture's shape: pictures of like shape are learned together, and nothing but the edge is cut off."""
    use_masks: bool = Field(False, title="Use masks as loss weight")
    """Learn only where a mask is light: a -masklabel.png beside the picture, one painted in the data set room, or the picture's transparency."""
    mask_floor: float = Field(0.0, ge=0, le=1, title="Weight of what is masked off", json_schema_extra={"step": 0.05})
    """How much the dark parts of masks count."""
    latent_sampling: Literal["once", "deterministic", "random"] = Field("once", title="Latent sampling method")
    """Draw each picture's latent once, take its mean, or draw anew every time."""
    min_snr_gamma: float = Field(5.0, ge=0, le=100)
    """Weigh noise levels so that none drowns the others (Hang et al. 2023); 0 = off."""
    noise_offset: float = Field(0.0, ge=0, le=1, title="Noise offset", json_schema_extra={"step": 0.01})
    """Shift the noise of whole pictures, so that very dark and very light ones can be learned; 0.03 to 0.1 where it is used."""
    gradient_checkpointing: bool = Field(False, title="Gradient checkpointing")
    """Needs far less memory, and about a fifth more time."""
    compile: bool = Field(False, title="Compile the network")
    """Faster steps on a graphics card after a first one that takes minutes."""
    probe_every: int = Field(25, ge=0, le=100_000, title="Measure the probe every N steps")
    """How often the fixed test of what was learned is made, which draws the curve and the verdict; 0 = never."""
    stop_rule: Literal["never", "flat", "patience"] = Field("never", title="Stop by itself")
    """Never; when the curve has gone flat (DVAR, Voronov et al. 2023); or when the best measurement is several measurements old."""
    patience: int = Field(5, ge=1, le=1000)
    """Measurements without a better one, after which patience stops."""
    devices: int = Field(1, ge=1, le=64)
    """Graphics cards that learn side by side, each from its own share of the pictures: as if the batch were that many times larger."""
    tensorboard: bool = Field(False, title="Write TensorBoard logs")
    """Write the curves for TensorBoard too, into the run's folder."""
    clip_skip: int = Field(1, ge=1, le=4, title="Clip skip")
    """Must match how the picture will be made later."""
    checkpoint: str = ""
    """Checkpoint to train on; empty means the default one."""
    seed: int = Field(0, ge=0, le=2**32 - 1)
    """Everything random in the run follows from this number."""

    @field_validator("width", "height")
    @classmethod
    def _eighth(cls, value: int) -> int:
        if value and (value % 8 or value < 64):
            raise ValueError(f"must be a multiple of 8 and at least 64; try {max(64, round(value / 8) * 8)}.")
        return value

    @field_validator("learn_rate")
    @classmethod
    def _rate(cls, value: str) -> str:
        check_schedule(value)
        return value

    @property
    def subject(self) -> str:
        """The name of what learns, which its file will have."""
        return ""

    @property
    def word(self) -> str:
        """What stands for [name] in training prompts and previews."""
        return self.subject

    @property
    def whole_batch(self) -> int:
        """Pictures of one batch on all devices together: what makes a step is the same on however few of them it is taken."""
        return self.batch_size * self.devices

    @property
    def images_per_step(self) -> int:
        """Images of one optimizer step, on all devices together."""
        return self.whole_batch * self.gradient_accumulation

    def steps_per_epoch(self, images: int) -> int:
        """Optimizer steps in which `images`, repeats counted, are all shown once; at least 1."""
        return max(1, -(-images // self.images_per_step))

    @property
    def rates(self) -> tuple[float, ...]:
        """The written rates."""
        return tuple(rate for rate, _ in check_schedule(self.learn_rate))


def check_schedule(text: str) -> list[tuple[float, int]]:
    """`"0.005:100, 1e-3"` as (rate, until step) pairs, -1 for no end; raises ValueError in words."""
    pairs: list[tuple[float, int]] = []
    for part in (p.strip() for p in text.split(",")):
        if not part:
            continue
        rate, _, until = part.partition(":")
        try:
            pair = float(rate), int(until) if until.strip() else -1
        except ValueError:
            raise ValueError(f'{part!r} is not "rate" or "rate:step"; write for example 0.005:100, 0.001') from None
        if not 0 < pair[0] <= 1000:
            raise ValueError(f"the rate {rate.strip()!r} must be greater than 0 and at most 1000.")
        pairs.append(pair)
    if not pairs:
        raise ValueError("the learning rate is empty; write for example 0.005")
    return pairs
