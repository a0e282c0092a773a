"""Prompt templates as files: own ones over those that come with the program, which are never changed."""

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from studio import shelves
from studio.errors import Conflict, InputError, NotFound
from studio.files import atomic_write
from studio.projects.captions import clean_caption, decode_caption
from studio.projects.filling import parse_template
from studio.projects.final_prompts import SHOWN, FinalPrompt, final_prompts
from studio.requests.train import check_name
from studio.settings import Paths

SHIPPED = frozenset({"filewords", "none", "style", "style_filewords", "subject", "subject_filewords"})
"""Templates that come with the program; they may lie in the folder of own ones."""
TRASH = ".trash"
"""Folder inside the own one that receives what is deleted."""
LONGEST = 200_000
"""Letters of a template."""
_PLACE = re.compile(r"\[([A-Za-z_ ]+)\]")


@dataclass(frozen=True)
class Template:
    """One prompt template; `own` says that it may be changed and deleted."""

    name: str
    text: str
    own: bool
    path: Path

    @property
    def lines(self) -> tuple[str, ...]:
        """Its prompts; raises InputError when there is none."""
        return parse_template(self.text, self.path.name)


def listing(paths: Paths) -> list[Template]:
    """All templates by name; an own one hides a shipped one of its name."""
    return [read(paths, name) for name in shelves.templates(paths)]


def read(paths: Paths, name: str) -> Template:
    """A template; raises NotFound."""
    path = shelves.template_file(paths, name)
    if path is None:
        raise NotFound(f"There is no prompt template {name!r}.", f"Choose one of {', '.join(shelves.templates(paths)) or 'none'}.")
    return Template(path.stem, decode_caption(path.read_bytes()), _is_own(paths, path), path)


def write(paths: Paths, name: str, text: str) -> Template:
    """Keep a text as an own template and return it; where shipped and own ones share a folder, a shipped one is kept under a new name. Raises InputError, Conflict."""
    stem, text = _checked(name), clean_caption(text)
    if len(text) > LONGEST:
        raise InputError(f"Prompt template: it has {len(text):,} letters; at most {LONGEST:,} are kept.", "Shorten it.")
    parse_template(text, stem)
    if stem in SHIPPED and _shared(paths):
        stem = _free(paths, f"{stem}-own")
    twin = next((other for other in _own_names(paths) if other.casefold() == stem.casefold() and other != stem), None)
    if twin is not None:
        raise Conflict(f"There is a prompt template {twin!r} already, which some systems take for {stem!r}.", "Choose another name.")
    path = paths.templates / f"{stem}.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join(text.splitlines()) + "\n", encoding="utf-8", newline="\n")
    return read(paths, stem)


def copy(paths: Paths, name: str, to: str) -> Template:
    """Keep a template once more under another name; raises NotFound, InputError, and Conflict when the name is taken."""
    found, stem = read(paths, name), _checked(to)
    if stem.casefold() in map(str.casefold, shelves.templates(paths)):
        raise Conflict(f"There is a prompt template {stem!r} already.", "Choose another name.")
    return write(paths, stem, found.text)


def delete(paths: Paths, name: str) -> Path:
    """Move an own template into the trash folder and say where it lies; a shipped one of its name is seen again. Raises NotFound, and Conflict for a shipped one."""
    found = read(paths, name)
    if not found.own:
        raise Conflict(f"The prompt template {found.name!r} comes with the program and stays.", "Only own templates can be deleted.")
    trash = paths.templates / TRASH
    trash.mkdir(exist_ok=True)
    stamp, count = time.strftime("%Y%m%d-%H%M%S"), 0
    target = trash / f"{found.name}-{stamp}.txt"
    while target.exists():
        count += 1
        target = trash / f"{found.name}-{stamp}-{count}.txt"
    return found.path.rename(target)


def warnings(text: str) -> list[str]:
    """Sentences about what is odd in a template, none when all is well; never raises."""
    return list(_odd(text.splitlines()))


def preview(text: str, name: str, vectors: int, captions: Sequence[str], limit: int = SHOWN) -> list[FinalPrompt]:
    """The prompts that the first lines of a template make with each caption; raises InputError for a text without a line."""
    lines = parse_template(text)
    return [prompt for caption in captions for prompt in final_prompts(lines, name, vectors, caption, limit)]


def _odd(lines: Sequence[str]) -> Iterator[str]:
    """One sentence for each kind of thing that is odd."""
    said = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    if not said:
        yield 'It holds no line. Write one prompt per line, such as "a photo of [name]".'
    nameless = [number for number, line in said if "[name]" not in line]
    if nameless:
        yield f"There is no [name] in {_numbered(nameless)}, so {'that prompt does' if len(nameless) == 1 else 'those prompts do'} not teach the word."
    blank = len(lines) - len(said)
    if blank:
        yield f"{'A blank line is' if blank == 1 else f'{blank} blank lines are'} left out here; A1111 would train on blank lines as empty prompts."
    comments = [number for number, line in said if line.startswith("#")]
    if comments:
        yield f"A # begins {_numbered(comments)}: templates have no comments, so it is trained on, in A1111 too."
    first: dict[str, int] = {}
    again = [number for number, line in said if first.setdefault(line, number) != number]
    if again:
        yield f"Said before: {_numbered(again)}. A line that stands twice is drawn twice as often."
    unknown = list(dict.fromkeys(found for _, line in said for found in _PLACE.findall(line) if found not in ("name", "filewords")))
    if unknown:
        yield f"[{unknown[0]}] is no place to fill in; there is [name] and [filewords]. Other square brackets weaken what stands in them."


def _numbered(numbers: Sequence[int]) -> str:
    """Line numbers in words."""
    shown = ", ".join(map(str, numbers[:5]))
    return f"line{'s' if len(numbers) > 1 else ''} {shown}{' and more' if len(numbers) > 5 else ''}"


def _checked(name: str) -> str:
    """A name that can be a file everywhere; raises InputError."""
    try:
        stem = check_name(name.strip().removesuffix(".txt"))
        stem.encode()
    except ValueError as error:
        reason = "it holds half a character." if isinstance(error, UnicodeError) else str(error)
        raise InputError(f"Name of the template: {reason}") from error
    return stem


def _shared(paths: Paths) -> bool:
    """Whether own and shipped templates lie in one folder."""
    return len(paths.both("templates")) == 1


def _is_own(paths: Paths, path: Path) -> bool:
    """Whether a template may be changed."""
    return path.parent == paths.templates and not (_shared(paths) and path.stem in SHIPPED)


def _own_names(paths: Paths) -> list[str]:
    """Names of the files in the own folder."""
    return [path.stem for path in paths.templates.glob("*.txt")] if paths.templates.is_dir() else []


def _free(paths: Paths, stem: str) -> str:
    """The name, with a number when it is taken."""
    taken, name, count = set(map(str.casefold, shelves.templates(paths))), stem, 1
    while name.casefold() in taken:
        count += 1
        name = f"{stem}-{count}"
    return name
