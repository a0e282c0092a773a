"""A served studio and a real Chromium that looks at it."""

import contextlib
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser.served import Studio

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome", "msedge"))), None)
"""A browser of the system; None lets playwright use its own."""
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage", "--force-prefers-reduced-motion"]
"""Animations are off: without a GPU each of their frames costs the processor that the tests wait for."""
expect.set_options(timeout=90_000)  # milliseconds: a slow machine that starts a server anew needs more than playwright's five seconds


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    served = Studio(tmp_path_factory.mktemp("studio"))
    served.start()
    yield served
    served.end()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium for one file: playwright's event loop, which runs in this thread, must not outlast the browser's tests."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@contextlib.contextmanager
def watched(browser: Browser, studio: Studio) -> Iterator[Page]:
    """A fresh page of the studio; asking any other machine for anything, and what the content security policy forbids, fails at its end."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000}, locale="en-US")
    opened = context.new_page()
    opened.set_default_timeout(60_000)
    outside: list[str] = []
    opened.on("request", lambda r: outside.append(r.url) if not r.url.startswith((studio.url, "data:", "blob:")) else None)
    opened.on("console", lambda m: outside.append(m.text) if "Content Security Policy" in m.text else None)
    opened.goto(studio.url)
    opened.wait_for_selector("#txt2img_prompt textarea")
    opened.wait_for_selector("#engine .chip")  # drawn after every form is as it was left: what is typed before would be overwritten
    yield opened
    context.close()
    assert outside == []


@pytest.fixture
def page(browser: Browser, studio: Studio) -> Iterator[Page]:
    """A fresh page for one test."""
    with watched(browser, studio) as opened:
        yield opened


@pytest.fixture(scope="module")
def shared_page(browser: Browser, studio: Studio) -> Iterator[Page]:
    """One page for all tests of a file; each sets what it needs."""
    with watched(browser, studio) as opened:
        yield opened
