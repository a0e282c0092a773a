"""Everything the cards of networks say is there in Chinese, and their place on the page brings those words along."""

import json
import re
from html import unescape
from pathlib import Path

from studio.networks.metadata import SECTIONS
from studio.ui.catalogue import ZH
from studio.ui.catalogue_cards import CARDS, SHARED
from studio.ui.theme import SCRIPTS, STYLES

STATIC = Path(__file__).resolve().parents[2] / "static"
FILES = sorted(STATIC.glob("cards*.js"))
HEADINGS = {title for title, _ in SECTIONS}


def scripted() -> set[str]:
    """Every sentence of the scripts: those handed to t(), and the names of the tabs."""
    text = "".join(path.read_text(encoding="utf-8") for path in FILES)
    return {*re.findall(r'(?<![\w.])t\(\s*"((?:[^"\\]|\\.)*)"', text), *re.findall(r'\["(?:lora|hypernet|embedding)", "(\w+)"\]', text), *HEADINGS}


def test_the_words_are_those_that_are_said() -> None:
    assert len(scripted()) > 60
    assert set(CARDS) | set(SHARED) == scripted() and not set(CARDS) & set(SHARED)


def test_the_page_carries_scripts_words(root: object) -> None:
    from studio.engine import Engine
    from studio.ui.app import build

    hosts = [part["props"]["value"] for part in build(Engine(root)).config["components"] if "cards-room" in str(part["props"].get("value"))]
    assert [re.search(r'data-tab="(\w+)"', host)[1] for host in hosts] == ["txt2img", "img2img"]
    words = json.loads(unescape(re.search(r'data-words="([^"]*)"', hosts[0])[1]))
    assert words == {text: ZH[text] for text in scripted()}
    assert {path.name for path in FILES} <= set(SCRIPTS) and STATIC / "cards.css" in STYLES
