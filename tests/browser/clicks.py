"""What a hand does on the page."""

from playwright.sync_api import Page

from studio.jobs import Job, JobStore
from tests.browser.served import SCREENS, Studio

LONG = 240_000
"""Milliseconds that a step may take on a slow machine."""


def tab(page: Page, name: str) -> None:
    """Open a tab."""
    page.get_by_role("tab", name=name, exact=True).click()


def shot(page: Page, name: str) -> None:
    """Keep a picture of the page."""
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
    page.get_by_role("option", name=value, exact=True).click()
