"""The canvas of img2img by hand: brush, eraser, undo, invert, zoom, a mask from a file; and pictures sent from tab to tab."""

import io

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from studio.shelves import sample_pictures
from tests.browser.clicks import brush, choose, drag, fill, generated, shot, tab
from tests.browser.served import Studio

PICTURE = sorted(sample_pictures().glob("*.png"))[0]
INK = "canvas.ink"


@pytest.fixture
def page(shared_page: Page) -> Page:
    """The page that the tests of this file share."""
    return shared_page


def opened(page: Page) -> None:
    """The tab with a sample picture on its canvas, no strokes, and the brush as it is at first."""
    tab(page, "img2img · Inpaint")
    info = page.locator("#img2img_canvas .canvas-info")
    if "×" not in info.inner_text():
        page.locator("#img2img_canvas [data-file=open]").set_input_files(str(PICTURE))
    expect(info).to_contain_text("×")
    page.locator("#img2img_canvas [data-act=brush]").click()
    brush(page, "size", "32")
    brush(page, "hardness", "100")
    page.locator("#img2img_canvas [data-act=clear]").click()


def alpha(page: Page) -> np.ndarray:
    """The strokes' alpha as the canvas holds it now."""
    data = page.locator(f"#img2img_canvas {INK}").evaluate(
        "c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; return [c.width, c.height, ...d.filter((_, i) => i % 4 === 3)]; }"
    )
    return np.array(data[2:], dtype=int).reshape(data[1], data[0])


def test_without_a_mask_or_a_picture_a_sentence_says_so(page: Page) -> None:  # the first test, as the canvas is still empty
    tab(page, "img2img · Inpaint")
    page.locator("#img2img_generate").click()
    expect(page.get_by_text("There is no picture to begin from yet")).to_be_visible()
    opened(page)
    page.locator("#img2img_generate").click()
    expect(page.get_by_text("There is no mask")).to_be_visible()


def test_brush_eraser_undo_redo_invert_and_clear(page: Page) -> None:
    opened(page)
    assert alpha(page).max() == 0
    brush(page, "size", "30")
    drag(page, (0.2, 0.5), (0.8, 0.5))
    painted = alpha(page)
    middle = painted.shape[0] // 2
    assert painted[middle].max() == 255
    assert painted[2].max() == 0
    page.locator("#img2img_canvas [data-act=eraser]").click()
    drag(page, (0.5, 0.3), (0.5, 0.7))
    erased = alpha(page)
    assert erased[middle, painted.shape[1] // 2] == 0
    assert erased.sum() < painted.sum()
    page.locator("#img2img_canvas [data-act=undo]").click()
    assert np.array_equal(alpha(page), painted)
    page.locator("#img2img_canvas [data-act=redo]").click()
    assert np.array_equal(alpha(page), erased)
    page.locator("#img2img_canvas .canvas-port").hover()
    page.keyboard.press("Control+z")
    assert np.array_equal(alpha(page), painted)
    page.locator("#img2img_canvas [data-act=invert]").click()
    assert np.array_equal(alpha(page), 255 - painted)
    page.locator("#img2img_canvas [data-act=clear]").click()
    assert alpha(page).max() == 0
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    assert np.array_equal(alpha(page), painted)


def test_a_soft_brush_has_a_soft_edge_that_does_not_add_up(page: Page) -> None:
    opened(page)
    brush(page, "size", "60")
    brush(page, "hardness", "20")
    drag(page, (0.3, 0.5), (0.7, 0.5))
    once = alpha(page)
    assert ((once > 10) & (once < 245)).sum() > 200
    page.locator("#img2img_canvas [data-act=clear]").click()
    box = page.locator(f"#img2img_canvas {INK}").bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.3, y)
    page.mouse.down()
    for x in (0.7, 0.3, 0.7):
        page.mouse.move(box["x"] + box["width"] * x, y, steps=6)
    page.mouse.up()
    assert abs(alpha(page) - once).max() < 80


