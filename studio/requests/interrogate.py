"""Asking what a picture shows."""

from pydantic import Field

from studio.requests.caption import CaptionOptions


class InterrogateRequest(CaptionOptions):
    """Put a picture into words."""

    image: str = Field(min_length=1)
    """Path of the picture."""
    captioner: str = Field("BLIP", min_length=1)
    """Which captioner, by kind (such as BLIP or DeepBooru) or by kind and name; several are separated by commas."""
