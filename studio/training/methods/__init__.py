"""What can learn: METHODS, one line per method."""

from studio.errors import InputError
from studio.training.methods.dreambooth import DREAMBOOTH
from studio.training.methods.fine_tune import FINE_TUNE
from studio.training.methods.hypernetwork import HYPERNETWORK
from studio.training.methods.lora import LORA
from studio.training.methods.lycoris import LYCORIS
from studio.training.methods.textual_inversion import TEXTUAL_INVERSION
from studio.training.methods.together import TOGETHER
from studio.training.methods.trainable import Method

METHODS: tuple[Method, ...] = (
    TEXTUAL_INVERSION,
    LORA,
    LYCORIS,
    HYPERNETWORK,
    DREAMBOOTH,
    FINE_TUNE,
    TOGETHER,
)
"""Every method the studio can train, in the order a person sees them."""


def method_of(name: str) -> Method:
    """The method called `name`; raises InputError."""
    found = next((method for method in METHODS if method.name == name), None)
    if found is None:
        raise InputError(f"Method: {name!r} cannot be trained; choose one of {', '.join(method.name for method in METHODS)}.")
    return found
