"""What mends a finding, as one step that can be taken back, and which findings a person does not want to see."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import log2
from typing import Any

from studio import shelves
from studio.errors import Conflict, InputError
from studio.projects import caption_mending
from studio.projects.captions import caption_names
from studio.projects.case import Aim, Case, Finding, Surroundings
from studio.projects.doctor import Report, examine_set
from studio.projects.facts import Change, Edit, Item
from studio.projects.picture_checks import SMALLEST_TARGET, face_crop, too_small
from studio.projects.project import Project
from studio.projects.set_checks import SPARED
from studio.projects.steps import ENCODING
from studio.projects.text_encodings import CAPTION_SUFFIXES, legacy_encoding

IGNORED = "doctor_ignored"
"""The setting of a data set that holds keys of findings."""
PAPERS = frozenset({"license", "licence", "readme", "notice", "copying", "credits", "sources"})
"""Text files that are no captions."""
MASKS = "mask_trouble"
"""The setting that holds, for each picture, when its mask and itself changed and what was wrong then."""
_SHARE = 10
"""One picture of so many is kept for validation, but never more than MOST_HELD."""
MOST_HELD = 20
_LEVEL = 4
"""How many times more often a picture may be shown than another once repeats are levelled."""


@dataclass(frozen=True)
class Remedy:
    """What mends a finding: changes of pictures, or settings of what the data set is wanted for."""

    changes: Sequence[Change] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fix:
    """One way of mending; `label` is what its button and its step of the journal are called."""

    label: str
    make: Callable[[Case, Finding], Remedy]


@dataclass(frozen=True)
class Mended:
    """What a fix did."""

    name: str
    count: int
    edit: Edit | None
    settings: Mapping[str, Any]
    """Settings that the caller is to keep; they are not part of the journal."""


def report_for(project: Project, aim: Aim, mask_trouble: Mapping[str, str] | None = None) -> Report:
    """The doctor's report of a data set as it is now, with what is ignored apart; `mask_trouble` says of pictures what is wrong with their masks, unless what is kept shall count."""
    items = project.items()
    return examine_set(items, aim, surroundings(project, items, mask_trouble), ignored(project))


def mend(project: Project, aim: Aim, key: str, mask_trouble: Mapping[str, str] | None = None) -> Mended:
    """Apply the fix of a finding as one step. Raises Conflict when the finding is no longer true, InputError when it has no fix or the fix can change nothing."""
    items = project.items()
    around = surroundings(project, items, mask_trouble)
    report = examine_set(items, aim, around)
    finding = next((one for one in report.findings if one.key == key), None)
    if finding is None:
        raise Conflict("The data set was changed since it was checked.", "Look at the new findings; nothing was changed.")
    if finding.fix is None:
        raise InputError(f"There is no fix for this: {finding.sentence}", "Ignore it, or change the pictures by hand.")
    fix = FIXES[finding.fix]
    remedy = fix.make(Case(items, aim, around), finding)
    changes = [replace(change, before=project.mask_digest(change.item)) if change.field == "mask" else change for change in remedy.changes]
    edit = project.edit(fix.label, changes) if changes else None
    if edit is None and not remedy.settings:
        raise InputError(f"{fix.label} changes nothing here.", "Ignore the finding, or change the pictures by hand.")
    return Mended(fix.label, edit.count if edit else len(remedy.settings), edit, remedy.settings)


def ignored(project: Project) -> frozenset[str]:
    """Keys of the findings that are ignored."""
    return frozenset(project.setting(IGNORED, []))


def ignore(project: Project, key: str) -> None:
    """Do not show a finding as long as it is about the same pictures."""
    project.put_setting(IGNORED, sorted(ignored(project) | {key}))


def unignore(project: Project, key: str) -> None:
    """Show a finding again."""
    project.put_setting(IGNORED, sorted(ignored(project) - {key}))


