"""A choice is shown in the browser's language and its value never is: what the page sends is the same in Chinese and in English."""

from typing import Any

import gradio as gr
import pytest

from studio.engine import Engine
from studio.settings import Paths
from studio.ui.app import build, mount_options
from studio.ui.catalogue import ZH
from studio.ui.catalogue_choices import CHOICES, NAMES
from studio.ui.words import CHOICE_KEY, KEY

SHOWN = ("button", "downloadbutton", "uploadbutton", "html", "label", "markdown")
"""Components whose `value` is what they show, not what an event sends."""
MARK = "__i18n__"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    return Paths(tmp_path_factory.mktemp("page")).prepare()


@pytest.fixture(scope="module")
def parts(root: Paths) -> list[tuple[str, str, dict[str, Any]]]:
    """Type, id and properties of every component, as the browser receives them."""
    config: dict[str, Any] = build(Engine(root)).config
    return [(part["type"], str(part["props"].get("elem_id")), part["props"]) for part in config["components"]]


@pytest.fixture(scope="module")
def tables(root: Paths) -> dict[str, dict[str, str]]:
    """The translations that the browser receives."""
    translations: gr.I18n = mount_options(root)["i18n"]
    return translations.translations


def values(props: dict[str, Any]) -> list[str]:
    """Everything a component could send as it is: its value and the values of its choices."""
    value = props.get("value")
    sent = [value] if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else []
    choices = [choice[1] for choice in props.get("choices") or ()]
    return [text for text in (*sent, *choices) if isinstance(text, str)]


def as_gradio_shows(text: str, table: dict[str, str]) -> str:
    """What gradio's page makes of a string property, `value` included: the entry of that very key, or the text itself."""
    return table.get(text, text)


def test_no_value_of_any_control_is_translated_in_any_language(parts: list[tuple[str, str, dict[str, Any]]], tables: dict[str, dict[str, str]]) -> None:
    seen = [(name, text) for kind, name, props in parts if kind not in SHOWN for text in values(props)]
    assert len(seen) > 250
    changed = [(name, text, language) for name, text in seen for language, table in tables.items() if as_gradio_shows(text, table) != text or MARK in text]
    assert changed == []


def test_no_word_that_a_person_could_type_or_choose_is_a_key(tables: dict[str, dict[str, str]]) -> None:
    assert {key for table in tables.values() for key in table if not key.startswith((KEY, CHOICE_KEY))} == set()


def test_no_label_is_left_in_english_that_the_catalogue_knows(parts: list[tuple[str, str, dict[str, Any]]]) -> None:
    seen = [part for part in parts if "unseen" not in (part[2].get("elem_classes") or ())]
    shown = [(name, props.get(prop)) for kind, name, props in seen for prop in ("label", "info", "placeholder", *(("value",) if kind in SHOWN else ()))]
    assert [(name, text) for name, text in shown if isinstance(text, str) and text in ZH] == []


def test_every_choice_has_a_chinese_label_or_is_a_name(parts: list[tuple[str, str, dict[str, Any]]], root: Paths) -> None:
    files = {"–", *Engine(root).template_names(), "tiny-world", "768", "1024", "320", "640", "1280", "2048"}
    labels = {str(choice[0]) for _, _, props in parts for choice in props.get("choices") or ()}
    assert sorted(label for label in labels if MARK not in label and label not in NAMES and label not in files) == []
    assert NAMES.isdisjoint(CHOICES)


def test_every_value_of_a_choice_is_plain(parts: list[tuple[str, str, dict[str, Any]]]) -> None:
    assert [(name, choice) for _, name, props in parts for choice in props.get("choices") or () if not isinstance(choice[1], str | int | float)] == []
