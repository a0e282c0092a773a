"""The doctor's checks of single pictures: can it be read, is it sharp, large and whole enough."""

from statistics import median

from studio.projects.advice import bounds
from studio.projects.case import Case, Check, Hit
from studio.projects.cropping import crop_size
from studio.projects.facts import Crop, Facts, Item

SOFT = 100.0
"""Variance of the Laplacian under which a picture may be blurred, when the others are much sharper."""
BLURRED = 20.0
"""Under which it is blurred in any company."""
LESS_SHARP = 0.25
"""Share of the set's median sharpness that is much less."""
LARGER = 1.02
"""Enlarging by up to 2 % is not seen."""
LOST = 0.5
"""Share of a picture's area that a crop may throw away."""
RIM = 0.02
"""Share of a face's side that may be cut off: detectors are no more exact."""
SMALLEST_TARGET = 256
"""No smaller size of training is offered as a fix for larger ones."""


def unreadable(case: Case) -> Hit | None:
    """Files that could not be opened."""
    bad = [(item.name, item.facts.problem) for item in case.used if item.facts and item.facts.problem]
    return Hit([name for name, _ in bad], {"why": bad[0][1]}) if bad else None


def not_examined(case: Case) -> Hit | None:
    """Pictures nothing is known about."""
    return _hit([item.name for item in case.used if item.facts is None])


def animated(case: Case) -> Hit | None:
    """Files of several pictures."""
    return _hit([item.name for item, facts in _seen(case) if facts.frames > 1])


def turned(case: Case) -> Hit | None:
    """Pictures that their EXIF turns."""
    return _hit([item.name for item, facts in _seen(case) if facts.turned])


def alpha(case: Case) -> Hit | None:
    """Pictures with transparent parts that have no mask of their own."""
    return _hit([item.name for item, facts in _seen(case) if facts.alpha and not item.mask_name])


def blurred(case: Case) -> Hit | None:
    """Pictures that are not sharp: by themselves, or next to the others."""
    seen = _seen(case)
    if not seen:
        return None
    middle = median(facts.sharpness for _, facts in seen)
    limit = max(BLURRED, min(SOFT, LESS_SHARP * middle))
    found = [item.name for item, facts in seen if facts.sharpness < limit]
    return Hit(found, {"median": round(middle), "limit": round(limit)}) if found else None


