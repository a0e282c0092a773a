"""What can be asked of a running training, and the values that may be said with it."""

from collections.abc import Mapping
from typing import Any

from studio.errors import InputError
from studio.requests.generate import GenerateRequest
from studio.requests.train import TrainConfig

CHANGEABLE = ("learn_rate", "preview_every", "preview_prompt", "steps", "save_every", "probe_every", "stop_rule", "patience")
"""Settings of a training that may change while it runs."""
SAMPLED = ("prompt", "seed")
"""What a picture that is asked for may differ in."""


def checked(kind: str, data: Mapping[str, Any] | None) -> dict[str, Any]:
    """What is said with an ask, checked by the fields of the request it belongs to; raises InputError naming every mistake."""
    given = dict(data or {})
    allowed = {"change": CHANGEABLE, "sample": SAMPLED}.get(kind, ())
    unknown = sorted(set(given) - set(allowed))
    if unknown:
        raise InputError(f"{kind} takes no {', '.join(unknown)}.", f"It takes {', '.join(allowed)}." if allowed else "Send nothing with it.")
    if kind == "change":
        if not given:
            raise InputError("Nothing is to be changed.", f"Send one of {', '.join(CHANGEABLE)}.")
        made = TrainConfig.check({"data": "-", **given})
    elif kind == "sample":
        made = GenerateRequest.check(given)
    else:
        return {}
    return {name: getattr(made, name) for name in given}
