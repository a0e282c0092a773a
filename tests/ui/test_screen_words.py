"""Everything the screen of a training says is there in Chinese: scripts, verdicts, and how what was learned is used."""

import re
from pathlib import Path

from studio.runs.in_use import SAID
from studio.runs.sentences import ADVICE, SENTENCES, STATES, STOPS
from studio.runs.using import USAGE
from studio.ui.catalogue import ZH
from studio.ui.catalogue_screen import SCREEN

STATIC = Path(__file__).resolve().parents[2] / "static"
SCRIPTS = sorted([*STATIC.glob("run*.js"), STATIC / "parts.js"])


def scripted() -> set[str]:
    """Every sentence handed to t() in the scripts."""
    return {text for path in SCRIPTS for text in re.findall(r'(?<![\w.])t\(\s*"((?:[^"\\]|\\.)*)"', path.read_text(encoding="utf-8"))}


def test_sentences_are_found() -> None:
    assert len(scripted()) > 90


def test_everything_is_said_in_chinese() -> None:
    assert sorted((scripted() | set(SENTENCES) | set(STOPS) | set(USAGE) | set(ADVICE) | set(SAID) | {state.capitalize().replace("_", " ") for state in STATES}) - set(ZH)) == []


def test_nothing_is_translated_that_nobody_says() -> None:
    said = " ".join(path.read_text(encoding="utf-8") for path in SCRIPTS) + " ".join([*SENTENCES, *STOPS, *USAGE, *ADVICE, *SAID]).replace('"', '\\"')
    assert [text for text in SCREEN if text not in said] == []
