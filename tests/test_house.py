"""The house: size, docstrings, silence, honesty and pins, held by tests so that nobody has to remember them."""

import argparse
import ast
import functools
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from studio import cli
from studio.cli.training import spelled

ROOT = Path(__file__).resolve().parent.parent
STUDIO = sorted((ROOT / "studio").rglob("*.py"))
PROGRAMS = [*STUDIO, ROOT / "launch.py", ROOT / "app.py"]
PYTHON = [*PROGRAMS, *sorted((ROOT / "tests").rglob("*.py"))]
PAGES = [*sorted(ROOT.glob("*.md")), *(p for p in (ROOT / "static").rglob("*") if p.suffix in {".css", ".js", ".svg", ".html"})]
MAX_LINES = 600
SPEAKING = ("studio/cli/", "studio/tinyworld/", "launch.py")
"""Files that may print: what a person runs in a terminal."""


def name_of(path: Path) -> str:
    """A file as a person names it."""
    return path.relative_to(ROOT).as_posix()


@functools.cache
def tree(path: Path) -> ast.Module:
    """A file's syntax tree, parsed once."""
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Every node of a file's syntax tree."""
    return tuple(ast.walk(tree(path)))


def faults(paths: Iterable[Path], check: Callable[[Path], list[Any]]) -> dict[str, list[Any]]:
    """What a check finds, by the name of the file; files in which it finds nothing are left out."""
    return {name_of(path): found for path in paths if (found := check(path))}


def test_a_file_is_short() -> None:
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in PYTHON}
    assert len(lengths) > 500
    assert {name: length for name, length in lengths.items() if length >= MAX_LINES} == {}


def undocumented(module: ast.Module) -> list[str]:
    """Modules, public classes and public functions that do not say what they are for."""
    found = [] if ast.get_docstring(module) else ["the module"]
    inside = [module, *(node for node in module.body if isinstance(node, ast.ClassDef))]
    for holder in inside:
        for node in holder.body:
            named = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            if named and not node.name.startswith("_") and not ast.get_docstring(node):
                found.append(node.name)
    return found


def test_everything_public_says_what_it_is_for() -> None:
    assert faults(PROGRAMS, lambda path: undocumented(tree(path))) == {}


def unfinished(module: ast.Module) -> list[str]:
    """Functions that only pretend: NotImplementedError, or an empty body outside a Protocol or an overload whose docstring does not own up to it."""
    protocols = {id(function) for node in ast.walk(module) if isinstance(node, ast.ClassDef) and any("Protocol" in ast.unparse(base) for base in node.bases) for function in node.body}
    found = [f"line {node.lineno}: NotImplementedError" for node in ast.walk(module) if isinstance(node, ast.Name) and node.id == "NotImplementedError"]
    for node in ast.walk(module):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or id(node) in protocols or any("overload" in ast.unparse(d) for d in node.decorator_list):
            continue
        if "nothing" in (ast.get_docstring(node) or "").lower():
            continue
        body = node.body[1:] if ast.get_docstring(node) else node.body
        if all(isinstance(line, ast.Pass) or (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)) for line in body):
            found.append(f"line {node.lineno}: {node.name} does nothing")
    return found


def test_nothing_is_a_stub() -> None:
    assert faults(PROGRAMS, lambda path: unfinished(tree(path))) == {}


