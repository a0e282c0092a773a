"""Every sentence of presets, cards and imports has its Chinese, with the same blanks."""

import ast
import re
from itertools import product
from pathlib import Path

from studio.presets.fitting import NEEDS, fits
from studio.presets.intents import FAMILIES, INTENTS, preset
from studio.requests.train import CONFIGS
from studio.ui.catalogue_presets import PRESETS
from studio.ui.reasons import told

ROOM = Path(__file__).resolve().parents[2] / "studio" / "presets"


def sentences() -> set[str]:
    """Every sentence that the code hands to because(), say() or Reason(), directly or as a constant's name or a variable."""
    found: set[str] = set()
    for path in ROOM.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assigned = {t.id: n.value.value for n in ast.walk(tree) if isinstance(n, ast.Assign) and isinstance(n.value, ast.Constant) for t in n.targets if isinstance(t, ast.Name)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in ("because", "say", "Reason"):
                texts = [a.value if isinstance(a, ast.Constant) else assigned.get(a.id) if isinstance(a, ast.Name) else None for a in node.args]
                found |= {t for t in texts if isinstance(t, str) and t.endswith(".")}
    return found


def test_every_sentence_has_its_chinese() -> None:
    said = sentences()
    assert len(said) > 90
    assert said - PRESETS.keys() == set()
    made = [c.reason for i, f, c_, n in product(INTENTS, FAMILIES, CONFIGS, (0, 20, 60, 900)) for c in preset(i, f, c_.method, n).choices]
    cards = [fits(m, f, gb and gb << 30) for m in NEEDS for f in FAMILIES for gb in (None, 2, 6, 8, 12, 24)]
    assert {reason.text for reason in made + cards} - PRESETS.keys() == set()
    for reason in made + cards:
        assert told("en", reason) == reason.sentence
        assert re.search(r"[\u4e00-\u9fff]", told("zh", reason))
    assert not any(re.search(r"[a-z]{4,} [a-z]{2,} [a-z]{4,}", told("zh", reason)) for reason in cards), "the words within are Chinese too"
