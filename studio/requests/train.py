"""Training: create an embedding, and every method that can be asked for with its knobs."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from studio.config import Config
from studio.requests.hypernetwork_build import HypernetworkBuild
from studio.requests.training_knobs import TrainConfig, check_schedule

__all__ = ["CONFIGS", "CreateEmbeddingRequest", "TrainConfig", "TrainRequest", "check_name", "check_schedule", "config_class", "names_of", "subject_of"]

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
    overwrite: bool = Field(False, title="Overwrite Old Embedding", json_schema_extra={"more": True})
    """Replace an embedding of the same name."""
    checkpoint: str = ""
    """Checkpoint whose words it starts from; empty means the default one."""

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        return check_name(value)


class TextualInversionConfig(TrainConfig):
    """The knobs of textual inversion: a word's vectors learn."""

    method: ClassVar[str] = "textual_inversion"
    title: ClassVar[str] = "Textual inversion"

    learn_rate: str = Field("0.005", max_length=500, title="Embedding Learning rate")
    """A number, or a schedule such as "0.005:100, 1e-3:1000, 1e-5": each rate until that step."""
    embedding: str = Field()
    """The embedding that learns; create it first."""
    norm_relaxation: float = Field(0.0, ge=0, le=1, title="Norm relaxation", json_schema_extra={"more": True, "step": 0.05})
    """Draw each vector's length softly toward that of an ordinary word (cloneofsimo's clip_ti_decay); 0 = off, 1 = as there."""

    @field_validator("embedding")
    @classmethod
    def _embedding(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("no embedding is selected; create one first.")
        return value.strip()

    @property
    def subject(self) -> str:
        """The embedding."""
        return self.embedding


class NamedConfig(TrainConfig):
    """What learns gets a file of its own."""

    name: str = Field()
    """File name of the result, by which prompts call it."""
    trigger: str = Field("", max_length=200, title="Trigger word")
    """The word that [name] stands for in training prompts and that you write later; empty means the name."""
    start_from: str = Field("", max_length=300, title="Go on from", json_schema_extra={"more": True})
    """Name of a finished one to train further; empty begins anew."""
    overwrite: bool = Field(False, title="Overwrite what has this name", json_schema_extra={"more": True})
    """Let the result take the place of a file of the same name."""
    weight_decay: float = Field(0.0, ge=0, le=10, title="Weight decay", json_schema_extra={"more": True, "step": 0.01})
    """Draw weights toward nothing, as AdamW does; 0.01 where it is used, 0 = off."""

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        return check_name(value)

    @property
    def subject(self) -> str:
        """The file's name."""
        return self.name

    @property
    def word(self) -> str:
        """The trigger word, else the name."""
        return self.trigger.strip() or self.name


class PriorConfig(NamedConfig):
    """A class word, and what keeps the rest of its class as it was (Ruiz et al. 2023)."""

    class_word: str = Field("", max_length=200, title="Class word")
    """What kind of thing it is, such as "person" or "dog"; it follows the trigger word in training prompts."""
    prior: Literal["none", "class pictures", "prediction"] = Field("none", title="Prior preservation")
    """Keep the class as it was: by pictures of it that the checkpoint paints first, or by what the untouched network says, which needs no pictures."""
    prior_loss_weight: float = Field(1.0, ge=0, le=10, title="Prior loss weight", json_schema_extra={"more": True, "step": 0.1})
    """How much keeping the class counts beside learning."""
    class_pictures: int = Field(100, ge=1, le=5000, title="Class pictures", json_schema_extra={"more": True})
    """How many pictures of the class are painted once and kept for later trainings."""
    class_prompt: str = Field("", max_length=1000, title="Class prompt", json_schema_extra={"more": True})
    """What the class pictures show; empty means "a photo of a" and the class word."""

    @property
    def word(self) -> str:
        """The trigger word with the class word after it."""
        return f"{super().word} {self.class_word.strip()}".strip()

    @property
    def prior_prompt(self) -> str:
        """The prompt of the class."""
        return self.class_prompt.strip() or f"a photo of a {self.class_word.strip()}"

    @model_validator(mode="after")
    def _classed(self) -> Self:
        if self.prior != "none" and not (self.class_word.strip() or self.class_prompt.strip()):
            raise ValueError("Class word: prior preservation keeps a class as it was, and none is named; write for example person.")
        return self


Precision = Literal["fp16", "bf16", "fp32"]
Layers = Literal["attention", "attention+MLP", "full"]


class NetworkConfig(PriorConfig):
    """What small networks beside the layers of a checkpoint have in common."""

    learn_rate: str = Field("1e-4", max_length=500, title="Learning rate")
    """A number, or a schedule such as "1e-4:500, 5e-5": each rate until that step; the UNet's."""
    text_encoder_rate: float = Field(5e-5, ge=0, le=1000, title="Text encoder learning rate", json_schema_extra={"more": True})
    """The text encoder's rate, which falls as the UNet's does; 0 leaves it as it is."""
    rank: int = Field(16, ge=1, le=1024)
    """How much it can hold; 4 to 16 for a person or object, 16 to 64 for a style."""
    alpha: float = Field(8.0, ge=0, le=1024, json_schema_extra={"step": 0.5})
    """How strongly it acts: by alpha divided by the rank; 0 = as the rank."""
    layers: Layers = Field("attention+MLP", title="Layers", json_schema_extra={"more": True})
    """Attention alone, with the layers between (as kohya's trainer has it), or every layer of the blocks."""
    conv_rank: int = Field(0, ge=0, le=1024, title="Convolution rank", json_schema_extra={"more": True})
    """Rank for the 3x3 convolutions too (LoCon); 0 = leave them."""
    conv_alpha: float = Field(0.0, ge=0, le=1024, title="Convolution alpha", json_schema_extra={"more": True, "step": 0.5})
    """Alpha of the convolutions; 0 = as their rank."""
    block_ranks: str = Field("", max_length=1000, title="Rank of each block", json_schema_extra={"more": True})
    """17 or 26 numbers between commas (SDXL 12 or 20), BASE first, each times the rank; 0 leaves a block as it is."""
    block_rates: str = Field("", max_length=1000, title="Rate of each block", json_schema_extra={"more": True})
    """As many numbers, each times the learning rate."""
    plus_ratio: float = Field(1.0, ge=1, le=64, title="LoRA+ ratio", json_schema_extra={"more": True})
    """The second matrix of each pair learns this many times faster (Hayou et al. 2024); 16 there, 1 = off."""
    dora: bool = Field(False, title="DoRA", json_schema_extra={"more": True})
    """Learn direction and length apart (Liu et al. 2024); slower, and often closer at a low rank."""
    dropout: float = Field(0.0, ge=0, lt=1, title="Dropout", json_schema_extra={"more": True, "step": 0.05})
    """Leave out this share of what passes through it, so that it does not learn pictures by heart."""
    rank_dropout: float = Field(0.0, ge=0, lt=1, title="Rank dropout", json_schema_extra={"more": True, "step": 0.05})
    """Leave out this share of its ranks in each step."""
    module_dropout: float = Field(0.0, ge=0, lt=1, title="Module dropout", json_schema_extra={"more": True, "step": 0.05})
    """Leave out whole layers this often."""
    save_precision: Precision = Field("fp16", title="Saved as", json_schema_extra={"more": True})
    """Precision of the numbers in the file."""


class LoraConfig(NetworkConfig):
    """The knobs of a LoRA (Hu et al. 2021): two thin matrices beside every chosen layer."""

    method: ClassVar[str] = "lora"
    title: ClassVar[str] = "LoRA"


class LycorisConfig(NetworkConfig):
    """The knobs of LyCORIS (Yeh et al. 2023): kin of LoRA that hold more in as many numbers."""

    method: ClassVar[str] = "lycoris"
    title: ClassVar[str] = "LyCORIS"

    algorithm: Literal["LoCon", "LoHa", "LoKr", "(IA)3"] = "LoKr"
    """LoCon adds convolutions; LoHa and LoKr multiply small matrices; (IA)3 only scales, and Forge and ComfyUI do not read it."""
    conv_rank: int = Field(8, ge=0, le=1024, title="Convolution rank", json_schema_extra={"more": True})
    """Rank for the 3x3 convolutions too; 0 = leave them."""
    tucker: bool = Field(False, title="Tucker decomposition", json_schema_extra={"more": True})
    """Split convolutions into a core and two matrices, which makes the file smaller."""
    factor: int = Field(8, ge=-1, le=1024, title="LoKr factor", json_schema_extra={"more": True})
    """Size of LoKr's first matrix; -1 = near the square root of the layer's size."""
    full_matrix: bool = Field(False, title="LoKr with a full matrix", json_schema_extra={"more": True})
    """Leave LoKr's second matrix whole, which ignores the rank and holds the most."""


class HypernetworkConfig(HypernetworkBuild, NamedConfig):
    """The knobs of a hypernetwork: small networks that change what attention is told."""

    method: ClassVar[str] = "hypernetwork"
    title: ClassVar[str] = "Hypernetwork"

    learn_rate: str = Field("0.00001", max_length=500, title="Hypernetwork Learning rate")
    """A number, or a schedule such as "1e-5:1000, 5e-6": each rate until that step."""


class WholeConfig(NamedConfig):
    """A whole network learns, and becomes a checkpoint."""

    save_every: int = Field(500, ge=0, title="Save a copy every N steps")
    """Keep a copy this often; each is as large as a checkpoint. 0 = only at the end."""
    text_encoder_rate: float = Field(0.0, ge=0, le=1000, title="Text encoder learning rate", json_schema_extra={"more": True})
    """The text encoder's rate, which falls as the UNet's does; 0 leaves it as it is."""
    ema_decay: float = Field(0.0, ge=0, lt=1, title="EMA decay", json_schema_extra={"more": True, "step": 0.0001})
    """Paint and save a running average of the weights; 0.9999 for long trainings, 0 = off."""
    save_folder: bool = Field(False, title="Save a diffusers folder too", json_schema_extra={"more": True})
    """Write the result as a diffusers folder beside the single file."""
    save_precision: Precision = Field("fp16", title="Saved as", json_schema_extra={"more": True})
    """Precision of the numbers in the file."""


class DreamboothConfig(WholeConfig, PriorConfig):
    """The knobs of DreamBooth (Ruiz et al. 2023): the whole network learns one subject, and its class is kept."""

    method: ClassVar[str] = "dreambooth"
    title: ClassVar[str] = "DreamBooth"

    learn_rate: str = Field("2e-6", max_length=500, title="Learning rate")
    """A number, or a schedule such as "2e-6:500, 1e-6": each rate until that step."""
    prior: Literal["none", "class pictures", "prediction"] = Field("class pictures", title="Prior preservation")
    """Keep the class as it was: by pictures of it that the checkpoint paints first, or by what the untouched network says, which needs no pictures."""
    result: Literal["checkpoint", "LoRA"] = Field("checkpoint", title="Train into")
    """A whole checkpoint, or a LoRA of the rank below."""
    rank: int = Field(32, ge=1, le=1024)
    """Rank of the LoRA, when it is trained into one."""


class FineTuneConfig(WholeConfig):
    """The knobs of the full fine-tune: the whole network learns from pictures and captions."""

    method: ClassVar[str] = "fine_tune"
    title: ClassVar[str] = "Full fine-tune"

    learn_rate: str = Field("1e-5", max_length=500, title="Learning rate")
    """A number, or a schedule such as "1e-5:1000, 5e-6": each rate until that step."""
    trained_layers: Literal["all", "attention", "cross-attention"] = Field("all", title="Layers that learn")
    """All of the UNet, or its attention alone, which needs far less memory."""


class TogetherConfig(NetworkConfig):
    """The knobs of an embedding and a LoRA that learn together: the word names what the LoRA knows how to draw."""

    method: ClassVar[str] = "together"
    title: ClassVar[str] = "Embedding + LoRA"

    text_encoder_rate: float = Field(0.0, ge=0, le=1000, title="Text encoder learning rate", json_schema_extra={"more": True})
    """The text encoder's rate, which falls as the UNet's does; 0 leaves it as it is."""
    initialization_text: str = Field("*", max_length=1000)
    """Words the embedding starts from, such as "monster" or "woman"; empty starts from zero."""
    vectors: int = Field(2, ge=1, le=75, title="Number of vectors per token")
    """How many of the prompt's 75 places the embedding takes."""
    embedding_rate: float = Field(5e-3, gt=0, le=1000, title="Embedding learning rate")
    """The embedding's rate, which falls as the LoRA's does."""
    order: Literal["joint", "words first", "LoRA first"] = Field("joint", title="Order")
    """Both at once, or one after the other."""
    switch: float = Field(0.5, gt=0, lt=1, title="Where it changes over", json_schema_extra={"more": True, "step": 0.05})
    """Part of all steps after which the second one takes over, when one comes after the other."""
    words_end: int = Field(0, ge=0, le=1_000_000, title="Words learn until step", json_schema_extra={"more": True})
    """The embedding stays as it is from this step on; 0 = it learns to the end."""

    @field_validator("trigger")
    @classmethod
    def _trigger(cls, value: str) -> str:
        return check_name(value) if value.strip() else ""

    bundle: bool = Field(False, title="Bundle the embedding into the LoRA too", json_schema_extra={"more": True})
    """Write a third file, which A1111 reads as both."""


CONFIGS: tuple[type[TrainConfig], ...] = tuple(found for found in list(vars().values()) if isinstance(found, type) and issubclass(found, TrainConfig) and "method" in vars(found) and found.method)
"""The knobs of every method, in the order a person sees them: each class above that names one."""


def config_class(method: str) -> type[TrainConfig]:
    """The knobs of a method; raises ValueError naming those there are."""
    for cls in CONFIGS:
        if cls.method == method:
            return cls
    raise ValueError(f"there is no {method!r}; choose one of {', '.join(cls.method for cls in CONFIGS)}.")


def subject_of(config: Mapping[str, Any]) -> str:
    """The name of what learns, from a request that was stored; empty when it says none."""
    return str(config.get("embedding") or config.get("name") or "")


def names_of(config: Mapping[str, Any]) -> set[str]:
    """Every name under which what learns is saved, from a request that was stored, in small letters: a word that learns beside a LoRA may have one of its own."""
    word = config.get("trigger") if "vectors" in config else ""
    return {str(name).lower() for name in (subject_of(config), word) if name}


class MethodRequest(Config):
    """A method and its knobs."""

    method: str = Field("textual_inversion", json_schema_extra={"enum": [cls.method for cls in CONFIGS]})
    """What learns."""
    config: SerializeAsAny[TrainConfig]
    """Its knobs."""

    @field_validator("method")
    @classmethod
    def _method(cls, value: str) -> str:
        return config_class(value).method

    @field_validator("config", mode="before")
    @classmethod
    def _config(cls, value: Any, info: Any) -> Any:
        return config_class(info.data.get("method", "textual_inversion")).model_validate(value) if isinstance(value, Mapping) else value


class TrainRequest(MethodRequest):
    """One press of Start training."""

    run: str = Field("", max_length=300)
    """Folder name of a run to go on with, such as one that ended and shall learn for more steps; empty begins a new one."""
