"""One declaration per knob: a strict frozen model whose fields can be seen as controls by every face."""

import re
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import pydantic
from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

from studio.errors import InputError


class Config(BaseModel):
    """A set of knobs; the docstring under each field is the help a person reads."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @classmethod
    def check(cls, values: dict[str, Any]) -> "Config":
        """Build from loose values; raises InputError naming every mistake at once."""
        try:
            return cls.model_validate(values)
        except pydantic.ValidationError as error:
            wrong = [(str(item["loc"][-1]) if item["loc"] else "", _sentence(cls, item)) for item in error.errors()]
            raise InputError(" ".join(sentence for _, sentence in wrong), fields={name: sentence for name, sentence in wrong if name}) from error


def _sentence(cls: type[Config], item: Any) -> str:
    """One validation error as a sentence with the label and the value seen."""
    name = str(item["loc"][-1]) if item["loc"] else ""
    shown = repr(item.get("input"))
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    reason = str(item["msg"]).removeprefix("Value error, ")
    if not name or (item["type"] == "value_error" and isinstance(item.get("input"), dict)):  # of knobs together: the sentence names them
        return reason if reason.endswith(".") else reason + "."
    return f"{label_of(name)}: {reason} (got {shown})."


def label_of(name: str) -> str:
    """`batch_size` as a person reads it: `Batch size`."""
    words = name.replace("_", " ")
    words = words[:1].upper() + words[1:]
    return re.sub(r"\b(cfg|snr|vae|ti)\b", lambda m: m[0].upper(), words, flags=re.IGNORECASE)


@dataclass(frozen=True)
class Control:
    """One knob as a face needs it."""

    name: str
    label: str
    kind: Literal["number", "integer", "text", "choice", "choices", "flag"]
    default: Any
    help: str
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()
    multiline: bool = False
    more: bool = False


def controls(cls: type[Config]) -> list[Control]:
    """Every field of a Config as a Control, in the order of declaration."""
    return [_control(name, field) for name, field in cls.model_fields.items()]


def _control(name: str, field: FieldInfo) -> Control:
    """One field as a Control."""
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    kind, choices = _kind(field.annotation)
    low = next((m.ge for m in field.metadata if hasattr(m, "ge")), None)
    high = next((m.le for m in field.metadata if hasattr(m, "le")), None)
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    return Control(name, field.title or label_of(name), kind, default, field.description or "", low, high, extra.get("step"), choices, bool(extra.get("multiline")), bool(extra.get("more")))


def _kind(annotation: Any) -> tuple[Any, tuple[str, ...]]:
    """The control kind and choices of a type annotation."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "choice", tuple(str(a) for a in arguments)
    if origin is tuple:
        return "choices", _kind(arguments[0])[1]
    if origin in (Union, UnionType):
        return _kind(next(a for a in arguments if a is not type(None)))
    simple = {bool: "flag", int: "integer", float: "number", str: "text", Path: "text"}
    return simple.get(annotation, "text"), ()
