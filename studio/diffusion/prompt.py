"""A1111's attention syntax, as pure text: `(a)`, `[a]`, `(a:1.3)`, escapes and BREAK."""

import re

_TOKEN = re.compile(r"\\[()\[\]\\]|\\|\(|\[|:\s*([+-]?[.\d]+)\s*\)|\)|\]|[^\\()\[\]:]+|:")
_BREAK = re.compile(r"\s*\bBREAK\b\s*", re.S)
ROUND, SQUARE = 1.1, 1 / 1.1
BREAK = "BREAK"


def attention(text: str) -> list[tuple[str, float]]:
    """Text as (piece, weight) pairs; BREAK comes as ("BREAK", -1). Unbalanced brackets reach to the end."""
    pieces: list[list] = []
    rounds: list[int] = []
    squares: list[int] = []

    def multiply(start: int, factor: float) -> None:
        for piece in pieces[start:]:
            piece[1] *= factor

    for match in _TOKEN.finditer(text):
        token, weight = match.group(0), match.group(1)
        if token.startswith("\\") and len(token) == 2:
            pieces.append([token[1], 1.0])
        elif token == "(":
            rounds.append(len(pieces))
        elif token == "[":
            squares.append(len(pieces))
        elif weight is not None and rounds and _number(weight) is not None:
            multiply(rounds.pop(), _number(weight) or 0.0)
        elif token == ")" and rounds:
            multiply(rounds.pop(), ROUND)
        elif token == "]" and squares:
            multiply(squares.pop(), SQUARE)
        else:
            for i, part in enumerate(_BREAK.split(token)):
                if i:
                    pieces.append([BREAK, -1.0])
                pieces.append([part, 1.0])
    for start in rounds:
        multiply(start, ROUND)
    for start in squares:
        multiply(start, SQUARE)
    return _merged(pieces)


def _number(text: str) -> float | None:
    """A weight, or None when it is no number."""
    try:
        return float(text)
    except ValueError:
        return None


def _merged(pieces: list[list]) -> list[tuple[str, float]]:
    """Neighbours of the same weight become one piece; empty ones go."""
    out: list[tuple[str, float]] = []
    for text, weight in pieces:
        if out and out[-1][1] == weight and text != BREAK and out[-1][0] != BREAK:
            out[-1] = (out[-1][0] + text, weight)
        elif text:
            out.append((text, weight))
    return out or [("", 1.0)]
