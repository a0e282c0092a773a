"""The loss curve: what is drawn, and that nothing a run does can break it."""

import re
import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from studio.ui.chart import HEIGHT, MOST, WIDTH, chart, thinned, ticks

WORDS = ("Loss", "Smoothed", "nothing yet")


def coordinates(svg: str, line: str) -> list[tuple[float, float]]:
    found = re.search(rf'class="{line}" points="([^"]+)"', svg)
    return [tuple(map(float, pair.split(","))) for pair in found[1].split()] if found else []


def test_without_points_it_says_so() -> None:
    assert "nothing yet" in chart((), 100, (), WORDS)


def test_a_falling_loss_goes_down_the_picture() -> None:
    points = [(i, 1 - i / 100, 1 - i / 100) for i in range(1, 50)]
    smooth = coordinates(chart(points, 50, (0, 25), WORDS), "smooth")
    assert smooth[0][1] < smooth[-1][1]
    assert [x for x, _ in smooth] == sorted(x for x, _ in smooth)


def test_every_preview_has_its_mark_and_names_are_escaped() -> None:
    svg = chart([(0, 1.0, 1.0), (10, 0.5, 0.7)], 10, (0, 5, 10), ("<b>", "S&P", ""))
    assert svg.count('class="moment"') == 3
    assert "<b>" not in svg
    ET.fromstring(svg)


losses = st.floats(min_value=1e-6, max_value=1e6)


@given(st.lists(st.tuples(losses, st.one_of(st.none(), losses)), min_size=1, max_size=80), st.integers(1, 10**6))
def test_whatever_the_losses_all_is_drawn_inside(values: list[tuple[float, float | None]], total: int) -> None:
    svg = chart([(i + 1, loss, smooth) for i, (loss, smooth) in enumerate(values)], total, (), WORDS)
    ET.fromstring(svg)
    for x, y in coordinates(svg, "raw") + coordinates(svg, "smooth"):
        assert 0 <= x <= WIDTH
        assert -1 <= y <= HEIGHT + 1


def test_a_long_run_is_thinned_but_its_spike_stays() -> None:
    points = [(i, 9.0 if i == 7777 else 0.5 + i % 7 / 100, 0.5) for i in range(20_000)]
    thin = thinned(points, MOST)
    assert len(thin) <= MOST
    assert (7777, 9.0, 0.5) in thin


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_ticks_are_few_and_inside(first: int, length: int) -> None:
    marks = ticks(first, first + length)
    assert len(marks) <= 11
    assert all(first <= m <= first + length for m in marks)
