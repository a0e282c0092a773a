"""The catalogue: every sentence of the page is in it, in both languages, with the same blanks."""

import ast
import re
from pathlib import Path

import pytest

from studio.config import controls
from studio.jobs import State
from studio.requests import REQUESTS, CreateEmbeddingRequest, GenerateRequest, PreprocessRequest
from studio.requests.train import CONFIGS, TrainConfig
from studio.ui.catalogue import ZH
from studio.ui.widgets import duration
from studio.ui.words import language, say, tell, titled

UI = Path(__file__).resolve().parents[2] / "studio" / "ui"
EMBEDDING_HELPS = {"The embedding that learns; create it first."}
"""Said by the tab itself."""
INTERNAL = {"init_image", "mask", "sketch", "checkpoint"}
"""Fields that have no control of their own on the page."""


def literals() -> set[str]:
    """Every sentence handed to say() or tell() in the page's code."""
    found: set[str] = set()
    for path in UI.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("say", "tell"):
                found |= {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str) and a.value not in ("en", "zh")}
    return found


def test_sentences_are_found() -> None:
    assert len(literals()) > 60


@pytest.mark.parametrize("text", sorted(literals()))
def test_a_sentence_of_the_page_is_in_the_catalogue(text: str) -> None:
    assert text in ZH


def test_blanks_are_the_same_in_both_languages() -> None:
    blanks = {text: (sorted(re.findall(r"\{\w+\}", text)), sorted(re.findall(r"\{\w+\}", ZH[text]))) for text in ZH}
    assert {t for t, (en, zh) in blanks.items() if en != zh} == set()


@pytest.mark.parametrize("cls", [GenerateRequest, PreprocessRequest, CreateEmbeddingRequest, *CONFIGS])
def test_every_knob_has_a_label_in_both_languages(cls: type) -> None:
    missing = [c.label for c in controls(cls) if c.name not in INTERNAL and c.label not in ZH]
    assert [m for m in missing if m not in ("Dataset directory", "Destination directory")] == []


@pytest.mark.parametrize("cls", CONFIGS)
def test_what_is_said_of_a_method_and_its_own_knobs_is_in_both_languages(cls: type[TrainConfig]) -> None:
    own = [control for control in controls(cls) if control.name not in TrainConfig.model_fields]
    assert [text for text in (cls.title, *(control.help for control in own)) if text not in ZH and text not in EMBEDDING_HELPS] == []


def test_every_state_and_kind_of_job_has_a_name() -> None:
    assert [titled(str(s)) for s in State if titled(str(s)) not in ZH] == []
    assert [titled(kind) for kind, _ in REQUESTS if titled(kind) not in ZH] == []


def test_words_follow_the_language() -> None:
    assert tell("en", "Step {step} of {total}", step=3, total=9) == "Step 3 of 9"
    assert tell("zh", "Step {step} of {total}", step=3, total=9) == "第 3 步，共 9 步"
    assert [language(h) for h in ("zh-CN,zh;q=0.9,en;q=0.8", "en-US,en", "de", None)] == ["zh", "en", "en", "en"]


def test_a_sentence_that_is_missing_is_refused() -> None:
    with pytest.raises(KeyError):
        say("This is in no catalogue.")
    with pytest.raises(KeyError):
        tell("en", "This is in no catalogue.")


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3725, "1 h 2 min"), (None, "")])
def test_a_duration_is_said_as_people_say_it(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text
