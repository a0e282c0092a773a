"""File names that every system can keep: cleaned, short enough for a caption and a mask beside them, and distinct from all others."""

import re
import unicodedata
from collections.abc import Collection, Iterable

from studio.errors import InputError
from studio.shelves import MASK_SUFFIX

LONGEST = 255
"""Bytes of a file name that usual file systems keep."""
LONGEST_DATA_SET = 120
"""Bytes of a data set's name; paths below it must fit into Windows' 260 characters."""
_RESERVED = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³])", re.IGNORECASE)
"""Device names of Windows; a file is called so whatever follows its first dot."""
_FORBIDDEN = re.compile('[\\x00-\\x1f\\x7f-\\x9f/\\\\:*?"<>|\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]')
"""Control characters, path and shell marks of Windows, marks that turn the direction of reading, and halves of characters."""
_JOINER = "\u200d\ufe0f"
"""What only means something between or after other characters; left over where a name was cut."""
_LONGEST_SUFFIX = 16
_MASK_STEM = MASK_SUFFIX.rpartition(".")[0]


def key(name: str) -> str:
    """What two names have in common that some system takes for one: letters without case, in composed form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def stem_of(name: str) -> str:
    """The part of a file name that its caption and its mask share with it; of a mask `a-masklabel.png` it is `a`."""
    if name.lower().endswith(MASK_SUFFIX):
        return name[: -len(MASK_SUFFIX)]
    stem, dot, _ = name.rpartition(".")
    return stem if dot and stem else name


def clean(name: str, room: int = 0) -> tuple[str, str]:
    """Stem and suffix of a name without what some system cannot keep; `room` bytes are left free. The stem is never empty."""
    text = _FORBIDDEN.sub("_", unicodedata.normalize("NFC", _FORBIDDEN.sub("_", name))).strip().rstrip(" .")
    stem, dot, suffix = text.rpartition(".")
    if not dot:
        stem, suffix = text, ""
    suffix = suffix.encode()[:_LONGEST_SUFFIX].decode(errors="ignore").strip()
    suffix = f".{suffix}" if suffix else ""
    stem = _shortened(_bare(stem), suffix, room) or "picture"
    if _RESERVED.fullmatch(stem.partition(".")[0].rstrip()):
        first, point, rest = stem.partition(".")
        stem = f"{first.rstrip()}_{point}{rest}"
    if stem.lower().endswith(_MASK_STEM):
        stem = stem[: -len(_MASK_STEM)] + _MASK_STEM.replace("-", "_")
    return _shortened(stem, suffix, room), suffix


def _bare(stem: str) -> str:
    """Without what hides a file, reads as an option of a command, or is dropped silently by Windows."""
    return stem.lstrip(" .-\u3000").rstrip(" .\u3000")


def _shortened(stem: str, suffix: str, room: int) -> str:
    """A stem that leaves room for `<name>.txt` and `<stem>-masklabel.png`; cut between characters."""
    most = LONGEST - room - max(len(MASK_SUFFIX), len(suffix.encode()) + len(".txt"))
    data = stem.encode()
    return stem if len(data) <= most else data[:most].decode(errors="ignore").rstrip(" ." + _JOINER)


class Names:
    """The names of one folder: gives new ones that collide with none, whatever the case, the composition of letters, or the suffix."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._keys: set[str] = set()
        self._next: dict[str, int] = {}
        for name in taken:
            self.take(name)

    def take(self, name: str) -> None:
        """Count a name as used, and with it the stem that its caption and its mask would have."""
        self._keys.update((key(name), key(stem_of(name))))

    def free(self, name: str) -> bool:
        """Whether neither the name nor the captions and masks that would belong to it collide with what is there."""
        return self._keys.isdisjoint((key(name), key(stem_of(name))))

    def give(self, name: str) -> str:
        """A clean name that is free, and from now on taken: `a.png` beside `a.jpg` becomes `a-2.png`."""
        stem, suffix = clean(name)
        found = stem + suffix
        if not self.free(found):
            base = key(stem)
            number = self._next.get(base, 2)
            while not self.free(found := f"{clean(name, room=len(f'-{number}'))[0]}-{number}{suffix}"):
                number += 1
            self._next[base] = number + 1
        self.take(found)
        return found


def safe_name(name: str, taken: Collection[str]) -> str:
    """A file name that every system can keep and that collides with none of `taken`, nor do its caption and its mask."""
    return Names(taken).give(name)


def data_set_name(text: str) -> str:
    """The name of a new data set, trimmed; raises InputError when some system could not keep a folder of that name."""
    name = unicodedata.normalize("NFC", text).strip()
    if not name:
        raise InputError("A data set needs a name.", "Type one, such as `my cat`.")
    found = _FORBIDDEN.search(name)
    if found:
        raise InputError(f"The name {name!r} holds {found[0]!r}, which not every system can keep.", "Use letters, digits, spaces, - and _.")
    if name[0] in ".-~" or name[-1] == ".":
        raise InputError(f"The name {name!r} starts with a dot, a hyphen or a tilde, or ends with a dot.", "Begin and end it with a letter or a digit.")
    if _RESERVED.fullmatch(name.partition(".")[0].rstrip()):
        raise InputError(f"{name!r} is the name of a device on Windows.", "Choose another name.")
    if len(name.encode()) > LONGEST_DATA_SET:
        raise InputError(f"The name is {len(name.encode())} bytes long; at most {LONGEST_DATA_SET} fit.", "Shorten it.")
    return name
