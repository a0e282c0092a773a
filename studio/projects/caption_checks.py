"""The doctor's checks of captions and masks: there, readable, short enough, of their own, and with the word that is taught."""

import re
from collections import Counter
from collections.abc import Collection

from studio.projects.captions import TROUBLES, split_tags
from studio.projects.case import Case, Check, Hit
from studio.prompts.chunks import CHUNK
from studio.prompts.words import Names, composed

BRACKET = re.compile(r"(\\*)([()\[\]])")
"""A bracket with the backslashes before it; an even number of them leaves it a bracket of emphasis."""
PLACES = re.compile(r"\[(?:name|filewords)\]")
"""What a template and a caption may leave to be filled."""
SHOWN = 5
"""Tags that a sentence names."""
OUT_OF_REACH = ("unreadable", "long")
"""Troubles of a caption file that writing it anew does not mend."""
LEGACY = "legacy"
"""The trouble of a caption that isn't Unicode."""
SAME_SHARE, SAME_COUNT = 0.25, 3
"""From this share of the captions, and at least so many, the same caption is one that a captioner repeats."""
LOOP = re.compile(r"(?<!\w)(\w+(?:\W+\w+){1,5}?)(?:\W+\1(?!\w)){2,}", re.IGNORECASE)
"""Two to six words three times in a row, which is how a captioner gets stuck."""
ENOUGH = 4
"""Captions from which on something they have in common means something."""


def missing(case: Case) -> Hit | None:
    """Pictures without a caption file, when others have one."""
    return _hit([item.name for item in case.used if not item.captioned]) if case.captioned else None


def empty(case: Case) -> Hit | None:
    """Caption files that say nothing, when others do."""
    return _hit([item.name for item in case.used if item.captioned and not item.caption.strip()]) if case.captioned else None


def none_at_all(case: Case) -> Hit | None:
    """No picture has a caption, and the template asks for them."""
    return _hit([item.name for item in case.used]) if not case.captioned and case.aim.asks_captions else None


def too_long(case: Case) -> Hit | None:
    """Captions whose longest final prompt is longer than one chunk, though the template leaves room."""
    if case.tokens("") > CHUNK:
        return None
    counts = {item.name: case.tokens(item.caption) for item in case.captioned}
    found = {name: count for name, count in counts.items() if count > CHUNK}
    return Hit(list(found), {"most": max(found.values()), "limit": CHUNK}) if found else None


def template_too_long(case: Case) -> Hit | None:
    """A template that alone is longer than one chunk."""
    count = case.tokens("")
    return Hit((), {"count": count, "limit": CHUNK, "line": case.longest_line[:120]}) if count > CHUNK else None


def without_trigger(case: Case) -> Hit | None:
    """Captions without the word that is taught, when a line of the template leaves naming it to them."""
    trigger = case.aim.trigger
    if not trigger or not any("[name]" not in line and "[filewords]" in line for line in case.aim.template):
        return None
    names = [item.name for item in case.used if "[name]" not in item.caption and not holds(item.caption if item.captioned else item.name.rpartition(".")[0], trigger)]
    return Hit(names, {"trigger": trigger}) if names else None


def template_without_name(case: Case) -> Hit | None:
    """Lines of the template that neither name the word nor hold the caption that could."""
    lines = [line for line in case.aim.template if "[name]" not in line and "[filewords]" not in line and not (case.aim.trigger and holds(line, case.aim.trigger))]
    return Hit((), {"count": len(lines), "lines": len(case.aim.template), "line": lines[0][:120]}) if lines else None


def trouble(case: Case) -> Hit | None:
    """Caption files in an odd encoding, or with odd characters."""
    return _troubled(case, [code for code in TROUBLES if code not in (*OUT_OF_REACH, LEGACY)])


def other_encoding(case: Case) -> Hit | None:
    """Caption files that aren't Unicode, with the encoding they are read in and how the first one reads."""
    found = [item for item in case.used if case.around.caption_trouble.get(item.name) == LEGACY]
    return Hit([item.name for item in found], {"encoding": case.around.caption_encoding, "sample": found[0].caption[:60]}) if found else None


def repeated_captions(case: Case) -> Hit | None:
    """Captions that many images share word for word, though not all do: a captioner that doesn't know what it sees."""
    texts = Counter(item.caption.strip().casefold() for item in case.captioned)
    text, count = texts.most_common(1)[0] if texts else ("", 0)
    if len(texts) < 2 or count < max(SAME_COUNT, SAME_SHARE * len(case.captioned)):
        return None
    return Hit([item.name for item in case.captioned if item.caption.strip().casefold() == text], {"caption": text[:120]})


def looping_captions(case: Case) -> Hit | None:
    """Captions that say the same words again and again."""
    found = [item for item in case.captioned if LOOP.search(item.caption[:2000])]
    return Hit([item.name for item in found], {"caption": found[0].caption[:120]}) if found else None


def out_of_reach(case: Case) -> Hit | None:
    """Caption files that cannot be read whole."""
    return _troubled(case, OUT_OF_REACH)


def _troubled(case: Case, codes: Collection[str]) -> Hit | None:
    """Pictures whose caption files have one of these troubles."""
    found = {item.name: code for item in case.used if (code := case.around.caption_trouble.get(item.name)) in codes}
    return Hit(list(found), {"why": TROUBLES[next(iter(found.values()))]}) if found else None


def shared(case: Case) -> Hit | None:
    """Pictures that have one caption file together."""
    return Hit([name for group in case.shared for name in group], {}, case.shared) if case.shared else None


def all_the_same(case: Case) -> Hit | None:
    """Every caption says the same."""
    texts = {item.caption.strip() for item in case.captioned}
    return Hit([item.name for item in case.captioned], {"caption": next(iter(texts))[:120]}) if len(case.captioned) > 1 and len(texts) == 1 else None


