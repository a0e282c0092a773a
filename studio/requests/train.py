"""Training: create an embedding, and teach it."""

from typing import Literal

from pydantic import Field, field_validator

from studio.config import Config
from studio.requests.generate import PROMPT_LIMIT, Sampler

_FORBIDDEN = set('/\\:*?"<>|\0\n\r\t')
_RESERVED = {"con", "prn", "aux", "nul", *(f"com{i}" for i in range(1, 10)), *(f"lpt{i}" for i in range(1, 10))}


def check_name(name: str) -> str:
    """A name that can be a file and a word in a prompt; raises ValueError in words."""
    clean = name.strip()
    if not clean:
        raise ValueError("give it a name; the name is the word you will write in prompts.")
    bad = sorted(c for c in set(clean) if c in _FORBIDDEN)
    if bad:
        raise ValueError(f"a name cannot hold {' '.join(repr(c) for c in bad)}; use letters, digits, '-', '_' or '.'.")
    if clean.startswith((".", "-")) or clean.endswith(".") or clean.lower().split(".")[0] in _RESERVED:
        raise ValueError("a name cannot begin with '.' or '-', end with '.', or be a reserved file name.")
    if len(clean.encode()) > 120:
        raise ValueError("the name is longer than 120 bytes; choose a shorter one.")
    return clean


class CreateEmbeddingRequest(Config):
    """One press of Create embedding."""

    name: str = Field()
    """The embedding's file name and the word you write in prompts."""
    initialization_text: str = Field("*", max_length=1000)
    """Words the embedding starts from, such as "monster" or "woman"; empty starts from zero."""
    vectors: int = Field(1, ge=1, le=75, title="Number of vectors per token")
    """How many of the prompt's 75 places it takes; 1 to 2 for an object, 4 to 8 for a style or person."""
    overwrite: bool = Field(False, title="Overwrite Old Embedding")
    """Replace an embedding of the same name."""
    checkpoint: str = ""
    """Checkpoint whose words it starts from; empty means the default one."""

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        return check_name(value)


class TextualInversionConfig(Config):
    """The knobs of textual inversion, in A1111's order."""

    embedding: str = Field()
    """The embedding that learns; create it first."""
    learn_rate: str = Field("0.005", max_length=500, title="Embedding Learning rate")
    """A number, or a schedule such as "0.005:100, 1e-3:1000, 1e-5": each rate until that step."""
    batch_size: int = Field(1, ge=1, le=64)
    """Pictures looked at in one go."""
    gradient_accumulation: int = Field(1, ge=1, le=64, title="Gradient accumulation steps")
    """Goes before the embedding is changed once; steadier, and slower."""
    data: str = Field(min_length=1, title="Dataset directory")
    """Folder of prepared pictures with their captions."""
    template: str = Field("subject_filewords", title="Prompt template")
    """File of training prompts; [name] is the embedding, [filewords] the caption."""
    width: int = Field(0, ge=0, le=2048, json_schema_extra={"step": 8})
    """Pixels, a multiple of 8; 0 = the checkpoint's own."""
    height: int = Field(0, ge=0, le=2048, json_schema_extra={"step": 8})
    """Pixels, a multiple of 8; 0 = the checkpoint's own."""
    steps: int = Field(1000, ge=1, le=1_000_000, title="Max steps")
    """Stop at this step, counted from the embedding's first step ever."""
    save_every: int = Field(100, ge=0, title="Save a copy of embedding every N steps")
    """Keep a copy this often; 0 = only at the end."""
    preview_every: int = Field(100, ge=0, title="Save an image every N steps")
    """Paint a preview this often; 0 = never."""
    preview_prompt: str = Field("", max_length=PROMPT_LIMIT)
    """Prompt of the previews, with [name] for the embedding; empty means "a photo of [name]"."""
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
    latent_sampling: Literal["once", "deterministic", "random"] = Field("once", title="Latent sampling method")
    """Draw each picture's latent once, take its mean, or draw anew every time."""
    min_snr_gamma: float = Field(5.0, ge=0, le=100)
    """Weigh noise levels so that none drowns the others (Hang et al. 2023); 0 = off."""
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

    @field_validator("embedding")
    @classmethod
    def _embedding(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("no embedding is selected; create one first.")
        return value.strip()


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


class TrainRequest(Config):
    """One press of Start training."""

    method: Literal["textual_inversion"] = "textual_inversion"
    """What learns."""
    config: TextualInversionConfig
    """Its knobs."""
