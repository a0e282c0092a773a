"""One look: a calm grey, one accent, one radius, system fonts; nothing is fetched from elsewhere."""

from pathlib import Path

import gradio as gr
from gradio.themes.utils import colors

from studio.settings import SHIPPED_ROOT

STATIC = SHIPPED_ROOT / "static"
STYLES = (STATIC / "studio.css", STATIC / "room.css", STATIC / "run.css", STATIC / "runs.css", STATIC / "cards.css")
FAVICON = STATIC / "icon.svg"
_ROOM = ("room.js", "room_grid.js", "room_openers.js", "room_picture.js", "room_words.js", "room_check.js")
_RUN = ("run_chart.js", "run_previews.js", "run.js")
_RUNS = ("runs.js", "runs_acts.js", "runs_compare.js", "runs_queue.js")
_CARDS = ("cards_editor.js", "cards.js")
SCRIPTS = ("forms.js", "studio.js", "fields.js", "toasts.js", "parts.js", "ink.js", "canvas.js", "prompts.js", *_CARDS, *_ROOM, *_RUN, *_RUNS)
"""Kept forms, keys and dark switch, messages at fields, toasts, canvas, prompts, cards of networks; then the parts of the data set tab, of a run and of the Runs tab."""
_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Noto Sans", "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", "sans-serif")


def theme() -> gr.themes.Base:
    """The studio's theme, light and dark."""
    base = gr.themes.Base(
        primary_hue=colors.teal,
        neutral_hue=colors.slate,
        radius_size=gr.themes.sizes.radius_md,
        spacing_size=gr.themes.sizes.spacing_sm,
        text_size=gr.themes.sizes.text_sm,
        font=_FONTS,
        font_mono=("ui-monospace", "Menlo", "Consolas", "monospace"),
    )
    return base.set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_border_width="1px",
        block_shadow="none",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_text_color="white",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_500",
        button_large_text_size="*text_md",
        button_large_text_weight="600",
        button_large_padding="8px 14px",
        slider_color="*primary_600",
    )


def head() -> str:
    """The page's own scripts, inline."""
    return "".join(f"<script>{(STATIC / name).read_text(encoding='utf-8')}</script>" for name in SCRIPTS)


def icon() -> str:
    """The mark of the studio as inline SVG."""
    return Path(FAVICON).read_text(encoding="utf-8")
