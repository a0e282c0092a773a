"""How a hypernetwork is built: A1111's knobs, for one that is created and one that is trained."""

import math
from typing import Literal

from pydantic import Field, field_validator, model_validator

from studio.config import Config

Width = Literal["768", "1024", "320", "640", "1280", "2048"]
Activation = Literal[
    "linear",
    "relu",
    "leakyrelu",
    "elu",
    "swish",
    "tanh",
    "sigmoid",
    "celu",
    "gelu",
    "hardshrink",
    "hardsigmoid",
    "hardtanh",
    "logsigmoid",
    "mish",
    "prelu",
    "relu6",
    "rrelu",
    "selu",
    "silu",
    "softplus",
    "softshrink",
    "softsign",
    "tanhshrink",
]
Initialization = Literal["Normal", "KaimingUniform", "KaimingNormal", "XavierUniform", "XavierNormal"]
WIDEST = 16
"""A layer that is so many times as wide as the context is the widest that may be asked for."""


class HypernetworkBuild(Config):
    """The knobs of a hypernetwork's small networks."""

    modules: tuple[Width, ...] = Field(("768", "1024", "320", "640", "1280"), title="Modules")
    """Widths of context it acts on; those that the checkpoint has not are left out."""
    layer_structure: str = Field("1, 2, 1", max_length=200, title="Hypernetwork layer structure")
    """Width of each layer as a multiple of the context's; the first and the last must be 1."""
    activation: Activation = Field("linear", title="Activation function")
    """What bends what passes; relu, leakyrelu and swish are usual."""
    weight_init: Initialization = Field("Normal", title="Layer weights initialization", json_schema_extra={"more": True})
    """How its numbers begin; Kaiming for relu and its kin, Xavier for tanh and sigmoid."""
    layer_norm: bool = Field(False, title="Add layer normalization", json_schema_extra={"more": True})
    """Put a normalising layer after each."""
    dropout_structure: str = Field("", max_length=200, title="Hypernetwork dropout structure", json_schema_extra={"more": True})
    """A rate for each layer, such as "0, 0.3, 0"; empty = none."""

    @field_validator("modules")
    @classmethod
    def _modules(cls, value: tuple[Width, ...]) -> tuple[Width, ...]:
        if not value:
            raise ValueError("no width is chosen; choose 768, 320, 640 and 1280 for SD 1.x.")
        return tuple(dict.fromkeys(value))

    @field_validator("layer_structure")
    @classmethod
    def _structure(cls, value: str) -> str:
        parts = numbers(value)
        if len(parts) < 2 or parts[0] != 1 or parts[-1] != 1 or not all(0 < part <= WIDEST for part in parts):
            raise ValueError(f"{value!r} must be numbers above 0 and at most {WIDEST} between commas that begin and end with 1; write for example 1, 2, 1.")
        return value

    @field_validator("dropout_structure")
    @classmethod
    def _rates(cls, value: str) -> str:
        numbers(value)
        return value

    @model_validator(mode="after")
    def _dropout(self) -> "HypernetworkBuild":
        rates = self.rates_of_dropout
        if rates and (len(rates) != len(self.structure) or rates[0] or rates[-1] or not all(0 <= rate < 1 for rate in rates)):
            raise ValueError(
                f"Hypernetwork dropout structure: {self.dropout_structure!r} must be {len(self.structure)} rates from 0 to below 1, as many as there are widths, the first and the last 0; "
                f"write for example {', '.join(['0', *['0.3'] * (len(self.structure) - 2), '0'])}."
            )
        return self

    @property
    def structure(self) -> tuple[float, ...]:
        """The widths of the layers as multiples of the context's."""
        return numbers(self.layer_structure)

    @property
    def rates_of_dropout(self) -> tuple[float, ...]:
        """A rate for each width; empty where nothing is written."""
        return numbers(self.dropout_structure)


def numbers(text: str) -> tuple[float, ...]:
    """Numbers between commas, whole ones as such; nothing for an empty text. Raises ValueError in words."""
    try:
        found = tuple(float(part) for part in text.split(",")) if text.strip() else ()
    except ValueError:
        raise ValueError(f"{text!r} must be numbers between commas; write for example 1, 2, 1.") from None
    if not all(map(math.isfinite, found)):
        raise ValueError(f"{text!r} must be finite numbers; write for example 1, 2, 1.")
    return tuple(int(number) if number.is_integer() else number for number in found)
