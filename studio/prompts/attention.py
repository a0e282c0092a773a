"""A1111's attention syntax, as pure text: `(a)`, `[a]`, `(a:1.3)`, escapes and BREAK."""

import re

_TOKEN = re.compile(r"\\[()\[\]\\]|\\|\(+|\[+|:\s*([+-]?[.\d]+)\s*\)|\)+|\]+|[^\\()\[\]:]+|:")
_SYNTAX = re.compile(r"[\\()\[\]]|BREAK")
_BREAK = re.compile(r"\bBREAK\b")
ROUND = 1.1
"""What a pair of round brackets multiplies by; a pair of square ones divides by it."""
BREAK = "BREAK"


def attention(text: str) -> list[tuple[str, float]]:
    """Text as (piece, weight) pairs; BREAK comes as ("BREAK", -1). Unbalanced brackets reach to the end, a backslash that escapes nothing is dropped."""
    return [("".join(bit for bit, _ in bits), weight) for bits, weight in placed(text)]


def placed(text: str) -> list[tuple[list[tuple[str, int]], float]]:
    """The same pieces, each as the bits of text it is joined from, with where they begin; BREAK is one bit."""
    if not _SYNTAX.search(text):
        return [([(text, 0)], 1.0)]
    reader = _Reader()
    for match in _TOKEN.finditer(text):
        reader.take(match.group(), match.group(1), match.start())
    return reader.finish()


class _Scopes:
    """Round brackets as a tree, in the order they open: a piece is weighed by every bracket that is open where it stands, however that closes later."""

    def __init__(self) -> None:
        self.parents = [0]
        self.factors: list[float | None] = [1.0]
        self.open: list[int] = []

    def enter(self, count: int) -> None:
        """So many brackets open; until another number is found, each multiplies by 1.1."""
        for _ in range(count):
            self.parents.append(self.current)
            self.factors.append(None)
            self.open.append(len(self.parents) - 1)

    @property
    def current(self) -> int:
        """The innermost bracket that is open; 0 when none is."""
        return self.open[-1] if self.open else 0

    def totals(self) -> list[tuple[float, int]]:
        """For each bracket, the product of all explicit weights around its inside, and how many have none."""
        found: list[tuple[float, int]] = []
        for parent, factor in zip(self.parents, self.factors, strict=True):
            product, plain = found[parent] if found else (1.0, 0)
            found.append((product, plain + 1) if factor is None else (product * factor, plain))
        return found


class _Reader:
    """Pieces read so far with the brackets around them."""

    def __init__(self) -> None:
        self.pieces: list[tuple[tuple[str, int], int, int]] = []
        self.at = 0
        self.round = _Scopes()
        self.square = 0

    def take(self, token: str, number: str | None, at: int) -> None:
        """One token of the grammar and where it begins: a run of equal brackets, a weight with its bracket, an escape, or text."""
        first, self.at = token[0], at
        if first == "\\":
            self.put(token[1:], 1)
        elif first == "(":
            self.round.enter(len(token))
        elif first == "[":
            self.square += len(token)
        elif first == ")":
            self.close(token)
        elif first == "]":
            literal, skipped = token[self.square :], self.square
            self.square = max(0, self.square - len(token))
            self.put(literal, skipped)
        else:
            self.weigh_or_put(token, number)

    def close(self, token: str) -> None:
        """A run of closing round brackets; those that close nothing are text."""
        count = min(len(token), len(self.round.open))
        del self.round.open[len(self.round.open) - count :]
        self.put(token[count:], count)

    def weigh_or_put(self, token: str, number: str | None) -> None:
        """A weight closes the innermost round bracket; without one, or when it is no number, it is text."""
        weight = _number(number) if number is not None and self.round.open else None
        if weight is None:
            self.text(token)
        else:
            self.round.factors[self.round.open.pop()] = weight

    def put(self, piece: str, skipped: int = 0) -> None:
        """A piece as it stands, so many letters after the token's beginning."""
        if piece:
            self.pieces.append(((piece, self.at + skipped), self.round.current, self.square))

    def text(self, token: str) -> None:
        """Text, cut at BREAK, which swallows the space around it."""
        if BREAK not in token:
            self.put(token)
            return
        last = 0
        for match in _BREAK.finditer(token):
            self.part(token[last : match.start()].rstrip(), last)
            self.pieces.append(((BREAK, self.at + match.start()), -1, 0))
            last = match.end()
        self.part(token[last:], last)

    def part(self, piece: str, skipped: int) -> None:
        """A part of a text; behind a BREAK it has no space at its beginning."""
        kept = piece.lstrip() if skipped else piece
        self.put(kept, skipped + len(piece) - len(kept))

    def finish(self) -> list[tuple[list[tuple[str, int]], float]]:
        """All pieces; neighbours of the same weight become one."""
        totals = self.round.totals()
        powers: dict[int, float] = {}
        out: list[tuple[list[tuple[str, int]], float]] = []
        for piece, scope, square in self.pieces:
            if scope < 0:
                out.append(([piece], -1.0))
                continue
            product, plain = totals[scope]
            exponent = plain - square
            if exponent not in powers:
                powers[exponent] = _power(exponent)
            weight = product * powers[exponent]
            if out and out[-1][1] == weight and not (len(out[-1][0]) == 1 and out[-1][0][0][0] == BREAK):
                out[-1][0].append(piece)
            else:
                out.append(([piece], weight))
        return out or [([("", 0)], 1.0)]


def _power(exponent: int) -> float:
    """1.1 to a whole power; infinity where no number is large enough."""
    try:
        return ROUND**exponent
    except OverflowError:
        return float("inf")


def _number(text: str) -> float | None:
    """A weight, or None when it is no number."""
    try:
        return float(text)
    except ValueError:
        return None
