"""A1111's attention syntax, as pure text: `(a)`, `[a]`, `(a:1.3)`, escapes and BREAK."""

import re

_TOKEN = re.compile(r"\\[()\[\]\\]|\\|\(|\[|:\s*([+-]?[.\d]+)\s*\)|\)|\]|[^\\()\[\]:]+|:")
_BREAK = re.compile(r"\s*\bBREAK\b\s*", re.S)
ROUND, SQUARE = 1.1, 1 / 1.1
BREAK = "BREAK"


def attention(text: str) -> list[tuple[str, float]]:
    """Text as (piece, weight) pairs; BREAK comes as ("BREAK", -1). Unbalanced brackets reach to the end."""
    reader = _Reader()
    for match in _TOKEN.finditer(text):
        reader.take(match.group(0), match.group(1))
    return reader.finish()


class _Reader:
    """Pieces read so far, and where each open bracket began."""

    def __init__(self) -> None:
        self.pieces: list[list] = []
        self.open: dict[str, list[int]] = {"(": [], "[": []}

    def take(self, token: str, weight: str | None) -> None:
        """One token of the grammar."""
        number = None if weight is None else _number(weight)
        if token.startswith("\\") and len(token) == 2:
            self.pieces.append([token[1], 1.0])
        elif token in self.open:
            self.open[token].append(len(self.pieces))
        elif number is not None and self.open["("]:
            self.close("(", number)
        elif token == ")" and self.open["("]:
            self.close("(", ROUND)
        elif token == "]" and self.open["["]:
            self.close("[", SQUARE)
        else:
            self.text(token)

    def close(self, bracket: str, factor: float) -> None:
        """Weigh everything since the last open bracket of this kind."""
        for piece in self.pieces[self.open[bracket].pop() :]:
            piece[1] *= factor

    def text(self, token: str) -> None:
        """Plain text, cut at BREAK."""
        for i, part in enumerate(_BREAK.split(token) if BREAK in token else [token]):
            if i:
                self.pieces.append([BREAK, -1.0])
            self.pieces.append([part, 1.0])

    def finish(self) -> list[tuple[str, float]]:
        """All pieces; brackets that were never closed reach to the end."""
        while self.open["("]:
            self.close("(", ROUND)
        while self.open["["]:
            self.close("[", SQUARE)
        return _merged(self.pieces)


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
