"""SAMPLERS: A1111's names over diffusers' schedulers, always built from the checkpoint's own schedule."""

from typing import Any

from studio.errors import InputError

SAMPLERS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("DPM++ 2M", "DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    ("DPM++ 2M Karras", "DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "use_karras_sigmas": True}),
    ("Euler a", "EulerAncestralDiscreteScheduler", {}),
    ("Euler", "EulerDiscreteScheduler", {}),
    ("Heun", "HeunDiscreteScheduler", {}),
    ("LMS", "LMSDiscreteScheduler", {}),
    ("DDIM", "DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False}),
    ("UniPC", "UniPCMultistepScheduler", {}),
)
"""Name, diffusers class, settings."""
_SCHEDULE = ("beta_start", "beta_end", "beta_schedule", "num_train_timesteps", "prediction_type", "steps_offset")


def make_sampler(name: str, schedule: dict[str, Any]) -> Any:
    """A fresh diffusers scheduler; raises InputError on an unknown name."""
    import diffusers

    for known, cls, settings in SAMPLERS:
        if known == name:
            return getattr(diffusers, cls)(**{k: schedule[k] for k in _SCHEDULE if k in schedule}, **settings)
    raise InputError(f"There is no sampler {name!r}.", f"Choose one of {', '.join(s[0] for s in SAMPLERS)}.")
