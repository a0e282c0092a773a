"""What of a form differs from its preset."""

from collections.abc import Mapping
from typing import Any

from studio.config import Config
from studio.presets.intents import Preset
from studio.requests.training_knobs import check_schedule

_SCHEDULES = ("learn_rate",)


def differences(config: Config | Mapping[str, Any], preset: Preset) -> list[tuple[str, Any, Any]]:
    """Every knob of a preset that the settings have otherwise, as (knob, the preset's value, the value); a knob that the settings do not hold does not differ."""
    values = config.model_dump() if isinstance(config, Config) else config
    return [(knob, wanted, values[knob]) for knob, wanted in preset.values.items() if knob in values and not same(knob, wanted, values[knob])]


def same(knob: str, one: Any, other: Any) -> bool:
    """Whether two values of a knob mean the same: 1e-4 and 0.0001 do, as do lines with other ends."""
    if knob in _SCHEDULES:
        try:
            return check_schedule(str(one)) == check_schedule(str(other))
        except ValueError:
            return str(one).strip() == str(other).strip()
    if isinstance(one, str) or isinstance(other, str):
        return [line.strip() for line in str(one).strip().splitlines()] == [line.strip() for line in str(other or "").strip().splitlines()]
    return bool(one == other)