def keep_mask_trouble(project: Project, found: Mapping[str, str]) -> None:
    """Keep what is wrong with the masks of pictures, in sentences (empty: nothing), for the files as they are now; what was known of other pictures stays."""
    items = {item.name: item for item in project.items()}
    known = {name: entry for name, entry in project.setting(MASKS, {}).items() if name in items}
    project.put_setting(MASKS, known | {name: [items[name].mask_changed, items[name].changed, sentence] for name, sentence in found.items() if name in items})


def kept_mask_trouble(project: Project, items: Sequence[Item]) -> dict[str, str]:
    """What is known to be wrong with masks; what was said of a file that changed since no longer counts."""
    known = project.setting(MASKS, {})
    return {item.name: known[item.name][2] for item in items if item.name in known and known[item.name][:2] == [item.mask_changed, item.changed] and known[item.name][2]}


def surroundings(project: Project, items: Sequence[Item], mask_trouble: Mapping[str, str] | None = None) -> Surroundings:
    """What lies in a data set's folder beside its pictures."""
    captions = {name for item in items for name in caption_names(item.name)}
    masks = {f"{_stem(item.name)}{shelves.MASK_SUFFIX}" for item in items}
    names = sorted(path.name for path in project.folder.iterdir() if not path.name.startswith("."))
    return Surroundings(
        caption_trouble=project.caption_trouble(),
        caption_encoding=legacy_encoding(project.folder),
        mask_trouble=kept_mask_trouble(project, items) if mask_trouble is None else mask_trouble,
        orphan_captions=tuple(name for name in names if name.lower().endswith(CAPTION_SUFFIXES) and name not in captions and _stem(name).lower() not in PAPERS),
        orphan_masks=tuple(name for name in names if name.endswith(shelves.MASK_SUFFIX) and name not in masks),
    )


def _stem(name: str) -> str:
    """A file name without its last suffix."""
    return name.rpartition(".")[0]


def _choose(field_name: str, value: Any) -> Callable[[Case, Finding], Remedy]:
    """A fix that gives every picture of a finding one decision."""
    return lambda case, finding: Remedy([_choice(case, name, field_name, value) for name in finding.items])


def _choice(case: Case, name: str, field_name: str, value: Any) -> Change:
    """One decision about one picture."""
    return Change(name, field_name, getattr(case.by_name[name].choices, field_name), value)


def _keep_best(case: Case, finding: Finding) -> Remedy:
    """Of each group only the best stays: the largest, of those as large the sharpest, then one with a caption."""
    out = [name for group in finding.groups for name in group if name != max(group, key=lambda one: _worth(case.by_name[one]))]
    return Remedy([_choice(case, name, "left_out", True) for name in out])


def _worth(item: Item) -> tuple[int, float, bool]:
    """How much a picture is worth keeping; areas that differ by less than a tenth or so are alike."""
    if item.facts is None or not item.facts.width * item.facts.height:
        return 0, 0.0, False
    return round(8 * log2(item.facts.width * item.facts.height)), item.facts.sharpness, bool(item.caption.strip())


def _center_face(case: Case, finding: Finding) -> Remedy:
    """The crop is set on the faces."""
    return Remedy([Change(name, "crop", case.by_name[name].choices.crop, crop) for name in finding.items if (crop := face_crop(case.by_name[name], case))])


