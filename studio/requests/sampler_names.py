"""Samplers by every name people write: A1111's own, its API's, and the names from before schedule types such as "DPM++ 2M Karras"."""

from typing import get_args

from studio.requests.generate import Sampler, Schedule

ALIASES: tuple[tuple[str, str], ...] = (
    ("k_euler", "Euler"),
    ("k_euler_a", "Euler a"),
    ("k_euler_ancestral", "Euler a"),
    ("k_lms", "LMS"),
    ("k_heun", "Heun"),
    ("k_dpm_2", "DPM2"),
    ("k_dpm_2_a", "DPM2 a"),
    ("k_dpm_2_ancestral", "DPM2 a"),
    ("k_dpmpp_2m", "DPM++ 2M"),
    ("k_dpmpp_2s_a", "DPM++ 2S a"),
    ("k_dpmpp_sde", "DPM++ SDE"),
)
"""Samplers as A1111's API and older texts call them."""
_SAMPLERS = {name.lower(): name for name in get_args(Sampler)} | dict(ALIASES)
_SCHEDULES = {name.lower(): name for name in sorted(get_args(Schedule), key=len, reverse=True)}
_ENDS = {"_ka": "Karras", "_exp": "Exponential"}


def sampler_of(name: str) -> tuple[str | None, str | None]:
    """Sampler and schedule type that a name means; None for what is unknown or not said."""
    plain = name.strip().lower()
    if plain in _SAMPLERS:
        return _SAMPLERS[plain], None
    for schedule in _SCHEDULES:
        if plain.endswith(" " + schedule):
            return _SAMPLERS.get(plain.removesuffix(schedule).rstrip()), _SCHEDULES[schedule]
    return next(((_SAMPLERS.get(plain.removesuffix(end)), schedule) for end, schedule in _ENDS.items() if plain.endswith(end)), (None, None))