def prints(path: Path) -> list[int]:
    """Lines on which a file prints."""
    return [node.lineno for node in nodes(path) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"]


def test_only_commands_print() -> None:
    assert [name for name in faults(STUDIO, prints) if not name.startswith(SPEAKING)] == []


def test_the_checks_see_what_they_look_for() -> None:
    assert undocumented(ast.parse("def f(): return 1\nclass C:\n    '''C.'''\n    def g(self): return 1\n    def _h(self): return 1")) == ["the module", "f", "g"]
    assert len(unfinished(ast.parse("def f():\n    '''F.'''\ndef g():\n    raise NotImplementedError"))) == 2
    assert unfinished(ast.parse("class P(Protocol):\n    def f(self): ...\nclass Q:\n    def f(self):\n        '''Nothing to do.'''\ndef g(): return 1")) == []


MATCHING = ("compile", "search", "match", "fullmatch", "sub", "subn", "split", "findall", "finditer")
PATTERN_MAKERS = {
    "studio/safe_regex.py": "compiles what users type, with a time limit",
    "studio/projects/wildcards.py": "a run of escaped letters without repeats",
    "studio/projects/filter_words.py": "names of the module's own table",
    "studio/ui/notices.py": "sentences of a fixed list",
    "studio/wording/translate.py": "sentences of a fixed catalogue",
    "studio/prompts/words.py": "a set of escaped first letters",
    "studio/dataset/captioners/released.py": "patterns from a table in the same file",
}
"""Files that may compile a pattern which isn't written at the place of the call, with the reason."""


def is_fixed_pattern(node: ast.expr) -> bool:
    """Whether a pattern is fixed by the source: literals, module constants, and text that went through `re.escape`."""
    if isinstance(node, ast.Constant):
        return True
    if isinstance(node, ast.JoinedStr):
        return all(is_fixed_pattern(part.value if isinstance(part, ast.FormattedValue) else part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return is_fixed_pattern(node.left) and is_fixed_pattern(node.right)
    if isinstance(node, ast.Attribute):
        return node.attr == "pattern" and is_fixed_pattern(node.value)
    if isinstance(node, ast.Call):
        return ast.unparse(node.func) == "re.escape"
    return isinstance(node, ast.Name) and node.id.lstrip("_").isupper()


def free_patterns(module: ast.Module) -> list[int]:
    """Lines on which `re` or `regex` is given a pattern that isn't fixed by the source."""
    calls = [node for node in ast.walk(module) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MATCHING and node.args]
    return [call.lineno for call in calls if ast.unparse(call.func.value) in ("re", "regex") and not is_fixed_pattern(call.args[0])]


def test_text_of_users_is_compiled_only_with_a_time_limit() -> None:
    found = faults(STUDIO, lambda path: free_patterns(tree(path)))
    assert {name: lines for name, lines in found.items() if name not in PATTERN_MAKERS} == {}


def test_a_free_pattern_is_seen() -> None:
    assert free_patterns(ast.parse("re.compile(request.discard)\nregex.search(f'a{text}', x)\nre.sub(pattern, '', x)")) == [1, 2, 3]
    assert free_patterns(ast.parse("re.compile(r'a+')\nre.match(rf'{NUMBER}x{re.escape(text)}', x)\nre.split(f'({PLACES.pattern})', x)\nfound.search(text)")) == []


PLACES = ("work", "opt", "root", "home", "tmp", "Users")
HOSTS = tuple(map("".join, (("python", "hosted"), ("pypi", r"\.org"), ("download", r"\.pytorch"), ("google", "apis"), ("js", "delivr"), ("un", "pkg"), ("cdn", "js"))))
FOREIGN = re.compile(rf"(?<![\w.])/(?:{'|'.join(PLACES)})/\w+|[A-Z]:\\\\Users|{'|'.join(HOSTS)}")
"""Paths that only exist on somebody's machine, package registries, and content networks."""


def test_no_file_knows_a_machine_or_an_address_to_fetch_from() -> None:
    paths = [*PROGRAMS, *PAGES, ROOT / "constraints.txt", ROOT / "pyproject.toml", ROOT / ".ci/run"]
    assert faults(paths, lambda path: FOREIGN.findall(path.read_text(encoding="utf-8"))) == {}


def test_a_foreign_path_is_seen() -> None:
    assert FOREIGN.search("open('/home/ann/x.png')")
    assert FOREIGN.search("https://cdn.jsdelivr.net/npm/x")
    assert not FOREIGN.search("outputs/tmp/x.png and https://example.org/home/x")


def declared() -> set[str]:
    """Names of the packages that pyproject.toml asks for, the test tools too."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    return {normal(re.split(r"[<>=!~;\[ ]", line)[0]) for line in wanted}


def normal(name: str) -> str:
    """A package's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_package_that_is_imported_is_declared() -> None:
    homes = packages_distributions()
    imported = set()
    for path in STUDIO:
        for node in nodes(path):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            imported |= {name.partition(".")[0] for name in names}
    wanted, foreign = declared(), imported - set(sys.stdlib_module_names) - {"studio"}
    missing = {name for name in foreign if not wanted & set(map(normal, homes.get(name, [])))}
    # starlette is fastapi's other half: every release of fastapi brings the one it is made for. facenet-pytorch pins an old torch, so it is used only where a person put it.
    assert missing - {"starlette", "facenet_pytorch"} == set()


def test_every_declared_package_is_pinned_by_version_alone() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9a-z.]*", line)] == []
    pins = {normal(line.split("==")[0]): line.split("==")[1] for line in lines}
    assert len(pins) == len(lines)
    assert declared() - set(pins) == set()
    assert int(pins["opencv-python-headless"].split(".")[0]) < 5  # opencv 5 has no face cascades


@pytest.mark.parametrize("words", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff_has_nothing_to_say(words: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "ruff", *words, "--no-cache", "."], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_faces_do_not_import_torch() -> None:
    code = "import sys, studio.cli, studio.ui.app, studio.api.app; print(sorted({'torch', 'diffusers', 'transformers', 'open_clip', 'cv2'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def commands(text: str) -> list[list[str]]:
    """The words after `python launch.py` in every example of a page that names a studio command."""
    lines = re.findall(r"^ *(?:python|python3) (?:launch\.py|-m studio) +([a-z][^#\n]*)", text, re.MULTILINE)
    return [shlex.split(line) for line in lines if not line.startswith("test")]


@pytest.mark.parametrize("words", [pytest.param(words, id=" ".join(words)) for page in sorted(ROOT.glob("*.md")) for words in commands(page.read_text(encoding="utf-8"))])
def test_a_command_in_the_documents_is_understood(words: list[str]) -> None:
    assert isinstance(cli._parser().parse_args(spelled(words)), argparse.Namespace)


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")), ids=name_of)
def test_a_link_in_the_documents_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)|src=\"([^\"]+)\"", page.read_text(encoding="utf-8"))
    local = [target for pair in links for target in pair if target and not target.startswith("http")]
    assert [target for target in local if not (ROOT / target).exists()] == []