def _smaller_target(case: Case, finding: Finding) -> Remedy:
    """The largest size of the same shape, in whole steps, at which nothing is enlarged."""
    width, height = case.aim.size
    step = 64 if min(width, height) >= SMALLEST_TARGET else 8
    for side in range(min(width, height) // step * step, step - 1, -step):
        scale = side / min(width, height)
        smaller = {"width": max(step, round(width * scale / step) * step), "height": max(step, round(height * scale / step) * step)}
        if too_small(Case(case.items, replace(case.aim, **smaller), case.around)) is None:
            return Remedy(settings=smaller)
    return Remedy()


def _spread(case: Case) -> set[str]:
    """Pictures to keep for validation: one of ten, evenly over the set, none that looks like another; a whole group when there is nothing else."""
    twins = {name for group in case.alike for name in group}
    alone = [item.name for item in case.usable if item.name not in twins]
    if len(case.usable) < SPARED:
        return set()
    if not alone:
        return set(min(case.alike, key=len)) if len(case.alike) > 1 else set()
    count = min(MOST_HELD, max(1, len(case.usable) // _SHARE), len(alone))
    return {alone[(2 * i + 1) * len(alone) // (2 * count)] for i in range(count)}


def _hold_spread(case: Case, finding: Finding) -> Remedy:
    """Exactly the spread is kept for validation."""
    kept = _spread(case)
    return Remedy([_choice(case, item.name, "held_out", item.name in kept) for item in case.usable])


def _mend_leak(case: Case, finding: Finding) -> Remedy:
    """Each group goes to the side where most of it is, but validation keeps the smallest group when it would be left without a picture."""
    held = {item.name for item in case.held}
    after = {group: sum(name in held for name in group) * 2 > len(group) for group in finding.groups}
    torn = {name for group in finding.groups for name in group}
    if not held - torn and not any(after.values()):
        smallest = min(after, key=len)
        after[smallest] = len(smallest) < len(case.usable)
    return Remedy([_choice(case, name, "held_out", side) for group, side in after.items() for name in group])


def _level_repeats(case: Case, finding: Finding) -> Remedy:
    """No picture is shown more than four times as often as another."""
    least = max(1, min(item.choices.repeats for item in case.learned))
    return Remedy([_choice(case, item.name, "repeats", min(max(1, item.choices.repeats), _LEVEL * least)) for item in case.learned])


def _text(work: Callable[[Case, Item], str | None]) -> Callable[[Case, Finding], Remedy]:
    """A fix that rewrites captions; a caption file that several pictures share is changed once."""

    def make(case: Case, finding: Finding) -> Remedy:
        once = {item.caption_name: item for name in reversed(finding.items) if (item := case.by_name[name])}
        return Remedy([Change(item.name, "caption", item.caption if item.captioned else None, work(case, item)) for item in reversed(once.values())])

    return make


def _own_captions(case: Case, finding: Finding) -> Remedy:
    """Of pictures that share a caption file the first keeps it, and the others get files of their own with the same words."""
    return Remedy([Change(name, "own_caption", None, case.by_name[name].caption) for group in finding.groups for name in group[1:]])


FIXES: dict[str, Fix] = {
    "leave_out": Fix("Leave these pictures out", _choose("left_out", True)),
    "take_back": Fix("Take all pictures back in", _choose("left_out", False)),
    "keep_best": Fix("Leave out all but the best", _keep_best),
    "hold_in": Fix("Give pictures back to training", _hold_spread),
    "hold_some_out": Fix("Keep some pictures for validation", _hold_spread),
    "mend_leak": Fix("Keep look-alikes on one side", _mend_leak),
    "center_face": Fix("Set the crop on the faces", _center_face),
    "smaller_target": Fix("Choose a smaller size", _smaller_target),
    "focal_crop": Fix("Cut where the subject is", lambda case, finding: Remedy(settings={"crop": "Focal"})),
    "level_repeats": Fix("Level the repeats", _level_repeats),
    "trim": Fix("Shorten captions to 75 tokens", _text(caption_mending.trimmed)),
    "add_trigger": Fix("Put the word in front of captions", _text(caption_mending.with_trigger)),
    "escape_brackets": Fix("Escape brackets in captions", _text(caption_mending.escaped)),
    "dedupe": Fix("Take repeated tags out", _text(caption_mending.deduped)),
    "remove_common_tags": Fix("Take tags of every caption out", _text(caption_mending.without_common)),
    "own_caption": Fix("Give each picture a caption file", _own_captions),
    "reencode": Fix("Save captions as plain UTF-8", lambda case, finding: Remedy([Change(name, ENCODING, None, "utf-8") for name in finding.items])),
    "remove_mask": Fix("Delete these masks", lambda case, finding: Remedy([Change(name, "mask", "", None) for name in finding.items if case.by_name[name].mask_name])),
    "remove_caption": Fix("Delete empty captions", _text(lambda case, item: None)),
}
"""Everything that can be mended with a button."""
LABELS = {name: fix.label for name, fix in FIXES.items()}
"""What the buttons are called."""
