"""What a data set is prepared for, as its room keeps it, and as the doctor looks at it."""

from collections.abc import Callable, Mapping
from typing import Any

from studio.errors import StudioError
from studio.presets.showing import RESOLUTION
from studio.projects.case import PLAIN_LINES, Aim
from studio.projects.cropping import Weights
from studio.projects.filling import parse_template
from studio.projects.project import Project
from studio.requests.room import RoomSettings

KEY = "room"
"""The setting of a data set that holds them."""


def settings_of(project: Project, values: Mapping[str, Any] | None = None) -> RoomSettings:
    """What a data set is prepared for, `values` coming before what is kept; raises InputError naming every mistake in them."""
    kept = project.setting(KEY, {})
    known = {name: value for name, value in kept.items() if name in RoomSettings.model_fields} if isinstance(kept, dict) else {}
    return RoomSettings.check({**known, **(values or {})})  # type: ignore[return-value]


def keep_settings(project: Project, values: Mapping[str, Any]) -> RoomSettings:
    """Change some of them and keep all; raises InputError."""
    settings = settings_of(project, values)
    project.put_setting(KEY, settings.model_dump())
    return settings


def weights_of(settings: RoomSettings) -> Weights:
    """Pull of each kind of focal point."""
    return Weights(settings.face_weight, settings.entropy_weight, settings.edges_weight)


def aim_of(project: Project, template_text: Callable[[str], str], values: Mapping[str, Any] | None = None) -> Aim:
    """What the doctor measures a data set against; a template that is missing or empty counts as a plain sentence."""
    settings = settings_of(project, values)
    try:
        lines = parse_template(template_text(settings.template), settings.template)
    except StudioError:
        lines = PLAIN_LINES
    return Aim(settings.width, settings.height, weights_of(settings), settings.trigger, lines, settings.vectors, settings.method, family_of_size(settings.width, settings.height))


def family_of_size(width: int, height: int) -> str:
    """The family whose own resolution is nearest to pictures of a size, as `Aim.family` calls it: what they are prepared for."""
    side = (width * height) ** 0.5
    return min(RESOLUTION, key=lambda family: abs(RESOLUTION[family] - side)).lower()
