"""Two browsers on one studio: each has its own forms, pictures and Interrupt; a reload keeps what was typed and finds the running job again."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from studio.jobs import Job, JobStore
from studio.settings import Paths
from tests.browser.clicks import LONG, choose, drag, fill, newest, tab
from tests.browser.served import Studio

Visit = Callable[..., Page]


@pytest.fixture
def visit(browser: Browser, studio: Studio) -> Iterator[Visit]:
    """Opens the page in a browser of its own, or once more in a given one."""
    contexts: list[BrowserContext] = []

    def visit_(context: BrowserContext | None = None, locale: str = "en-US") -> Page:
        if context is None:
            context = browser.new_context(viewport={"width": 1440, "height": 1000}, locale=locale)
            contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.goto(studio.url)
        opened(page)
        return page

    yield visit_
    for context in contexts:
        context.close()


def opened(page: Page) -> None:
    """Wait until the page is as it was left."""
    page.wait_for_selector("#engine .chip")
    while not page.evaluate("window.studio.forms.ready()"):
        page.wait_for_timeout(100)


def reloaded(page: Page) -> None:
    page.reload()
    opened(page)


def until(page: Page, field: str, wanted: str) -> None:
    """Wait until the browser has kept a value; a page in the background draws no frames, so it is asked again and again."""
    end = time.monotonic() + LONG / 1000
    while (kept := page.evaluate("window.studio.forms.stored()").get(field)) != wanted:
        assert time.monotonic() < end, f"{field}: {kept!r}"
        page.wait_for_timeout(100)


def value(page: Page, field: str) -> str:
    return page.locator(f"#{field} textarea, #{field} input").first.input_value()


def job(studio: Studio, name: str) -> Job:
    return JobStore(studio.root / "outputs" / "studio.db").job(name)


def shown(page: Page) -> str:
    """The file of the picture that the gallery shows."""
    return Path(page.locator("#txt2img_gallery img").first.get_attribute("src") or "").name


def long_painting(page: Page) -> None:
    for field, text in (("prompt", "a castle on grass"), ("width", "256"), ("height", "256"), ("steps", "150"), ("batch_count", "20")):
        fill(page, f"txt2img_{field}", text)
    page.locator("#txt2img_generate").click()
    expect(page.locator("#txt2img_status img.sketch")).to_be_visible(timeout=LONG)


def test_each_browser_has_its_own_form_pictures_and_interrupt(visit: Visit, studio: Studio) -> None:
    first = visit()
    long_painting(first)
    long = newest(studio, "generate")

    second = visit()
    assert (value(second, "txt2img_prompt"), value(second, "txt2img_steps")) == ("", "20")
    expect(second.locator("#txt2img_status")).to_contain_text("The pictures will appear here.")
    expect(second.locator("#txt2img_gallery img")).to_have_count(0)
    for button in ("interrupt", "skip", "decode"):
        expect(second.locator(f"#txt2img_{button}")).to_be_disabled()
    expect(second.locator("#engine .chip .dot.busy")).to_be_visible()

    fill(second, "txt2img_prompt", "a dog")
    fill(second, "txt2img_steps", "2")
    second.locator("#txt2img_generate").click()
    expect(second.locator("#txt2img_status")).to_contain_text("Waiting for its turn")
    second.locator("#txt2img_interrupt").click()
    expect(second.locator("#txt2img_status")).to_contain_text("Stopped before it began.")
    assert (newest(studio, "generate").state, job(studio, long.id).state) == ("stopped", "running")
    second.locator("body").press("Escape")
    second.locator("#txt2img_generate").click()
    expect(second.locator("#txt2img_status")).to_contain_text("Waiting for its turn")
    short = newest(studio, "generate")

    reloaded(first)
    assert (value(first, "txt2img_prompt"), first.locator("#txt2img_steps input[type=number]").input_value()) == ("a castle on grass", "150")
    expect(first.locator("#txt2img_status img.sketch")).to_be_visible()
    expect(first.locator("#txt2img_status .bar")).to_be_visible()
    assert job(studio, long.id).state == "running"
    first.locator("#txt2img_interrupt").click()
    expect(first.locator("#txt2img_status")).to_contain_text("Stopped early", timeout=LONG)
    expect(second.locator("#txt2img_status")).to_contain_text("Done in", timeout=LONG)
    long, short = job(studio, long.id), job(studio, short.id)
    assert long.result and short.result and long.browser != short.browser
    assert shown(first) in [Path(path).name for path in (long.result.get("grid") or "", *long.result["images"])]
    assert shown(second) == Path(short.result["images"][0]).name
    reloaded(first)
    expect(first.locator("#txt2img_infotext")).to_contain_text("a castle on grass")


def test_a_reload_keeps_every_kind_of_field_of_every_tab(visit: Visit) -> None:
    page = visit()
    fill(page, "txt2img_prompt", "一只蓝色的猫")
    fill(page, "txt2img_negative_prompt", "blurry")
    choose(page, "txt2img_sampler", "DDIM")
    page.get_by_role("button", name=re.compile("Hires. fix")).click()
    page.locator("#txt2img_hires input").check()
    choose(page, "txt2img_script", "Prompt matrix")
    tab(page, "img2img · Inpaint")
    page.locator("#img2img_mode").get_by_label("Sketch", exact=True).check()
    tab(page, "Preprocess")
    fill(page, "preprocess_destination", "my monsters")
    page.locator("#preprocess_captioners").get_by_label("DeepBooru").check()
    tab(page, "Embedding")
    fill(page, "embedding_vectors", "5")
    tab(page, "Train")
    choose(page, "train_method", "LoRA")
    expect(page.locator("#train_rank")).to_be_visible()
    fill(page, "train_name", "blue-cat")
    fill(page, "train_steps", "77")
    tab(page, "Tools")
    page.get_by_role("tab", name="Merge LoRAs").click()
    fill(page, "tools_merge_lora_name", "both")
    reloaded(page)
    expect(page.locator("#tools_merge_lora_name textarea, #tools_merge_lora_name input").first).to_be_visible()
    assert value(page, "tools_merge_lora_name") == "both"
    tab(page, "Train")
    expect(page.locator("#train_method input")).to_have_value("LoRA")
    expect(page.locator("#train_rank")).to_be_visible()
    assert (value(page, "train_name"), value(page, "train_steps")) == ("blue-cat", "77")
    tab(page, "Embedding")
    assert page.locator("#embedding_vectors input[type=number]").input_value() == "5"
    tab(page, "Preprocess")
    assert value(page, "preprocess_destination") == "my monsters"
    expect(page.locator("#preprocess_captioners").get_by_label("DeepBooru")).to_be_checked()
    tab(page, "img2img · Inpaint")
    expect(page.locator("#img2img_mode").get_by_label("Sketch", exact=True)).to_be_checked()
    expect(page.locator("#img2img_canvas .mask-canvas.sketch")).to_be_visible()
    tab(page, "txt2img")
    assert (value(page, "txt2img_prompt"), value(page, "txt2img_negative_prompt")) == ("一只蓝色的猫", "blurry")
    expect(page.locator("#txt2img_sampler input")).to_have_value("DDIM")
    expect(page.locator("#txt2img_script input")).to_have_value("Prompt matrix")
    expect(page.locator("#txt2img_promptmatrix_box, #txt2img_prompt_box").first).to_be_visible()
    page.get_by_role("button", name=re.compile("Hires. fix")).click()
    expect(page.locator("#txt2img_hires input")).to_be_checked()

    page.locator("#txt2img_reset").click()
    expect(page.locator("#txt2img_prompt textarea")).to_have_value("")
    expect(page.locator("#txt2img_sampler input")).not_to_have_value("DDIM")
    until(page, "txt2img_prompt", "")
    reloaded(page)
    assert value(page, "txt2img_prompt") == ""
    tab(page, "Train")
    assert value(page, "train_name") == "blue-cat"


def test_two_pages_of_one_browser_do_not_undo_each_other(visit: Visit) -> None:
    one = visit()
    two = visit(one.context)
    fill(one, "txt2img_prompt", "a cat")
    fill(two, "txt2img_negative_prompt", "blurry")
    until(one, "txt2img_prompt", "a cat")
    until(two, "txt2img_negative_prompt", "blurry")
    assert (value(one, "txt2img_negative_prompt"), value(two, "txt2img_prompt")) == ("", "")
    three = visit(one.context)
    assert (value(three, "txt2img_prompt"), value(three, "txt2img_negative_prompt")) == ("a cat", "blurry")


def test_what_is_gone_is_replaced_with_a_notice_in_the_persons_language(visit: Visit, studio: Studio) -> None:
    style = Paths(studio.root).styles
    style.write_text("name,prompt,negative_prompt\nold style,{prompt} in oil,\n", encoding="utf-8")
    page = visit(locale="zh-CN")
    page.wait_for_selector("#txt2img_styles input")
    kept = {"checkpoint": "gone.safetensors", "txt2img_styles": ["old style", "gone style"], "train_method": "no such method", "txt2img_sampler": "DDIM"}
    page.evaluate("(kept) => window.studio.forms.keep(kept)", kept)
    reloaded(page)
    toast = page.locator(".toast-body")
    expect(toast.first).to_contain_text("gone.safetensors 已不存在")
    expect(toast.first).to_contain_text("gone style 已不存在")
    expect(toast.first).to_contain_text("no such method 已不存在")
    expect(page.locator("#checkpoint input")).to_have_value(re.compile("tiny-world"))
    expect(page.locator("#txt2img_sampler input")).to_have_value("DDIM")
    expect(page.locator("#txt2img_styles")).to_contain_text("old style")
    kept = page.evaluate("window.studio.forms.stored()")
    assert (kept["txt2img_styles"], kept["train_method"]) == (["old style"], "textual_inversion")
    reloaded(page)
    expect(toast).to_have_count(0)


def test_the_picture_and_the_strokes_on_the_canvas_survive_a_reload(visit: Visit, tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "blue.png"
    Image.new("RGB", (128, 96), "blue").save(path)
    page = visit()
    tab(page, "img2img · Inpaint")
    page.locator("#img2img_canvas [data-file=open]").set_input_files(path)
    expect(page.locator("#img2img_canvas .canvas-info")).to_contain_text("128 × 96")
    drag(page, (0.3, 0.5), (0.6, 0.5))
    page.wait_for_function("window.studio.forms.stored().img2img_mask")
    painted = "window.studio.canvas('img2img').ink.context.getImageData(57, 48, 1, 1).data[3]"
    assert page.evaluate(painted) == 255
    reloaded(page)
    expect(page.locator("#img2img_canvas .canvas-info")).to_contain_text("128 × 96")
    page.wait_for_function(f"{painted} === 255")
    other = tmp_path / "red.png"
    Image.new("RGB", (128, 96), "red").save(other)
    page.locator("#img2img_canvas [data-file=open]").set_input_files(other)
    page.wait_for_function(f"{painted} === 0")
