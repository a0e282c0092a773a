"""Putting pictures into words: the knobs that every captioner shares, and one press of Caption over a data set."""

from typing import Literal

from pydantic import Field

from studio.config import Config


class CaptionOptions(Config):
    """How captioners speak; preparing, captioning and interrogating have these knobs alike."""

    threshold: float = Field(0.5, ge=0, le=1, title="DeepBooru: score threshold", json_schema_extra={"step": 0.05})
    """How sure DeepBooru must be before a tag is written."""
    general_threshold: float = Field(0.35, ge=0, le=1, title="WD14: general threshold", json_schema_extra={"step": 0.05})
    """How sure a WD14 tagger must be before a tag of what is seen is written."""
    character_threshold: float = Field(0.85, ge=0, le=1, title="WD14: character threshold", json_schema_extra={"step": 0.05})
    """How sure a WD14 tagger must be before it names a character."""
    tag_spaces: bool = Field(True, title="Tags: spaces for underscores")
    """Write `long hair` for `long_hair`; faces such as ^_^ keep their underscore in WD14's tags."""
    tag_escape: bool = Field(True, title="Tags: escape brackets")
    """Put a backslash before brackets, so that prompts do not read them as emphasis."""
    tag_sort: Literal["alphabetical", "score"] = Field("alphabetical", title="Tags: order")
    """Order of the tags: by name, or the surest first."""
    tag_scores: bool = Field(False, title="Tags: include scores")
    """Write each tag with its score, as in (hat:0.987)."""
    tag_limit: int = Field(0, ge=0, le=1000, title="Tags: at most")
    """Keep only so many tags, the surest ones; 0 keeps all."""
    tag_exclude: str = Field("", title="Tags: leave out")
    """Tags that are never written, separated by commas; * stands for any letters, as in *_background."""
    sentence_min: int | None = Field(None, ge=0, le=200, title="Sentences: minimum length")
    """Fewest tokens of a sentence; empty leaves it to the model (24 for BLIP of full size)."""
    sentence_max: int = Field(48, ge=1, le=512, title="Sentences: maximum length")
    """Most tokens of a sentence; Florence-2's detailed captions may be longer, up to four times as many."""
    sentence_beams: int = Field(1, ge=1, le=16, title="Sentences: beams")
    """How many sentences are weighed against each other; more is slower and sometimes better."""
    sentence_start: str = Field("", max_length=200, title="Sentences: begin with")
    """Words that BLIP's sentence begins with, such as: a photo of."""
    florence_task: Literal["caption", "detailed caption", "more detailed caption"] = Field("caption", title="Florence-2: task")
    """How much Florence-2 says."""
    clip_phrases: int = Field(1, ge=0, le=24, title="CLIP interrogator: phrases of each list")
    """How many phrases of each list (artists, mediums, movements, flavours) are added to the sentence."""
    trigger: str = Field("", max_length=200, title="Trigger word")
    """A word that stands first in every caption that is written."""


class CaptionRequest(CaptionOptions):
    """One press of Caption: pictures of a data set are put into words, as one step that can be taken back."""

    folder: str = Field(min_length=1, title="Data set")
    """Folder of the data set; its pictures are only read."""
    names: tuple[str, ...] = Field((), title="Pictures")
    """File names of the pictures to caption; empty means all."""
    captioners: tuple[str, ...] = Field(min_length=1, title="Captions by")
    """Captioners by kind (such as BLIP) or by kind and name; what they say is joined with a comma."""
    existing: Literal["ignore", "copy", "prepend", "append", "keep"] = Field("ignore", title="Existing caption action")
    """Captions that are there: ignore replaces them, copy keeps them unless empty, prepend puts them first, append last, keep skips pictures that have a caption file."""
    batch_size: int = Field(1, ge=1, le=64, title="Pictures at once")
    """How many pictures a model looks at in one go; more is faster on a GPU and takes more memory."""
