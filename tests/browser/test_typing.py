"""What is typed or pressed while the server is busy: it is never replaced by an older answer, and never lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.clicks import tab
from tests.browser.served import Studio, with_pictures


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A studio of its own with a data set in it."""
    studio = with_pictures(tmp_path_factory.mktemp("typing"))
    studio.start()
    yield studio
    studio.end()


@pytest.fixture
def page(browser: Browser, served: Studio) -> Iterator[Page]:
    """The data set in a fresh page."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000}, locale="en-US")
    opened = context.new_page()
    opened.set_default_timeout(60_000)
    opened.goto(served.url)
    opened.wait_for_selector("#engine .chip")
    tab(opened, "Data set")
    expect(opened.locator(".room-card").first).to_be_visible()
    yield opened
    context.close()


def caption(served: Studio, name: str) -> Path:
    return served.root / "outputs" / "datasets" / "monster" / f"{name}.txt"


def test_what_is_typed_while_a_save_fails_stays_and_is_saved_next(page: Page, served: Studio) -> None:
    held: list[Route] = []
    page.route("**/caption", lambda route: held.append(route) if not held else route.continue_())
    area = page.locator('.room-card[data-name="01.png"] textarea')
    area.fill("older words")
    while not held:
        page.wait_for_timeout(50)
    area.fill("older words, and newer ones")
    held[0].fulfill(status=500, content_type="application/json", body='{"detail": "the disk stumbled"}')
    expect(page.locator(".room-say")).to_contain_text("the disk stumbled")
    expect(area).to_have_value("older words, and newer ones")
    area.blur()
    expect(page.locator(".room-saved")).to_have_text("saved")
    expect(area).to_have_value("older words, and newer ones")
    assert caption(served, "01").read_text(encoding="utf-8") == "older words, and newer ones"


def test_undo_pressed_while_the_data_set_loads_is_done_when_it_is_there(page: Page, served: Studio) -> None:
    area = page.locator('.room-card[data-name="02.png"] textarea')
    area.fill("to be taken back")
    area.blur()
    expect(page.locator(".room-saved")).to_have_text("saved")
    held: list[Route] = []
    page.route("**/room?*", lambda route: held.append(route) if not held else route.continue_())
    page.reload()
    page.wait_for_selector("#engine .chip")
    tab(page, "Data set")
    while not held:
        page.wait_for_timeout(50)
    expect(page.locator(".room-counts")).to_have_text("Loading …")
    page.locator(".room-undo").click()
    held[0].continue_()
    expect(page.locator(".room-say")).to_contain_text("Taken back")
    expect(area).to_have_value("a monster")
    assert caption(served, "02").read_text(encoding="utf-8") == "a monster"


def test_what_is_typed_beside_a_setting_stays_when_the_setting_is_saved(page: Page) -> None:
    page.locator(".room-tabs button[data-panel=write]").click()
    quality = page.locator(".room-panel-write [name=quality]")
    quality.evaluate("(input) => { input.closest('details')?.setAttribute('open', ''); input.value = '77'; }")
    before = page.locator(".room-panel-write [name=width]")
    before.fill("640")
    before.press("Tab")
    page.locator(".room-filter").click()
    page.locator(".room-sizes button", has_text="512×768").click()
    expect(page.locator(".room-panel-write [name=height]")).to_have_value("768")
    expect(quality).to_have_value("77")
    page.locator(".room-tabs button[data-panel=template]").click()
    text = page.locator(".room-panel-template textarea")
    expect(text).not_to_have_value("")
    text.fill("a drawing of [name]")
    trigger = page.locator(".room-panel-template input[type=text]").first
    preview, held = page.locator(".room-panel-template .template-preview"), []
    page.route("**/settings*", lambda route: held.append(route) if route.request.method == "PUT" and not held else route.continue_())
    trigger.fill("gnarl")
    trigger.press("Tab")
    expect(preview).to_contain_text("a drawing of [name]")  # the server has not heard of the trigger word yet
    held[0].continue_()
    expect(preview).to_contain_text("a drawing of gnarl")
    page.unroute("**/settings*")
    expect(text).to_have_value("a drawing of [name]")
    expect(page.locator(".draft-line")).to_be_visible()
