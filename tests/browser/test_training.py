"""A training in hand: watched, paused, painted with while it rests, taken up, left and found again, stopped, an earlier step put on the shelf, two runs compared."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from studio.jobs import Job
from tests.browser.clicks import LONG, choose, fill, generated, newest, shot, tab
from tests.browser.served import Studio, with_pictures

NAME = "gnarl"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A studio of its own with a data set in it."""
    studio = with_pictures(tmp_path_factory.mktemp("training"))
    studio.start()
    yield studio
    studio.end()


def opened(browser: Browser, studio: Studio) -> Page:
    """A page in a browser of its own, on the Train tab."""
    page = browser.new_context(viewport={"width": 1440, "height": 1000}, locale="en-US").new_page()
    page.set_default_timeout(60_000)
    page.goto(studio.url)
    page.wait_for_selector("#engine .chip")
    tab(page, "Train")
    return page


def begin(page: Page, steps: int, rate: str) -> None:
    """Fill the form and start."""
    values = {"learn_rate": rate, "steps": str(steps), "batch_size": "2", "preview_every": "10", "save_every": "0"}
    for field, value in values.items():
        fill(page, f"train_{field}", value)
    choose(page, "train_template", "subject")
    fill(page, "train_preview_prompt", "a photo of [name] on the beach\na drawing of [name]")
    expect(page.locator("#train_start")).to_be_enabled()
    page.locator("#train_start").click()


def reached(page: Page) -> int:
    """The step the screen shows."""
    return int(page.locator("#train_screen .bar").first.evaluate("e => e.closest('.note').textContent.match(/Step (\\d+)/)[1]"))


def test_from_the_first_step_to_an_earlier_one_on_the_shelf(browser: Browser, served: Studio) -> None:
    page = opened(browser, served)
    tab(page, "Embedding")
    fill(page, "embedding_name", NAME)
    fill(page, "embedding_initialization_text", "monster")
    page.locator("#embedding_create").click()
    expect(page.locator("#embedding_status")).to_contain_text(f"{NAME} is created", timeout=LONG)
    page.locator("#embedding_train").click()
    page.locator("#train_ahead").click()
    expect(page.locator("#train_forecast .figures")).to_contain_text("Steps to take", timeout=LONG)
    shot(page, "training-0-forecast")
    begin(page, 4000, "0.01")
    screen = page.locator("#train_screen")
    expect(screen.locator(".at-state")).to_contain_text("of 4000", timeout=LONG)
    expect(screen.locator(".at-previews .row-step").nth(3)).to_be_visible(timeout=LONG)
    expect(screen.locator("polyline.probe.train")).to_have_count(1, timeout=LONG)
    shot(page, "training-1-running")

    # it rests; prompts use the embedding as it is now; it goes on
    screen.locator(".ask-pause").click()
    expect(screen.locator(".at-state")).to_contain_text("paused", timeout=LONG)
    step = reached(page)
    shot(page, "training-2-paused")
    tab(page, "txt2img")
    fill(page, "txt2img_prompt", f"a photo of {NAME}")
    fill(page, "txt2img_steps", "8")
    fill(page, "txt2img_seed", "3")
    live = generated(page, served, "txt2img")
    tab(page, "Train")
    assert reached(page) == step
    screen.locator(".ask-pause").click()
    expect(screen.locator(".ask-pause")).to_have_text("Pause", timeout=LONG)

    # the page is closed, another browser finds the same
    page.context.close()
    page = opened(browser, served)
    screen = page.locator("#train_screen")
    expect(screen.locator(".at-state")).to_contain_text("of 4000", timeout=LONG)
    assert reached(page) >= step
    sample(page)
    screen.locator(".ask-stop").click()
    expect(screen.locator(".at-state")).to_contain_text(f"and saved: write {NAME} in a prompt", timeout=LONG)
    expect(screen.locator(".verdict")).not_to_contain_text("Keep training")
    shot(page, "training-3-stopped")
    look_closer(page)
    use_a_step(page, served, live)
    page.context.close()


