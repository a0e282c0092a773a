"""A LoRA from a preset to a picture, through the page: trained, found among the cards, worn in a prompt, made smaller in Tools, and taken as the pattern of another training."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from studio.networks.header import read_header
from tests.browser.clicks import LONG, choose, fill, generated, newest, shot, tab
from tests.browser.served import Studio, with_pictures

NAME = "gnarl-lora"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A studio of its own with a data set in it."""
    studio = with_pictures(tmp_path_factory.mktemp("methods"))
    studio.start()
    yield studio
    studio.end()


def trained(page: Page) -> None:
    """Choose the method and a preset, change what differs on purpose, and train."""
    tab(page, "Train")
    choose(page, "train_method", "LoRA")
    expect(page.locator("#train_rank")).to_be_visible()
    expect(page.locator("#train_learn_rate textarea")).to_have_value("1e-4")
    expect(page.locator("#train_embedding")).to_have_count(0)
    expect(page.locator("#train_missing")).to_contain_text("Give it a name.")
    choose(page, "train_intent", "A character")
    expect(page.locator("#train_preset")).to_contain_text("Differs from the preset")
    page.locator("#train_apply").click()
    expect(page.locator("#train_preset")).to_contain_text("as the preset has it")
    for field, value in {"name": NAME, "trigger": "gnarl", "learn_rate": "2e-3", "steps": "20", "rank": "4", "batch_size": "2", "preview_every": "10", "preview_prompt": "a photo of [name]"}.items():
        fill(page, f"train_{field}", value)
    expect(page.locator("#train_preset")).to_contain_text("preset 16")
    choose(page, "train_template", "subject")
    expect(page.locator("#train_start")).to_be_enabled()
    shot(page, "methods-0-lora")
    page.locator("#train_start").click()
    screen = page.locator("#train_screen")
    expect(screen.locator(".at-state")).to_contain_text("Finished at step 20", timeout=LONG)
    expect(screen.locator(".at-state")).to_contain_text(f"<lora:{NAME}:1>")
    expect(screen.locator(".at-previews button.picture")).to_have_count(3)
    shot(page, "methods-1-trained")


def worn(page: Page, studio: Studio) -> None:
    """Put it into the prompt by its card, and paint."""
    tab(page, "txt2img")
    drawer = page.locator("#txt2img_cards .cards-drawer, .cards-drawer").first
    drawer.locator("summary").click()
    card = drawer.locator(f'[data-card="{NAME}"]')
    expect(card).to_contain_text("LoRA")
    card.click()
    prompt = page.locator("#txt2img_prompt textarea")
    expect(prompt).to_have_value(f"<lora:{NAME}:1> gnarl character")
    shot(page, "methods-2-cards")
    fill(page, "txt2img_steps", "6")
    job = generated(page, studio, "txt2img")
    assert job.result is not None
    assert job.result["images"]
    page.locator(".note.good", has_text="Done in").first.wait_for()


def test_a_lora_from_a_preset_to_a_picture(browser: Browser, served: Studio) -> None:
    page = browser.new_context(viewport={"width": 1440, "height": 1000}, locale="en-US").new_page()
    page.set_default_timeout(60_000)
    page.goto(served.url)
    page.wait_for_selector("#engine .chip")
    trained(page)
    file = served.root / "models" / "Lora" / f"{NAME}.safetensors"
    assert read_header(file).metadata["ss_network_dim"] == "4"
    worn(page, served)

    # smaller, in Tools
    tab(page, "Tools")
    tab(page, "Resize a LoRA")
    choose(page, "tools_resize_lora_lora", NAME)
    fill(page, "tools_resize_lora_rank", "2")
    fill(page, "tools_resize_lora_name", "small")
    page.locator("#tools_resize_lora_start").click()
    expect(page.locator("#tools_resize_lora_status")).to_contain_text("small", timeout=LONG)
    shot(page, "methods-3-resized")
    assert (newest(served, "resize_lora").result or {}).get("stopped") is not True
    assert read_header(served.root / "models" / "Lora" / "small.safetensors").metadata["ss_network_dim"] == "2"

    # another training like this file
    tab(page, "Train")
    choose(page, "train_method", "Textual inversion")
    with page.expect_file_chooser() as chooser:
        page.locator("#train_like").click()
    chooser.value.set_files(Path(file))
    expect(page.locator("#train_taken")).to_contain_text("Settings taken over: LoRA")
    expect(page.locator("#train_rank input")).to_have_value("4")
    expect(page.locator("#train_learn_rate textarea")).to_have_value("2e-3")
    shot(page, "methods-4-like")
    page.context.close()
