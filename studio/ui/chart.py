"""The loss curve as SVG: raw in grey behind, smoothed in front, a mark at every preview."""

from collections.abc import Callable, Sequence
from html import escape

WIDTH, HEIGHT = 760, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 14, 30
MOST = 500
"""Points drawn of a line; more cannot be seen."""

Point = tuple[int, float, float | None]


def chart(points: Sequence[Point], total: int, moments: Sequence[int], words: tuple[str, str, str]) -> str:
    """An SVG of (step, loss, smoothed) points up to step `total`; `words` are the names of the two lines and what to say while there is none."""
    if not points:
        return f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"><text class="empty" x="{WIDTH / 2}" y="{HEIGHT / 2}" text-anchor="middle">{escape(words[2])}</text></svg>'
    first = points[0][0]
    last = max(points[-1][0], min(total, first + max(20, round((points[-1][0] - first) * 1.15))))
    low, high = _range(points)
    x = _scale(first, max(last, first + 1), LEFT, WIDTH - RIGHT)
    y = _scale(low, high, HEIGHT - BOTTOM, TOP)
    parts = [_grid(low, high, first, last), *(f'<line class="moment" x1="{x(m):.1f}" x2="{x(m):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>' for m in moments if m >= first)]
    thin = thinned(points, MOST)
    parts.append(_line("raw", [(x(s), y(min(max(loss, low), high))) for s, loss, _ in thin]))
    parts.append(_line("smooth", [(x(s), y(min(max(v, low), high))) for s, _, v in thin if v is not None]))
    parts.append(_legend(words))
    newest = points[-1]
    about = f"{words[1]}: {newest[2]:.4f}" if newest[2] is not None else f"{words[0]}: {newest[1]:.4f}"
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(about)}">{"".join(parts)}</svg>'


def thinned(points: Sequence[Point], most: int) -> list[Point]:
    """At most `most` points; of each stretch the one whose loss is lowest and the one whose loss is highest stay, so that spikes are not hidden."""
    if len(points) <= most:
        return list(points)
    size = -(-len(points) // (most // 2))
    kept: list[Point] = []
    for at in range(0, len(points), size):
        stretch = points[at : at + size]
        kept += sorted({min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])})
    return kept


def _range(points: Sequence[Point]) -> tuple[float, float]:
    """Lowest and highest loss shown: the outermost two in a hundred raw values are left to the edges, the smoothed line never."""
    raw = sorted(p[1] for p in points)
    smooth = [p[2] for p in points if p[2] is not None]
    low = min([raw[len(raw) * 2 // 100], *smooth])
    high = max([raw[-1 - len(raw) * 2 // 100], *smooth])
    margin = (high - low) * 0.08 or 0.05
    return max(0.0, low - margin), high + margin


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """A map from low..high to start..end."""
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _grid(low: float, high: float, first: int, last: int) -> str:
    """Lines and numbers of both axes."""
    x, y = _scale(first, max(last, first + 1), LEFT, WIDTH - RIGHT), _scale(low, high, HEIGHT - BOTTOM, TOP)
    parts = []
    for i in range(5):
        value = low + (high - low) * i / 4
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/><text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.3f}</text>')
    for step in ticks(first, last):
        parts.append(f'<text x="{x(step):.1f}" y="{HEIGHT - 10}" text-anchor="middle">{step}</text>')
    return "".join(parts)


def ticks(first: int, last: int) -> list[int]:
    """Round numbers from first to last, five to ten of them."""
    span = max(last - first, 1)
    size = next(m * 10**e for e in range(12) for m in (1, 2, 5) if span / (m * 10**e) <= 10)
    begin = -(-first // size) * size
    return list(range(begin, last + 1, size))


def _line(name: str, points: Sequence[tuple[float, float]]) -> str:
    """A polyline."""
    return f'<polyline class="{name}" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in points)}"/>' if points else ""


def _legend(words: tuple[str, str, str]) -> str:
    """Names of the two lines, top right."""
    at = WIDTH - RIGHT - 190
    return (
        f'<line class="raw" x1="{at}" x2="{at + 18}" y1="{TOP + 4}" y2="{TOP + 4}"/><text x="{at + 23}" y="{TOP + 8}">{escape(words[0])}</text>'
        f'<line class="smooth" x1="{at + 84}" x2="{at + 102}" y1="{TOP + 4}" y2="{TOP + 4}"/><text x="{at + 107}" y="{TOP + 8}">{escape(words[1])}</text>'
    )
