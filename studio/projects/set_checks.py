"""The doctor's checks of a data set as a whole: likeness, number, split, and what its pictures have in common."""

from collections.abc import Sequence

from studio.projects.advice import bounds
from studio.projects.case import Case, Check, Hit

ENOUGH = 4
"""Pictures from which on a lack of variety means something."""
SPARED = 5
"""Pictures from which on one can be kept for validation."""
UNEVEN = 10
"""How many times more often one picture may be shown than another."""
SHAPES = 0.1
"""Shapes (ratios of sides) that differ by less are one."""


def nothing(case: Case) -> Hit | None:
    """No picture is there."""
    return None if case.items else Hit(())


def all_left_out(case: Case) -> Hit | None:
    """Every picture was left out."""
    return Hit([item.name for item in case.items], {"total": len(case.items)}) if case.items and not case.used else None


def all_alike(case: Case) -> Hit | None:
    """All pictures look the same."""
    return Hit(case.alike[0], {}, case.alike) if _is_one(case) else None


def copies(case: Case) -> Hit | None:
    """Files that are the same, byte for byte."""
    return _groups(case.copies)


def look_alike(case: Case) -> Hit | None:
    """Pictures that look the same but are not copies only."""
    known = [set(group) for group in case.copies]
    return _groups([group for group in case.alike if not any(set(group) <= copied for copied in known)])


def little_variety(case: Case) -> Hit | None:
    """More than half of the pictures look like another one."""
    names = [name for group in case.alike for name in group]
    different = len(case.seen) - len(names) + len(case.alike)
    if len(case.seen) < ENOUGH or _is_one(case) or len(names) * 2 <= len(case.seen):
        return None
    return Hit(names, {"different": different}, case.alike)


def leakage(case: Case) -> Hit | None:
    """Pictures kept for validation that are learned from as well, as a copy or nearly."""
    held = {item.name for item in case.held}
    torn = [group for group in case.alike if 0 < sum(name in held for name in group) < len(group)]
    return Hit([name for group in torn for name in group], {"held": sum(name in held for group in torn for name in group)}, torn) if torn else None


def no_validation(case: Case) -> Hit | None:
    """Nothing is kept for validation though pictures could be spared."""
    return Hit([item.name for item in case.usable], {}, fix="hold_some_out") if not case.held and len(case.usable) >= SPARED and not _is_one(case) else None


def small_validation(case: Case) -> Hit | None:
    """Nothing is kept for validation, and there are too few pictures to spare one."""
    return Hit([item.name for item in case.usable]) if not case.held and 0 < len(case.usable) < SPARED else None


def all_held_out(case: Case) -> Hit | None:
    """Every picture is kept for validation."""
    return Hit([item.name for item in case.held]) if case.held and not case.learned else None


def too_few(case: Case) -> Hit | None:
    """Fewer pictures to learn from than the method wants."""
    few, count = bounds(case.aim.method).few, len(case.learned)
    return Hit([item.name for item in case.learned], {"few": few}) if 0 < count < few else None


def too_many(case: Case) -> Hit | None:
    """More pictures to learn from than the method has room for."""
    many = bounds(case.aim.method).many
    return Hit([item.name for item in case.learned], {"many": many}) if many is not None and len(case.learned) > many else None


def mixed_shapes(case: Case) -> Hit | None:
    """Pictures of several shapes that are all cut in their middle."""
    if case.aim.sizing != "Center":
        return None
    wanted = case.aim.width / case.aim.height
    found = [item.name for item in case.seen if item.facts and not item.choices.crop and abs(item.facts.width / item.facts.height / wanted - 1) > SHAPES]
    return Hit(found, fix="focal_crop") if found else None


def uneven_repeats(case: Case) -> Hit | None:
    """Some pictures are shown far more often than others."""
    repeats = [item.choices.repeats for item in case.learned]
    if not repeats or max(repeats) < UNEVEN * max(1, min(repeats)):
        return None
    return Hit([item.name for item in case.learned if item.choices.repeats * UNEVEN > max(repeats)], {"most": max(repeats), "least": min(repeats)})


def _is_one(case: Case) -> bool:
    """Whether two or more pictures are there and all look the same."""
    return len(case.seen) > 1 and len(case.alike) == 1 and len(case.alike[0]) == len(case.seen)


def _groups(groups: Sequence[Sequence[str]]) -> Hit | None:
    """A hit of pictures in groups."""
    return Hit([name for group in groups for name in group], {"groups": len(groups)}, groups) if groups else None


CHECKS: tuple[Check, ...] = (
    Check("no_pictures", "problem", "There is no picture in this data set.", None, nothing),
    Check("all_left_out", "problem", "All {count} pictures are left out: nothing is left to train on.", "take_back", all_left_out),
    Check("all_held_out", "problem", "All {count} pictures are kept for validation: nothing is left to learn from.", "hold_in", all_held_out),
    Check("all_alike", "problem", "All {count} pictures look the same. They are learned by heart, background and all.", "keep_best", all_alike),
    Check("leakage", "problem", "In training and validation alike: {count} pictures, {held} of them kept for validation. The curve would praise learning by heart.", "mend_leak", leakage),
    Check("duplicates", "warning", "Copies: {count} of {total} pictures are the same file in {groups} groups. What is there twice is learned twice as much.", "keep_best", copies),
    Check("near_duplicates", "warning", "Nearly the same: {count} of {total} pictures in {groups} groups. What is there twice is learned twice as much.", "keep_best", look_alike),
    Check(
        "little_variety",
        "warning",
        "Little variety: {count} of {total} pictures look like another one; {different} are different. What they share is learned as part of the subject.",
        "keep_best",
        little_variety,
    ),
    Check("too_few", "warning", "Few pictures: {count} to learn from; this method wants {few} or more. Fewer are soon known by heart; keep many copies on the way.", None, too_few),
    Check("too_many", "hint", "Many pictures: {count} to learn from; over {many} a word cannot hold more. A LoRA can.", None, too_many),
    Check("no_validation", "hint", "No picture is kept for validation, so the curve cannot tell learning from learning by heart.", "hold_some_out", no_validation),
    Check("small_validation", "hint", "No picture is kept for validation, and {count} are too few to spare one: the curve cannot tell learning from learning by heart.", None, small_validation),
    Check("mixed_shapes", "hint", "Of other shapes: {count} of {total} pictures are cut in their middle, wherever the subject is.", "focal_crop", mixed_shapes),
    Check("uneven_repeats", "hint", "Uneven repeats: {most} times for one picture, {least} for another. What is shown so often is learned by heart.", "level_repeats", uneven_repeats),
)
