"""What a data set is being prepared for: the knobs of its room that suggestions, warnings and writing follow."""

from typing import Any, Literal

from pydantic import Field, field_validator

from studio.config import Config

CaptionEncoding = Literal["Automatic", "Chinese (GBK)", "Traditional Chinese (Big5)", "Japanese (Shift-JIS)", "Korean (EUC-KR)", "Western European (Windows-1252)", "Cyrillic (Windows-1251)"]
Method = Literal["textual_inversion", "lora", "lycoris", "hypernetwork", "dreambooth", "fine_tune", "together"]


class RoomSettings(Config):
    """Kept with each data set."""

    width: int = Field(128, ge=64, le=2048, json_schema_extra={"step": 8})
    """Width of the written pictures in pixels."""
    height: int = Field(128, ge=64, le=2048, json_schema_extra={"step": 8})
    """Height of the written pictures in pixels."""
    face_weight: float = Field(0.9, ge=0, le=1, title="Focal point face weight", json_schema_extra={"step": 0.05})
    """Pull of faces on the crop."""
    entropy_weight: float = Field(0.15, ge=0, le=1, title="Focal point entropy weight", json_schema_extra={"step": 0.05})
    """Pull of detailed areas on the crop."""
    edges_weight: float = Field(0.5, ge=0, le=1, title="Focal point edges weight", json_schema_extra={"step": 0.05})
    """Pull of corners and edges on the crop."""
    trigger: str = Field("", max_length=200, title="Trigger word")
    """The word that will be trained, as it will stand in prompts."""
    vectors: int = Field(4, ge=1, le=75, title="Vectors per token")
    """How many tokens the trained word takes up."""
    template: str = Field("subject_filewords", max_length=200, title="Prompt template")
    """The template whose lines become prompts."""
    caption_encoding: CaptionEncoding = Field("Automatic", title="Caption encoding")
    """Encoding of caption files that are not Unicode; automatic reads them in what all of them together look like."""
    method: Method = "textual_inversion"
    """What will be trained; advice and warnings follow it."""

    @field_validator("method", mode="before")
    @classmethod
    def _method(cls, value: Any) -> Any:
        return "fine_tune" if value == "full" else value  # as data sets of earlier versions have it