def too_small(case: Case) -> Hit | None:
    """Pictures whose crop has fewer pixels than are wanted; a few are better left out, of many the target is too large."""
    factors = {item.name: factor for item in case.seen if (factor := case.enlarged(item)) > LARGER}
    if not factors:
        return None
    worst = max(factors.values())
    values = {"width": case.aim.width, "height": case.aim.height, "factor": f"{worst:.1f}"}
    enough = len(case.learned) - len(factors) >= bounds(case.aim.method).few
    reachable = min(case.aim.size) / worst >= min(SMALLEST_TARGET, min(case.aim.size) // 2)
    if enough and (len(factors) * 4 <= len(case.seen) or not reachable):
        return Hit(list(factors), values, fix="leave_out")
    return Hit(list(factors), values, fix="smaller_target" if reachable else None)


def extreme_shape(case: Case) -> Hit | None:
    """Pictures of which even the largest crop throws away more than half."""
    found = [item.name for item, facts in _seen(case) if _kept(facts, case) < 1 - LOST]
    return Hit(found, {"width": case.aim.width, "height": case.aim.height}) if found else None


def face_cut(case: Case) -> Hit | None:
    """Pictures whose crop cuts or loses a face that another crop would keep."""
    return _hit([item.name for item, _ in _seen(case) if (better := face_crop(item, case)) is not None and better != item.choices.crop])


def face_too_large(case: Case) -> Hit | None:
    """Pictures whose largest face fits into no crop of the target's shape."""
    return _hit([item.name for item, facts in _seen(case) if facts.faces and not _fits(facts, facts.faces[:1], case)])


def face_crop(item: Item, case: Case) -> Crop | None:
    """A crop that keeps the faces the present one cuts: all of them when they fit, else the largest; None when nothing is cut or nothing helps."""
    facts = item.facts
    if facts is None or not facts.faces:
        return None
    wanted = next((faces for faces in (facts.faces, facts.faces[:1]) if _fits(facts, faces, case)), None)
    if wanted is None:
        return None
    left, top, right, bottom = case.box(item)
    low_x, low_y, high_x, high_y = _around(wanted)
    slack_x, slack_y = RIM * (high_x - low_x) * facts.width + 1, RIM * (high_y - low_y) * facts.height + 1
    inside = left - slack_x <= low_x * facts.width and high_x * facts.width <= right + slack_x and top - slack_y <= low_y * facts.height and high_y * facts.height <= bottom + slack_y
    return None if inside else Crop((low_x + high_x) / 2, (low_y + high_y) / 2, 1.0)


def _fits(facts: Facts, faces: tuple[tuple[float, float, float, float], ...], case: Case) -> bool:
    """Whether the largest crop can hold these faces whole."""
    width, height = crop_size(facts.size, case.aim.size)
    left, top, right, bottom = _around(faces)
    return (right - left) * facts.width <= width + 1 and (bottom - top) * facts.height <= height + 1


def _around(faces: tuple[tuple[float, float, float, float], ...]) -> tuple[float, float, float, float]:
    """The box around all of these faces, as shares, inside the picture."""
    lefts, tops, rights, bottoms = zip(*faces, strict=True)
    return max(0.0, min(lefts)), max(0.0, min(tops)), min(1.0, max(rights)), min(1.0, max(bottoms))


def _kept(facts: Facts, case: Case) -> float:
    """Share of a picture's area that its largest crop keeps."""
    width, height = crop_size(facts.size, case.aim.size)
    return width * height / (facts.width * facts.height)


def _seen(case: Case) -> list[tuple[Item, Facts]]:
    """Measured pictures with their facts."""
    return [(item, item.facts) for item in case.seen if item.facts]


def _hit(names: list[str]) -> Hit | None:
    """A hit when there are names."""
    return Hit(names) if names else None


CHECKS: tuple[Check, ...] = (
    Check("unreadable", "problem", "Cannot be read: {count} of {total} pictures. They would be skipped. {why}", "leave_out", unreadable),
    Check("not_examined", "hint", "Not examined yet: {count} of {total} pictures. Nothing can be said of their size, sharpness and likeness.", None, not_examined),
    Check("blurred", "warning", "Blurred: {count} of {total} pictures have a sharpness under {limit}; half of the set has {median} or more. The model learns the blur.", "leave_out", blurred),
    Check(
        "too_small",
        "warning",
        "Too small for {width}x{height}: {count} of {total} pictures would be enlarged, one {factor} times. The model learns how enlarged pictures look.",
        None,
        too_small,
    ),
    Check(
        "extreme_shape", "warning", "Of another shape: {count} of {total} pictures lose more than half when they are cut to {width}x{height}. Splitting them keeps more.", "leave_out", extreme_shape
    ),
    Check("face_cut", "warning", "Faces cut: in {count} of {total} pictures the crop cuts off a face that would fit into it.", "center_face", face_cut),
    Check("face_too_large", "hint", "Faces larger than the crop: {count} of {total} pictures. No crop of this shape keeps the face whole.", "leave_out", face_too_large),
    Check("animated", "hint", "Animated: {count} of {total} pictures. Only the first frame counts.", "leave_out", animated),
    Check("turned", "hint", "Turned by their EXIF: {count} of {total} pictures. They are used upright; programs that ignore EXIF show them on their side.", None, turned),
    Check("alpha", "hint", "Partly transparent: {count} of {total} pictures. They are laid on white; the transparency can serve as a mask.", None, alpha),
)
