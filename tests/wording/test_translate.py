"""Errors in Chinese: every error that a form, a data set, a run or a tool can raise is in the catalogue, and what a person meets is Chinese from end to end."""

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.config import Config
from studio.engine import Engine
from studio.errors import DISK_ERRORS, StudioError
from studio.requests import CreateEmbeddingRequest, GenerateRequest, PreprocessRequest, TrainRequest
from studio.settings import Paths
from studio.ui.words import language
from studio.wording import localized
from studio.wording.translate import BLANK, CATALOGUE
from studio.worker import _words

STUDIO = Path(__file__).resolve().parents[2] / "studio"
SPOKEN = ("requests", "presets", "prompts", "networks", "projects", "runs", "ui", "services", "training", "formats", "diffusion", "dataset", "api")
"""Packages whose errors are all in the catalogue; so are those of the files beside them."""
ELSEWHERE = ("launched.py",)
"""What only a command line of several machines says."""
PROGRAMS = frozenset(("a1111_options", "auth", "hosts", "images", "library", "names", "options", "pictures", "projection", "scripts", "system", "training", "waiting"))
"""Modules of studio/api whose errors only programs and a terminal meet: those of A1111's routes and of the command line."""
RAISED = {"StudioError", "InputError", "NotFound", "Conflict", "Unreadable", "OutOfSpace", "Unavailable", "Diverged", "ValueError", "complaint"}
LEAST = 12
"""Fewer fixed letters would match any sentence, such as "{}: {}"."""


def template(node: ast.expr) -> str | None:
    """The text of a string with `{}` for each value; None when it is computed."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else BLANK for part in node.values)
    return None


def raised(path: Path) -> Iterator[str]:
    """Messages and hints of the errors a file makes."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in RAISED:
            yield from (text for text in map(template, node.args[:2]) if text)


def files() -> list[Path]:
    """The files whose errors a person meets on the page."""
    beside = [path for path in STUDIO.glob("*.py") if path.name not in ELSEWHERE]
    return sorted([*beside, *(path for package in SPOKEN for path in (STUDIO / package).rglob("*.py") if not (package == "api" and path.stem in PROGRAMS))])


def test_errors_are_found() -> None:
    assert sum(1 for path in files() for _text in raised(path)) > 450


def test_every_error_of_the_page_is_in_chinese() -> None:
    missing = {text for path in files() for text in raised(path) if text not in CATALOGUE and len(re.findall(r"[A-Za-z]", text.replace(BLANK, ""))) >= LEAST}
    assert sorted(missing) == []


def test_every_failure_of_the_disk_and_of_the_worker_is_said_in_chinese() -> None:
    errors = [OSError(number, os.strerror(number), "/x") for number in DISK_ERRORS] + [MemoryError(), RuntimeError("CUDA out of memory"), ZeroDivisionError("division by zero")]
    said = [localized("zh", _words(error)) for error in errors]
    allowed = re.compile(r"outputs/logs/worker\.log|ZeroDivisionError: division by zero|OSError: Invalid argument")
    assert [text for text in said if re.search(r"[A-Za-z]{3,}", allowed.sub("", text))] == []
    assert not any("/x" in text for text in said)


def test_every_value_of_an_error_is_said_in_chinese_too() -> None:
    places = {text: re.findall(r"\{(\d*)\}", said) for text, said in CATALOGUE.items()}
    assert [text for text, found in places.items() if any(found) and max(int(place or 0) for place in found) >= text.count(BLANK)] == []
    assert [text for text, found in places.items() if not any(found) and not text.count(BLANK) - 1 <= len(found) <= text.count(BLANK)] == []  # an ending of a plural has no place


def refused(root: Paths, cls: type[Config], values: dict[str, Any]) -> str:
    """Why a request is refused, in Chinese."""
    with pytest.raises(StudioError) as error:
        Engine(root).submit(cls.check(values))
    return localized("zh", str(error.value))


TRAINING = {"embedding": "missing", "data": "/nowhere", "learn_rate": "0.005"}
KEPT = "|".join(("filewords", "subject", "style", "hypernetwork", "none", "txt", "embeddings", "tiny-world", "Learning rate", "Batch size", "Sampling steps", "Embedding", "Max steps"))
"""Names of files, and terms that stand beside their Chinese."""
MISTAKES = [
    (TrainRequest, {"config": TRAINING}, ("嵌入", "'missing'", "不是文件夹")),
    (TrainRequest, {"config": {**TRAINING, "learn_rate": "abc"}}, ("学习率", "'abc'", "当前值")),
    (TrainRequest, {"config": {**TRAINING, "steps": 0, "batch_size": 1.5}}, ("不能小于 1", "应为整数")),
    (TrainRequest, {"config": {**TRAINING, "template": "none such"}}, ("提示词模板：没有 'none such'",)),
    (GenerateRequest, {"prompt": "a cat", "checkpoint": "gone.safetensors"}, ("模型：没有 'gone.safetensors'",)),
    (GenerateRequest, {"prompt": "a cat", "width": 65}, ("宽度", "8 的倍数")),
    (PreprocessRequest, {"source": "/nowhere", "destination": "/tmp/x"}, ("源文件夹：'/nowhere' 不存在",)),
    (CreateEmbeddingRequest, {"name": "a/b"}, ("名称不能含有 '/'",)),
]


@pytest.mark.parametrize(("cls", "values", "parts"), MISTAKES)
def test_common_mistakes_are_told_in_chinese(root: Paths, cls: type[Config], values: dict[str, Any], parts: tuple[str, ...]) -> None:
    told = refused(root, cls, values)
    assert [part for part in parts if part not in told] == []
    plain = re.sub(rf"'[^']*'|[\w./-]*(?:{KEPT})[\w./-]*|0\.\d+[:\d, .]*", "", told)
    assert re.findall(r"[A-Za-z]{3,}", plain) == []


def test_the_language_is_that_of_the_browser() -> None:
    assert [language(header) for header in ("zh-CN,zh;q=0.9", "zh", "en-US,en", None)] == ["zh", "zh", "en", "en"]


def test_what_no_pattern_matches_stays_and_what_follows_is_translated() -> None:
    assert localized("zh", "An odd thing. Choose a folder.") == "An odd thing. 请选择文件夹。"
    assert localized("en", "Choose a folder.") == "Choose a folder."
    assert localized("zh", "") == ""


def test_a_long_message_of_many_values_is_read_in_no_time() -> None:
    text = "x is damaged or cut off (" * 400
    assert localized("zh", text).startswith("x")
