"""What the embedding room shows of one embedding, as HTML: its verdict, a line for each vector, and how alike they are."""

from html import escape
from typing import Any

from studio.ui.widgets import note
from studio.ui.words import tell

MATRIX = 24
"""Vectors up to which every pair is shown."""


def shelf_table(lang: str, cards: list[dict[str, Any]]) -> str:
    """The shelf as a table: each embedding with its size, the family it is for and its steps, or why it cannot be used."""
    if not cards:
        return note("", tell(lang, "There is no embedding yet."))
    heads = "".join(f"<th>{escape(tell(lang, head))}</th>" for head in ("Name", "Vectors", "Width", "Made for", "Steps"))
    return f'<table class="plain"><thead><tr>{heads}</tr></thead><tbody>{"".join(_card(card) for card in cards)}</tbody></table>'


def _card(card: dict[str, Any]) -> str:
    """One row of the shelf."""
    if card["problem"]:
        return f'<tr><td>{escape(card["name"])}</td><td colspan="4">{escape(card["problem"])}</td></tr>'
    numbers = "".join(f'<td class="num">{"" if card[key] is None else escape(str(card[key]))}</td>' for key in ("vectors", "width", "family", "step"))
    return f"<tr><td>{escape(card['name'])}</td>{numbers}</tr>"


def figures(lang: str, told: dict[str, Any]) -> str:
    """Everything the worker told about an embedding."""
    fits = bool(told["fits"])
    verdict = tell(lang, "It can be used with {checkpoint}.", checkpoint=told["checkpoint"])
    if not fits:
        verdict = tell(lang, "It cannot be used with {checkpoint}: its vectors have another width, {width}.", checkpoint=told["checkpoint"], width=told["width"])
    return note("good" if fits else "warn", verdict) + _vectors(lang, told) + _likeness(lang, told)


def _vectors(lang: str, told: dict[str, Any]) -> str:
    """A row for each vector: its length against an ordinary word's, the nearest words, and its way from the start."""
    encoders, start = told["encoders"], told["start"]
    heads = [tell(lang, "Vector")]
    for encoder in encoders:
        width = f" ({encoder['width']})" if len(encoders) > 1 else ""
        heads += [tell(lang, "Length") + width, *([tell(lang, "Nearest words") + width] if encoder["nearest"] else [])]
    heads += [tell(lang, "Distance from the start"), tell(lang, "Cosine with the start")] if start else []
    body = ""
    for i in range(told["vectors"]):
        cells = f'<td class="num">{i + 1}</td>'
        for encoder in encoders:
            cells += _length(lang, encoder, i) + (_words(encoder["nearest"][i]) if encoder["nearest"] else "")
        cells += "".join(f'<td class="num">{start[key][i]:.3f}</td>' for key in ("distance", "cosine")) if start else ""
        body += f"<tr>{cells}</tr>"
    table = f'<table class="plain" id="embedding_vectors"><thead><tr>{"".join(f"<th>{escape(head)}</th>" for head in heads)}</tr></thead><tbody>{body}</tbody></table>'
    return table + ("" if start else f'<p class="small">{escape(tell(lang, "No run knows where it began, so its way from there is not shown."))}</p>')


def _length(lang: str, encoder: dict[str, Any], i: int) -> str:
    """The length of a vector, and what share of an ordinary word's it is."""
    norm, median = encoder["norms"][i], encoder["median"]
    share = f" · {tell(lang, '{share} × a word', share=f'{norm / median:.2f}')}" if median else ""
    return f'<td class="num">{norm:.3f}{escape(share)}</td>'


def _words(nearest: list[dict[str, Any]]) -> str:
    """The nearest words of a vector with their cosines."""
    return "<td>" + ", ".join(f'{escape(one["word"])} <span class="small">{one["cosine"]:.2f}</span>' for one in nearest) + "</td>"


def _likeness(lang: str, told: dict[str, Any]) -> str:
    """How alike the vectors are: every pair when they are few, else the closest ones."""
    pairs, count = told["similarity"], told["vectors"]
    if count < 2:
        return ""
    title = f'<p class="small">{escape(tell(lang, "Cosine between the vectors: those near 1 say the same and can be pruned."))}</p>'
    if count > MATRIX:
        near = sorted(((pairs[i][j], i, j) for i in range(count) for j in range(i)), reverse=True)[:10]
        return title + "<p>" + " · ".join(f"{j + 1} – {i + 1}: {value:.2f}" for value, i, j in near) + "</p>"
    head = "".join(f"<th>{i + 1}</th>" for i in range(count))
    rows = ""
    for i, row in enumerate(pairs):
        rows += f"<tr><th>{i + 1}</th>" + "".join(f'<td class="num" style="background: rgb(13 148 136 / {abs(value) * 0.5:.2f})">{value:.2f}</td>' for value in row) + "</tr>"
    return f'{title}<table class="plain" id="embedding_likeness" style="width: auto"><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table>'
