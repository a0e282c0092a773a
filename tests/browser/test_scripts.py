"""Scripts, names after "<", the token counter, pasting, settings and sending on, by hand."""

from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.clicks import LONG, choose, fill, generated, shot, tab
from tests.browser.served import Studio


@pytest.fixture
def page(shared_page: Page) -> Page:
    """The page that the tests of this file share."""
    return shared_page


def ready(page: Page, prompt: str) -> None:
    """The txt2img tab with a quick picture asked for."""
    tab(page, "txt2img")
    for field, value in (("prompt", prompt), ("negative_prompt", ""), ("width", "0"), ("height", "0"), ("steps", "2"), ("seed", "5"), ("batch_size", "1"), ("batch_count", "1")):
        fill(page, f"txt2img_{field}", value)


def test_a_plot_of_two_axes_is_one_grid_with_its_pictures(page: Page, studio: Studio) -> None:
    ready(page, "a red circle")
    choose(page, "txt2img_script", "X/Y/Z plot")
    choose(page, "txt2img_xyz_x_axis", "Steps")
    fill(page, "txt2img_xyz_x_values", "2, 3")
    choose(page, "txt2img_xyz_y_axis", "CFG Scale")
    fill(page, "txt2img_xyz_y_values", "3-5 (+2)")
    job = generated(page, studio, "txt2img")
    assert job.kind == "plot"
    assert Image.open(job.result["images"][0]).width > 2 * 128
    expect(page.locator("#txt2img_infotext")).to_contain_text("X/Y/Z plot")
    shot(page, "plot")
    choose(page, "txt2img_script", "None")


def test_a_mistake_in_an_axis_is_told_at_once(page: Page) -> None:
    ready(page, "a red circle")
    choose(page, "txt2img_script", "X/Y/Z plot")
    choose(page, "txt2img_xyz_x_axis", "Sampler")
    fill(page, "txt2img_xyz_x_values", "Euler, Oiler")
    page.locator("#txt2img_generate").click()
    expect(page.locator("#txt2img_status")).to_contain_text("Oiler")
    choose(page, "txt2img_script", "None")


def test_names_of_networks_are_offered_and_the_counter_counts(page: Page, studio: Studio) -> None:
    (studio.root / "models" / "Lora" / "my-style.safetensors").write_bytes(b"")
    page.reload()
    page.wait_for_selector("#known_names [data-names*=my-style]", state="attached", timeout=LONG)
    box = page.locator("#txt2img_prompt textarea")
    box.fill("a photo ")
    box.press("End")
    box.press_sequentially("<my")
    expect(page.locator(".suggest")).to_contain_text("lora:my-style")
    box.press("Enter")
    expect(box).to_have_value("a photo <lora:my-style:1>")
    expect(page.locator("#txt2img_prompt_count")).to_contain_text("2/75")
    box.fill("red " * 80)
    expect(page.locator("#txt2img_prompt_count")).to_contain_text("80/150")
    (studio.root / "models" / "Lora" / "my-style.safetensors").unlink()
    (studio.root / "embeddings" / "bad (v2).pt").write_bytes(b"")
    box.fill("bad (v2) <lora:nobody:1>")
    expect(page.locator("#txt2img_prompt_count")).to_contain_text(r"write bad \(v2\)")
    expect(page.locator("#txt2img_prompt_count .note")).to_have_count(2)
    page.locator("#txt2img_negative_prompt textarea").fill("<lora:nobody:1>")
    expect(page.locator("#txt2img_negative_prompt_count")).to_contain_text("is in the negative prompt")
    (studio.root / "embeddings" / "bad (v2).pt").unlink()
    page.locator("#txt2img_negative_prompt textarea").fill("")
    box.fill("")
    expect(page.locator("#txt2img_prompt_count .note")).to_have_count(0)


def test_a_name_that_is_not_there_is_told_and_the_picture_painted(page: Page, studio: Studio) -> None:
    ready(page, "a red circle <lora:nobody:1>")
    job = generated(page, studio, "txt2img")
    assert job.result["notes"] == ["There is no LoRA 'nobody'; the picture was painted without it."]
    expect(page.locator("#txt2img_status")).to_contain_text("There is no LoRA 'nobody'")


def test_an_infotext_in_the_prompt_is_pasted(page: Page) -> None:
    ready(page, "a boat\nNegative prompt: blurry\nSteps: 9, Sampler: Euler a, CFG scale: 3.5, Seed: 77, Size: 192x128")
    page.locator("#txt2img_paste").click()
    expect(page.locator("#txt2img_prompt textarea")).to_have_value("a boat")
    expect(page.locator("#txt2img_negative_prompt textarea")).to_have_value("blurry")
    expect(page.locator("#txt2img_steps input[type=number]")).to_have_value("9")
    expect(page.locator("#txt2img_sampler input")).to_have_value("Euler a")
    expect(page.locator("#txt2img_seed input")).to_have_value("77")
    ready(page, "")


def test_a_setting_is_kept_and_counts_from_the_next_picture_on(page: Page, studio: Studio) -> None:
    tab(page, "Settings")
    page.locator("#settings_samples_format").get_by_label("webp").check()
    page.locator("#settings_apply").click()
    expect(page.locator("#settings_status")).to_contain_text("Kept.")
    shot(page, "settings")
    ready(page, "a red circle")
    job = generated(page, studio, "txt2img")
    assert Path(job.result["images"][0]).suffix == ".webp"
    assert Image.open(job.result["images"][0]).format == "WEBP"
    tab(page, "Settings")
    page.locator("#settings_samples_format").get_by_label("png").check()
    page.locator("#settings_apply").click()
    expect(page.locator("#settings_status")).to_contain_text("Kept.")


def test_a_picture_is_sent_to_preprocess(page: Page, studio: Studio) -> None:
    ready(page, "a green square")
    job = generated(page, studio, "txt2img")
    page.locator("#txt2img_send_to_preprocess").click()
    source = page.locator("#preprocess_source textarea, #preprocess_source input").first
    expect(source).not_to_have_value("")
    assert [p.name for p in Path(source.input_value()).iterdir()] == [Path(job.result["images"][0]).name]


def test_the_description_of_the_api_is_shown_without_any_other_machine(page: Page, studio: Studio) -> None:
    page.goto(f"{studio.url}docs")
    expect(page.get_by_text("/sdapi/v1/txt2img").first).to_be_visible()
    shot(page, "docs")