def sample(page: Page) -> None:
    """Paint another prompt while it trains."""
    screen = page.locator("#train_screen")
    screen.locator(".ask-sample").click()
    page.locator(".studio-dialog textarea").fill("[name] in a forest")
    page.locator(".studio-dialog .primary").click()
    expect(screen.locator(".at-previews h4").nth(1)).to_have_text("Asked for", timeout=LONG)


def look_closer(page: Page) -> None:
    """One preview large, earlier and later; two steps under one slider."""
    screen = page.locator("#train_screen")
    every = screen.locator(".at-previews .link", has_text="more steps")
    if every.count():  # a run that went far shows its first step and its last ones
        every.click()
    screen.locator(".at-previews .run-rows button.picture[aria-label='Step 10']").first.click()
    light = page.locator(".lightbox")
    expect(light.locator("b")).to_have_text("Step 10")
    light.press("ArrowLeft")
    expect(light.locator("b")).to_have_text("Step 0")
    light.press("ArrowRight")
    expect(light.locator("b")).to_have_text("Step 10")
    shot(page, "training-4-large")
    light.locator(".close").click()
    screen.locator(".swipe").click()
    expect(page.locator(".swipe-place img")).to_have_count(2)
    shot(page, "training-5-swipe")
    page.locator(".studio-dialog").press("Escape")


def use_a_step(page: Page, served: Studio, live: Job) -> None:
    """Put step 20 on the shelf, see that prompts use it, and take it back."""
    shelf = served.root / "embeddings" / f"{NAME}.pt"
    run = Path(newest(served, "train").result["run"])
    before = shelf.read_bytes()
    row = page.locator("#train_screen .row-step", has=page.get_by_text("20", exact=True))
    row.locator(".use").click()
    expect(page.locator("#train_screen .at-said")).to_contain_text(f"In prompts, {NAME} now means step 20")
    named = page.locator("#train_screen .in-use")
    expect(named).to_contain_text(f"In prompts, {NAME} now means step 20")
    assert shelf.read_bytes() == (run / "embeddings" / f"{NAME}-20.pt").read_bytes() != before
    page.locator("#train_screen .at-said .link").click()
    expect(page.locator("#train_screen .at-said")).to_contain_text("as it was before")
    assert shelf.read_bytes() == before
    expect(named).to_contain_text("last).")
    use_the_best(page, shelf, run)
    again = Image.open(live.result["images"][0])
    assert np.asarray(again).std() > 5


def use_the_best(page: Page, shelf: Path, run: Path) -> None:
    """After the end the best step is offered first and the last beside it, and the page says which one the name means."""
    named, before, best = page.locator("#train_screen .in-use"), shelf.read_bytes(), json.loads((run / "best.json").read_text())
    first = named.locator("button").first
    expect(first).to_contain_text(f"Use step {best['step']} (best")
    if "and last" in (first.text_content() or ""):
        return expect(first).to_be_disabled()
    first.click()
    expect(named).to_contain_text(f"now means step {best['step']} (best)")
    expect(first).to_be_disabled()
    assert shelf.read_bytes() == (run / best["path"]).read_bytes() != before
    named.locator(".use-last").click()
    expect(named).to_contain_text(re.compile(r"now means step \d+ \(last\)"))
    assert shelf.read_bytes() == before


def test_two_runs_side_by_side(browser: Browser, served: Studio) -> None:
    page = opened(browser, served)
    begin(page, newest(served, "train").result["steps"] + 12, "0.002")
    screen = page.locator("#train_screen")
    expect(screen.locator(".at-state")).to_contain_text("Finished at step", timeout=LONG)
    tab(page, "Runs")
    boxes = page.locator("#runs_table tbody input[type=checkbox]")
    expect(boxes).to_have_count(2)
    boxes.nth(0).check()
    boxes.nth(1).check()
    compared = page.locator(".runs-compare")
    expect(compared).to_contain_text("0.002")
    expect(compared.locator("polyline.run-1")).to_be_visible()
    shot(page, "training-6-compare")
    page.context.close()
