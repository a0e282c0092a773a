"""What the command line says of files is text, whatever the files hold."""

import ast
from pathlib import Path

import pytest

from studio.cli.saying import plain

CLI = sorted((Path(__file__).resolve().parent.parent / "studio" / "cli").glob("*.py"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07a", "a"),
        ("\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("a\x1b[2J\x1b[Hb", "ab"),
        ("\x1bPq\x1b\\a\x1bcb", "ab"),
        ("\x9b31ma\x07\x08\rb", "31mab"),
        ("a\u202egnp.exe", "agnp.exe"),
        ("猫\tb\nc é", "猫\tb\nc é"),
        ("\x1b", ""),
        ("\udce8.png", "\\udce8.png"),
    ],
)
def test_control_sequences_are_left_out(text: str, shown: str) -> None:
    assert plain(text) == shown


def said_plainly(node: ast.expr) -> bool:
    """Whether what is printed is our own words, JSON (which escapes control characters), or went through `plain`."""
    if isinstance(node, ast.IfExp):
        return said_plainly(node.body) and said_plainly(node.orelse)
    return isinstance(node, ast.Constant) or (isinstance(node, ast.Call) and ast.unparse(node.func) in ("plain", "json.dumps"))


@pytest.mark.parametrize("path", CLI, ids=lambda path: path.stem)
def test_whatever_is_printed_is_plain(path: Path) -> None:
    prints = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "bar.write")]
    assert [node.lineno for node in prints if path.stem != "serving" and not all(map(said_plainly, node.args))] == []