def test_zoom_and_pan_leave_the_mask_where_it_was_painted(page: Page) -> None:
    opened(page)
    drag(page, (0.4, 0.4), (0.6, 0.6))
    before = alpha(page)
    port = page.locator("#img2img_canvas .canvas-port")
    port.hover()
    page.keyboard.down("Alt")
    page.mouse.wheel(0, -400)
    page.keyboard.up("Alt")
    zoomed = page.locator("#img2img_canvas .canvas-info").inner_text()
    page.keyboard.press("r")
    assert page.locator("#img2img_canvas .canvas-info").inner_text() != zoomed
    assert np.array_equal(alpha(page), before)


def test_a_black_and_white_mask_with_transparent_pixels_is_read_by_its_white(page: Page) -> None:
    opened(page)
    size = Image.open(PICTURE).size
    mask = Image.new("RGBA", size, (0, 0, 0, 255))
    mask.paste((255, 255, 255, 255), (0, 0, size[0] // 2, size[1]))
    mask.putpixel((size[0] - 1, 0), (0, 0, 0, 0))
    packed = io.BytesIO()
    mask.save(packed, "PNG")
    page.locator("#img2img_canvas [data-file=mask]").set_input_files({"name": "mask.png", "mimeType": "image/png", "buffer": packed.getvalue()})
    page.wait_for_function("() => document.querySelector('#img2img_canvas canvas.ink').getContext('2d').getImageData(2, 2, 1, 1).data[3] === 255")
    painted = alpha(page)
    assert painted[:, : size[0] // 2 - 1].min() == 255
    assert painted[:, size[0] // 2 + 1 :].max() == 0


def test_a_mask_from_a_file_is_what_is_repainted(page: Page, studio: Studio) -> None:
    opened(page)
    size = Image.open(PICTURE).size
    mask = Image.new("L", size, 0)
    mask.paste(255, (0, 0, size[0] // 2, size[1]))
    packed = io.BytesIO()
    mask.save(packed, "PNG")
    page.locator("#img2img_canvas [data-file=mask]").set_input_files({"name": "mask.png", "mimeType": "image/png", "buffer": packed.getvalue()})
    page.wait_for_function("() => document.querySelector('#img2img_canvas canvas.ink').getContext('2d').getImageData(2, 2, 1, 1).data[3] === 255")
    fill(page, "img2img_prompt", "a red square")
    fill(page, "img2img_steps", "4")
    fill(page, "img2img_mask_blur", "0")
    job = generated(page, studio, "img2img")
    before, after = (np.asarray(Image.open(p).convert("RGB"), dtype=int) for p in (job.request["init_image"], job.result["images"][0]))
    assert np.array_equal(before[:, size[0] // 2 + 8 :], after[:, size[0] // 2 + 8 :])
    assert np.abs(before[:, : size[0] // 2 - 8] - after[:, : size[0] // 2 - 8]).mean() > 1
    shot(page, "img2img")
    page.locator("#theme_switch").click()
    shot(page, "img2img-dark")
    tab(page, "txt2img")
    shot(page, "txt2img-dark")
    tab(page, "PNG Info")
    shot(page, "png-info-dark")
    page.locator("#theme_switch").click()


def test_a_picture_of_the_studio_is_read_in_png_info_and_sent_to_txt2img(page: Page, studio: Studio) -> None:
    tab(page, "txt2img")
    fill(page, "txt2img_prompt", "a blue cat on grass")
    fill(page, "txt2img_steps", "6")
    fill(page, "txt2img_seed", "31")
    choose(page, "txt2img_sampler", "Euler")
    made = generated(page, studio, "txt2img")
    fill(page, "txt2img_prompt", "something else")
    fill(page, "txt2img_seed", "1")
    tab(page, "PNG Info")
    page.locator("#pnginfo_picture input[type=file]").set_input_files(made.result["images"][0])
    expect(page.locator("#pnginfo_text")).to_contain_text("Seed: 31")
    shot(page, "png-info")
    page.locator("#pnginfo_send_txt2img").click()
    expect(page.locator("#txt2img_prompt textarea")).to_have_value("a blue cat on grass")
    expect(page.locator("#txt2img_seed input")).to_have_value("31")
    again = generated(page, studio, "txt2img")
    pictures = [np.asarray(Image.open(job.result["images"][0])) for job in (made, again)]
    assert np.array_equal(*pictures)
    fill(page, "txt2img_steps", "20")
