"""What can learn: METHODS, one line per method."""

from studio.training.methods.textual_inversion import TEXTUAL_INVERSION
from studio.training.methods.trainable import Method

METHODS: tuple[Method, ...] = (TEXTUAL_INVERSION,)
"""Every method the studio can train, in the order a person sees them."""


def method_of(name: str) -> Method:
    """The method called `name`; requests allow no other names."""
    return next(m for m in METHODS if m.name == name)
