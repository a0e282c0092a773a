"""What a hand does on the page."""

import os
import time

from playwright.sync_api import Page, expect

from studio.jobs import Job, JobStore
from tests.browser.served import SCREENS, Studio

LONG = 240_000
"""Milliseconds that a step may take on a slow machine."""


def tab(page: Page, name: str) -> None:
    """Open a tab."""
    page.get_by_role("tab", name=name, exact=True).click()


def shot(page: Page, name: str) -> None:
    """Keep a picture of the page in `outputs/screens`, where STUDIO_SCREENS asks for pictures."""
    if not os.environ.get("STUDIO_SCREENS"):
        return
    SCREENS.mkdir(parents=True, exist_ok=True)
    page.wait_for_timeout(600)
    page.screenshot(path=SCREENS / f"{name}.png", full_page=True)


def fill(page: Page, field: str, value: str) -> None:
    """Type into a text box, number or slider by its id."""
    box = page.locator(f"#{field} textarea, #{field} input[type=text], #{field} input[type=number]").first
    box.fill(value)
    box.press("Tab")


def newest(studio: Studio, kind: str) -> Job:
    """The newest job of a kind, out of the database."""
    return JobStore(studio.root / "outputs" / "studio.db").jobs(kind=kind, limit=1)[0]


def choose(page: Page, field: str, value: str) -> None:
    """Take one entry of a dropdown by its id."""
    page.locator(f"#{field} input").click()
    page.get_by_role("option", name=value, exact=True).last.click()  # the list that was opened before fades still


def brush(page: Page, knob: str, value: str) -> None:
    """Set the size or hardness of the canvas's brush."""
    page.locator(f"#img2img_canvas [data-set={knob}]").evaluate("(e, v) => { e.value = v; e.dispatchEvent(new Event('input', { bubbles: true })); }", value)


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Paint a stroke on the canvas between two places, given as shares of the picture."""
    ink = page.locator("#img2img_canvas canvas.ink")
    ink.scroll_into_view_if_needed()
    box = ink.bounding_box()
    assert box is not None
    (x0, y0), (x1, y1) = ((box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in (start, end))
    page.mouse.move(x0, y0)
    page.mouse.down()
    page.mouse.move(x1, y1, steps=8)
    page.mouse.up()


def generated(page: Page, studio: Studio, name: str) -> Job:
    """Press Generate in a tab, wait for the new job's end, and see that the page says so."""
    before = {job.id for job in JobStore(studio.root / "outputs" / "studio.db").jobs(limit=1000)}
    page.locator(f"#{name}_generate").click()
    end = time.monotonic() + LONG / 1000
    while time.monotonic() < end:
        jobs = [job for job in JobStore(studio.root / "outputs" / "studio.db").jobs(limit=5) if job.id not in before]
        if jobs and jobs[0].state.over:
            expect(page.locator(f"#{name}_status")).to_contain_text("Done in", timeout=LONG)
            return jobs[0]
        page.wait_for_timeout(200)
    raise TimeoutError(f"{name} painted nothing in {LONG / 1000:.0f} s")
