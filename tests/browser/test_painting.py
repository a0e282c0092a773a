"""Painting on the page: the unfinished picture, the interrupt, several pictures at once, a seed used again."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.clicks import LONG, fill, generated, newest, tab
from tests.browser.served import Studio


@pytest.fixture
def page(shared_page: Page) -> Page:
    """The page that the tests of this file share."""
    return shared_page


def test_the_unfinished_picture_is_shown_and_an_interrupt_keeps_it(page: Page, studio: Studio) -> None:
    tab(page, "txt2img")
    fill(page, "txt2img_prompt", "a castle on grass")
    fill(page, "txt2img_width", "256")
    fill(page, "txt2img_height", "256")
    fill(page, "txt2img_steps", "150")
    page.locator("#txt2img_generate").click()
    expect(page.locator("#txt2img_status img.sketch")).to_be_visible(timeout=LONG)
    coarse = page.locator("#txt2img_status img.sketch").get_attribute("src")
    page.locator("#txt2img_decode").click()
    expect(page.locator("#txt2img_status img.sketch")).not_to_have_attribute("src", coarse or "", timeout=LONG)
    page.locator("#txt2img_interrupt").click()
    expect(page.locator("#txt2img_status")).to_contain_text("Stopped early", timeout=LONG)
    job = newest(studio, "generate")
    assert job.state == "stopped"
    assert len(job.result["images"]) == 1


def test_of_several_pictures_the_chosen_one_gives_its_seed(page: Page, studio: Studio) -> None:
    tab(page, "txt2img")
    fill(page, "txt2img_prompt", "a dog on the beach")
    for field, value in (("width", "0"), ("height", "0"), ("steps", "4"), ("batch_size", "3"), ("seed", "40")):
        fill(page, f"txt2img_{field}", value)
    job = generated(page, studio, "txt2img")
    assert Path(job.result["grid"]).is_file()
    expect(page.locator("#txt2img_infotext")).to_contain_text("Seed: 40")
    page.locator("#txt2img_gallery .thumbnails button, #txt2img_gallery button.thumbnail-item").nth(3).click()  # the grid stands first
    expect(page.locator("#txt2img_infotext")).to_contain_text("Seed: 42")
    page.locator("#txt2img_reuse_seed").click()
    expect(page.locator("#txt2img_seed input")).to_have_value("42")
    page.locator("#txt2img_random_seed").click()
    expect(page.locator("#txt2img_seed input")).to_have_value("-1")
    fill(page, "txt2img_batch_size", "1")
    assert job.result["seeds"] == [40, 41, 42]
