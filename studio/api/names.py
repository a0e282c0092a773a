"""A1111's names for samplers and schedules: its own lists, its aliases, and the combined names of older versions."""

from typing import Any, get_args

from studio.errors import InputError, StudioError
from studio.requests import sampler_names
from studio.requests.generate import Sampler, Schedule

SAMPLERS: tuple[str, ...] = get_args(Sampler)
SCHEDULES: tuple[str, ...] = get_args(Schedule)
ALIASES: dict[str, tuple[str, ...]] = {
    "DPM++ 2M": ("k_dpmpp_2m",),
    "DPM++ SDE": ("k_dpmpp_sde",),
    "DPM++ 2M SDE": ("k_dpmpp_2m_sde",),
    "DPM++ 2M SDE Heun": ("k_dpmpp_2m_sde_heun",),
    "DPM++ 2S a": ("k_dpmpp_2s_a",),
    "DPM++ 3M SDE": ("k_dpmpp_3m_sde",),
    "Euler a": ("k_euler_a", "k_euler_ancestral"),
    "Euler": ("k_euler",),
    "LMS": ("k_lms",),
    "Heun": ("k_heun",),
    "DPM2": ("k_dpm_2",),
    "DPM2 a": ("k_dpm_2_a",),
    "DPM fast": ("k_dpm_fast",),
    "DPM adaptive": ("k_dpm_ad",),
    "Restart": ("restart",),
    "DDIM": ("ddim",),
    "DDIM CFG++": ("ddim_cfgpp",),
    "PLMS": ("plms",),
    "UniPC": ("unipc",),
    "LCM": ("k_lcm",),
}
"""Other words for a sampler."""
OWN_SCHEDULE = {
    "DPM++ 2M": "karras",
    "DPM++ SDE": "karras",
    "DPM++ 2M SDE": "exponential",
    "DPM++ 2M SDE Heun": "exponential",
    "DPM++ 2S a": "karras",
    "DPM++ 3M SDE": "exponential",
    "DPM2": "karras",
    "DPM2 a": "karras",
    "Restart": "karras",
}
"""What Automatic means for a sampler, where it is not the model's own spacing."""
SCHEDULE_NAMES = {"SGM Uniform": "sgm_uniform", "KL Optimal": "kl_optimal", "Align Your Steps": "align_your_steps"}
"""Names of schedules that are not their labels in lower case."""
RHO = {"Karras": 7.0, "Polyexponential": 1.0}
INNER = frozenset({"Uniform", "SGM Uniform", "Simple", "Normal", "DDIM", "Beta", "Turbo"})
"""Schedules that are read off the model's own noise levels."""


def _plain(name: str) -> str:
    """A name without case, spaces and underscores."""
    return "".join(name.lower().replace("_", " ").split())


_ALIASED = {word: name for name, words in ALIASES.items() for word in words}
_SCHEDULE_OF = {_plain(label): label for label in SCHEDULES}


def sampler_of(name: str) -> tuple[str, str]:
    """A sampler's own name, and the schedule that an older combined name such as "DPM++ 2M Karras" carries (else empty); raises StudioError."""
    alias = _ALIASED.get(name.strip().lower())
    sampler, schedule = (alias, None) if alias else sampler_names.sampler_of(name)
    if sampler is None:
        raise StudioError(f"Sampler not found: there is no {name!r}.", f"Choose one of {', '.join(SAMPLERS)}.", "sampler")
    return sampler, schedule or ""


def schedule_of(name: str) -> str:
    """A schedule's label by label or name, whatever its case; raises InputError."""
    found = _SCHEDULE_OF.get(_plain(name))
    if found is None:
        raise InputError(f"Scheduler not found: there is no {name!r}.", f"Choose one of {', '.join(SCHEDULES)}.")
    return found


def sampler_list() -> list[dict[str, Any]]:
    """Answer of /samplers."""
    return [{"name": name, "aliases": list(ALIASES.get(name, ())), "options": {"scheduler": OWN_SCHEDULE[name]} if name in OWN_SCHEDULE else {}} for name in SAMPLERS]


def schedule_list() -> list[dict[str, Any]]:
    """Answer of /schedulers."""
    return [
        {
            "name": SCHEDULE_NAMES.get(label, label.lower()),
            "label": label,
            "aliases": ["SGMUniform"] if label == "SGM Uniform" else None,
            "default_rho": RHO.get(label, -1.0),
            "need_inner_model": label in INNER,
        }
        for label in SCHEDULES
    ]