def repeated_tags(case: Case) -> Hit | None:
    """Captions in which a tag stands twice."""
    return _hit([item.name for item in case.captioned if len(tags := [tag.casefold() for tag in split_tags(item.caption)]) > len(set(tags))])


def brackets(case: Case) -> Hit | None:
    """Captions with brackets that the prompt reads as emphasis."""
    return _hit([item.name for item in case.captioned if emphasised(item.caption)])


def common_tags(case: Case) -> Hit | None:
    """Tags that stand in every caption, though the captions differ."""
    if len(case.captioned) < ENOUGH or all_the_same(case):
        return None
    tags = common(case)
    return Hit([item.name for item in case.captioned], {"tags": ", ".join(tags[:SHOWN]) + (" …" if len(tags) > SHOWN else ""), "count": len(tags)}) if tags else None


def orphan_captions(case: Case) -> Hit | None:
    """Text files without a picture."""
    return _hit(list(case.around.orphan_captions))


def orphan_masks(case: Case) -> Hit | None:
    """Masks without a picture."""
    return _hit(list(case.around.orphan_masks))


def bad_masks(case: Case) -> Hit | None:
    """Masks that are of one colour, of another size, or damaged."""
    found = {item.name: case.around.mask_trouble[item.name] for item in case.used if case.around.mask_trouble.get(item.name)}
    return Hit(list(found), {"why": next(iter(found.values()))}) if found else None


def holds(text: str, word: str) -> bool:
    """Whether a word stands in a text as the trainer finds it: in any case, not as part of a longer one."""
    return next(Names([word]).find(composed(text)), None) is not None


def emphasised(caption: str) -> bool:
    """Whether a caption holds brackets that are neither escaped nor a place to fill."""
    return any(len(found[1]) % 2 == 0 for found in BRACKET.finditer(PLACES.sub("", caption)))


def common(case: Case) -> list[str]:
    """Tags of every caption as the first one spells them, without the word that is taught."""
    sets = [{tag.casefold() for tag in split_tags(item.caption)} for item in case.captioned]
    both = set.intersection(*sets) - {case.aim.trigger.casefold()} if sets else set()
    return [tag for tag in dict.fromkeys(split_tags(case.captioned[0].caption)) if tag.casefold() in both] if both else []


def _hit(names: list[str]) -> Hit | None:
    """A hit when there are names."""
    return Hit(names) if names else None


CHECKS: tuple[Check, ...] = (
    Check("caption_trouble", "warning", "Captions hard to read: {count} of {total} pictures. {why}", "reencode", trouble),
    Check(
        "caption_encoding",
        "warning",
        "Captions that aren't Unicode: {count} of {total} images, read as {encoding}. The first one reads: “{sample}”. If that is wrong, choose another encoding.",
        "reencode",
        other_encoding,
    ),
    Check("caption_out_of_reach", "problem", "Captions that cannot be read whole: {count} of {total} pictures. {why}", None, out_of_reach),
    Check("no_captions", "warning", "No captions: none of {total} pictures has one, and the template asks for them with [filewords]. File names take their place.", None, none_at_all),
    Check("caption_missing", "warning", "Without a caption: {count} of {total} pictures. The file name takes its place.", None, missing),
    Check("caption_empty", "warning", "Empty captions: {count} of {total} pictures have a caption file that says nothing.", "remove_caption", empty),
    Check("caption_too_long", "warning", "Longer than {limit} tokens: the final prompts of {count} of {total} pictures; the longest has {most}. What is over weakens the rest.", "trim", too_long),
    Check("template_too_long", "problem", 'The template alone takes {count} of {limit} tokens: "{line}". Shorten it, or teach fewer vectors.', None, template_too_long),
    Check(
        "trigger_missing",
        "problem",
        'Without the word "{trigger}": the captions of {count} of {total} pictures. The template does not name it either, so it learns nothing from them.',
        "add_trigger",
        without_trigger,
    ),
    Check(
        "template_without_name",
        "problem",
        'Lines of the template without [name] and [filewords]: {count} of {lines}, such as "{line}". The word learns nothing from them.',
        None,
        template_without_name,
    ),
    Check("caption_shared", "warning", "One caption file for several pictures: {count} pictures differ only in their suffix. A change of one caption changes the others.", "own_caption", shared),
    Check("captions_identical", "hint", 'All {count} captions say the same: "{caption}". What the pictures differ in is learned as part of the subject.', None, all_the_same),
    Check(
        "captions_repeated", "warning", "The same caption for {count} of {total} images: “{caption}”. A captioner that doesn't know what it sees repeats itself; check these.", None, repeated_captions
    ),
    Check("captions_looping", "warning", "Captions that repeat the same words: {count} of {total} images, such as “{caption}”.", None, looping_captions),
    Check("tags_repeated", "hint", "Tags that stand twice: in the captions of {count} of {total} pictures.", "dedupe", repeated_tags),
    Check("brackets", "hint", "Brackets: the captions of {count} of {total} pictures hold some that are read as emphasis.", "escape_brackets", brackets),
    Check("tags_common", "hint", "In every caption: {tags}. These words keep for themselves what the subject always shows; without them the taught word learns it.", "remove_common_tags", common_tags),
    Check("orphan_captions", "hint", "Text files without a picture: {count}. They are not used.", None, orphan_captions),
    Check("orphan_masks", "warning", "Masks without a picture: {count}. They are not used; was the picture renamed?", None, orphan_masks),
    Check("mask_trouble", "warning", "Masks that look wrong: {count} of {total} pictures. {why}", "remove_mask", bad_masks),
)
