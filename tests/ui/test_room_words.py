"""The data set room speaks Chinese too: what its scripts say, what its knobs are called, what the doctor finds."""

import itertools
import re
from pathlib import Path

import pytest

from studio.config import controls
from studio.projects import advice
from studio.projects.bulk import KINDS
from studio.projects.case import Aim, Case, Surroundings
from studio.projects.doctor import CHECKS
from studio.projects.findings import LABELS
from studio.projects.statistics import statistics
from studio.requests.caption import CaptionRequest
from studio.requests.mask import MaskRequest
from studio.requests.room import RoomSettings
from studio.requests.transfer import ExportRequest
from studio.requests.write import WriteRequest
from studio.ui.catalogue_knobs import DOCTOR, KNOBS
from studio.ui.catalogue_presets import ADVISED
from studio.ui.catalogue_room import SCRIPTED
from studio.ui.catalogue_words import WORDS

STATIC = Path(__file__).resolve().parents[2] / "static"
SPOKEN = {**KNOBS, **DOCTOR, **ADVISED, **WORDS, **SCRIPTED}
"""What the room's page carries."""
_TEXT = r'"((?:[^"\\]|\\.)+)"'
PATTERNS = (rf"\bt\({_TEXT}", rf"title: {_TEXT},\n", rf'(?<![.\w])(?:act|flag)\((?:"[a-z_]+", |item\.mask \? )?{_TEXT}', rf'\["[a-z:>0-9]*", {_TEXT}\]')
"""What is said in t(), as the title of a part, on a button, on a chip or in a list."""
SIZES = {"width", "height", "face_weight", "entropy_weight", "edges_weight"}
"""Knobs of writing that are the data set's own."""
HIDDEN = {"folder", "names", "kind", "captioners"}
"""Fields the room fills by itself."""


def scripted() -> set[str]:
    """Every sentence that the room's scripts say: arguments of t(), titles of panels, labels of buttons, chips and orders."""
    found: set[str] = set()
    for path in STATIC.glob("room*.js"):
        source = path.read_text(encoding="utf-8")
        for pattern in PATTERNS:
            found |= set(re.findall(pattern, source))
    return found - {"pointercancel", "height"}


def reasons() -> set[str]:
    """Every sentence the advice gives, over all methods and numbers of pictures."""
    cases = itertools.product((1, 4, 12, 25, 60, 200), advice.METHODS, ("sd1", "sdxl"), (False, True), (False, True))
    return {reason.text for case in cases for reason in advice.recommend(*case).reasons}


def labels() -> set[str]:
    """Labels, help and choices of the knobs the room shows."""
    found: set[str] = set()
    for cls in (WriteRequest, CaptionRequest, MaskRequest, RoomSettings, ExportRequest, *(cls for _, cls in KINDS)):
        for control in controls(cls):
            if control.name not in HIDDEN and not (cls is WriteRequest and control.name in SIZES) and control.kind != "choices":
                found |= {control.label, control.help, *control.choices}
    return {text for text in found if text}


def test_sentences_are_found() -> None:
    assert len(scripted()) > 150
    assert len(reasons()) >= 8
    assert len(labels()) > 100


@pytest.mark.parametrize("texts", [scripted(), labels(), reasons(), {check.text for check in CHECKS}, set(LABELS.values()), {cls.label for _, cls in KINDS} | {cls.__doc__ or "" for _, cls in KINDS}])
def test_everything_is_said_in_chinese(texts: set[str]) -> None:
    assert sorted(texts - set(SPOKEN)) == []


def test_figures_are_labelled_in_chinese() -> None:
    rows = statistics(Case([], Aim(), Surroundings())).rows()
    from studio.ui.catalogue import ZH

    assert [label for label, _ in rows if label not in SPOKEN and label not in ZH] == []


def test_blanks_are_the_same_in_both_languages() -> None:
    wrong = {text for text, chinese in SPOKEN.items() if sorted(re.findall(r"\{\w+\}", text)) != sorted(re.findall(r"\{\w+\}", chinese))}
    assert wrong == set()


def test_nothing_is_translated_that_nobody_says() -> None:
    said = " ".join(path.read_text(encoding="utf-8") for path in STATIC.glob("room*.js"))
    assert [text for text in SCRIPTED if text not in said] == []
